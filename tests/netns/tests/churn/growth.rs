//! Many changes one after the other, with many connections held.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::TaskState;
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{CLIENT, ECHO, Site};
use nix::sys::signal::Signal;

/// Tasks in the beginning.
const FEW: usize = 5;

/// Tasks in the end.
const MANY: usize = 10;

/// Connections that are held, through both nodes together.
const HELD: usize = 600;

/// How many may break of a thousand: none of so few.
const BROKEN_OF_1000: usize = 1;

fn site(tasks: usize) -> anyhow::Result<Site> {
    let nodes: Vec<_> = ["n1", "n2"].into_iter().cycle().take(tasks).collect();
    Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &nodes)
}

fn hold(site: &Site, count: usize) -> anyhow::Result<Held> {
    let mut held = Held::default();
    for node in ["n1", "n2"] {
        for family in Family::BOTH {
            let target = site.at(node, ECHO.published, family)?;
            let more = Held::open(&site.cluster, CLIENT, target, count / 4)?;
            held.flows.extend(more.flows);
        }
    }
    Ok(held)
}

#[test]
fn five_backends_that_grow_to_ten_break_no_flow() -> anyhow::Result<()> {
    let mut site = site(FEW)?;
    let mut held = hold(&site, HELD)?;
    let mut broken = Vec::new();
    for number in FEW..MANY {
        let added = site.add_task(if number % 2 == 0 { "n1" } else { "n2" })?;
        broken.extend(held.use_all());
        // Later ones are held as well, on what the table is by now.
        let more = hold(&site, HELD / 10).with_context(|| format!("after {added}"))?;
        held.flows.extend(more.flows);
    }
    broken.extend(held.use_all());
    let all = held.flows.len() + broken.len();
    ensure!(
        broken.len() * 1000 <= all * BROKEN_OF_1000,
        "{} of {all} broke: {broken:?}",
        broken.len()
    );
    ensure!(held.by_task().len() == MANY, "flows at {:?}", held.by_task());
    Ok(())
}

#[test]
fn a_rolling_replacement_of_half_breaks_no_flow_of_the_others() -> anyhow::Result<()> {
    let mut site = site(MANY)?;
    let mut held = hold(&site, HELD)?;
    let mut broken = Vec::new();
    for number in 1..=FEW {
        let old = format!("web.{number}");
        site.add_task(if number % 2 == 0 { "n1" } else { "n2" })?;
        site.set_state(&old, TaskState::Draining)?;
        broken.extend(held.use_all());
        drop(held.split_off(&old));
        site.cluster.stop_task(&old, Signal::SIGTERM)?;
        site.set_state(&old, TaskState::Gone)?;
        broken.extend(held.use_all());
        site.catalog.remove_task(&old)?;
        site.apply()?;
        site.cluster.remove_task(&old)?;
        broken.extend(held.use_all());
    }
    let all = held.flows.len() + broken.len();
    ensure!(
        broken.len() * 1000 <= all * BROKEN_OF_1000,
        "{} of {all} broke: {broken:?}",
        broken.len()
    );
    ensure!(all > HELD / 4, "only {all} flows were on the other tasks");
    Ok(())
}
