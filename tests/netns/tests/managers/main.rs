//! Clusters with managers: the real daemon on every node, driven by the operator's commands.
//!
//! The scenarios are those of swarmkit's own integration suite, and what users of Swarm ask of each feature.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, its helpers too, and tells what it measured"
)]
#![allow(
    clippy::too_many_lines,
    reason = "a test may walk through much with one cluster, which takes seconds to make"
)]

mod certificates;
mod changes;
mod cni;
mod disks;
mod leaders;
mod members;
mod networks;
mod podman;
mod recovery;
mod services;
mod stacks;
mod stage;
mod storm;
mod tasks;
