use essaim_manager::Replica;
use essaim_raft::{Disk, Settings, StateDirectory, StorageError};
use essaim_rpc::Methods;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ends when a manager's parts are to end.
pub type Stop = BoxFuture<'static, ()>;

/// What else a manager does: sessions, orchestration, logs.
pub trait ManagerParts: Send + Sync + 'static {
    /// Begins them on this copy of the store: adds what nodes call, and hands back what runs until it is told to stop.
    /// Called each time the node becomes a manager.
    fn begin(
        &self,
        replica: &Replica,
        methods: Methods,
    ) -> (Methods, Box<dyn FnOnce(Stop) -> BoxFuture<'static, ()> + Send>);
}

/// Nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoParts;

impl ManagerParts for NoParts {
    fn begin(
        &self,
        _: &Replica,
        methods: Methods,
    ) -> (Methods, Box<dyn FnOnce(Stop) -> BoxFuture<'static, ()> + Send>) {
        (methods, Box::new(|stop| stop.boxed()))
    }
}

/// What opens the directory that a manager's log lies in.
pub type OpenDisk = dyn Fn(&Path) -> Result<Arc<dyn Disk>, StorageError> + Send + Sync;

/// How a node is opened.
#[derive(Clone)]
pub struct NodeOptions {
    /// Where it keeps what it is; made where it is missing, for its owner alone.
    pub directory: PathBuf,
    /// What else a manager does.
    pub parts: Arc<dyn ManagerParts>,
    /// What certificates are checked and issued by.
    pub time: Arc<dyn TimeProvider>,
    /// Raft's settings.
    pub raft: Settings,
    /// What the log is read from and written to.
    pub disk: Arc<OpenDisk>,
}

impl NodeOptions {
    /// With this directory, the system's clock and nothing else for a manager to do.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            parts: Arc::new(NoParts),
            time: Arc::new(DefaultTimeProvider),
            raft: Settings::default(),
            disk: Arc::new(|directory| Ok(Arc::new(StateDirectory::open(directory)?))),
        }
    }
}

impl fmt::Debug for NodeOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NodeOptions")
            .field("directory", &self.directory)
            .field("raft", &self.raft)
            .finish_non_exhaustive()
    }
}
