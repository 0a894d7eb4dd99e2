//! What the demo shows, one step after the other.

use super::Report;
use super::answers::Answers;
use super::scene::{CLIENT, PUBLISHED, Scene};
use crate::Family;
use crate::peer::LoadReport;
use anyhow::ensure;

/// Requests through each node.
const REQUESTS: usize = 40;

/// Requests for the spread.
const SPREAD: usize = 300;

/// How long the load runs while a task is stopped, and after that.
const LOAD_SECONDS: &str = "2";

/// The task that is stopped, and its node.
const STOPPED: (&str, &str) = ("web.2", "n2");

/// Shows everything.
pub(super) fn show(scene: &Scene, report: &mut Report) {
    let nodes = scene.nodes();
    for family in Family::BOTH {
        for node in &nodes {
            report.step(&format!("curl: client to web through {node}, {family}"), || {
                through(scene, node, family, &ALL)
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
        for (task, node) in ["web.1", "web.2", "web.3"].iter().zip(&nodes) {
            report.step(
                &format!("curl: {task} on {node} to the VIP of api, {family}"),
                || east_west(scene, task, family),
            );
        }
        for (task, node) in ["web.1", "web.2", "web.3"].iter().zip(&nodes) {
            report.step(
                &format!("curl: {task} on {node} to api by its name, {family}"),
                || by_name(scene, task, family),
            );
        }
        report.step(
            &format!("curl: web.1 to the VIP of web, its own service, {family}"),
            || own_vip(scene, family),
        );
    }
    report.step("curl: n3 itself to its published port at 127.0.0.1", || {
        loopback(scene)
    });
    let (task, node) = STOPPED;
    report.step(
        &format!("essaim stop {task} on {node} under load through {node}"),
        || stop(scene),
    );
    for family in Family::BOTH {
        for node in &nodes {
            report.step(
                &format!("curl: client to web through {node} without {task}, {family}"),
                || through(scene, node, family, &["web.1", "web.3"]),
            );
        }
    }
    report.step("essaim verify on every node", || verify(scene));
}

/// The tasks of web.
const ALL: [&str; 3] = ["web.1", "web.2", "web.3"];

type Shown = anyhow::Result<((), String)>;

fn through(scene: &Scene, node: &str, family: Family, tasks: &[&str]) -> Shown {
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
    answers.came_from(&ALL)?;
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
    answers.came_from(&["api.1", "api.2"])?;
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

fn own_vip(scene: &Scene, family: Family) -> Shown {
    let answers = scene.curls("web.1", &scene.vip("web", family)?, REQUESTS)?;
    answers.came_from(&ALL)?;
    Ok(((), answers.to_string()))
}

fn loopback(scene: &Scene) -> Shown {
    let answers = scene.curls("n3", &format!("http://127.0.0.1:{PUBLISHED}/"), REQUESTS)?;
    answers.came_from(&ALL)?;
    Ok(((), answers.to_string()))
}

fn stop(scene: &Scene) -> Shown {
    let (task, node) = STOPPED;
    let target = scene.edge(node, Family::V4)?;
    let load = scene.cluster().start_peer(
        CLIENT,
        &[
            "load",
            "--target",
            &target,
            "--connections",
            "4",
            "--interval-ms",
            "2",
            "--seconds",
            LOAD_SECONDS,
        ],
    )?;
    // The load is under way once curl, which takes longer to start, has its answer.
    scene.curls(CLIENT, &target, 1)?;
    scene.cluster().essaim(node, &["stop", task])?.ok()?;
    let report: LoadReport = load.finish()?.json()?;
    ensure!(report.ok > 0, "the load did not run");
    ensure!(
        report.failed == 0,
        "{} of {} failed: {:?}",
        report.failed,
        report.ok + report.failed,
        report.failures
    );
    Ok(((), format!("{} requests meanwhile, none failed", report.ok)))
}

fn verify(scene: &Scene) -> Shown {
    for node in scene.nodes() {
        scene.cluster().essaim(&node, &["verify"])?.ok()?;
    }
    Ok(((), "kernel and maps are as the catalog wants them".to_owned()))
}
