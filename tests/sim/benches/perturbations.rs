//! The peer's own benchmark on the simulated cluster, its figures beside ours.
//!
//! `cargo bench -p essaim-sim` runs all of it; an argument changes the number of runs of a cell (60 as the peer's; a quarter
//! of that at 50 and 100 nodes). The peer's figures are of its own benchmark in virtual time without latency; ours have
//! 0.2 to 1 ms a datagram.

use essaim_sim::{Churn, Perturbation, Samples, Setup, World};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

const SIZES: [usize; 7] = [2, 3, 5, 10, 25, 50, 100];
const SEED: u64 = 1_000;

/// What the peer's benchmark measured, p50 and max in milliseconds.
fn peer(perturbation: Perturbation, nodes: usize) -> &'static str {
    use Perturbation::{
        CreateEntry, DeleteEntry, JoinNetwork, JoinPopulatedNetwork, LeaveNetwork, UpdateEntry,
        WriteAfterJoin,
    };
    match (perturbation, nodes) {
        (CreateEntry | UpdateEntry | DeleteEntry, 2 | 3) => "200/200",
        (CreateEntry | UpdateEntry | DeleteEntry, 5) => "400/400",
        (CreateEntry | DeleteEntry, 10) => "400/800",
        (UpdateEntry, 10) => "600/600",
        (CreateEntry | UpdateEntry | DeleteEntry, 25) => "600/1000",
        (CreateEntry, 50 | 100) => "530-800/640-1000",
        (UpdateEntry, 50 | 100) => "440-890/800-1000",
        (JoinNetwork | LeaveNetwork, 3) => "200/200",
        (JoinNetwork | LeaveNetwork, 5) => "200/400",
        (JoinNetwork, 10) => "400/800",
        (LeaveNetwork, 10) => "400/600",
        (JoinNetwork | LeaveNetwork, 25) => "600/800",
        (WriteAfterJoin, 3) => "400/400",
        (WriteAfterJoin, 5) => "400/57600",
        (WriteAfterJoin, 10) => "600/1000",
        (WriteAfterJoin, 25) => "1000/48800",
        (WriteAfterJoin, 50 | 100) => "1000-1200/1200-1600",
        (JoinPopulatedNetwork, 3 | 5 | 10 | 25) => "0/0",
        (LeaveNetwork, 50 | 100) => "500-1050/720-1200",
        _ => "-",
    }
}

fn peer_under_churn(nodes: usize) -> &'static str {
    match nodes {
        5 => "381/27600",
        10 => "400/1000",
        25 => "6600/10800",
        50 => "381-7581",
        _ => "-",
    }
}

fn row(name: &str, nodes: usize, samples: &Samples, peer: &str, bytes: f64) {
    let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let mut line = String::new();
    let _ = write!(
        line,
        "{name:24} {nodes:5} {:5} {:8.1} {:8.1} {:8.1}   {peer:20} {bytes:9.0}",
        samples.count(),
        millis(samples.quantile(0.5)),
        millis(samples.quantile(0.99)),
        millis(samples.max()),
    );
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}

/// Bytes that a node sends a second while nothing happens.
fn idle_bytes(nodes: usize) -> f64 {
    let mut world = World::new(Setup {
        check_one_in: nodes,
        ..Setup::new(SEED, nodes)
    });
    world.run_for(Duration::from_secs(10));
    let before = world.bytes_sent();
    world.run_for(Duration::from_secs(10));
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    let rate = (world.bytes_sent() - before) as f64 / nodes as f64 / 10.0;
    rate
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'));
    let runs: u64 = arguments.next().and_then(|runs| runs.parse().ok()).unwrap_or(60);
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "times in ms of simulated time; bytes sent per node and second, without UDP and IP headers"
    );
    let _ = writeln!(
        out,
        "{:24} {:>5} {:>5} {:>8} {:>8} {:>8}   {:20} {:>9}",
        "perturbation", "nodes", "runs", "p50", "p99", "max", "peer p50/max", "bytes/s"
    );
    drop(out);
    for perturbation in Perturbation::ALL {
        for nodes in SIZES
            .into_iter()
            .filter(|nodes| *nodes >= perturbation.least_nodes())
        {
            let runs = if nodes >= 50 { runs.div_ceil(4) } else { runs };
            let setup = Setup {
                check_one_in: nodes,
                ..Setup::new(SEED, nodes)
            };
            let samples = perturbation.samples(&setup, runs);
            row(
                &perturbation.to_string(),
                nodes,
                &samples,
                peer(perturbation, nodes),
                f64::NAN,
            );
        }
    }
    for nodes in [5, 10, 25, 50, 100] {
        let runs = if nodes >= 50 { runs.div_ceil(8) } else { runs };
        let (mut samples, mut bytes) = (Samples::default(), 0.0);
        for run in 0..runs {
            let (took, rate) = Churn::sample(Setup {
                check_one_in: nodes,
                ..Setup::new(SEED + run, nodes)
            });
            samples.add(took);
            bytes += rate;
        }
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let bytes = bytes / runs as f64;
        row(
            "create-entry under churn",
            nodes,
            &samples,
            peer_under_churn(nodes),
            bytes,
        );
    }
    for nodes in SIZES {
        row("idle", nodes, &Samples::default(), "-", idle_bytes(nodes));
    }
}
