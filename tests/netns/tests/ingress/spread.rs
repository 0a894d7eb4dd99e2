//! How even the Maglev edge is.

use anyhow::{Context as _, bail, ensure};
use essaim_lab::{ClusterBuilder, Family, netns};
use essaim_netns_tests::held::Flow;
use essaim_netns_tests::site::{CLIENT, ECHO, Site};
use std::collections::BTreeMap;
use std::thread;

/// Connections.
const CONNECTIONS: usize = 10_000;

/// How many are under way at a time: each takes several round trips, which are long on a bad underlay.
const AT_A_TIME: usize = 20;

/// Tasks.
const TASKS: usize = 10;

/// How far a task may be from its share, in percent.
const TOLERANCE: usize = 15;

#[test]
fn ten_thousand_connections_spread_over_ten_tasks() -> anyhow::Result<()> {
    let nodes: Vec<_> = ["n1", "n2"].into_iter().cycle().take(TASKS).collect();
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &nodes)?;
    let target = site.at("n1", ECHO.published, Family::V4)?;
    let connect = || {
        let connected = (0..CONNECTIONS / AT_A_TIME).map(|number| {
            let flow = Flow::open(target).with_context(|| format!("connection {number}"))?;
            let task = flow.task.clone();
            flow.abort().map(|()| task)
        });
        connected.collect::<anyhow::Result<Vec<_>>>()
    };
    // Threads are in the namespace of the one that starts them.
    let connected = netns::inside(&site.cluster.netns(CLIENT), || {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(connect)).collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(connected) => connected,
                Err(_) => bail!("a thread panicked"),
            });
            joined.collect::<anyhow::Result<Vec<_>>>()
        })
    })?;
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for task in connected.into_iter().flatten() {
        *count.entry(task).or_default() += 1;
    }
    let share = CONNECTIONS / TASKS;
    let within = |count: &usize| count.abs_diff(share) * 100 <= share * TOLERANCE;
    ensure!(
        count.len() == TASKS && count.values().all(within),
        "expected {share} each, within {TOLERANCE} %: {count:?}"
    );
    Ok(())
}
