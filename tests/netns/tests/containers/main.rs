//! Services whose tasks are containers of each node's Docker Engine (`docker.io` of Debian), beside the data plane.

mod breaks;
mod serves;
mod stage;
