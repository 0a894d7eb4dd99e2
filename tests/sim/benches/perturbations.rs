//! The peer's own benchmark on the simulated cluster, its figures beside ours.
//!
//! `cargo bench -p essaim-sim` runs all of it; an argument changes the number of runs of a cell (60 as the peer's; a quarter
//! of that at 50 and 100 nodes). The peer's figures are of its own benchmark in virtual time without latency; ours have
//! 0.2 to 1 ms a datagram.

use essaim_sim::{Churn, Perturbation, Samples, Setup, World};
use std::io::Write as _;
use std::time::Duration;

const SIZES: [usize; 7] = [2, 3, 5, 10, 25, 50, 100];
const SEED: u64 = 1_000;

/// What the peer's benchmark measured, p50 and max in milliseconds, by [`SIZES`].
fn peer(perturbation: Perturbation) -> [&'static str; SIZES.len()] {
    let (fifty, hundred) = match perturbation {
        Perturbation::CreateEntry => ("530-800/640-1000", "530-800/640-1000"),
        Perturbation::UpdateEntry => ("440-890/800-1000", "440-890/800-1000"),
        Perturbation::WriteAfterJoin => ("1000-1200/1200-1600", "1000-1200/1200-1600"),
        Perturbation::LeaveNetwork => ("500-1050/720-1200", "500-1050/720-1200"),
        Perturbation::DeleteEntry | Perturbation::JoinNetwork | Perturbation::JoinPopulatedNetwork => {
            ("-", "-")
        }
    };
    let [two, three, five, ten, twenty_five] = match perturbation {
        Perturbation::CreateEntry | Perturbation::DeleteEntry => {
            ["200/200", "200/200", "400/400", "400/800", "600/1000"]
        }
        Perturbation::UpdateEntry => ["200/200", "200/200", "400/400", "600/600", "600/1000"],
        Perturbation::JoinNetwork => ["-", "200/200", "200/400", "400/800", "600/800"],
        Perturbation::WriteAfterJoin => ["-", "400/400", "400/57600", "600/1000", "1000/48800"],
        Perturbation::JoinPopulatedNetwork => ["-", "0/0", "0/0", "0/0", "0/0"],
        Perturbation::LeaveNetwork => ["-", "200/200", "200/400", "400/600", "600/800"],
    };
    [two, three, five, ten, twenty_five, fifty, hundred]
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

fn row(name: &str, nodes: usize, samples: &Samples, peer: &str, bytes: Option<f64>) {
    let millis = |duration: Duration| duration.as_secs_f64() * 1_000.0;
    let times = if samples.count() == 0 {
        format!("{:>8} {:>8} {:>8}", "-", "-", "-")
    } else {
        let [p50, p99, max] = [samples.quantile(0.5), samples.quantile(0.99), samples.max()].map(millis);
        format!("{p50:8.1} {p99:8.1} {max:8.1}")
    };
    let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"));
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "{name:24} {nodes:5} {:5} {times}   {peer:20} {bytes:>9}",
        samples.count()
    );
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
        let sizes = SIZES.into_iter().zip(peer(perturbation));
        for (nodes, peer) in sizes.filter(|(nodes, _)| *nodes >= perturbation.least_nodes()) {
            let runs = if nodes >= 50 { runs.div_ceil(4) } else { runs };
            let setup = Setup {
                check_one_in: nodes,
                ..Setup::new(SEED, nodes)
            };
            let samples = perturbation.samples(&setup, runs);
            row(&perturbation.to_string(), nodes, &samples, peer, None);
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
            Some(bytes),
        );
    }
    for nodes in SIZES {
        row("idle", nodes, &Samples::default(), "-", Some(idle_bytes(nodes)));
    }
}
