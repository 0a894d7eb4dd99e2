//! Agents that are away for longer than it takes to notice a death.

use anyhow::{Context as _, ensure};
use essaim_lab::ClusterBuilder;
use essaim_netns_tests::load::Load;
use essaim_netns_tests::site::{ECHO, HTTP, SOON, Site};
use std::time::{Duration, Instant};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const OTHERS: [&str; 2] = ["n1", "n3"];

/// Twice the time in which a node that nobody answers for is down.
const AWAY: Duration = Duration::from_secs(6);

/// How long the holder answers in the second half, in seconds.
const ABSENCE: u64 = 4;

/// From the holder's last answer until the others know, and this test does, on a machine that has more to do.
const NOTICED: Duration = Duration::from_secs(5);

#[test]
fn a_node_lives_on_while_its_agent_is_away_and_is_down_when_it_stays_away() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().gossip(true), &[HTTP, ECHO], &NODES)?;
    for node in NODES {
        site.wait_member(&NODES, node, "up", SOON)?;
    }
    let mut load = Load::start(&site, &OTHERS, 6)?;
    site.cluster.kill_agent("n2")?;
    let killed = Instant::now();
    let mut looked = 0;
    while killed.elapsed() < AWAY {
        for node in OTHERS {
            // One that is suspected has yet to contradict.
            let state = site.member_state(node, "n2")?;
            ensure!(
                state != "down",
                "{node} holds n2 to be down after {:?}",
                killed.elapsed()
            );
            looked += 1;
        }
        load.all_live().context("while the agent is away")?;
    }
    println!("looked {looked} times in {AWAY:?}");
    let program = site.cluster.binary("essaim");
    let absence = ABSENCE.to_string();
    site.cluster
        .spawn_agent_with("n2", &program, &["--gossip-absence", &absence])?;
    site.cluster.wait_node_ready("n2", SOON)?;
    for node in OTHERS {
        site.wait_member(&[node], "n2", "up", SOON)?;
    }
    load.end_without_failure()?;

    site.cluster.kill_agent("n2")?;
    let took = site.wait_member(&OTHERS, "n2", "down", SOON)?;
    println!("from the end of an agent that does not come back to the last node's knowing: {took:?}");
    let absence = Duration::from_secs(ABSENCE);
    ensure!(took > absence && took < absence + NOTICED, "{took:?}");
    site.cluster.spawn_agent("n2")?;
    site.wait_member(&OTHERS, "n2", "up", SOON)?;
    Ok(())
}
