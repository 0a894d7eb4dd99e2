//! The deciding parts on a small store: each behaviour by itself, and all together in a simulated cluster.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its seed"
)]

mod dispatching;
mod harness;
mod make;
mod memory;
mod orchestration;
mod scheduling;
mod sim;
mod updating;
