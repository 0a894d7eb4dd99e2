//! One node of a cluster in one process.
//!
//! ```text
//!  docker CLI, essaim -> Api -> Node (membership) -> a manager's parts: Replica, Authority, Leadership
//!                                 ^    |                                        ^
//!                                 |    v identity                               | session
//!                               Worker (what the managers assign) --------------+
//!                                 |         |
//!                                 v         v catalog, keys, words about tasks
//!                              Runner     Plane -> agent (a thread of its own): links, maps, names, gossip
//! ```
//!
//! The parts know each other through their crates' seams only; what is here joins them and follows the node's state:
//! while it is in a cluster and not locked it has a worker, and once it has a catalog it has an agent. The agent starts
//! from the catalog and the keys that were kept, so a node that is restarted while every manager is away goes on.
#![forbid(unsafe_code)]

mod engine;
mod follow;
mod kept;
mod machine;
mod parts;
mod plane;
mod plugin;
mod sockets;

use engine::Daemon;
use essaim_agent::holder::HolderLauncher;
use essaim_agent::{GossipPace, StateDir, StateDirError};
pub use essaim_api::TlsFiles;
use essaim_api::{Socket, SocketError, TlsError, TlsSocket};
use essaim_node::{Node, NodeError, NodeOptions};
use essaim_plugin::{Plugin, PluginError};
use essaim_runner::RunnerError;
use essaim_worker::LeaderLink;
use kept::KeptError;
use parts::Parts;
use plane::Plane;
use plugin::PluginHost;
use sockets::Sockets;
use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How a node's daemon is to run.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The name that the node is known by to people.
    pub hostname: String,
    /// The interfaces to the other nodes and to clients.
    pub uplinks: Vec<String>,
    /// The folder of bpffs that holds the nodes' folders.
    pub bpf_root: PathBuf,
    /// The cgroup for the socket programs; the root of the hierarchy where none is named.
    pub cgroup: Option<PathBuf>,
    /// The control group of the tasks, from the root of the hierarchy; below that of the socket programs.
    pub task_cgroup: PathBuf,
    /// Where sockets, locks and what the data plane applied are: gone after a boot.
    pub state_dir: StateDir,
    /// Where the node's identity, its copy of the store and its tasks are: must outlive a boot.
    pub data_dir: PathBuf,
    /// Where the API listens.
    pub api: PathBuf,
    /// Where it listens on TCP, too, and by which files it knows its clients.
    pub api_tcp: Option<(SocketAddr, TlsFiles)>,
    /// Where the node's Docker Engine listens; it may be absent, and come and go.
    pub docker_socket: PathBuf,
    /// Where that engine looks for the network plugin: a file `essaim.sock` in a folder of plugins.
    pub plugin_socket: PathBuf,
    /// Where `essaim-cni` finds the daemon.
    pub cni_socket: PathBuf,
    /// How soon a node that does not answer is down.
    pub pace: GossipPace,
    /// How long the holder answers for the node while the daemon is away.
    pub absence: Duration,
    /// Labels of the engine, which constraints can ask for.
    pub labels: Vec<(String, String)>,
    /// Resources of the operator's own kinds, which services can reserve: of each kind a number, or names.
    pub generic_resources: Vec<(String, String)>,
    /// Starts the holder.
    pub holder: HolderLauncher,
}

/// Why a daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its state directory does not serve; nothing was changed.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// What an earlier run has kept cannot be read; nothing was changed.
    #[error(transparent)]
    Kept(#[from] KeptError),
    /// The node cannot be opened.
    #[error("the node cannot be opened")]
    Node(#[from] NodeError),
    /// The API's socket does not serve.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The API cannot be served on TCP.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Tasks cannot be run here.
    #[error("this machine cannot run tasks")]
    Runner(#[from] RunnerError),
    /// The plugin's file cannot be read.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Signals cannot be waited for.
    #[error("failed to wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the daemon until SIGTERM or SIGINT. Tasks and the data plane go on.
///
/// # Errors
/// [`DaemonError`] where it could not start. Once it runs, what fails is said and tried again.
pub async fn run_daemon(options: DaemonOptions) -> Result<(), DaemonError> {
    options.state_dir.create()?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let socket = Socket::bind(&options.api)?;
    let on_tcp = match &options.api_tcp {
        Some((address, files)) => Some(TlsSocket::bind(*address, files).await?),
        None => None,
    };
    let options = Arc::new(options);
    let parts = Arc::new(Parts::default());
    let node = Node::open(NodeOptions {
        parts: parts.clone(),
        ..NodeOptions::new(options.data_dir.join("node"))
    })
    .await?;
    let plane = Plane::open(Arc::clone(&options))?;
    let leader = LeaderLink::default();
    let host = PluginHost {
        leader: leader.clone(),
        plane: plane.clone(),
    };
    let book = options.data_dir.join("attachments.json");
    let plugin = Plugin::open(host, &options.docker_socket, book)?;
    let daemon = Daemon::new(node.clone(), parts, plugin.clone(), Arc::clone(&options));
    let parts = follow::Parts {
        node: node.clone(),
        plane: plane.clone(),
        plugin: plugin.clone(),
        leader,
        options: Arc::clone(&options),
    };
    let follow = follow::follow(parts)?;
    let sockets = Sockets::open(&options);
    let api = socket.path().to_owned();
    tracing::info!(hostname = options.hostname, api = %api.display(), version = env!("CARGO_PKG_VERSION"), "node started");
    tokio::select! {
        () = essaim_api::serve(socket, daemon.clone(), pending()) => {}
        () = serve_on_tcp(on_tcp, daemon) => {}
        () = follow => {}
        () = serve_plugin(&sockets, &plugin) => {}
        never = sockets.keep(&plane, &options) => match never {},
        () = plugin.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("node stops; its tasks and its data plane go on");
    node.shutdown().await;
    plane.close().await;
    Ok(())
}

async fn serve_on_tcp(socket: Option<TlsSocket>, daemon: Daemon) {
    match socket {
        Some(socket) => essaim_api::serve(socket, daemon, pending()).await,
        None => pending().await,
    }
}

/// Serves the node's Docker Engine and `essaim-cni`.
async fn serve_plugin(sockets: &Sockets, plugin: &Plugin<PluginHost>) {
    let engine = async {
        match &sockets.engine {
            Some(socket) => match essaim_plugin::serve(socket, plugin).await {},
            None => pending::<()>().await,
        }
    };
    let cni = async {
        match &sockets.cni {
            Some(socket) => match essaim_plugin::serve_cni(socket, plugin).await {},
            None => pending::<()>().await,
        }
    };
    tokio::join!(engine, cni);
}
