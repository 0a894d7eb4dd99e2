//! What containers of services can do, and what is said of those that cannot.

use crate::stage::{NODES, SOON, Stage};
use anyhow::ensure;
use essaim_lab::peer::LoadReport;
use essaim_lab::{Family, eventually};
use std::collections::BTreeSet;

#[test]
fn a_service_of_containers_is_reached_by_port_address_and_name() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    stage.serve("web", &["--replicas", "3", "--publish", "8080:80"])?;
    stage.script("user", &["--network", "app", "--replicas", "2"], "sleep 100000")?;
    let web = stage.runs("web", 3)?;
    let user = stage.runs("user", 2)?;
    Stage::namespaces(&web, true)?;
    // From outside, at each node, by the client's own address.
    let client = format!("RemoteAddr: {}:", stage.lab.address("c1", Family::V4)?);
    for node in NODES {
        let mut answered = BTreeSet::new();
        eventually(SOON, &format!("all of web answer at {node}"), || {
            let page = stage.page(node, 8080)?;
            ensure!(page.contains(&client), "{page}");
            answered.extend(
                page.lines()
                    .find(|line| line.starts_with("Name: "))
                    .map(str::to_owned),
            );
            ensure!(answered.len() == 3, "{answered:?}");
            Ok(())
        })?;
    }
    // From containers, by its name and by its address.
    let address = stage.lab.virtual_address("n1", "web", "app", Family::V4)?;
    for task in &user {
        for target in ["web".to_owned(), address.to_string()] {
            let url = format!("http://{target}/");
            let mut answered = BTreeSet::new();
            eventually(SOON, &format!("{} reaches all of {target}", task.name), || {
                let page = stage.inside(task, &["wget", "-q", "-O", "-", &url])?;
                answered.extend(
                    page.lines()
                        .find(|line| line.starts_with("Name: "))
                        .map(str::to_owned),
                );
                ensure!(answered.len() == 3, "{answered:?}");
                Ok(())
            })?;
        }
    }
    // Itself by either family: engines turn IPv6 off at the loopback interface, which such packets pass.
    for task in &user {
        for own in ["127.0.0.1", "::1"] {
            stage.inside(task, &["ping", "-c", "1", "-W", "2", own])?;
        }
    }
    stage.operate(&["service", "rm", "web", "user"])?;
    stage.has_just(&[])?;
    Stage::namespaces(&web, false)
}

#[test]
fn secrets_logs_and_ends_are_as_with_swarm() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    let made = stage
        .lab
        .operate_with("n1", &["secret", "create", "key", "-"], "hunter2");
    made?.ok()?;
    let made = stage
        .lab
        .operate_with("n1", &["config", "create", "conf", "-"], "on = true");
    made?.ok()?;
    let options = [
        "--secret",
        "source=key,target=key,uid=5,gid=6,mode=0440",
        "--config",
        "source=conf,target=/etc/app.conf",
        "--env",
        "A=b",
    ];
    let script = "echo out $A; echo err >&2; cat /run/secrets/key; echo; cat /etc/app.conf; echo; \
        ls -ln /run/secrets/key | head -n 1; (echo x > /run/secrets/key) 2>/dev/null || echo closed; exec sleep 100000";
    stage.script("box", &options, script)?;
    let boxes = stage.runs("box", 1)?;
    eventually(SOON, "it has said all", || {
        let ran = stage
            .lab
            .try_operate("n1", &["service", "logs", "--raw", "box"])?;
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let mut lines: BTreeSet<&str> = said.lines().collect();
        for line in ["out b", "err", "hunter2", "on = true", "closed"] {
            ensure!(lines.remove(line), "{line}: {said}");
        }
        let listed = lines.pop_first().unwrap_or_default();
        ensure!(
            listed.starts_with("-r--r-----") && listed.contains(" 5 "),
            "{said}"
        );
        Ok(())
    })?;
    // In clear it is in memory only.
    let data = stage.lab.data_dir(&boxes[0].node).display().to_string();
    let found = std::process::Command::new("grep")
        .args(["-rqF", "hunter2", &data])
        .status()?;
    ensure!(found.code() == Some(1), "the secret is on the disk: {found}");

    let once = ["--restart-condition", "none"];
    stage.script("three", &once, "exit 3")?;
    stage.ends("three", "failed", "task: non-zero exit (3)")?;
    stage.script("done", &once, "exit 0")?;
    stage.ends("done", "complete", "")?;
    let line = [
        "service",
        "create",
        "--detach",
        "--name",
        "nowhere",
        "--restart-condition",
        "none",
    ];
    // Of a registry that refuses at once.
    stage.operate(&[&line[..], &["127.0.0.1:1/nope:1"]].concat())?;
    stage.ends("nowhere", "rejected", "No such image: 127.0.0.1:1/nope:1")?;
    let line = [
        "service",
        "create",
        "--detach",
        "--name",
        "command",
        "--restart-condition",
        "none",
    ];
    stage.operate(&[&line[..], &["busybox:latest", "/nope"]].concat())?;
    eventually(SOON, "a command that is nowhere fails", || {
        let tasks = stage.tasks("command")?;
        let is_so =
            |error: &str| error.starts_with("starting container failed: ") && error.contains("\"/nope\"");
        ensure!(
            tasks
                .iter()
                .any(|task| task.state == "failed" && is_so(&task.error)),
            "{tasks:?}"
        );
        Ok(())
    })?;
    // One that never becomes healthy never takes traffic.
    let sick = [
        "--restart-condition",
        "none",
        "--health-cmd",
        "false",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
    ];
    stage.script("sick", &sick, "exec sleep 100000")?;
    eventually(SOON, "one that is not healthy fails", || {
        let tasks = stage.tasks("sick")?;
        let is_so = |error: &str| error.contains("unhealthy container");
        ensure!(
            tasks
                .iter()
                .any(|task| task.state == "failed" && is_so(&task.error)),
            "{tasks:?}"
        );
        Ok(())
    })?;
    let names = ["box", "three", "done", "nowhere", "command", "sick"];
    stage.operate(&[&["service", "rm"], &names[..]].concat())?;
    stage.has_just(&[])
}

#[test]
fn an_update_of_containers_loses_no_request() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    let options = [
        "--replicas",
        "2",
        "--publish",
        "8080:80",
        "--update-order",
        "start-first",
        "--update-monitor",
        "1s",
        "--env",
        "VERSION=1",
        "--health-cmd",
        "wget -q -O /dev/null http://127.0.0.1/",
        "--health-interval",
        "300ms",
    ];
    stage.serve("web", &options)?;
    let first = stage.runs("web", 2)?;
    eventually(SOON, "web answers", || stage.page("n2", 8080))?;
    let target = format!("http://{}:8080/", stage.lab.address("n2", Family::V4)?);
    let load = stage.lab.start_load("c1", &target, 2, 10, 110)?;
    stage.operate(&["service", "update", "--env-add", "VERSION=2", "web"])?;
    let second = eventually(SOON, "all are new", || {
        let tasks = stage.runs("web", 2)?;
        ensure!(tasks.iter().all(|task| !first.contains(task)), "{tasks:?}");
        Ok(tasks)
    })?;
    let report: LoadReport = load.stop()?.json()?;
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    ensure!(report.ok > 10 && report.failed == 0, "{report:?}");
    for task in &second {
        let env = stage.inside(task, &["env"])?;
        ensure!(env.lines().any(|line| line == "VERSION=2"), "{env}");
    }
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}
