//! Leaders that die, and managers that are away.

use crate::stage::*;
use essaim_lab::peer::LoadReport;
use essaim_lab::{Family, eventually};
use std::time::Instant;

#[test]
fn without_managers_traffic_names_and_failover_go_on() {
    let cluster = formed(3, 1);
    cluster
        .operate("n1", &["network", "create", "--driver", "overlay", "app"])
        .unwrap();
    let server = Server::of(&cluster);
    let only = ["--constraint", "node.role==worker"];
    let options = [
        &["--replicas", "4", "--network", "app", "--publish", "8080:80"][..],
        &only,
    ]
    .concat();
    server.create(&cluster, "n1", "web", &options);
    let placed = cluster.wait_running("n1", "web", 4).unwrap();
    let target = format!("http://{}:8080/", cluster.address("n2", Family::V4).unwrap());
    eventually(SOON, "web answers", || cluster.curl("c1", &target).map(drop)).unwrap();
    cluster.kill_agent("n1").unwrap();

    let load = cluster.start_load("c1", &target, 4, 5, 60).unwrap();
    let asker = &placed[0];
    cluster
        .exec(&asker.name, &["getent", "hosts", "tasks.web"])
        .unwrap()
        .ok()
        .unwrap();
    // A task that dies is out of the tables without anybody's help, and its node's daemon may be restarted.
    let victim = placed.iter().find(|task| task.node != asker.node).unwrap();
    cluster.restart_node(&victim.node).unwrap();
    cluster.end_placed(victim).unwrap();
    eventually(SOON, "the dead task is in no answer", || {
        let found = cluster
            .exec(&asker.name, &["getent", "ahosts", "tasks.web"])?
            .ok()?;
        anyhow::ensure!(!found.contains(&victim.addresses[0]), "{found}");
        Ok(())
    })
    .unwrap();
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    let at: Vec<u64> = report.failures.iter().map(|failure| failure.at_ms).collect();
    let span = at.iter().max().unwrap_or(&0) - at.iter().min().unwrap_or(&0);
    println!(
        "{} of {} requests failed when a task died, within {span} ms",
        report.failed,
        report.ok + report.failed
    );
    assert!(report.ok > 20 && span < 500, "{report:?}");

    // The manager is back: it learns what happened, and mends it.
    cluster.spawn_node("n1").unwrap();
    wait_writable(&cluster, "n1");
    let mended = eventually(SOON, "another task runs in place of the dead one", || {
        let running = cluster.running("n1", "web")?;
        anyhow::ensure!(
            running.len() == 4 && running.iter().all(|task| task.id != victim.id),
            "{running:?}"
        );
        Ok(running)
    })
    .unwrap();
    let kept = mended.iter().filter(|task| placed.contains(task)).count();
    assert_eq!(kept, 3, "living tasks were replaced: {mended:?}");
}

#[test]
fn a_node_without_power_is_replaced_and_traffic_is_without_errors_once_that_is_known() {
    let cluster = formed(3, 1);
    let load = under_load(&cluster, "n1", "n1");
    let begun = Instant::now();
    cluster.power_off("n3").unwrap();
    wait_node(&cluster, "n1", "n3", "/Status/State", "down");
    let moved = eventually(SOON, "all tasks run elsewhere", || {
        let placed = cluster.running("n1", "web")?;
        anyhow::ensure!(
            placed.len() == 3 && !nodes_of(&placed).contains(&"n3"),
            "{placed:?}"
        );
        Ok(begun.elapsed())
    })
    .unwrap();
    println!("all tasks run elsewhere after {moved:.1?}");
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    let last = report
        .failures
        .iter()
        .map(|failure| failure.at_ms)
        .max()
        .unwrap_or(0);
    let first = report
        .failures
        .iter()
        .map(|failure| failure.at_ms)
        .min()
        .unwrap_or(0);
    println!(
        "{} of {} requests failed, over {} ms",
        report.failed,
        report.ok + report.failed,
        last - first
    );
    assert!(report.ok > 100 && last - first < 7000, "{report:?}");
}

#[test]
fn one_three_and_five_managers_do_alike() {
    for (nodes, managers) in [(1, 1), (5, 5)] {
        let cluster = formed(nodes, managers);
        assert_eq!(
            sleepers(&cluster, "n1", "idle", 2).len(),
            2,
            "{managers} managers"
        );
        let leader = cluster.leader().unwrap();
        cluster.restart_node(&leader).unwrap();
        wait_writable(&cluster, &leader);
        assert_eq!(
            cluster.wait_running(&leader, "idle", 2).unwrap().len(),
            2,
            "{managers} managers"
        );
    }
}
