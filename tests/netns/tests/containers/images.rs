//! Images that do not come, and engines that have no room.

use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::{EngineSettings, eventually};
use std::fs;
use std::io::Write as _;
use std::time::Duration;

/// Docker gives up on a registry that says nothing after 15 s, and asks twice.
const REGISTRY: Duration = Duration::from_mins(2);

#[test]
fn a_registry_that_says_nothing_holds_up_only_its_own_tasks() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    let mut silent = Vec::new();
    for node in ["n1", "n2"] {
        let line = ["busybox", "nc", "-ll", "-p", "5000", "-e", "sleep", "1000"];
        silent.push(stage.lab.start(node, &line)?);
    }
    let line = [
        "service",
        "create",
        "--detach",
        "--restart-condition",
        "none",
        "--name",
        "slow",
    ];
    stage.operate(&[&line[..], &["127.0.0.1:5000/nothing:1"]].concat())?;
    eventually(SOON, "it is being prepared", || {
        let tasks = stage.tasks("slow")?;
        ensure!(tasks.iter().any(|task| task.state == "preparing"), "{tasks:?}");
        Ok(())
    })?;
    stage.serve("web", &["--replicas", "2", "--publish", "8080:80"])?;
    let web = stage.runs("web", 2)?;
    eventually(SOON, "web answers", || stage.page("n1", 8080))?;
    eventually(REGISTRY, "it is given up", || {
        let tasks = stage.tasks("slow")?;
        let is_so = |error: &str| error == "No such image: 127.0.0.1:5000/nothing:1";
        let mut found = tasks.iter();
        ensure!(
            found.any(|task| task.state == "rejected" && is_so(&task.error)),
            "{tasks:?}"
        );
        Ok(())
    })?;
    stage.operate(&["service", "rm", "slow"])?;
    stage.has_just(&web)?;
    // One that is removed while it waits does not wait any more.
    let line = [
        "service",
        "create",
        "--detach",
        "--name",
        "slow",
        "127.0.0.1:5000/nothing:1",
    ];
    stage.operate(&line)?;
    eventually(SOON, "it is being prepared", || {
        let tasks = stage.tasks("slow")?;
        ensure!(tasks.iter().any(|task| task.state == "preparing"), "{tasks:?}");
        Ok(())
    })?;
    stage.operate(&["service", "rm", "slow"])?;
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}

#[test]
fn an_engine_whose_disk_is_full_rejects_tasks_until_there_is_room() -> anyhow::Result<()> {
    let stage = Stage::with(&EngineSettings {
        disk_mib: Some(64),
        ..EngineSettings::default()
    })?;
    stage.serve("web", &["--replicas", "2", "--publish", "8080:80"])?;
    let web = stage.runs("web", 2)?;
    eventually(SOON, "web answers", || stage.page("n1", 8080))?;
    let mut filled = Vec::new();
    for engine in stage.engines.values() {
        let path = engine.data_root().join("filled");
        let mut file = fs::File::create(&path)?;
        let mut chunk = vec![1; 1 << 20];
        // Down to the last page.
        while !chunk.is_empty() {
            match file.write(&chunk) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    chunk.truncate(chunk.len() / 2);
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to fill {}", path.display()));
                }
            }
        }
        filled.push(path);
    }
    stage.operate(&["service", "scale", "--detach", "web=4"])?;
    eventually(SOON, "there is no room for more", || {
        let tasks = stage.tasks("web")?;
        let is_so = |error: &str| error.contains("no space left on device");
        let mut found = tasks.iter();
        ensure!(
            found.any(|task| task.state == "rejected" && is_so(&task.error)),
            "{tasks:?}"
        );
        Ok(())
    })?;
    let running = stage.lab.running("n1", "web")?;
    ensure!(running == web, "those that run go on: {running:?}");
    stage.page("n2", 8080)?;
    for path in filled {
        fs::remove_file(&path)?;
    }
    let more = stage.runs("web", 4)?;
    stage.has_just(&more)?;
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}
