use super::{Inner, RaftHandle};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::fault::Fault;
use crate::log::LogStore;
use crate::machine::{Machine, StateMachine};
use crate::metrics::Latencies;
use crate::network::Network;
use crate::receive::Incoming;
use crate::seal::Seal;
use crate::settings::{PROPOSALS_UNDER_WAY, Settings};
use crate::snapshot::SnapshotStore;
use crate::status::Status;
use crate::transport::Transport;
use crate::tuning::{Housekeeping, Tuning};
use crate::types::{ClusterId, Member, NodeId, Types};
use openraft::async_runtime::WatchReceiver;
use openraft::error::{InitializeError, RaftError};
use openraft::storage::RaftLogStorage;
use openraft::{Raft, RaftMetrics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Reachability follows from the time that passes, so the status is looked at this often even when nothing happens.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);

/// Raft did not start, or did not become a cluster.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory cannot be used as it is. Nothing was changed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state directory is that of a cluster already. Nothing was changed.
    #[error("this manager is in a cluster already")]
    AlreadyInitialised,
    /// Raft stopped while it began; see the source.
    #[error("raft did not start")]
    Stopped(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a manager's Raft is made of.
pub struct Started<S> {
    /// This manager.
    pub node: NodeId,
    /// Where its log and snapshots lie.
    pub disk: Arc<dyn Disk>,
    /// What seals them.
    pub seal: Arc<dyn Seal>,
    /// What carries messages to the other managers.
    pub transport: Arc<dyn Transport>,
    /// What is replicated, in its initial state.
    pub state: S,
    /// What is set for the cluster.
    pub settings: Settings,
}

impl<S: StateMachine> RaftHandle<S> {
    /// Starts Raft on what lies on the disk: the newest snapshot and the log after it. With an empty disk the manager
    /// is in no cluster; then call [`RaftHandle::init`], or have the leader of another cluster add it.
    ///
    /// # Errors
    /// [`StartError::Storage`] when something on the disk is damaged, of another version, or missing.
    pub async fn start(parts: Started<S>) -> Result<Self, StartError> {
        let Started {
            node,
            disk,
            seal,
            transport,
            state,
            settings,
        } = parts;
        let fault = Fault::default();
        let mut log = LogStore::open(Arc::clone(&disk), Arc::clone(&seal), node, fault.clone()).await?;
        let snapshots = SnapshotStore::new(Arc::clone(&disk), seal);
        snapshots.keep(settings.tuning.snapshots_kept);
        let machine = Machine::open(state, snapshots.clone(), disk, fault.clone()).await;
        let machine = match machine {
            Ok(machine) => machine,
            Err(error) => {
                log.close().await;
                return Err(error.into());
            }
        };
        let purged = log.get_log_state().await.map_err(stopped)?.last_purged_log_id;
        if let Some(purged) = purged
            && machine.snapshot_index().is_none_or(|index| index < purged.index)
        {
            log.close().await;
            return Err(StorageError::SnapshotMissing { purged: purged.index }.into());
        }
        let config = Settings::config().map_err(stopped)?;
        let network = Network {
            transport,
            log: log.clone(),
            from: node,
        };
        let raft = match Raft::new(node, Arc::new(config), network, log.clone(), machine).await {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(stopped(error));
            }
        };
        let metrics = raft.metrics();
        let first = Status::of(&metrics.borrow_watched(), None);
        let (sender, status) = watch::channel(first);
        let observer = tokio::spawn(observe(metrics, sender, fault.clone())).abort_handle();
        let (tuning, tuned) = watch::channel(settings.tuning);
        let keeper = tokio::spawn(keep(raft.clone(), snapshots, tuned)).abort_handle();
        Ok(Self {
            inner: Arc::new(Inner {
                node,
                raft,
                log,
                fault,
                incoming: Incoming::default(),
                settings,
                under_way: Semaphore::new(PROPOSALS_UNDER_WAY),
                latencies: Latencies::default(),
                status,
                observer,
                tuning,
                keeper,
                changing: tokio::sync::Mutex::new(()),
            }),
        })
    }

    /// Makes a cluster of this manager alone.
    ///
    /// # Errors
    /// [`StartError::AlreadyInitialised`] when it is in one.
    pub async fn init(&self, cluster: ClusterId, member: Member) -> Result<(), StartError> {
        // A crash may have come between the two steps of an earlier try.
        if self.inner.raft.is_initialized().await.map_err(stopped)? {
            return Err(StartError::AlreadyInitialised);
        }
        self.inner.log.set_cluster(cluster).await.map_err(stopped)?;
        let alone = BTreeMap::from([(self.inner.node, member)]);
        match self.inner.raft.initialize(alone).await {
            Ok(()) => Ok(()),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Err(StartError::AlreadyInitialised),
            Err(error) => Err(stopped(error)),
        }
    }
}

fn stopped(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Stopped(Box::new(error))
}

async fn observe(
    mut metrics: openraft::alias::WatchReceiverOf<Types, RaftMetrics<Types>>,
    status: watch::Sender<Status>,
    fault: Fault,
) {
    loop {
        let changed = tokio::time::timeout(OBSERVE_EVERY, metrics.changed()).await;
        let ended = matches!(changed, Ok(Err(_)));
        let failure = fault.get().map(|failure| failure.to_string());
        let now = Status::of(&metrics.borrow_watched(), failure);
        status.send_if_modified(|was| {
            let differs = *was != now;
            if differs {
                *was = now;
            }
            differs
        });
        if ended {
            return;
        }
    }
}

/// Has snapshots made and the log shortened.
async fn keep<S: StateMachine>(
    raft: Raft<Types, Machine<S>>,
    snapshots: SnapshotStore,
    mut tuned: watch::Receiver<Tuning>,
) {
    let mut metrics = raft.metrics();
    let mut housekeeping = Housekeeping::default();
    loop {
        let tuning = *tuned.borrow_and_update();
        snapshots.keep(tuning.snapshots_kept);
        let due = housekeeping.due(tuning, &metrics.borrow_watched());
        let mut asked = Ok(());
        if due.snapshot {
            asked = raft.trigger().snapshot().await;
        }
        if let Some(last) = due.purge
            && asked.is_ok()
        {
            asked = raft.trigger().purge_log(last).await;
        }
        let goes_on = asked.is_ok()
            && tokio::select! {
                changed = metrics.changed() => changed.is_ok(),
                changed = tuned.changed() => changed.is_ok(),
            };
        if !goes_on {
            return;
        }
    }
}
