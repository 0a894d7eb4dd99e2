//! What the suites on the lab share: a cluster with its catalog, sockets inside its namespaces, and raw frames.

pub mod build;
pub mod datagram;
pub mod frames;
pub mod held;
pub mod liveness;
pub mod load;
pub mod names;
mod net;
pub mod raw;
pub mod repair;
pub mod scene;
pub mod site;

pub use net::{connect, option, report_errors, set_option, udp};
pub use scene::{READY, Scene, Seen};
