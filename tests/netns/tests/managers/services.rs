//! Services as the operator asks for them.

use crate::stage::*;
use essaim_lab::peer::LoadReport;
use essaim_lab::{Cluster, Family, eventually};
use std::time::{Duration, Instant};

pub(crate) fn edge(cluster: &Cluster, node: &str) -> String {
    format!("http://{}:8080/", cluster.address(node, Family::V4).unwrap())
}

#[test]
fn a_service_waits_for_a_node_that_will_do_and_says_why() {
    let cluster = formed(2, 1);
    let only = ["--constraint", "node.labels.disk==ssd"];
    let line = [
        &["service", "create", "--detach", "--name", "late"][..],
        &only,
        &["host", "sleep", "1000"],
    ]
    .concat();
    cluster.operate("n1", &line).unwrap();
    eventually(SOON, "the task says why it waits", || {
        let tasks = list(&cluster, "n1", "/tasks?filters={\"service\":[\"late\"]}");
        let why = tasks
            .first()
            .map(|task| text(task, "/Status/Err").to_owned())
            .unwrap_or_default();
        anyhow::ensure!(why.contains("no suitable node"), "{tasks:?}");
        Ok(())
    })
    .unwrap();
    cluster
        .operate("n1", &["node", "update", "--label-add", "disk=ssd", "n2"])
        .unwrap();
    let placed = cluster.wait_running("n1", "late", 1).unwrap();
    assert_eq!(nodes_of(&placed), ["n2"]);
}

#[test]
fn a_global_service_follows_the_nodes_and_jobs_end() {
    let cluster = formed(2, 1);
    let global = [
        "service", "create", "--detach", "--name", "agent", "--mode", "global", "host", "sleep", "1000",
    ];
    cluster.operate("n1", &global).unwrap();
    cluster.wait_running("n1", "agent", 2).unwrap();
    cluster
        .operate("n1", &["node", "update", "--availability", "drain", "n2"])
        .unwrap();
    cluster.wait_running("n1", "agent", 1).unwrap();
    cluster
        .operate("n1", &["node", "update", "--availability", "active", "n2"])
        .unwrap();
    cluster.wait_running("n1", "agent", 2).unwrap();
    let job = [
        "service",
        "create",
        "--detach",
        "--name",
        "job",
        "--mode",
        "replicated-job",
        "--replicas",
        "5",
        "--max-concurrent",
        "2",
        "host",
        "true",
    ];
    cluster.operate("n1", &job).unwrap();
    eventually(SOON, "five tasks of the job are complete", || {
        let tasks = list(&cluster, "n1", "/tasks?filters={\"service\":[\"job\"]}");
        let complete = tasks
            .iter()
            .filter(|task| text(task, "/Status/State") == "complete")
            .count();
        anyhow::ensure!(complete == 5, "{complete} are");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_new_task_takes_traffic_through_every_node_at_once() {
    let cluster = formed(3, 1);
    Server::of(&cluster).create(
        &cluster,
        "n1",
        "web",
        &["--replicas", "1", "--publish", "8080:80"],
    );
    cluster.wait_running("n1", "web", 1).unwrap();
    let mut times = Vec::new();
    for replicas in 2..=6 {
        let begun = Instant::now();
        cluster
            .operate(
                "n1",
                &["service", "scale", "--detach", &format!("web={replicas}")],
            )
            .unwrap();
        for node in ["n1", "n2", "n3"] {
            eventually(SOON, &format!("web.{replicas} answers through {node}"), || {
                let line = [
                    "load",
                    "--target",
                    &edge(&cluster, node),
                    "--requests",
                    "60",
                    "--seconds",
                    "5",
                ];
                let report: LoadReport = cluster.peer("c1", &line)?.json()?;
                anyhow::ensure!(report.failed == 0, "{:?}", report.failures);
                let name = format!("web.{replicas}");
                anyhow::ensure!(report.by_name.contains_key(&name), "{:?}", report.by_name);
                Ok(())
            })
            .unwrap();
        }
        times.push(begun.elapsed());
    }
    times.sort();
    println!(
        "from service scale to traffic through three nodes: median {:.0?}, {times:.0?}",
        times[times.len() / 2]
    );
    assert!(times[times.len() / 2] < Duration::from_millis(1500), "{times:?}");
}

/// Without it a task runs as soon as its process does, which on a busy machine is before it listens.
const CHECKED: [&str; 4] = [
    "--health-cmd",
    "curl -gsf --noproxy '*' -o /dev/null http://127.0.0.1/",
    "--health-interval",
    "200ms",
];

/// Waits until the update of web is so far.
#[track_caller]
fn update_is(cluster: &Cluster, expected: &str) {
    eventually(
        Duration::from_mins(1),
        &format!("the update is {expected}"),
        || {
            let service = cluster.api("n1", "/services/web")?;
            let found = text(&service, "/UpdateStatus/State").to_owned();
            anyhow::ensure!(found == expected, "it is {found:?}");
            Ok(())
        },
    )
    .unwrap();
}

#[test]
fn a_rolling_update_loses_no_request_and_a_bad_one_is_rolled_back() {
    let cluster = formed(3, 1);
    let options = [
        "--replicas",
        "4",
        "--publish",
        "8080:80",
        "--update-monitor",
        "2s",
        "--update-failure-action",
        "rollback",
    ];
    Server::of(&cluster).create(&cluster, "n1", "web", &[&options[..], &CHECKED].concat());
    let before = cluster.wait_running("n1", "web", 4).unwrap();
    let target = edge(&cluster, "n2");
    eventually(SOON, "web answers", || cluster.curl("c1", &target).map(drop)).unwrap();
    let load = cluster.start_load("c1", &target, 4, 2, 110).unwrap();
    cluster
        .operate(
            "n1",
            &["service", "update", "--detach", "--env-add", "V=2", "web"],
        )
        .unwrap();
    update_is(&cluster, "completed");
    let after = cluster.wait_running("n1", "web", 4).unwrap();
    assert!(after.iter().all(|task| !before.contains(task)), "{after:?}");
    // Programs that do not exist never run: back to those that do.
    cluster
        .operate(
            "n1",
            &["service", "update", "--detach", "--args", "nonsense", "web"],
        )
        .unwrap();
    update_is(&cluster, "rollback_completed");
    cluster.wait_running("n1", "web", 4).unwrap();
    cluster
        .operate("n1", &["service", "rollback", "--detach", "web"])
        .unwrap_or_default();
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    assert!(report.ok > 100, "{report:?}");
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

#[test]
fn a_published_service_moves_to_another_network_and_loses_no_request() {
    let cluster = formed(3, 1);
    for line in [
        "network create --driver overlay four",
        "network create --driver overlay --ipv6 --subnet fd42:7::/64 both",
    ] {
        cluster
            .operate("n1", &line.split(' ').collect::<Vec<_>>())
            .unwrap();
    }
    let options = [
        "--replicas",
        "3",
        "--publish",
        "8080:80",
        "--network",
        "four",
        "--update-order",
        "start-first",
    ];
    Server::of(&cluster).create(&cluster, "n1", "web", &[&options[..], &CHECKED].concat());
    cluster.wait_running("n1", "web", 3).unwrap();
    let target = edge(&cluster, "n2");
    eventually(SOON, "web answers", || cluster.curl("c1", &target).map(drop)).unwrap();
    let load = cluster.start_load("c1", &target, 4, 2, 110).unwrap();
    let moved = |option: &str, network: &str| {
        let line = ["service", "update", "--detach", option, network, "web"];
        cluster.operate("n1", &line).unwrap();
        update_is(&cluster, "completed");
    };
    let six = format!("http://[{}]:8080/", cluster.address("n2", Family::V6).unwrap());
    assert!(cluster.curl("c1", &six).is_err(), "four has no IPv6");
    // The network of both families takes the port, whichever of the two was made first.
    moved("--network-add", "both");
    eventually(SOON, "web answers over IPv6", || {
        cluster.curl("c1", &six).map(drop)
    })
    .unwrap();
    let over_six = cluster.start_load("c1", &six, 2, 10, 60).unwrap();
    moved("--network-rm", "four");
    let over_six: LoadReport = over_six.stop().unwrap().json().unwrap();
    assert!(over_six.ok > 100, "{over_six:?}");
    assert_eq!(over_six.failed, 0, "{:?}", over_six.failures);
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    assert!(report.ok > 100, "{report:?}");
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

#[test]
fn what_a_task_needs_more_than_a_node_has_keeps_it_waiting() {
    let cluster = formed(1, 1);
    let waits = |name: &str, options: &[&str], words: &str| {
        let line = [
            &["service", "create", "--detach", "--name", name][..],
            options,
            &["host", "sleep", "1000"],
        ]
        .concat();
        cluster.operate("n1", &line).unwrap();
        eventually(SOON, &format!("{name} waits with its reason"), || {
            let tasks = list(
                &cluster,
                "n1",
                &format!("/tasks?filters={{\"service\":[\"{name}\"]}}"),
            );
            let why: Vec<&str> = tasks.iter().map(|task| text(task, "/Status/Err")).collect();
            anyhow::ensure!(why.iter().any(|why| why.contains(words)), "{why:?}");
            Ok(())
        })
        .unwrap();
    };
    waits("big", &["--reserve-memory", "4000g"], "insufficient resources");
    let port = ["--publish", "published=9000,target=80,mode=host"];
    let line = [
        &["service", "create", "--detach", "--name", "first"][..],
        &port,
        &["host", "sleep", "1000"],
    ]
    .concat();
    cluster.operate("n1", &line).unwrap();
    cluster.wait_running("n1", "first", 1).unwrap();
    waits("second", &port, "host-mode port already in use");
    waits(
        "spread",
        &["--replicas", "2", "--replicas-max-per-node", "1"],
        "max replicas per node",
    );
}

#[test]
fn secrets_and_configs_reach_only_the_tasks_that_use_them() {
    let cluster = formed(2, 1);
    let word = "swordfish-7351";
    let file = cluster.state_dir("n1").join("word");
    std::fs::write(&file, word).unwrap();
    let path = file.display().to_string();
    cluster
        .operate("n1", &["secret", "create", "word", &path])
        .unwrap();
    cluster
        .operate("n1", &["config", "create", "setting", &path])
        .unwrap();
    std::fs::remove_file(&file).unwrap();
    let script = "cat /run/secrets/key /setting; stat -c %a:%u /run/secrets/key; stat -f -c %T /run/secrets; sleep 1000";
    let line = [
        "service",
        "create",
        "--detach",
        "--name",
        "reader",
        "--constraint",
        "node.hostname==n2",
        "--secret",
        "source=word,target=key,mode=0400,uid=7",
        "--config",
        "source=setting,target=/setting",
        "host",
        "sh",
        "-c",
        script,
    ];
    cluster.operate("n1", &line).unwrap();
    cluster.wait_running("n1", "reader", 1).unwrap();
    eventually(SOON, "the task has said what it reads", || {
        let logs = cluster.operate("n1", &["service", "logs", "--raw", "reader"])?;
        anyhow::ensure!(
            logs.contains(&format!("{word}{word}400:7")) && logs.contains("tmpfs"),
            "{logs:?}"
        );
        Ok(())
    })
    .unwrap();
    refused(
        &cluster,
        "n1",
        &["secret", "rm", "word"],
        "is in use by the following service",
    );
    refused(
        &cluster,
        "n1",
        &["config", "rm", "setting"],
        "is in use by the following service",
    );
    // Nowhere on a disk in clear, in no log, in no answer.
    let logs = cluster.log_tail("n1") + &cluster.log_tail("n2");
    assert!(!logs.contains(word));
    assert!(!cluster.api("n1", "/secrets").unwrap().to_string().contains(word));
    for node in ["n1", "n2"] {
        let found = std::process::Command::new("grep")
            .args(["-rl", "--exclude-dir=logs", word])
            .arg(cluster.data_dir(node))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "on {node}");
    }
}
