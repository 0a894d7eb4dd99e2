//! What runs on a manager.

use crate::error::NodeError;
use crate::node::Inner;
use crate::record::Record;
use essaim_ca::{DataKeys, LiveIdentity, Sealer, SystemEntropy};
use essaim_manager::authority::Authority;
use essaim_manager::{Notice, OpenError, Parts, Replica};
use essaim_objects::NodeId;
use essaim_raft::Disk;
use essaim_rpc::{Methods, Server, chain};
use essaim_store::{Event, Kind, ObjectId};
use futures_util::FutureExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long what runs may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(2);

/// How long a log that was just opened takes to tell its members, at most.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// What runs on a manager.
pub(crate) struct Manager {
    pub(crate) replica: Replica,
    pub(crate) authority: Authority,
    pub(crate) sealer: Arc<Sealer>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Manager {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Manager {
    pub(crate) async fn open(
        inner: &Inner,
        record: &Record,
        live: &Arc<LiveIdentity>,
        keys: DataKeys,
    ) -> Result<Self, NodeError> {
        let listener = listen(record).await?;
        let sealer = Arc::new(Sealer::new(keys, &mut SystemEntropy)?);
        let disk = open_disk(inner)?;
        let has_log = !disk.list().unwrap_or_default().is_empty();
        let time = inner.options.time.clone();
        let replica = Replica::open(Parts {
            node: record.raft.unwrap_or_default().into(),
            disk,
            sealer: sealer.clone(),
            identity: live.clone(),
            time: time.clone(),
            settings: inner.options.raft.clone(),
        });
        let replica = replica.await.map_err(|error| explained(inner, error))?;
        if has_log {
            // Who is a member is in the log; a log without members is that of a manager that has yet to join.
            let mut status = replica.raft().watch();
            let known = status.wait_for(|status| !status.members.is_empty());
            let _ = timeout(KNOWN_WITHIN, known).await;
        }
        let authority = Authority::new(replica.clone(), time.clone());
        let (methods, run) = inner.options.parts.begin(&replica, Methods::new());
        let methods = replica.methods(authority.methods(methods));
        let server = match Server::new(live, methods, time) {
            Ok(server) => server,
            Err(error) => {
                replica.close().await;
                return Err(error.into());
            }
        };
        let (stop, stopped) = watch::channel(false);
        let ended = || until(stopped.clone());
        let (serving, leading) = (ended(), authority.clone());
        let until_led = ended();
        let tasks = vec![
            tokio::spawn(async move {
                if let Err(error) = server.run(listener, serving).await {
                    tracing::error!(error = chain(&error), "the managers' port is not served any more");
                }
            }),
            tokio::spawn(run(ended().boxed())),
            tokio::spawn(async move { leading.lead(until_led).await }),
            tokio::spawn(watch_store(replica.clone(), record.node, inner.wake.clone())),
        ];
        Ok(Self {
            replica,
            authority,
            sealer,
            stop,
            tasks,
        })
    }

    /// Ends everything, the copy of the store last.
    pub(crate) async fn close(mut self) {
        self.stop.send_replace(true);
        // It ends with nothing but this.
        if let Some(watcher) = self.tasks.pop() {
            watcher.abort();
        }
        for mut task in std::mem::take(&mut self.tasks) {
            if timeout(END_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
        self.replica.close().await;
    }
}

fn open_disk(inner: &Inner) -> Result<Arc<dyn Disk>, NodeError> {
    let directory = inner.files.raft();
    (inner.options.disk)(&directory).map_err(|source| NodeError::Directory { directory, source })
}

/// Which file is damaged, and what to do about it.
fn explained(inner: &Inner, error: OpenError) -> NodeError {
    match error.damaged() {
        Some(file) => NodeError::Damaged {
            file: inner.files.raft().join(file),
            source: error,
        },
        None => error.into(),
    }
}

async fn listen(record: &Record) -> Result<TcpListener, NodeError> {
    let address = record.listen;
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| NodeError::Listen { address, source })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // Gone is as good as stopped.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Wakes the node when something of it, of the cluster or of the members changes.
async fn watch_store(replica: Replica, node: Option<NodeId>, wake: Arc<Notify>) {
    let mut notices = replica.notices();
    let mut status = replica.raft().watch();
    let mut known = (None, Vec::new(), false);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Ok(Notice::Changed { events, .. }) if !events.iter().any(|event| concerns(event, node)) => {}
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => wake.notify_one(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = {
                    let status = status.borrow_and_update();
                    let members = status.members.keys().copied().collect::<Vec<_>>();
                    (status.leader, members, status.failure.is_some())
                };
                if now != known {
                    known = now;
                    wake.notify_one();
                }
            }
        }
    }
}

fn concerns(event: &Event, node: Option<NodeId>) -> bool {
    match event.id() {
        ObjectId::Node(id) => Some(id) == node,
        other => other.kind() == Kind::Cluster,
    }
}
