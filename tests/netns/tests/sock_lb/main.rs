//! The socket programs on real sockets: cgroup programs cannot be test-run. Needs root.

mod cost;
mod node;
mod peers;
mod rig;
mod task;
