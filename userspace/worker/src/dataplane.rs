use essaim_objects::{Task, TaskId};
use essaim_protocol::{CatalogUpdate, DataKey, GossipKey};
use std::path::{Path, PathBuf};

/// What a node says of a task from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It takes no traffic yet.
    Starting,
    /// It takes traffic.
    Running {
        /// Its process, as the node numbers it.
        pid: i32,
    },
    /// Its checks have failed too often: it takes no traffic any more, and is about to be stopped.
    Unhealthy,
    /// It has ended. Nothing leads back from here.
    Gone,
}

/// A task that has no endpoints; it cannot run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct AttachError {
    /// What is missing, and where it was waited for.
    pub reason: String,
}

/// An update of the catalog that builds on another one than the data plane holds; that one stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the update builds on revision {basis:?} of the catalog, and {held:?} is held")]
pub struct WrongBasis {
    /// What it builds on.
    pub basis: Option<u64>,
    /// What is held.
    pub held: Option<u64>,
}

/// The data plane of the node, as far as its tasks are concerned.
pub trait Dataplane: Send + Sync + 'static {
    /// The task's network namespace exists: waits until its endpoints are usable there. Called again where the agent
    /// was restarted, also for tasks that run. It has its own patience: the task's catalog may still be on its way.
    ///
    /// # Errors
    /// The task has no endpoints.
    fn attach(&self, task: &Task, netns: &Path) -> impl Future<Output = Result<(), AttachError>> + Send;

    /// The file that is mounted as the task's `/etc/resolv.conf`. It must be there once the task was attached, and name
    /// what the task's `DNSConfig` says, too.
    fn resolv_conf(&self, task: TaskId) -> PathBuf;

    /// What this node says of a task from now on; after a restart, what was said before may be said again.
    fn tell(&self, task: TaskId, word: Word);

    /// The task is about to stop: returns when no node sends it new traffic, or the data plane waits no longer. May be
    /// dropped where the task ends by itself.
    fn drain(&self, task: TaskId) -> impl Future<Output = ()> + Send;

    /// Takes a catalog, or what has changed in it.
    ///
    /// # Errors
    /// It builds on another catalog: a new session is begun, which sends the whole.
    fn catalog(&self, update: CatalogUpdate) -> Result<(), WrongBasis>;

    /// Takes the keys of gossip, the one to send with first.
    fn gossip_keys(&self, keys: Vec<GossipKey>);

    /// Takes the keys of encrypted networks.
    fn data_keys(&self, keys: Vec<DataKey>);

    /// The revision of the catalog that it holds.
    fn revision(&self) -> Option<u64>;
}
