//! A flood of SYNs from made-up addresses.

use anyhow::{Context as _, ensure};
use essaim_abi::maps::MAX_HALF_OPEN_FLOWS;
use essaim_lab::{ClusterBuilder, Family, netns};
use essaim_netns_tests::held::Held;
use essaim_netns_tests::raw::syn_flood;
use essaim_netns_tests::site::{CLIENT, ECHO, Site};

/// In one go, to each family.
const SYNS: u32 = 20_000;
/// How often at most: where the underlay lets go of frames in bursts (netem), the ring of the node's veth keeps few of them.
const ROUNDS: u32 = 12;

/// Connections that are held meanwhile, of each family.
const HELD: usize = 50;

#[test]
fn a_syn_flood_evicts_no_established_flow() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &["n2"])?;
    let mut held = Held::default();
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        held.flows
            .extend(Held::open(&site.cluster, CLIENT, target, HELD)?.flows);
    }
    held.all_live()?;
    let before = site.entries("n2", "FLOWS")?;
    ensure!(
        before >= 2 * HELD as u64,
        "{before} established flows before the flood"
    );
    // More than there is room for half-open flows, so that some have to give way; and through the programs, not past them.
    let mut opened = 0;
    let mut round = 0;
    while opened <= u64::from(MAX_HALF_OPEN_FLOWS) {
        ensure!(
            round < ROUNDS,
            "only {opened} of {} SYNs opened a flow",
            2 * ROUNDS * SYNS
        );
        for family in Family::BOTH {
            let target = site.at("n1", ECHO.published, family)?;
            netns::inside(&site.cluster.netns(CLIENT), || syn_flood(target, SYNS, round))?;
            held.all_live()?;
        }
        round += 1;
        let status = site.status("n2")?;
        let flows = status.pointer("/services/0/backends/0/count/flows");
        opened = flows
            .and_then(serde_json::Value::as_u64)
            .context("no count of flows")?;
    }
    let after = site.entries("n2", "FLOWS")?;
    ensure!(
        after == before,
        "{before} established flows before the flood, {after} after it"
    );
    // And new clients are served.
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        Held::open(&site.cluster, CLIENT, target, 8)?.all_live()?;
    }
    Ok(())
}
