//! The node agent: follows the catalog and keeps the kernel as planned.
//!
//! The pure parts say when to reconcile ([`Schedule`]), what holds ([`Follower`]), what is wrong ([`Complaints`]) and
//! which ports may be published ([`PortFilter`]); the shell round them reads files and sockets and drives links and
//! maps. A step that fails leaves the others to go on, and is tried again.

mod agent;
mod checks;
mod clean;
mod complaints;
pub mod control;
mod descriptors;
pub mod event;
mod follow;
pub mod holder;
mod ipsec;
mod keeper;
mod keys;
mod liveness;
mod look;
mod members;
mod memory;
mod monitor;
mod orders;
mod plane;
mod ports;
mod readings;
mod resolver;
mod schedule;
mod start;
pub mod startup;
mod state_dir;
pub mod status;
mod stops;
mod tasks;
mod watch;
mod watchers;

pub use clean::{CleanError, CleanOptions, DEFAULT_BPF_ROOT, clean};
pub use complaints::{Complaints, News, chain};
pub use descriptors::raise_descriptor_limit;
pub use essaim_netlink::require_esp;
pub use follow::{CatalogRefused, Follower, Plan};
pub use ipsec::{IpsecError, SaStatus};
pub use keys::{KeyFile, Keys, KeysError, fresh_keys, read_keys};
pub use look::{LookError, Offline};
pub use members::{GossipOptions, MembersError, Pace as GossipPace};
pub use monitor::Change;
pub use orders::{AgentHandle, Orders, Source, orders};
pub use ports::{PortFilter, PortHold, published_ports};
pub use readings::Names;
pub use schedule::{Outcome, Pace, Schedule, Trigger};
pub use start::{AgentError, AgentOptions, run_agent};
pub use state_dir::{AgentLock, NodeRecord, StateDir, StateDirError, pin_dir};
pub use stops::StopRefused;
pub use tasks::{Heard, NotOwn};
pub use watch::{FileWatch, WatchError};
