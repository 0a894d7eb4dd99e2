//! Agents that go and come again.

use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::eventually;

#[test]
fn containers_outlive_their_agent() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    stage.serve("web", &["--replicas", "2", "--publish", "8080:80"])?;
    let web = stage.runs("web", 2)?;
    eventually(SOON, "web answers", || stage.page("n1", 8080))?;
    let here = web
        .iter()
        .find(|task| task.node == "n2")
        .context("none is on n2")?;
    let format = ["inspect", "--format", "{{.State.Pid}} {{.Id}}"];
    let name = Stage::container(here);
    let before = stage.docker("n2", &[&format[..], &[&name]].concat())?;
    stage.lab.restart_node("n2")?;
    stage.lab.wait_nodes_ready("n1", 2)?;
    ensure!(stage.runs("web", 2)? == web, "they are the same");
    let after = stage.docker("n2", &[&format[..], &[&name]].concat())?;
    ensure!(before == after, "{before} and then {after}");
    // One that ends while its agent is away is replaced as soon as that is back.
    stage.lab.kill_agent("n2")?;
    stage.docker("n2", &["kill", &name])?;
    stage.lab.spawn_node("n2")?;
    let next = eventually(SOON, "the one that ended is replaced", || {
        let tasks = stage.runs("web", 2)?;
        ensure!(!tasks.contains(here), "{tasks:?}");
        Ok(tasks)
    })?;
    ensure!(
        next.iter().any(|task| web.contains(task)),
        "the other one goes on"
    );
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}
