//! What a service asks of its tasks' lives: when they are begun again, when they are sent traffic, how they are ended, and
//! what they read.

use crate::services::edge;
use crate::stage::*;
use essaim_lab::peer::LoadReport;
use essaim_lab::{Cluster, eventually};
use jiff::Timestamp;
use serde_json::Value;
use std::time::{Duration, Instant};

/// All tasks that the cluster remembers of a service, the oldest first.
fn history(cluster: &Cluster, service: &str) -> Vec<Value> {
    let mut tasks = list(
        cluster,
        "n1",
        &format!("/tasks?filters={{\"service\":[\"{service}\"]}}"),
    );
    tasks.sort_by_key(|task| text(task, "/CreatedAt").to_owned());
    tasks
}

fn states(tasks: &[Value]) -> Vec<&str> {
    tasks.iter().map(|task| text(task, "/Status/State")).collect()
}

/// Waits until a service's tasks are in these states, and sees that they stay so.
fn stays(cluster: &Cluster, service: &str, expected: &[&str]) {
    eventually(SOON, &format!("the tasks of {service} are {expected:?}"), || {
        let tasks = history(cluster, service);
        anyhow::ensure!(states(&tasks) == expected, "{:?}", states(&tasks));
        Ok(())
    })
    .unwrap();
    let seen = Instant::now();
    while seen.elapsed() < Duration::from_secs(2) {
        assert_eq!(states(&history(cluster, service)), expected, "{service}");
    }
}

#[test]
fn tasks_are_begun_again_as_their_service_asks() {
    let cluster = formed(1, 1);
    let quick = ["--restart-delay", "100ms"];
    let with = |options: &[&str]| {
        [&quick[..], options]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for (name, options, program, expected) in [
        (
            "never",
            with(&["--restart-condition", "none"]),
            "false",
            &["failed"][..],
        ),
        (
            "done",
            with(&["--restart-condition", "on-failure"]),
            "true",
            &["complete"],
        ),
        (
            "thrice",
            with(&["--restart-condition", "on-failure", "--restart-max-attempts", "2"]),
            "false",
            &["failed", "failed", "failed"],
        ),
    ] {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        create_service(&cluster, "n1", name, &options, &[program]);
        stays(&cluster, name, expected);
    }
    // Of attempts, those within the window count: these are further apart.
    create_service(
        &cluster,
        "n1",
        "windowed",
        &[
            "--restart-delay",
            "0s",
            "--restart-max-attempts",
            "1",
            "--restart-window",
            "500ms",
        ],
        &["sh", "-c", "sleep 1; false"],
    );
    // Any end is followed by a new beginning, after the delay.
    create_service(&cluster, "n1", "again", &["--restart-delay", "1s"], &["true"]);
    for name in ["windowed", "again"] {
        eventually(SOON, &format!("{name} was begun four times"), || {
            let tasks = history(&cluster, name);
            anyhow::ensure!(tasks.len() >= 4, "{:?}", states(&tasks));
            Ok(())
        })
        .unwrap();
    }
    let at = |task: &Value, path: &str| -> Timestamp { text(task, path).parse().unwrap() };
    let tasks = history(&cluster, "again");
    let ended: Vec<_> = tasks
        .iter()
        .filter(|task| text(task, "/Status/State") == "complete")
        .collect();
    assert!(ended.len() >= 3, "{:?}", states(&tasks));
    for pair in ended.windows(2) {
        let pause = at(pair[1], "/Status/Timestamp").duration_since(at(pair[0], "/Status/Timestamp"));
        let pause = pause.as_secs_f64();
        println!("one end after another: {pause:.2} s");
        assert!((1.0..3.0).contains(&pause), "{pause} s");
    }
}

#[test]
fn no_traffic_goes_to_a_task_before_it_is_healthy_or_after() {
    let cluster = formed(2, 1);
    // A task has a /run of its own.
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("web.1"), directory.path().join("web.2"));
    std::fs::write(&one, "").unwrap();
    let check = format!("test -e {}/$(hostname)", directory.path().display());
    let options = [
        "--replicas",
        "2",
        "--publish",
        "8080:80",
        "--health-cmd",
        &check,
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "--restart-delay",
        "100ms",
    ];
    Server::of(&cluster).create(&cluster, "n1", "web", &options);
    let target = edge(&cluster, "n2");
    eventually(SOON, "the healthy one answers", || {
        cluster.curl("c1", &target).map(drop)
    })
    .unwrap();
    let ask = |count: &str| -> LoadReport {
        let line = ["load", "--target", &target, "--requests", count, "--seconds", "5"];
        cluster.peer("c1", &line).unwrap().json().unwrap()
    };
    let only_one = |report: &LoadReport| {
        assert_eq!(report.failed, 0, "{:?}", report.failures);
        assert!(report.by_name.keys().eq(["web.1"]), "{:?}", report.by_name);
    };
    only_one(&ask("100"));
    // Begun with the others in a load that goes on throughout.
    let load = cluster.start_load("c1", &target, 2, 5, 60).unwrap();
    std::fs::write(&two, "").unwrap();
    eventually(SOON, "the other is sent requests once it is healthy", || {
        let report = ask("40");
        anyhow::ensure!(report.by_name.contains_key("web.2"), "{:?}", report.by_name);
        Ok(())
    })
    .unwrap();
    let before = cluster.wait_running("n1", "web", 2).unwrap();
    std::fs::remove_file(&two).unwrap();
    eventually(SOON, "no request goes to it once it is not", || {
        let report = ask("40");
        anyhow::ensure!(report.by_name.keys().eq(["web.1"]), "{:?}", report.by_name);
        Ok(())
    })
    .unwrap();
    only_one(&ask("100"));
    std::fs::write(&two, "").unwrap();
    eventually(SOON, "another runs in the place of the unhealthy one", || {
        let tasks = cluster.wait_running("n1", "web", 2)?;
        anyhow::ensure!(tasks.iter().any(|task| !before.contains(task)), "{tasks:?}");
        Ok(())
    })
    .unwrap();
    let report: LoadReport = load.stop().unwrap().json().unwrap();
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

#[test]
fn a_request_under_way_ends_before_its_task_and_signal_and_grace_are_as_asked() {
    let cluster = formed(2, 1);
    let options = [
        "--replicas",
        "2",
        "--publish",
        "8080:80",
        "--stop-grace-period",
        "40s",
    ];
    let server = cluster.binary("essaim-peer").display().to_string();
    create_service(&cluster, "n1", "web", &options, &[&server, "whoami"]);
    cluster.wait_running("n1", "web", 2).unwrap();
    let target = edge(&cluster, "n2");
    eventually(SOON, "web answers", || cluster.curl("c1", &target).map(drop)).unwrap();
    // The reader begins after some seconds, and there is more than buffers on the way hold. The server waits for its client to
    // close: what is sent goes with the namespace.
    let slow = format!("curl -gsSf --noproxy '*' {target}bytes/20000000 | {{ sleep 6; wc -c; }}");
    let line = ["sh", "-c", &slow];
    let requests: Vec<_> = (0..6).map(|_| cluster.start("c1", &line).unwrap()).collect();
    eventually(SOON, "all are under way", || {
        let count = cluster
            .exec(
                "c1",
                &["sh", "-c", "ss -Htn state established dport = :8080 | wc -l"],
            )?
            .ok()?;
        anyhow::ensure!(count.trim() == "6", "{count}");
        Ok(())
    })
    .unwrap();
    cluster
        .operate("n1", &["service", "scale", "--detach", "web=1"])
        .unwrap();
    for request in requests {
        assert_eq!(request.finish().unwrap().ok().unwrap().trim(), "20000000");
    }
    cluster.wait_running("n1", "web", 1).unwrap();

    let directory = tempfile::tempdir().unwrap();
    let said = directory.path().join("said");
    let script = format!(
        "trap 'echo usr1 >> {}; exit 0' USR1; while :; do sleep 0.05; done",
        said.display()
    );
    create_service(
        &cluster,
        "n1",
        "told",
        &["--stop-signal", "SIGUSR1"],
        &["sh", "-c", &script],
    );
    let deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"];
    create_service(&cluster, "n1", "deaf", &["--stop-grace-period", "2s"], &deaf);
    for name in ["told", "deaf"] {
        cluster.wait_running("n1", name, 1).unwrap();
    }
    let begun = Instant::now();
    for name in ["told=0", "deaf=0"] {
        cluster
            .operate("n1", &["service", "scale", "--detach", name])
            .unwrap();
    }
    eventually(SOON, "the signal arrives", || {
        let said = std::fs::read_to_string(&said)?;
        anyhow::ensure!(said == "usr1\n", "{said:?}");
        Ok(())
    })
    .unwrap();
    eventually(SOON, "the deaf one is gone", || {
        let tasks = history(&cluster, "deaf");
        anyhow::ensure!(tasks.is_empty(), "{:?}", states(&tasks));
        Ok(())
    })
    .unwrap();
    println!("deaf to its signal, gone after {:.1?}", begun.elapsed());
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn configs_and_templates_are_what_a_task_reads() {
    let cluster = formed(2, 1);
    let file = cluster.state_dir("n1").join("setting");
    std::fs::write(&file, "for {{.Service.Name}}.{{.Task.Slot}}\n").unwrap();
    let path = file.display().to_string();
    cluster
        .operate("n1", &["config", "create", "plain", &path])
        .unwrap();
    cluster
        .operate(
            "n1",
            &["config", "create", "--template-driver", "golang", "filled", &path],
        )
        .unwrap();
    let options = [
        "--constraint",
        "node.hostname==n2",
        "--hostname",
        "{{.Service.Name}}-{{.Node.Hostname}}",
        "--env",
        "SLOT={{.Task.Slot}}",
        "--config",
        "source=plain,target=/plain,mode=0440,uid=3,gid=4",
        "--config",
        "source=filled,target=/filled",
    ];
    let script = "cat /plain /filled; stat -c %a:%u:%g /plain /filled; hostname; echo slot $SLOT; sleep 1000";
    create_service(&cluster, "n1", "reader", &options, &["sh", "-c", script]);
    cluster.wait_running("n1", "reader", 1).unwrap();
    let expected =
        "for {{.Service.Name}}.{{.Task.Slot}}\nfor reader.1\n440:3:4\n444:0:0\nreader-n2\nslot 1\n";
    eventually(SOON, "the task has said what it reads", || {
        let logs = cluster.operate("n1", &["service", "logs", "--raw", "reader"])?;
        anyhow::ensure!(logs == expected, "{logs:?}");
        Ok(())
    })
    .unwrap();
    refused(
        &cluster,
        "n1",
        &["config", "rm", "filled"],
        "is in use by the following service",
    );
    let bad = [
        "service",
        "create",
        "--name",
        "bad",
        "--hostname",
        "{{.Nothing}}",
        "host",
        "true",
    ];
    refused(
        &cluster,
        "n1",
        &bad,
        "Hostname is unknown placeholder \".Nothing\"",
    );
}

#[test]
fn a_reader_that_follows_misses_no_line_and_sees_none_twice() {
    let cluster = formed(4, 3);
    create_service(
        &cluster,
        "n1",
        "counter",
        &["--constraint", "node.hostname==n4"],
        &[
            "sh",
            "-c",
            "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done",
        ],
    );
    cluster.wait_running("n1", "counter", 1).unwrap();
    let host = format!("ESSAIM_HOST=unix://{}", cluster.api_socket("n2").display());
    let program = cluster.binary("essaim").display().to_string();
    // At a manager that does not lead.
    assert_eq!(cluster.leader().unwrap(), "n1");
    let line = ["env", &host, "timeout", "120", &program, "service", "logs"];
    let options = ["--raw", "--follow", "--tail", "5", "counter"];
    let mut reader = cluster.start("n2", &[&line[..], &options].concat()).unwrap();
    let mut number = || reader.next_line().unwrap().trim().parse::<u64>().unwrap();
    let mut last = number();
    let mut go_on = |lines: u64| {
        for _ in 0..lines {
            let next = number();
            assert_eq!(next, last + 1);
            last = next;
        }
    };
    go_on(20);
    cluster.restart_node("n4").unwrap();
    go_on(100);
    cluster.power_off("n1").unwrap();
    go_on(200);
}
