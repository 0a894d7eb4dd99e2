//! A cluster on one machine, for tests and for the demo: every node is a network namespace on an underlay bridge, with
//! the real agent in it; tasks are real processes in namespaces of their own; clients are outside.
//!
//! ```no_run
//! use essaim_lab::{ClusterBuilder, Family};
//! use essaim_model::Port;
//! use std::time::Duration;
//!
//! # fn main() -> anyhow::Result<()> {
//! let cluster = ClusterBuilder::new().nodes(2).build()?;
//! let mut catalog = cluster.catalog()?;
//! catalog.network("app")?;
//! catalog.service("web", &["app"])?.ports.push(Port::new(8080, 80));
//! let task = catalog.task("web", "n1")?;
//!
//! cluster.add_task("n1", &task)?;
//! cluster.write_catalog(&mut catalog)?;
//! cluster.spawn_agents()?;
//! cluster.wait_ready(Duration::from_secs(20))?;
//! cluster.start_whoami(&task)?;
//!
//! let url = format!("http://{}:8080/", cluster.address("n2", Family::V4)?);
//! assert!(cluster.curl("c1", &url)?.contains("Name: web.1"));
//! # Ok(())
//! # }
//! ```
//!
//! Dropping a [`Cluster`] removes everything that it made; what a killed test left is removed by the next one.

mod agent;
mod busybox;
mod catalog;
mod cgroup;
mod cluster;
pub mod demo;
mod engine;
mod family;
pub mod ip;
mod netem;
pub mod netns;
mod node;
pub mod peer;
mod podman;
mod run;
mod spawn;
mod task;
mod traces;
mod underlay;
mod wait;
mod xdp_pass;

pub use catalog::CatalogBuilder;
pub use cluster::{Cluster, ClusterBuilder};
pub use engine::{Engine, EngineSettings};
pub use family::Family;
pub use netem::{Frames, tries};
pub use node::{Operate, PlacedTask};
pub use podman::Podman;
pub use run::{Ran, Running, run_here};
pub use traces::{Prefix, remove_leftovers};
pub use underlay::{HUB, UPLINK, WORLD_V4, WORLD_V6};
pub use wait::{eventually, patience};
pub use xdp_pass::XdpPass;
