//! A deterministic simulation of a cluster's gossip.
//!
//! A [`World`] runs the real cores of [`essaim_gossip`] over a simulated network. One seed drives everything: clocks,
//! latency, loss, duplication and reordering; what happens to the cluster is written down by the test, or drawn from the
//! same seed by [`Chaos`]. After every step the invariants are checked for the node that took it. A panic names the seed:
//! the same seed gives the same run.
#![forbid(unsafe_code)]
#![expect(clippy::panic, reason = "a broken invariant ends the run")]

mod chaos;
mod check;
mod failure;
mod network;
mod node;
mod perturbation;
mod samples;
mod scale;
mod world;

pub use chaos::Chaos;
pub use failure::{FalseAlarms, detection, detections, false_alarms};
pub use network::Network;
pub use node::Disk;
pub use perturbation::{Churn, Perturbation};
pub use samples::Samples;
pub use scale::{Life, life};
pub use world::{Setup, World, network, node, task};
