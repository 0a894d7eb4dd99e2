//! The socket programs on real sockets: cgroup programs cannot be test-run. Needs root.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends where what it stands on is missing"
)]

mod cost;
mod node;
mod peers;
mod rig;
mod task;
