//! How even the Maglev edge is.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, netns};
use essaim_netns_tests::held::Flow;
use essaim_netns_tests::site::{CLIENT, ECHO, Site};
use std::collections::BTreeMap;

/// Connections.
const CONNECTIONS: usize = 10_000;

/// Tasks.
const TASKS: usize = 10;

/// How far a task may be from its share, in percent.
const TOLERANCE: usize = 15;

#[test]
fn ten_thousand_connections_spread_over_ten_tasks() -> anyhow::Result<()> {
    let nodes: Vec<_> = ["n1", "n2"].into_iter().cycle().take(TASKS).collect();
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &nodes)?;
    let target = site.at("n1", ECHO.published, Family::V4)?;
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    netns::inside(&site.cluster.netns(CLIENT), || {
        for number in 0..CONNECTIONS {
            let flow = Flow::open(target).with_context(|| format!("connection {number}"))?;
            *count.entry(flow.task.clone()).or_default() += 1;
            flow.abort()?;
        }
        Ok(())
    })?;
    let share = CONNECTIONS / TASKS;
    let within = |count: &usize| count.abs_diff(share) * 100 <= share * TOLERANCE;
    ensure!(
        count.len() == TASKS && count.values().all(within),
        "expected {share} each, within {TOLERANCE} %: {count:?}"
    );
    Ok(())
}
