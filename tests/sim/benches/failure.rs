//! How soon the dead are noticed, and whether the living are taken for dead, in a table.

use essaim_gossip::Config;
use essaim_sim::{Network, Setup, detections, false_alarms};
use std::io::Write as _;
use std::time::Duration;

fn setup(nodes: usize, network: Network, config: Config) -> Setup {
    Setup {
        config,
        check_one_in: nodes,
        ..Setup::new(1, nodes).on(network)
    }
}

fn main() {
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "a node dies; until each other node is told (ms of simulated time)"
    );
    for (pace, config) in [("default", Config::default()), ("fast", Config::fast())] {
        for (loss, wire) in [(0.0, Network::quiet()), (0.2, Network::lossy(0.2))] {
            for (nodes, runs) in [(3, 60), (10, 60), (25, 40), (100, 4)] {
                let all = detections(&setup(nodes, wire.clone(), config), runs);
                let [p50, p99, max] =
                    [all.quantile(0.5), all.quantile(0.99), all.max()].map(|time| time.as_millis());
                let _ = writeln!(
                    out,
                    "{pace:8} loss {loss:3} nodes {nodes:4} runs {runs:3}: p50 {p50:5} p99 {p99:5} max {max:5}"
                );
            }
        }
    }
    let _ = writeln!(out, "nobody dies, a fifth is lost");
    for (nodes, minutes) in [(2, 240), (3, 240), (5, 120), (25, 15), (100, 1)] {
        let time = Duration::from_mins(minutes);
        let alarms = false_alarms(setup(nodes, Network::lossy(0.2), Config::default()), time);
        let _ = writeln!(
            out,
            "nodes {nodes:4} for {minutes:4} min: told suspected {:6} times, told down {} times",
            alarms.suspected, alarms.down
        );
    }
}
