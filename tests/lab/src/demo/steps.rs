//! What the demo shows, one step after the other.

use super::Report;
use super::answers::Answers;
use super::client::Client;
use super::scene::{CLIENT, PUBLISHED, Scene};
use crate::peer::LoadReport;
use crate::{Family, Running, eventually};
use anyhow::{Context as _, ensure};
use std::time::{Duration, Instant};

/// Requests through each node.
const REQUESTS: usize = 40;

/// Requests for the spread.
const SPREAD: usize = 300;

/// From the begin of a load to the moment when all nodes know that one is gone, a request's patience included.
const DETECTED: Duration = Duration::from_secs(8);

/// The networks' subnets, so that the addresses in the demo's output can be told apart.
const SUBNETS: [&str; 4] = ["--subnet", "10.42.1.0/24", "--subnet", "fd42:1::/64"];

/// Shows everything that the cluster does, from the machines up.
pub(super) fn show(scene: &Scene, report: &mut Report) {
    let client = scene.client();
    report.step(
        &format!("{client} swarm init on n1, swarm join on n2 and n3"),
        || form(scene),
    );
    report.step(
        &format!("{client} network create, service create: web and api"),
        || create(scene),
    );
    traffic(scene, report);
    if client == Client::Docker {
        report.step("docker run --network app: a container of n2's own", || {
            own_container(scene)
        });
    }
    report.step(&format!("{client} service scale web=5"), || scale(scene));
    report.step("every node sends to the new tasks", || {
        through_all(scene, "n3", &scene.names("web"))
    });
    report.step("a rolling update of web under load", || update(scene));
    report.step("the power of the leader's node fails under load", || {
        power_off(scene)
    });
    for family in Family::BOTH {
        for node in scene.nodes() {
            report.step(&format!("curl: client to web through {node}, {family}"), || {
                through(scene, &node, family, &scene.names("web"))
            });
        }
    }
    report.step("the cluster can still be changed: scale web=3", || shrink(scene));
    report.step("essaim verify on every node that runs", || verify(scene));
}

/// Every way to the services.
fn traffic(scene: &Scene, report: &mut Report) {
    let nodes = scene.nodes();
    let tasks = scene.names("web");
    for family in Family::BOTH {
        for node in &nodes {
            report.step(&format!("curl: client to web through {node}, {family}"), || {
                through(scene, node, family, &tasks)
            });
        }
        report.step(
            &format!("{SPREAD} requests spread over the tasks, {family}"),
            || spread(scene, family),
        );
        report.step(
            &format!("busybox wget and nc: client to web through n1, {family}"),
            || busybox(scene, family),
        );
        if let Some(task) = tasks.first() {
            report.step(&format!("curl: {task} to the VIP of api, {family}"), || {
                east_west(scene, task, family)
            });
            report.step(&format!("curl: {task} to api by its name, {family}"), || {
                by_name(scene, task, family)
            });
            report.step(
                &format!("curl: {task} to the VIP of web, its own service, {family}"),
                || own_vip(scene, task, family),
            );
        }
    }
    report.step("curl: n3 itself to its published port at 127.0.0.1", || {
        loopback(scene)
    });
}

fn form(scene: &Scene) -> Shown {
    let begun = Instant::now();
    let (cluster, client) = (scene.cluster(), scene.client());
    cluster.form_by(3, &|node, line| client.operate(cluster, node, line))?;
    // So that the end of a leader's node is known after 12 s in place of 30.
    scene.operate(&["swarm", "update", "--dispatcher-heartbeat", "2s"])?;
    let nodes = scene.operate(&[
        "node",
        "ls",
        "--format",
        "{{.Hostname}} {{.Status}} {{.ManagerStatus}}",
    ])?;
    let nodes: Vec<&str> = nodes.lines().map(str::trim).collect();
    ensure!(
        nodes.len() == 3 && nodes.iter().filter(|line| line.ends_with("Leader")).count() == 1,
        "node ls says {nodes:?}"
    );
    Ok(((), format!("{}; {:.1?}", nodes.join(", "), begun.elapsed())))
}

/// A container that no manager has placed reaches a service by its name, and is reached by its own.
fn own_container(scene: &Scene) -> Shown {
    let docker = |line: &[&str]| scene.cluster().docker_cli("n2", line);
    docker(&[
        "run",
        "--detach",
        "--name",
        "box",
        "--network",
        "app",
        "busybox",
        "sleep",
        "1000",
    ])?;
    let fetch = || docker(&["exec", "box", "wget", "-q", "-O", "-", "http://api/"]);
    eventually(Duration::from_secs(10), "box reaches api by its name", fetch)?;
    let mut answers = Answers::default();
    (0..REQUESTS).try_for_each(|_| answers.add(&fetch()?))?;
    answers.came_from(&scene.names("api"))?;
    let task = scene.names("web").into_iter().next().context("web has no task")?;
    eventually(
        Duration::from_secs(10),
        "a task of web reaches box by its name",
        || {
            let ping = scene
                .cluster()
                .exec(&task, &["ping", "-c", "1", "-W", "1", "box"])?;
            ping.ok().map(drop)
        },
    )?;
    docker(&["rm", "--force", "box"])?;
    // The engine's own, for the way outside of such containers.
    docker(&["network", "rm", "docker_gwbridge"])?;
    Ok((
        (),
        format!("reached api by its name: {answers}; {task} reached it by its own"),
    ))
}

/// A service of the demo's server.
fn serve<'a>(scene: &Scene, name: &'a str, more: &[&'a str]) -> anyhow::Result<()> {
    let server = scene.client().server(scene.cluster());
    let mut line = vec![
        "service",
        "create",
        "--quiet",
        "--name",
        name,
        "--network",
        "app",
        "--hostname",
        "{{.Service.Name}}.{{.Task.Slot}}",
        "--update-monitor",
        "1s",
        "--stop-grace-period",
        "5s",
    ];
    line.extend(more);
    line.extend(server.iter().map(String::as_str));
    line.extend(["whoami", "--udp", "7", "--tcp-echo", "7"]);
    scene.operate(&line).map(drop)
}

fn create(scene: &Scene) -> Shown {
    let begun = Instant::now();
    let line = [
        &[
            "network",
            "create",
            "--driver",
            "overlay",
            "--attachable",
            "--ipv6",
        ][..],
        &SUBNETS,
        &["app"],
    ]
    .concat();
    scene.operate(&line)?;
    let published = format!("{PUBLISHED}:80");
    serve(scene, "web", &["--replicas", "3", "--publish", &published])?;
    serve(scene, "api", &["--replicas", "2", "--detach"])?;
    let told = format!("{} {}", scene.settle("web", 3)?, scene.settle("api", 2)?);
    Ok(((), format!("{told}; {:.1?}", begun.elapsed())))
}

fn scale(scene: &Scene) -> Shown {
    let begun = Instant::now();
    scene.operate(&["service", "scale", "--detach", "web=5"])?;
    let told = scene.settle("web", 5)?;
    Ok(((), format!("{told}; {:.1?}", begun.elapsed())))
}

fn shrink(scene: &Scene) -> Shown {
    scene.operate(&["service", "scale", "--detach", "web=3"])?;
    let told = scene.settle("web", 3)?;
    let nodes = scene.nodes();
    let node = nodes.first().map_or("n1", String::as_str);
    through_all(scene, node, &scene.names("web"))?;
    Ok(((), told))
}

/// Answers of all tasks, and of no other, from the first moment on that all have the plan.
fn through_all(scene: &Scene, node: &str, tasks: &[String]) -> Shown {
    let begun = Instant::now();
    let target = scene.edge(node, Family::V4)?;
    let answers = eventually(Duration::from_secs(10), "all tasks answer", || {
        let answers = scene.curls(CLIENT, &target, REQUESTS)?;
        answers.came_from(tasks)?;
        Ok(answers)
    })?;
    Ok(((), format!("{answers}; {:.1?}", begun.elapsed())))
}

/// A load that goes on until it is stopped.
fn load(scene: &Scene, node: &str) -> anyhow::Result<Running> {
    let target = scene.edge(node, Family::V4)?;
    let load = scene.cluster().start_load(CLIENT, &target, 4, 2, 60)?;
    // The load is under way once curl, which takes longer to start, has its answer.
    scene.curls(CLIENT, &target, 1)?;
    Ok(load)
}

fn update(scene: &Scene) -> Shown {
    let load = load(scene, "n2")?;
    let begun = Instant::now();
    scene.operate(&[
        "service",
        "update",
        "--quiet",
        "--update-parallelism",
        "2",
        "--env-add",
        "VERSION=2",
        "web",
    ])?;
    let took = begun.elapsed();
    scene.settle("web", 5)?;
    let report: LoadReport = load.stop()?.json()?;
    ensure!(report.ok > 0, "the load did not run");
    ensure!(
        report.failed == 0,
        "{} of {} failed: {:?}",
        report.failed,
        report.ok + report.failed,
        report.failures
    );
    Ok((
        (),
        format!("{} requests meanwhile, none failed; {took:.1?}", report.ok),
    ))
}

/// The leader's node is gone from one moment to the next; what it served is lost, and nothing else.
fn power_off(scene: &Scene) -> Shown {
    let leader = scene.cluster().leader()?;
    let others: Vec<String> = scene.nodes().into_iter().filter(|node| *node != leader).collect();
    let edge = others.first().context("no other node runs")?;
    let load = load(scene, edge)?;
    let begun = Instant::now();
    scene.cluster().power_off(&leader)?;
    let next = eventually(Duration::from_secs(10), "another manager leads", || {
        let next = scene.cluster().leader()?;
        ensure!(next != leader, "nobody does");
        Ok(next)
    })?;
    let led = begun.elapsed();
    scene.cluster().wait_down(edge, &leader)?;
    let told = scene.settle("web", 5)?;
    scene.settle("api", 2)?;
    let moved = begun.elapsed();
    let report: LoadReport = load.stop()?.json()?;
    let last = report
        .failures
        .iter()
        .map(|failure| failure.at_ms)
        .max()
        .unwrap_or(0);
    ensure!(report.ok > 0, "the load did not run");
    ensure!(
        u128::from(last) <= DETECTED.as_millis(),
        "a request failed {last} ms after the load began: {:?}",
        report.failures
    );
    Ok((
        (),
        format!(
            "{leader} is off; {next} leads after {led:.1?}; {told} after {moved:.1?}; {} of {} requests failed, all \
             before the others knew",
            report.failed,
            report.ok + report.failed
        ),
    ))
}

type Shown = anyhow::Result<((), String)>;

fn through(scene: &Scene, node: &str, family: Family, tasks: &[String]) -> Shown {
    let client = scene.cluster().address(CLIENT, family)?;
    let answers = scene.curls(CLIENT, &scene.edge(node, family)?, REQUESTS)?;
    answers.came_from(tasks)?;
    answers.saw_client(client)?;
    Ok(((), format!("{answers}; client seen as {client}")))
}

fn spread(scene: &Scene, family: Family) -> Shown {
    let load: LoadReport = scene
        .cluster()
        .peer(
            CLIENT,
            &[
                "load",
                "--target",
                &scene.edge("n1", family)?,
                "--requests",
                &SPREAD.to_string(),
            ],
        )?
        .json()?;
    ensure!(
        load.failed == 0,
        "{} of {SPREAD} failed, the first with: {:?}",
        load.failed,
        load.failures.first()
    );
    let mut answers = Answers::default();
    let client = scene.cluster().address(CLIENT, family)?;
    for (task, count) in &load.by_name {
        let line = format!(
            "Name: {task}\nRemoteAddr: {}\n",
            std::net::SocketAddr::new(client, 1)
        );
        (0..*count).try_for_each(|_| answers.add(&line))?;
    }
    answers.came_from(&scene.names("web"))?;
    // Five standard deviations of a fair draw.
    answers.spread_within(0.4)?;
    Ok(((), answers.to_string()))
}

fn busybox(scene: &Scene, family: Family) -> Shown {
    let url = scene.edge("n1", family)?;
    let address = scene.cluster().address("n1", family)?;
    let mut answers = Answers::default();
    answers.add(
        &scene
            .cluster()
            .exec(CLIENT, &["timeout", "5", "busybox", "wget", "-qO-", &url])?
            .ok()?,
    )?;
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 5 {address} {PUBLISHED}");
    answers.add(&scene.cluster().exec(CLIENT, &["sh", "-c", &ask])?.ok()?)?;
    answers.saw_client(scene.cluster().address(CLIENT, family)?)?;
    Ok(((), answers.to_string()))
}

fn east_west(scene: &Scene, task: &str, family: Family) -> Shown {
    let answers = scene.curls(task, &scene.vip("api", family)?, REQUESTS)?;
    answers.came_from(&scene.names("api"))?;
    let own = scene.task_address(task, family)?;
    answers.saw_client(own)?;
    Ok(((), format!("{answers}; {task} seen as {own}")))
}

fn by_name(scene: &Scene, task: &str, family: Family) -> Shown {
    let flag = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    let mut answers = Answers::default();
    for name in ["api", "api.app", "tasks.api", "API"] {
        let url = format!("http://{name}/");
        let asked = [
            "curl",
            flag,
            "-sSf",
            "--noproxy",
            "*",
            "--max-time",
            "5",
            url.as_str(),
        ];
        answers.add(&scene.cluster().exec(task, &asked)?.ok()?)?;
    }
    answers.saw_client(scene.task_address(task, family)?)?;
    Ok(((), answers.to_string()))
}

fn own_vip(scene: &Scene, task: &str, family: Family) -> Shown {
    let answers = scene.curls(task, &scene.vip("web", family)?, REQUESTS)?;
    answers.came_from(&scene.names("web"))?;
    Ok(((), answers.to_string()))
}

fn loopback(scene: &Scene) -> Shown {
    let answers = scene.curls("n3", &format!("http://127.0.0.1:{PUBLISHED}/"), REQUESTS)?;
    answers.came_from(&scene.names("web"))?;
    Ok(((), answers.to_string()))
}

fn verify(scene: &Scene) -> Shown {
    for node in scene.nodes() {
        scene.cluster().essaim(&node, &["verify"])?.ok()?;
    }
    Ok(((), "kernel and maps are as the catalog wants them".to_owned()))
}
