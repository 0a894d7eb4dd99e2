//! How many new flows a change of members moves, and what draining means.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, netns};
use essaim_model::TaskState;
use essaim_netns_tests::held::{Flow, Held};
use essaim_netns_tests::site::{CLIENT, ECHO, Site};
use std::collections::BTreeMap;
use std::ops::Range;

/// The source ports of the flows that are followed: outside of the range that the kernel gives out.
const PORTS: Range<u16> = 20_000..20_400;

/// Tasks before the change.
const TASKS: usize = 5;

/// Connections that are held in each family.
const HELD: usize = 100;

struct Followed {
    site: Site,
    family: Family,
    held: Held,
}

impl Followed {
    fn start(family: Family) -> anyhow::Result<Self> {
        let nodes: Vec<_> = ["n1", "n2"].into_iter().cycle().take(TASKS).collect();
        let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &nodes)?;
        let mut held = Held::default();
        for family in Family::BOTH {
            let target = site.at("n1", ECHO.published, family)?;
            held.flows
                .extend(Held::open(&site.cluster, CLIENT, target, HELD)?.flows);
        }
        Ok(Self { site, family, held })
    }

    /// Which task gets a new flow from each of the ports.
    fn tasks(&self) -> anyhow::Result<BTreeMap<u16, String>> {
        let target = self.site.at("n1", ECHO.published, self.family)?;
        netns::inside(&self.site.cluster.netns(CLIENT), || {
            let task = |port| {
                let flow = Flow::open_from(port, target).with_context(|| format!("from port {port}"))?;
                let task = flow.task.clone();
                flow.abort()?;
                Ok((port, task))
            };
            PORTS.map(task).collect()
        })
    }
}

fn moved<'a>(before: &'a BTreeMap<u16, String>, after: &'a BTreeMap<u16, String>) -> Vec<(&'a str, &'a str)> {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|((_, was), (_, is))| was != is)
        .map(|((_, was), (_, is))| (was.as_str(), is.as_str()))
        .collect()
}

#[test]
fn an_added_backend_moves_few_new_flows_and_breaks_none() -> anyhow::Result<()> {
    let mut followed = Followed::start(Family::V4)?;
    let before = followed.tasks()?;
    let added = followed.site.add_task("n2")?;
    followed.held.all_live()?;
    let after = followed.tasks()?;
    let moved = moved(&before, &after);
    let most = 2 * PORTS.len() / (TASKS + 1);
    ensure!(
        moved.len() < most,
        "{} of {} flows moved",
        moved.len(),
        PORTS.len()
    );
    ensure!(moved.iter().any(|(_, is)| *is == added), "{added} got nothing");
    Ok(())
}

#[test]
fn a_removed_backend_moves_few_new_flows_and_breaks_none_of_the_others() -> anyhow::Result<()> {
    let mut followed = Followed::start(Family::V6)?;
    let before = followed.tasks()?;
    let removed = "web.3";
    followed.site.set_state(removed, TaskState::Draining)?;
    // Draining keeps its flows…
    followed.held.all_live()?;
    // … and gets no new ones.
    let after = followed.tasks()?;
    ensure!(
        after.values().all(|task| task != removed),
        "{removed} got a new flow"
    );
    for family in Family::BOTH {
        let target = followed.site.at("n1", ECHO.published, family)?;
        let new = Held::open(&followed.site.cluster, CLIENT, target, HELD)?;
        ensure!(
            new.by_task().keys().all(|task| task != removed),
            "{removed} got new connections: {:?}",
            new.by_task()
        );
    }
    let most = 2 * PORTS.len() / TASKS;
    let all = moved(&before, &after);
    ensure!(all.len() < most, "{} of {} flows moved", all.len(), PORTS.len());
    drop(followed.held.split_off(removed));
    followed.site.set_state(removed, TaskState::Gone)?;
    followed.held.all_live()?;
    followed.site.catalog.remove_task(removed)?;
    followed.site.apply()?;
    followed.held.all_live()?;
    let end = followed.tasks()?;
    let late = moved(&after, &end);
    ensure!(
        late.is_empty(),
        "the end of a drained task moved {} flows",
        late.len()
    );
    Ok(())
}
