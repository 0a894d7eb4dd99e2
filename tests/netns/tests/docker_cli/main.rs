//! Every command line of docker's swarm mode, typed as its users type it, with the unmodified docker CLI against a
//! cluster: `docs/compatibility.md` has the result, a row for each feature.
//!
//! The CLI is Debian's (`docker.io`), or the program that `ESSAIM_TEST_DOCKER` names. A daemon of docker's is only there where a
//! node has a Docker Engine of its own (`engine.rs`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, its helpers too, and tells what it measured"
)]
#![allow(
    clippy::too_many_lines,
    reason = "a test walks through many rows with one cluster, which takes seconds to make"
)]

mod cluster;
mod containers;
mod data;
mod engine;
mod networks;
mod nodes;
mod ports;
mod services;
mod session;
mod stack;
mod stage;
mod updates;
