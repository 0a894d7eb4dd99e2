//! What managers cost: commits on this disk, memory with a large state, and how fast a report reaches the other nodes.
//!
//! `cargo bench -p essaim-manager`; with `--test`, as the test runner calls it, everything is small.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where something is amiss"
)]

mod cluster;
mod state;

use cluster::Lab;
use std::time::{Duration, Instant};

fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() - 1) * percent / 100]
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    println!(
        "{what}: {} times, p50 {:.2?}, p99 {:.2?}, most {:.2?}",
        times.len(),
        percentile(&times, 50),
        percentile(&times, 99),
        percentile(&times, 100),
    );
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (services, tasks, commits, sessions, reports) = if is_test {
        (100, 1_000, 64, 1, 1)
    } else {
        (10_000, 100_000, 2_000, 10, 15)
    };
    let view = state::measure(services, tasks);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for managers in [1, 3] {
            let before = state::resident();
            let lab = Lab::new(managers).await;
            let at = Instant::now();
            lab.load(&view).await;
            println!(
                "{managers} managers: {:.2?} to write it all through the log; {} MiB for all of them",
                at.elapsed(),
                state::mebibytes(state::resident().saturating_sub(before))
            );
            println!("the leader begins after {:.2?}", lab.lead().await);
            for clients in [1, 64] {
                show(
                    &format!("commit/{managers} managers/{clients} clients"),
                    lab.commits(clients, commits / clients).await,
                );
            }
            let (times, _sessions) = lab.first_assignments(500..500 + sessions).await;
            show(
                &format!("session to first assignments/{managers} managers"),
                times,
            );
            let (times, largest) = lab.reports(11, 12, reports).await;
            show(
                &format!("report to the other node's catalog/{managers} managers"),
                times,
            );
            println!("the largest change of the catalog for one task: {largest} bytes");
        }
    });
}
