//! Keys that change, and nodes that come back.

use crate::stage::{AGREED, associations, reach};
use anyhow::{Context as _, ensure};
use essaim_lab::peer::LoadReport;
use essaim_lab::{Family, eventually};
use essaim_netns_tests::Scene;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The generations that the file of keys holds, as the managers would hand them out.
const HANDED_OUT: u64 = 4;

/// Writes the file of keys with the newest generations up to this one, and has the agents read it, one after the other.
fn hand_out(scene: &Scene, newest: u64) -> anyhow::Result<()> {
    let path = scene.cluster.gossip_keys();
    let text = fs::read_to_string(&path)?;
    let (gossip, _) = text
        .split_once("[data]")
        .context("the file has keys of both kinds")?;
    let mut text = format!("{gossip}[data]\n");
    for generation in newest.saturating_sub(HANDED_OUT - 1).max(1)..=newest {
        // Distinct keys; that they are random is not what is shown.
        let key = u128::from(generation) << 64 | 0xe55a;
        writeln!(text, "{generation} = \"{key:064x}\"")?;
    }
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, &path)?;
    for node in ["n1", "n2"] {
        let pid = scene
            .cluster
            .agent_pid(node)
            .context("an agent runs")?
            .to_string();
        scene.cluster.exec(node, &["kill", "-HUP", &pid])?.ok()?;
    }
    Ok(())
}

fn sends_with(scene: &Scene, node: &str) -> anyhow::Result<Option<u64>> {
    let associations = associations(scene, node)?;
    let mut used = associations
        .iter()
        .filter(|sa| sa["inbound"] == false && sa["in_use"] == true);
    Ok(used.next().and_then(|sa| sa["generation"].as_u64()))
}

pub(crate) fn keys_that_change_every_two_seconds_lose_no_request(scene: &Scene) -> anyhow::Result<()> {
    hand_out(scene, 1)?;
    let target = SocketAddr::new(scene.task("a.2", Family::V4)?, 80);
    let url = format!("http://{target}/");
    let load = scene.cluster.start_load("a.1", &url, 4, 20, 64)?;
    let start = Instant::now();
    let mut generation = 1;
    while start.elapsed() < Duration::from_mins(1) {
        let due = start + Duration::from_secs(2) * u32::try_from(generation)?;
        eventually(Duration::from_secs(10), "two seconds are over", || {
            ensure!(Instant::now() >= due, "not yet");
            Ok(())
        })?;
        generation += 1;
        hand_out(scene, generation)?;
    }
    let report: LoadReport = load.finish()?.json()?;
    ensure!(
        report.failed == 0 && report.ok > 100,
        "{} answered, {} failed: {:?}",
        report.ok,
        report.failed,
        report.failures
    );
    println!(
        "{} requests over {generation} generations, the longest gap {} ms",
        report.ok, report.longest_gap_ms
    );
    for node in ["n1", "n2"] {
        eventually(AGREED, &format!("{node} sends with the newest key"), || {
            let used = sends_with(scene, node)?;
            ensure!(used == Some(generation), "generation {used:?} of {generation}");
            Ok(())
        })?;
        let held = associations(scene, node)?.len();
        ensure!(held < 24, "{held} associations are left");
    }
    Ok(())
}

pub(crate) fn an_agent_that_restarts_loses_nothing_and_takes_other_keys(scene: &Scene) -> anyhow::Result<()> {
    let target = SocketAddr::new(scene.task("a.2", Family::V4)?, 80);
    let numbers = |node: &str| -> anyhow::Result<Vec<u64>> {
        let associations = associations(scene, node)?;
        let used = associations
            .iter()
            .filter(|sa| sa["inbound"] == false && sa["in_use"] == true);
        Ok(used.filter_map(|sa| sa["spi"].as_u64()).collect())
    };
    for node in ["n1", "n2"] {
        let before = numbers(node)?;
        let url = format!("http://{target}/");
        let load = scene.cluster.start_load("a.1", &url, 2, 50, 600)?;
        scene.cluster.restart_agent(node)?;
        eventually(AGREED, &format!("{node} sends with another key"), || {
            let now = numbers(node)?;
            ensure!(
                !now.is_empty() && now.iter().all(|number| !before.contains(number)),
                "{before:?}, then {now:?}"
            );
            Ok(())
        })?;
        reach(scene, "a.1", "a.2")?;
        let report: LoadReport = load.stop()?.json()?;
        ensure!(
            report.failed == 0 && report.ok > 10,
            "{node}: {} answered, {} failed: {:?}",
            report.ok,
            report.failed,
            report.failures
        );
    }
    Ok(())
}

pub(crate) fn a_node_that_lost_its_kernels_state_comes_back(scene: &Scene) -> anyhow::Result<()> {
    for what in ["state", "policy"] {
        scene.cluster.exec("n1", &["ip", "xfrm", what, "flush"])?.ok()?;
    }
    let pid = scene
        .cluster
        .agent_pid("n1")
        .context("an agent runs")?
        .to_string();
    scene.cluster.exec("n1", &["kill", "-HUP", &pid])?.ok()?;
    reach(scene, "a.1", "a.2")?;
    reach(scene, "a.2", "a.1")
}

/// Sets the machine's clock: for a VM, where nobody else goes by it.
fn set_clock(by: i64) -> anyhow::Result<()> {
    ensure!(
        std::env::var_os("ESSAIM_VM").is_some(),
        "this sets the machine's clock: run it in the VM, with ESSAIM_VM=1"
    );
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME)?;
    let then = nix::sys::time::TimeSpec::new(now.tv_sec() + by, now.tv_nsec());
    nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, then).context("failed to set the clock")
}

pub(crate) fn a_node_whose_clock_is_an_hour_off_keeps_working(scene: &Scene) -> anyhow::Result<()> {
    const HOUR: i64 = 3600;
    // All that a node takes from the wall clock it takes when its agent starts, and for its log: the second node's is an hour
    // ahead, the first one's as it was.
    set_clock(HOUR)?;
    let restarted = scene.cluster.restart_agent("n2");
    let ready = scene.cluster.wait_node_ready("n2", AGREED);
    set_clock(-HOUR)?;
    restarted?;
    ready?;
    reach(scene, "a.1", "a.2")?;
    reach(scene, "a.2", "a.1")?;
    let held = sends_with(scene, "n1")?.context("n1 sends by an association with a generation")?;
    for generation in held + 1..held + 4 {
        hand_out(scene, generation)?;
        for node in ["n1", "n2"] {
            eventually(AGREED, &format!("{node} follows"), || {
                let used = sends_with(scene, node)?;
                ensure!(used == Some(generation), "generation {used:?} of {generation}");
                Ok(())
            })?;
        }
        reach(scene, "a.1", "a.2")?;
    }
    // And when the clock jumps while it runs.
    set_clock(HOUR)?;
    let reached = reach(scene, "a.2", "a.1");
    set_clock(-HOUR)?;
    reached
}
