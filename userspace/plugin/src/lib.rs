//! Containers that are not the cluster's on networks that are: `docker run --network OVERLAY`, `docker network connect`.
//!
//! The node's Docker Engine is asked through its own plugin protocol (libnetwork's remote driver and IPAM), so its
//! containers' interfaces are there before their first instruction, and `docker inspect` and `docker network connect` know
//! them. For each of the cluster's networks that a container of the node is on, the engine has one of its own: same name,
//! same subnets, driver [`DRIVER`], the cluster's network as an option ([`NETWORK_OPTION`]); [`Plugin::prepare`] makes
//! it.
//!
//! ```text
//! docker run --network app         engine                    plugin                      managers, agent
//!  create -> (API) prepare ------> network app, if missing
//!  start ------------------------> RequestAddress ---------> a lease -----------------> a task, an address
//!                                  CreateEndpoint ---------> its Ethernet address
//!                                  Join -------------------> the link is there? <------ catalog, links, maps
//!                                  moves the link, sets its address
//!                                                            (the agent finds out where to, and resolves names there)
//!                                  the process begins
//!                                  <------------------------ which container is it? --> its names
//! ```
//! | part | is |
//! |---|---|
//! | [`book`] | leases, endpoints, sandboxes: pure |
//! | `calls` | what the engine sends and is answered |
//! | [`Plugin`] | the calls, by the book and the node |
//! | `engine` | what the plugin asks of the engine |
//! | `plugin::cni` | the calls of `essaim-cni`, for containers of other runtimes, by the same book |
//! | [`Socket`], [`serve`], [`serve_cni`] | where the engine finds it, and where `essaim-cni` does |
//! | [`Host`] | what it needs of the node |
//!
//! The book outlives the daemon. The engine repeats a call for some 15 s where nobody listens: a daemon may be replaced
//! meanwhile. What the engine forgets (it was killed) is let go of when it does not know it twice.
#![forbid(unsafe_code)]

pub mod book;
mod calls;
mod engine;
mod file;
mod host;
mod plugin;
mod server;

pub use host::{Host, Link, SeenLink};
pub use plugin::Plugin;
pub use server::{Socket, serve, serve_cni};

use essaim_protocol::{DRIVER, NETWORK_OPTION};
use std::io;
use std::path::PathBuf;

/// Why the plugin does not serve.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// A file of its own.
    #[error("failed to {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A network that is for services only. Docker's words.
    #[error(
        "Could not attach to network {network}: rpc error: code = PermissionDenied desc = network {network} not \
         manually attachable"
    )]
    NotAttachable {
        /// Its name.
        network: String,
    },
    /// No manager answers.
    #[error("the managers cannot be asked for the network: {0}")]
    Managers(String),
    /// The engine does not do it.
    #[error("{0}")]
    Engine(String),
}
