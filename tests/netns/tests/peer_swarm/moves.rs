//! What is seen of a cluster whose tasks change under load: updates, scaling, a drain, the loss of a node.

use crate::held::Held;
use crate::stage::{CLIENT, HTTP, MANAGER, Stage};
use crate::{Moment, Seen};
use anyhow::Context as _;
use essaim_lab::peer::LoadReport;
use essaim_lab::{Family, PlacedTask, Running};
use std::net::SocketAddr;

/// Connections at a time, of each of the two clients.
const CONNECTIONS: &str = "2";
/// Between the requests of one, in milliseconds.
const INTERVAL_MS: &str = "300";
/// After so many milliseconds a client gives up on a request.
const PATIENCE_MS: &str = "3000";

/// Requests, a new connection each: from outside to the manager's port, and from a container to the VIP.
struct Load {
    outside: Running,
    inside: Running,
}

impl Load {
    fn start(stage: &Stage) -> anyhow::Result<Self> {
        let start = |from: &str, target: SocketAddr| {
            let target = format!("http://{target}/");
            let line = [
                "load",
                "--target",
                &target,
                "--connections",
                CONNECTIONS,
                "--interval-ms",
                INTERVAL_MS,
                "--timeout-ms",
                PATIENCE_MS,
                "--seconds",
                "1000",
            ];
            stage.start(from, &line)
        };
        let load = Self {
            outside: start(CLIENT, stage.at(MANAGER, Family::V4, HTTP)?)?,
            inside: start("user", SocketAddr::new(stage.vip("web")?, 80))?,
        };
        // They are at it once others, which began later, have been answered.
        stage.ask(CLIENT, stage.at(MANAGER, Family::V4, HTTP)?, 10)?;
        stage.ask("user", SocketAddr::new(stage.vip("web")?, 80), 10)?;
        Ok(load)
    }

    /// Ends it, after requests that come later than all that happened; what failed since then, and whether nothing did.
    fn stop(self, stage: &Stage, moved: Moment) -> anyhow::Result<Failed> {
        stage.ask(CLIENT, stage.at(MANAGER, Family::V4, HTTP)?, 20)?;
        stage.ask("user", SocketAddr::new(stage.vip("web")?, 80), 20)?;
        stage.end_in_user("load")?;
        let outside: LoadReport = self.outside.stop()?.json()?;
        let inside: LoadReport = self.inside.finish()?.json()?;
        let last = |report: &LoadReport| {
            report
                .last_failure_ms
                .map(|last| moved.until(report.began_unix_ms, last))
        };
        let tell = |name: &str, report: &LoadReport| {
            let mut text = format!(
                "{name}: {} of {} requests failed",
                report.failed,
                report.ok + report.failed
            );
            if let (Some(first), Some(last)) = (report.failures.first(), last(report)) {
                text += &format!(
                    ", {:.1} to {last:.1} s after the command ({})",
                    moved.until(report.began_unix_ms, first.at_ms),
                    first.error
                );
            }
            text
        };
        Ok(Failed {
            text: format!("{}; {}", tell("port", &outside), tell("VIP", &inside)),
            none: outside.failed == 0 && inside.failed == 0 && outside.ok > 10 && inside.ok > 10,
            last: last(&outside)
                .into_iter()
                .chain(last(&inside))
                .fold(0.0, f64::max),
        })
    }
}

/// What failed of both loads.
struct Failed {
    text: String,
    none: bool,
    /// The last failure, in seconds since the move.
    last: f64,
}

/// None of these runs any more, and as many others do.
fn all_new(before: &[PlacedTask]) -> impl Fn(&[PlacedTask]) -> bool {
    |tasks| tasks.len() == before.len() && tasks.iter().all(|task| !before.contains(task))
}

fn on(tasks: &[PlacedTask], node: &str) -> usize {
    tasks.iter().filter(|task| task.node == node).count()
}

/// The engines have just the containers of these tasks.
fn settled(stage: &Stage, tasks: &[PlacedTask]) -> anyhow::Result<()> {
    ["n2", "n3"]
        .iter()
        .try_for_each(|node| stage.has(node, "web", on(tasks, node)))
}

pub(crate) fn update(stage: &Stage) -> anyhow::Result<Seen> {
    let before = stage.runs("web", 2)?;
    let load = Load::start(stage)?;
    let moved = Moment::now();
    stage.docker(&["service", "update", "--detach", "--env-add", "VERSION=2", "web"])?;
    let after = stage.until("web", all_new(&before))?;
    settled(stage, &after)?;
    let failed = load.stop(stage, moved)?;
    Ok(Seen::new(failed.none, failed.text))
}

pub(crate) fn scale(stage: &Stage) -> anyhow::Result<Seen> {
    let load = Load::start(stage)?;
    let moved = Moment::now();
    for count in [4, 1] {
        stage.docker(&["service", "scale", "--detach", &format!("web={count}")])?;
        let tasks = stage.runs("web", count)?;
        settled(stage, &tasks)?;
    }
    let failed = load.stop(stage, moved)?;
    stage.docker(&["service", "scale", "--detach", "web=2"])?;
    stage.runs("web", 2)?;
    Ok(Seen::new(failed.none, failed.text))
}

pub(crate) fn drain(stage: &Stage) -> anyhow::Result<Seen> {
    stage.until("web", |tasks| on(tasks, "n2") == 1 && on(tasks, "n3") == 1)?;
    let echo = stage.until("echo", |tasks| on(tasks, "n2") == 1 && on(tasks, "n3") == 1)?;
    let held = Held::open(stage)?;
    let load = Load::start(stage)?;
    let moved = Moment::now();
    stage.docker(&["node", "update", "--availability", "drain", "n2"])?;
    for service in ["web", "echo"] {
        stage.until(service, |tasks| on(tasks, "n3") == 2 && tasks.len() == 2)?;
        stage.has("n2", service, 0)?;
    }
    let failed = load.stop(stage, moved)?;
    let ended = echo.iter().filter(|task| task.node == "n2");
    let ended: Vec<&str> = ended.map(|task| task.name.as_str()).collect();
    let open = held.close(stage, &ended, moved)?;
    stage.docker(&["node", "update", "--availability", "active", "n2"])?;
    stage.balance("web")?;
    Ok(Seen::new(
        failed.none && open.holds,
        format!("{}. Open connections: {}", failed.text, open.text),
    ))
}

/// How long after the loss requests may fail at most: it is known after 3 s on a machine that is not emulated, and a client
/// waits for an answer as long again.
const LOSS: f64 = 30.0;

pub(crate) fn loss(stage: &Stage) -> anyhow::Result<Seen> {
    let tasks = stage.runs("web", 2)?;
    let dead = tasks
        .iter()
        .find(|task| task.node == "n3")
        .context("none of web is on n3")?;
    let address = dead.addresses.first().context("a task without an address")?;
    let load = Load::start(stage)?;
    let moved = Moment::now();
    stage.lab.power_off("n3")?;
    let script = format!(
        "s=$(date +%s); for i in $(seq 900); do nslookup tasks.web 127.0.0.11 | grep -qw {address} || exit 0; usleep 100000; done; exit 1"
    );
    let (gone, said) = stage.in_user(&["sh", "-c", &script])?;
    let name = moved.elapsed();
    let tasks = stage.until("web", |tasks| on(tasks, "n2") == 2 && tasks.len() == 2)?;
    let replaced = moved.elapsed();
    stage.has("n2", "web", on(&tasks, "n2"))?;
    let failed = load.stop(stage, moved)?;
    let text = format!(
        "{}; `tasks.web` without it after {} s ({}{}); as many tasks as before run after {} s",
        failed.text,
        name.as_secs(),
        if gone { "asked all the time" } else { "in vain" },
        said.trim(),
        replaced.as_secs()
    );
    Ok(Seen::new(gone && failed.last < LOSS, text))
}
