//! Planned stops: no request fails.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::load::Load;
use essaim_netns_tests::site::{ECHO, HTTP, SOON, Site};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn site() -> anyhow::Result<Site> {
    let site = Site::web(ClusterBuilder::new().gossip(true), &[HTTP, ECHO], &NODES)?;
    for node in NODES {
        site.wait_member(&NODES, node, "up", SOON)?;
    }
    Ok(site)
}

/// Every task is replaced, as in a rolling update with the successor first, and the agent of its node killed after that.
#[test]
fn a_rolling_replacement_with_agents_killed_meanwhile_breaks_nothing() -> anyhow::Result<()> {
    let mut site = site()?;
    let mut load = Load::start(&site, &["n1", "n3"], 6)?;
    for (task, node, successor_on) in [
        ("web.2", "n2", "n2"),
        ("web.1", "n1", "n3"),
        ("web.3", "n3", "n1"),
        ("web.4", "n2", "n1"),
        ("web.5", "n3", "n2"),
        ("web.6", "n1", "n3"),
    ] {
        let successor = site.add_task(successor_on)?;
        site.wait_task(&NODES, &successor, "ready", SOON)?;
        // Held connections end with their task; requests do not.
        drop(load.let_go(task));
        let printed = site
            .cluster
            .essaim(node, &["stop", task, "--grace", "5s"])?
            .ok()?;
        ensure!(printed.contains("ended by itself"), "{printed}");
        site.wait_task(&NODES, task, "gone", SOON)?;
        load.all_live()
            .with_context(|| format!("after the stop of {task}"))?;
        site.cluster.restart_agent(node)?;
        site.cluster.wait_node_ready(node, SOON)?;
        site.wait_task(&NODES, task, "gone", SOON)?;
        load.all_live()
            .with_context(|| format!("after the restart of the agent of {node}"))?;
    }
    load.end_without_failure()
}

#[test]
fn a_drained_task_keeps_its_connections_until_it_is_ended() -> anyhow::Result<()> {
    let site = site()?;
    let mut load = Load::start(&site, &["n1"], 12)?;
    let printed = site
        .cluster
        .essaim("n2", &["stop", "web.2", "--drain-only"])?
        .ok()?;
    ensure!(printed.contains("no node sends it new flows"), "{printed}");
    site.wait_task(&NODES, "web.2", "draining", SOON)?;
    let url = format!("http://{}/", site.at("n1", 8080, Family::V4)?);
    for _ in 0..20 {
        let seen = site.cluster.curl("c1", &url)?;
        ensure!(
            !seen.contains("Name: web.2"),
            "a drained task got a new flow: {seen}"
        );
        load.all_live()?;
    }
    // Without an agent what was heard last is known still.
    site.cluster.kill_agent("n1")?;
    let verified = site.cluster.essaim("n1", &["verify"])?;
    verified.ok().context("verify without an agent")?;
    site.cluster.spawn_agent("n1")?;
    site.cluster.wait_node_ready("n1", SOON)?;
    // It stays so over a restart of its node's agent: nothing leads back.
    site.cluster.restart_agent("n2")?;
    site.cluster.wait_node_ready("n2", SOON)?;
    site.wait_task(&NODES, "web.2", "draining", SOON)?;
    load.end_without_failure()
}

#[test]
fn a_stop_that_cannot_be_is_refused_and_changes_nothing() -> anyhow::Result<()> {
    let site = site()?;
    for (arguments, words) in [
        (
            &["stop", "web.1"][..],
            &["web.1", "not one of this node", "web.2"][..],
        ),
        (&["stop", "web.9"], &["web.9", "not one of this node"]),
        (&["stop", "web.2", "--signal", "SIGNAL"], &["SIGNAL", "expected"]),
    ] {
        let ran = site.cluster.essaim("n2", arguments)?;
        ensure!(!ran.status.success(), "{ran:?}");
        ensure!(words.iter().all(|word| ran.stderr.contains(word)), "{ran:?}");
    }
    site.wait_task(&NODES, "web.2", "ready", SOON).map(drop)
}
