use crate::disk::{self, Disk};
use crate::error::StorageError;
use crate::fault::Fault;
use crate::snapshot::SnapshotStore;
use crate::types::{
    Blob, Entry, LogId, Response, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, Timestamp, Types,
};
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// A view of a whole state, as it was when the view was made. Calling it makes the bytes.
pub type SnapshotView = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// What the managers replicate.
///
/// It is pure: what `apply` makes of a command may depend on the arguments and the state alone, or the replicas drift
/// apart. It reads no clock; the proposer's time comes with the command.
pub trait StateMachine: Send + Sync + 'static {
    /// Applies one command and answers its proposer.
    ///
    /// `index` is the log index, which only grows. `at` is the proposer's wall clock, which may go back. A command
    /// that makes no sense is answered with an error of the machine's own form; a panic stops the node.
    fn apply(&mut self, index: u64, at: Timestamp, command: &[u8]) -> Vec<u8>;

    /// A view of the whole state, whose bytes are made by calling it.
    ///
    /// The view is taken between two commands and should be cheap (a copy of persistent maps); it is called elsewhere,
    /// while more commands are applied.
    fn snapshot(&self) -> SnapshotView;

    /// Replaces the state by that of a snapshot.
    ///
    /// # Errors
    /// What is wrong with it; the node then stops, whatever state is left.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}

/// A state machine with what openraft wants to know of it.
pub(crate) struct Machine<S> {
    state: S,
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshots: SnapshotStore,
    /// What the newest snapshot on disk holds.
    newest: Option<SnapshotMeta>,
    disk: Arc<dyn Disk>,
    fault: Fault,
}

impl<S: StateMachine> Machine<S> {
    /// Restores the newest snapshot.
    pub(crate) async fn open(
        mut state: S,
        snapshots: SnapshotStore,
        disk: Arc<dyn Disk>,
        fault: Fault,
    ) -> Result<Self, StorageError> {
        let store = snapshots.clone();
        let found = disk::run(&*disk, move || store.recover()).await;
        let found = found.ok_or_else(|| StorageError::Stopped("the runtime ended".to_owned()))??;
        let newest = match found {
            None => None,
            Some((meta, bytes)) => {
                restore(&mut state, &meta, &bytes)?;
                Some(meta)
            }
        };
        Ok(Self {
            state,
            applied: newest.as_ref().and_then(|meta| meta.last_log_id),
            membership: newest
                .as_ref()
                .map(|meta| meta.last_membership.clone())
                .unwrap_or_default(),
            snapshots,
            newest,
            disk,
            fault,
        })
    }

    /// The last entry of the newest snapshot on disk.
    pub(crate) fn snapshot_index(&self) -> Option<u64> {
        Some(self.newest.as_ref()?.last_log_id?.index)
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<Response, StorageError> {
        let index = entry.log_id.index;
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Ok(Response::default()),
            EntryPayload::Normal(proposal) => {
                let command = proposal.command.as_slice();
                let applied = AssertUnwindSafe(|| self.state.apply(index, proposal.at, command));
                match catch_unwind(applied) {
                    Ok(answer) => Ok(Response(Blob::from(answer))),
                    Err(_) => Err(StorageError::StateMachine {
                        index,
                        detail: "it panicked".to_owned(),
                    }),
                }
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Ok(Response::default())
            }
        }
    }
}

fn restore(state: &mut impl StateMachine, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), StorageError> {
    let index = meta.last_log_id.map_or(0, |last| last.index);
    let restored = catch_unwind(AssertUnwindSafe(|| state.restore(bytes)));
    restored
        .unwrap_or_else(|_| Err("it panicked".to_owned()))
        .map_err(|detail| StorageError::StateMachine { index, detail })
}

impl<S: StateMachine> RaftStateMachine<Types> for Machine<S> {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let response = self
                .apply_entry(entry)
                .map_err(|error| self.fault.record(error))?;
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            view: Mutex::new(Some(self.state.snapshot())),
            snapshots: self.snapshots.clone(),
            disk: Arc::clone(&self.disk),
            fault: self.fault.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> Result<(), io::Error> {
        restore(&mut self.state, meta, &snapshot.0).map_err(|error| self.fault.record(error))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        if self.newest.as_ref() == Some(meta) {
            return Ok(());
        }
        store(&self.disk, &self.snapshots, &self.fault, meta.clone(), snapshot).await?;
        self.newest = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshots = self.snapshots.clone();
        match disk::run(&*self.disk, move || snapshots.read()).await {
            Some(Ok(found)) => Ok(found.map(|(meta, bytes)| Snapshot {
                meta,
                snapshot: SnapshotBytes(Arc::new(bytes)),
            })),
            Some(Err(error)) => Err(self.fault.record(error)),
            None => Err(self.fault.as_io()),
        }
    }
}

/// Writes a snapshot, durably.
async fn store(
    disk: &Arc<dyn Disk>,
    snapshots: &SnapshotStore,
    fault: &Fault,
    meta: SnapshotMeta,
    snapshot: SnapshotBytes,
) -> Result<(), io::Error> {
    let snapshots = snapshots.clone();
    match disk::run(&**disk, move || snapshots.write(&meta, &snapshot.0)).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => Err(fault.record(error)),
        None => Err(fault.as_io()),
    }
}

/// Makes one snapshot.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    /// Behind a lock only because openraft shares its builders between threads.
    view: Mutex<Option<SnapshotView>>,
    snapshots: SnapshotStore,
    disk: Arc<dyn Disk>,
    fault: Fault,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let view = self.view.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(view) = view else {
            return Err(io::Error::other("a snapshot is made once"));
        };
        let snapshots = self.snapshots.clone();
        let meta = self.meta.clone();
        let index = meta.last_log_id.map_or(0, |last| last.index);
        let made = disk::run(&*self.disk, move || {
            let bytes = catch_unwind(AssertUnwindSafe(view)).map_err(|_| StorageError::StateMachine {
                index,
                detail: "it panicked while its snapshot was made".to_owned(),
            })?;
            snapshots.write(&meta, &bytes)?;
            Ok(bytes)
        })
        .await;
        match made {
            Some(Ok(bytes)) => Ok(Snapshot {
                meta: self.meta.clone(),
                snapshot: SnapshotBytes(Arc::new(bytes)),
            }),
            Some(Err(error)) => Err(self.fault.record(error)),
            None => Err(self.fault.as_io()),
        }
    }
}
