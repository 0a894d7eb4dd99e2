//! Leaders that die one after the other. Alone in its program, so that nothing else keeps the machine busy: a daemon that is
//! away for longer than some two seconds is a dead node to the others, and no request may fail here.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, its helpers too, and tells what it measured"
)]

#[path = "../managers/stage.rs"]
#[allow(dead_code, reason = "shared with the suite of the managers")]
mod stage;

use essaim_lab::peer::LoadReport;
use essaim_lab::{Running, eventually};
use stage::*;
use std::time::{Duration, Instant};

#[track_caller]
fn unharmed(load: Running) {
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    assert!(report.ok > 100, "the load did not run: {report:?}");
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    println!("{} requests, none failed", report.ok);
}

#[test]
fn leaders_are_killed_twenty_times_and_nothing_is_lost() {
    let cluster = formed(3, 3);
    let load = under_load(&cluster, "n1", "n2");
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let leader = cluster.leader().unwrap();
        let other = ["n1", "n2", "n3"]
            .into_iter()
            .find(|node| *node != leader)
            .unwrap();
        let name = format!("config{round}");
        let content = cluster.state_dir(other).join("content");
        std::fs::write(&content, &name).unwrap();
        cluster
            .operate(
                other,
                &["config", "create", &name, &content.display().to_string()],
            )
            .unwrap();
        cluster.kill_agent(&leader).unwrap();
        let begun = Instant::now();
        let next = eventually(SOON, "another manager leads", || {
            let next = cluster.leader()?;
            anyhow::ensure!(next != leader);
            Ok(next)
        })
        .unwrap();
        slowest = slowest.max(begun.elapsed());
        // What was acknowledged is there.
        let configs = list(&cluster, &next, "/configs");
        assert_eq!(
            configs.len(),
            round + 1,
            "after the leader was killed {} times",
            round + 1
        );
        cluster.spawn_node(&leader).unwrap();
        eventually(SOON, "all managers are reachable", || {
            for node in ["n1", "n2", "n3"] {
                let found = node_of(&cluster, &next, node)?;
                let reachability = text(&found, "/ManagerStatus/Reachability");
                anyhow::ensure!(reachability == "reachable", "{node} is {reachability:?}");
            }
            Ok(())
        })
        .unwrap();
    }
    println!("a new leader after {slowest:.1?} at most");
    assert!(slowest < Duration::from_secs(3), "a new leader took {slowest:?}");
    unharmed(load);
    // No task was touched.
    assert_eq!(
        list(&cluster, "n1", "/tasks?filters={\"service\":[\"web\"]}").len(),
        3
    );
}
