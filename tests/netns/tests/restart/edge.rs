//! Another node takes a dead edge's address.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, UPLINK, ip};
use essaim_model::Port;
use essaim_netns_tests::frames::mac;
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{APPLIED, CLIENT, ECHO, Site, WEB, dsr};

/// The port whose replies go straight to the client.
const DIRECT: Port = dsr(Port::new(8082, 7));

#[test]
fn a_freshly_started_edge_takes_over_an_address_and_breaks_no_flow() -> anyhow::Result<()> {
    let mut site = Site::prepare(ClusterBuilder::new(), |catalog| {
        catalog.network("app")?;
        catalog.service(WEB, &["app"])?.ports.extend([ECHO, DIRECT]);
        (0..3).try_for_each(|_| catalog.task(WEB, "n3").map(drop))
    })?;
    site.cluster.write_catalog(&mut site.catalog)?;
    for node in ["n1", "n3"] {
        site.cluster.spawn_agent(node)?;
    }
    for node in ["n1", "n3"] {
        site.cluster.wait_node_ready(node, APPLIED)?;
    }
    site.start_tasks()?;
    let mut held = Held::default();
    for family in Family::BOTH {
        for port in [ECHO, DIRECT] {
            let target = site.at("n1", port.published, family)?;
            held.flows
                .extend(Held::open(&site.cluster, CLIENT, target, 32)?.flows);
        }
    }
    held.all_live()?;
    // A membership change first: the new edge was not there when the old owners were.
    let added = site.catalog.task(WEB, "n3")?;
    site.cluster.add_task("n3", &added)?;
    site.cluster.write_catalog(&mut site.catalog)?;
    for node in ["n1", "n3"] {
        site.cluster.wait_node_ready(node, APPLIED)?;
    }
    site.cluster.start_whoami(&added)?;
    held.all_live().context("after a task was added")?;

    site.cluster.unplug("n1")?;
    site.cluster.kill_agent("n1")?;
    site.cluster.spawn_agent("n2")?;
    site.cluster.wait_node_ready("n2", APPLIED)?;
    // What its kernel knows is enough: its agent never sees the address.
    site.cluster.kill_agent("n2")?;
    let mac = mac(&site.cluster, "n2", UPLINK)?.map(|byte| format!("{byte:02x}"));
    for (family, length) in [(Family::V4, "24"), (Family::V6, "64 nodad")] {
        let address = site.cluster.address("n1", family)?;
        let (bits, flags) = length.split_once(' ').unwrap_or((length, ""));
        ip::batch(
            &site.cluster.netns("n2"),
            &[format!("addr add {address}/{bits} dev {UPLINK} {flags}")],
        )?;
    }
    for family in Family::BOTH {
        let address = site.cluster.address("n1", family)?;
        ip::batch(
            &site.cluster.netns(CLIENT),
            &[format!(
                "neigh replace {address} lladdr {} dev {UPLINK} nud reachable",
                mac.join(":")
            )],
        )?;
    }
    held.all_live().context("after n2 took the address of n1")?;
    held.all_live()?;
    // And new ones are served there.
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        let mut new = Held::open(&site.cluster, CLIENT, target, 32)?;
        new.all_live()?;
        ensure!(new.by_task().len() == 4, "only {:?} answered", new.by_task());
    }
    Ok(())
}
