//! Services whose tasks are containers of each node's Docker Engine (`docker.io` of Debian), beside the data plane.
#![allow(
    clippy::too_many_lines,
    reason = "a test walks through much with one cluster, which takes seconds to make"
)]

mod attached;
mod balancers;
mod breaks;
mod engines;
mod images;
mod prometheus;
mod registry;
mod serves;
mod stage;
mod upgrade;
