//! Real tasks, in namespaces and control groups of the tests' own. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod crashes;
mod ends;
mod files;
mod health;
mod limits;
mod logs;
mod many;
mod rig;
mod room;
mod stops;
