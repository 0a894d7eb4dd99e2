//! Managers in one process, on virtual time, with faults drawn from a seed.
//!
//! `ESSAIM_RAFT_SEEDS=2000 cargo test --release -p essaim-raft --test simulation` runs that many seeds, and
//! `ESSAIM_RAFT_SEED=17` one of them; without either, 60 run. `RUST_LOG=debug` tells what happens.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod clients;
mod failover;
mod membership;
mod recovery;
mod world;

/// Runs on virtual time: it stands still while anything can run, and jumps when nothing can.
fn simulate<T>(seed: u64, simulation: impl Future<Output = T>) -> T {
    let told = tracing_subscriber::EnvFilter::try_from_default_env();
    if let Ok(filter) = told {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_ansi(false)
            .try_init();
    }
    essaim_raft::seed_this_thread(seed);
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(simulation)
}
