//! Tasks and nodes that die.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::names::{Answer, answered};
use essaim_netns_tests::site::{APPLIED, HTTP, SOON, Site, WEB};
use nix::sys::signal::Signal;
use std::time::Duration;

/// How soon a dead task is out of every node's maps, half of the time; the status is polled every 20 ms, and other
/// suites run on the same two cores.
const TASK: Duration = Duration::from_millis(200);

/// How soon a dead node is known; the simulator holds nodes to it to the millisecond.
const NODE: Duration = Duration::from_secs(3);

/// As above, at the fast pace.
const NODE_FAST: Duration = Duration::from_secs(1);

/// What it may take to look at two nodes in turn, by a process each time, while other suites run on the same two cores.
const LOOKING: Duration = Duration::from_millis(500);

const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn a_dead_task_is_out_of_every_nodes_maps_and_names_at_once() -> anyhow::Result<()> {
    let mut site = Site::prepare(ClusterBuilder::new().gossip(true), |catalog| {
        catalog.network("app")?;
        catalog.service(WEB, &["app"])?.ports.push(HTTP);
        for node in ["n1", "n3", "n2", "n2", "n2", "n2", "n2"] {
            catalog.task(WEB, node)?;
        }
        Ok(())
    })?;
    let doomed = ["web.3", "web.4", "web.5", "web.6", "web.7"];
    for task in doomed {
        site.watch_processes(task)?;
    }
    site.cluster.write_catalog(&mut site.catalog)?;
    site.cluster.spawn_agents()?;
    site.cluster.wait_ready(APPLIED)?;
    site.start_tasks()?;
    for node in NODES {
        site.wait_member(&NODES, node, "up", SOON)?;
    }
    let mut took = Vec::new();
    for task in doomed {
        site.cluster.stop_task(task, Signal::SIGKILL)?;
        took.push(site.wait_task(&NODES, task, "gone", SOON)?);
    }
    took.sort_unstable();
    println!("from the death of a task to its end in the maps of all three nodes: {took:?}");
    ensure!(took[took.len() / 2] < TASK, "{took:?}");
    let alive = ["web.1", "web.2"].map(|task| site.catalog.task_address(task, "app", Family::V4));
    let alive: Vec<_> = alive.into_iter().collect::<Result<_, _>>()?;
    for asker in ["web.1", "web.2"] {
        answered(&site.cluster, asker, "tasks.web", "A", &Answer::of(alive.clone()))?;
    }
    // It stays dead when its node's agent starts anew.
    site.cluster.restart_agent("n2")?;
    site.cluster.wait_node_ready("n2", APPLIED)?;
    for node in NODES {
        let state = site.task_state(node, "web.3")?;
        ensure!(state == "gone", "{node}: {state}");
    }
    Ok(())
}

#[test]
fn a_dead_node_is_down_within_a_second_where_the_pace_is_fast() -> anyhow::Result<()> {
    let mut site = Site::prepare(ClusterBuilder::new().gossip(true), |_| Ok(()))?;
    site.cluster.write_catalog(&mut site.catalog)?;
    for node in NODES {
        let program = site.cluster.binary("essaim");
        site.cluster
            .spawn_agent_with(node, &program, &["--gossip-pace", "fast"])?;
    }
    site.cluster.wait_ready(APPLIED)?;
    all_up(&site)?;
    site.cluster.unplug("n3")?;
    let took = site.wait_member(&["n1", "n2"], "n3", "down", SOON)?;
    println!("from the death of a node to the last node's knowing, at the fast pace: {took:?}");
    ensure!(took < NODE_FAST + LOOKING, "{took:?}");
    Ok(())
}

fn all_up(site: &Site) -> anyhow::Result<()> {
    NODES
        .iter()
        .try_for_each(|node| site.wait_member(&NODES, node, "up", SOON).map(drop))
}

#[test]
fn a_dead_node_is_down_within_three_seconds_and_up_again_when_it_is_back() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().gossip(true), &[HTTP], &NODES)?;
    all_up(&site)?;
    site.cluster.unplug("n3")?;
    let took = site.wait_member(&["n1", "n2"], "n3", "down", SOON)?;
    println!("from the death of a node to the last node's knowing: {took:?}");
    ensure!(took < NODE + LOOKING, "{took:?}");
    for node in ["n1", "n2"] {
        site.wait_task(&[node], "web.3", "gone", SOON)?;
        let url = format!("http://{}/", site.at(node, 8080, Family::V4)?);
        for _ in 0..20 {
            let seen = site
                .cluster
                .curl("c1", &url)
                .context("after the node was found dead")?;
            ensure!(!seen.contains("Name: web.3"), "{seen}");
        }
    }
    site.cluster.plug("n3")?;
    let took = site.wait_member(&NODES, "n3", "up", SOON)?;
    println!("from its return to the last node's knowing: {took:?}");
    for task in ["web.1", "web.2", "web.3"] {
        site.wait_task(&NODES, task, "ready", SOON)?;
    }
    Ok(())
}
