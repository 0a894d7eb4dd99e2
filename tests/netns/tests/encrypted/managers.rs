//! An encrypted network as the operator asks for it: the managers hand out its keys, and place its tasks.

use crate::stage::{AGREED, vteps};
use crate::wire::{captured, whisper, whisper_to};
use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, PlacedTask, eventually};
use std::net::IpAddr;

/// Where the service is published.
const PUBLISHED: u16 = 8080;

/// A manager and a worker, an encrypted network, a service of it with a task on each.
#[test]
fn a_service_of_the_managers_is_reached_across_nodes_by_esp_only() -> anyhow::Result<()> {
    let cluster = &ClusterBuilder::new().nodes(2).build()?;
    cluster.spawn_nodes()?;
    cluster.form(1)?;
    // Under emulation a node is ready long before its programs are, and would reject the first tasks.
    for node in ["n1", "n2"] {
        eventually(AGREED, &format!("{node} has loaded its data plane"), || {
            cluster.essaim(node, &["status"])?.ok()
        })?;
    }
    let network = ["--driver", "overlay", "--opt", "encrypted", "secret"];
    cluster.operate("n1", &[&["network", "create"][..], &network].concat())?;
    let server = cluster.binary("essaim-peer").display().to_string();
    let published = format!("{PUBLISHED}:80");
    let service = [
        "service",
        "create",
        "--detach",
        "--name",
        "web",
        "--mode",
        "global",
        "--network",
        "secret",
        "--publish",
        &published,
        "host",
        &server,
        "whoami",
    ];
    cluster.operate("n1", &service)?;
    let placed = cluster.wait_running("n1", "web", 2)?;
    let [first, second] = &*placed else {
        anyhow::bail!("expected two tasks: {placed:?}");
    };
    ensure!(first.node == "n1" && second.node == "n2", "{placed:?}");
    let address = |task: &PlacedTask| -> anyhow::Result<IpAddr> {
        let address = task.addresses.first().context("a task without an address")?;
        Ok(address.parse()?)
    };
    let (there, back) = (address(second)?, address(first)?);
    // The nodes have to agree on keys first.
    for (from, to) in [(first, there), (second, back)] {
        eventually(AGREED, &format!("{} reaches {to}", from.name), || {
            whisper(cluster, &from.name, to, 80)
        })?;
    }
    let seen = captured(cluster, vteps(cluster, Family::V4)?, || {
        for _ in 0..4 {
            whisper(cluster, &first.name, there, 80)?;
            whisper(cluster, &second.name, back, 80)?;
            // Its VIP leads to either task.
            whisper_to(cluster, &first.name, "web")?;
            for node in ["n1", "n2"] {
                whisper(cluster, "c1", cluster.address(node, Family::V4)?, PUBLISHED)?;
            }
        }
        Ok(())
    })?;
    ensure!(
        seen.esp > 20 && seen.vxlan == 0 && seen.secrets == 0,
        "between the nodes were {seen:?}"
    );
    Ok(())
}
