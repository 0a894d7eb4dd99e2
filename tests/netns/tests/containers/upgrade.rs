//! Another build of the daemon takes over under running containers.

use crate::engines::{container, on, one_a_node};
use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::peer::LoadReport;
use essaim_lab::{Family, eventually};
use essaim_netns_tests::build::{generation, other_build};

/// How many connections wait at the plugin's socket of a node, which had this name when it was made.
fn waiting_calls(stage: &Stage, node: &str) -> anyhow::Result<usize> {
    let made = stage.lab.plugin_socket(node).with_extension("new");
    let listed = stage
        .lab
        .exec(node, &["ss", "-xlH", "src", &format!("unix:{}", made.display())])?
        .ok()?;
    // Kind, state, connections that wait, how many may.
    let waiting = listed.split_whitespace().nth(2);
    let waiting = waiting.with_context(|| format!("no socket {} listens: {listed:?}", made.display()))?;
    Ok(waiting.parse()?)
}

#[test]
fn another_build_takes_over_and_the_engine_is_refused_nothing() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    let web = one_a_node(&stage)?;
    let here = on(&web, "n2")?;
    let before = container(&stage, here)?;
    stage.open_network("open")?;
    stage.serving_box("n2", &["--network", "open"])?;
    let own = stage.lab.binary("essaim");
    let folder = tempfile::tempdir()?;
    let other = other_build(&own, folder.path())?;
    let target = format!("http://{}:8080/", stage.lab.address("n2", Family::V4)?);
    let load = stage.lab.start_load("c1", &target, 2, 10, 110)?;
    for (program, is_told) in [(&other, true), (&own, false)] {
        let programs = generation(&stage.lab, "n2")?;
        if is_told {
            stage.lab.stop_agent("n2")?;
        } else {
            stage.lab.kill_agent("n2")?;
        }
        // While no daemon runs a container is started anew: the engine's calls wait for the next one.
        std::thread::scope(|scope| {
            let restarted = scope.spawn(|| stage.docker("n2", &["restart", "--time", "0", "box"]));
            eventually(SOON, "the engine has called", || {
                ensure!(waiting_calls(&stage, "n2")? > 0, "no call waits");
                Ok(())
            })?;
            stage.lab.spawn_node_of("n2", program, &[])?;
            let restarted = restarted.join();
            restarted.map_err(|_| anyhow::anyhow!("the thread of a command panicked"))?
        })?;
        stage.lab.wait_nodes_ready("n1", 2)?;
        eventually(SOON, "the programs are of the new build", || {
            ensure!(generation(&stage.lab, "n2")? != programs, "they are the old ones");
            Ok(())
        })?;
        eventually(SOON, "the container that was started anew is reached", || {
            let page = stage.fetched_at_once("n1", "open", "http://box/")?;
            ensure!(page.trim() == "here", "{page}");
            Ok(())
        })?;
        ensure!(stage.runs("web", 2)? == web, "they are the same");
        ensure!(container(&stage, here)? == before, "their containers, too");
        stage.verified()?;
    }
    let report: LoadReport = load.stop()?.json()?;
    println!("{} requests meanwhile, {} failed", report.ok, report.failed);
    ensure!(report.ok > 10 && report.failed == 0, "{report:?}");
    let engine = stage.engines.get("n2").context("the engine of n2")?;
    let log = engine.log();
    ensure!(!log.contains("Unable to connect to plugin"), "{log}");
    stage.lab.docker_cli("n2", &["rm", "-f", "box"])?;
    eventually(SOON, "the network is free", || {
        stage.operate(&["network", "rm", "open"])
    })?;
    stage.operate(&["service", "rm", "web"])?;
    stage.has_just(&[])
}
