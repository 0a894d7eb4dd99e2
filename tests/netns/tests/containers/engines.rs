//! Engines that are stopped, killed and started again under running tasks.

use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::peer::LoadReport;
use essaim_lab::{EngineSettings, Family, PlacedTask, eventually};
use std::collections::BTreeSet;

/// Two copies, one on each node, whichever is away.
pub(crate) fn one_a_node(stage: &Stage) -> anyhow::Result<Vec<PlacedTask>> {
    stage.serve("web", &["--replicas", "2", "--publish", "8080:80"])?;
    let web = stage.runs("web", 2)?;
    let nodes: BTreeSet<&str> = web.iter().map(|task| task.node.as_str()).collect();
    ensure!(nodes.len() == 2, "{web:?}");
    eventually(SOON, "web answers", || stage.page("n1", 8080))?;
    Ok(web)
}

pub(crate) fn on<'a>(tasks: &'a [PlacedTask], node: &str) -> anyhow::Result<&'a PlacedTask> {
    let mut tasks = tasks.iter();
    tasks
        .find(|task| task.node == node)
        .with_context(|| format!("none is on {node}"))
}

/// Waits until none of these tasks is among those that run, and so many do.
fn replaced(stage: &Stage, gone: &PlacedTask, count: usize) -> anyhow::Result<Vec<PlacedTask>> {
    eventually(SOON, &format!("{} is replaced", gone.name), || {
        let tasks = stage.runs("web", count)?;
        ensure!(!tasks.contains(gone), "{tasks:?}");
        Ok(tasks)
    })
}

/// What the engine knows of a task's container: process and identity.
pub(crate) fn container(stage: &Stage, task: &PlacedTask) -> anyhow::Result<String> {
    let name = Stage::container(task);
    stage.docker(
        &task.node,
        &[
            "inspect",
            "--format",
            "{{.State.Pid}} {{.Id}} {{.State.StartedAt}}",
            &name,
        ],
    )
}

#[test]
fn tasks_of_an_engine_that_is_stopped_run_elsewhere() -> anyhow::Result<()> {
    let mut stage = Stage::new()?;
    let web = one_a_node(&stage)?;
    let (here, there) = (on(&web, "n2")?, on(&web, "n1")?);
    stage.engine("n2")?.stop()?;
    // Where there is no engine none can be made, and the task says so.
    let next = replaced(&stage, here, 2)?;
    ensure!(next.contains(there), "the other one goes on");
    ensure!(next.iter().all(|task| task.node == "n1"), "{next:?}");
    let known = stage.tasks("web")?;
    let says_so = |error: &str| error.starts_with("no Docker Engine answers at ");
    let refused = known.iter().filter(|task| says_so(&task.error));
    ensure!(refused.clone().all(|task| task.state == "rejected"), "{known:?}");
    eventually(SOON, "web answers at both", || {
        stage.page("n1", 8080)?;
        stage.page("n2", 8080)
    })?;
    // Those that were rejected, and the one that ended, stand in the history; nothing of them takes part in anything.
    stage.engine("n2")?.start()?;
    stage.verified()?;
    stage.operate(&["service", "scale", "web=4"])?;
    let more = stage.runs("web", 4)?;
    ensure!(more.iter().any(|task| task.node == "n2"), "{more:?}");
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}

#[test]
fn tasks_of_an_engine_that_is_killed_are_replaced_once_it_ends_them() -> anyhow::Result<()> {
    let mut stage = Stage::new()?;
    let web = one_a_node(&stage)?;
    let (here, there) = (on(&web, "n2")?, on(&web, "n1")?);
    let before = container(&stage, here)?;
    let pid = before.split(' ').next().unwrap_or_default().to_owned();
    stage.engine("n2")?.kill()?;
    // Their processes run on, and are served: only who watches them is gone.
    ensure!(
        std::path::Path::new("/proc").join(&pid).exists(),
        "the container's process has ended"
    );
    for _ in 0..50 {
        stage.page("n2", 8080)?;
    }
    ensure!(stage.runs("web", 2)? == web, "they are the same");
    // The next one ends what its predecessor has left running.
    stage.engine("n2")?.start()?;
    let next = replaced(&stage, here, 2)?;
    ensure!(next.contains(there), "the other one goes on");
    stage.verified()?;
    eventually(SOON, "web answers", || stage.page("n2", 8080))?;
    // One that is removed while the engine is away is removed when it comes.
    stage.engine("n2")?.kill()?;
    stage.operate(&["service", "rm", "web"])?;
    stage.engine("n2")?.start()?;
    stage.has_just(&[])
}

#[test]
fn tasks_outlive_an_engine_with_live_restore() -> anyhow::Result<()> {
    let mut stage = Stage::with(&EngineSettings {
        arguments: vec!["--live-restore".to_owned()],
        ..EngineSettings::default()
    })?;
    let web = one_a_node(&stage)?;
    let here = on(&web, "n2")?;
    let before = container(&stage, here)?;
    let target = format!("http://{}:8080/", stage.lab.address("n2", Family::V4)?);
    let load = stage.lab.start_load("c1", &target, 2, 10, 110)?;
    let engine = stage.engine("n2")?;
    engine.stop()?;
    engine.start()?;
    engine.kill()?;
    engine.start()?;
    ensure!(stage.runs("web", 2)? == web, "they are the same");
    ensure!(container(&stage, here)? == before, "their containers, too");
    // Both at once, and the agent first: whoever comes finds the other's part.
    stage.engine("n2")?.kill()?;
    stage.lab.restart_node("n2")?;
    stage.engine("n2")?.start()?;
    stage.lab.wait_nodes_ready("n1", 2)?;
    ensure!(stage.runs("web", 2)? == web, "they are the same");
    ensure!(container(&stage, here)? == before, "their containers, too");
    let report: LoadReport = load.stop()?.json()?;
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    ensure!(report.ok > 10 && report.failed == 0, "{report:?}");
    // Their end is seen still, and what they say.
    stage.docker("n2", &["kill", &Stage::container(here)])?;
    let next = replaced(&stage, here, 2)?;
    stage.verified()?;
    // One that ends while nobody looks is replaced, too.
    let there = next.iter().find(|task| task.node == "n2");
    let there = there.context("none is on n2")?;
    let pid = container(&stage, there)?;
    let pid = pid.split(' ').next().unwrap_or_default().parse()?;
    stage.engine("n2")?.kill()?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)?;
    stage.engine("n2")?.start()?;
    replaced(&stage, there, 2)?;
    stage.verified()?;
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}
