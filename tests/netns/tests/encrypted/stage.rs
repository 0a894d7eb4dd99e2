//! Two nodes, a client, an encrypted network and a plain one.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, ClusterBuilder, Family, eventually};
use essaim_model::Port;
use essaim_netns_tests::Scene;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The VNI of the encrypted network.
pub(crate) const VNI: u32 = 5001;
/// Where `a` is published.
pub(crate) const PUBLISHED: u16 = 8080;
/// How long nodes may take to have heard of each other's keys, under software emulation.
pub(crate) const AGREED: Duration = Duration::from_mins(2);

/// Brings it up, and waits until both nodes encrypt.
pub(crate) fn scene(underlay: Family) -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(2).gossip(true).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?.encrypted = true;
    catalog.network("plain")?;
    let service = catalog.service("a", &["app"])?;
    service.ports.push(Port::new(PUBLISHED, 80));
    catalog.service("b", &["plain"])?;
    for service in ["a", "b"] {
        catalog.task(service, "n1")?;
        catalog.task(service, "n2")?;
    }
    let scene = Scene::start(cluster, catalog)?;
    reach(&scene, "a.1", "a.2")?;
    reach(&scene, "a.2", "a.1")?;
    Ok(scene)
}

/// Waits until a task's HTTP server answers another task.
pub(crate) fn reach(scene: &Scene, from: &str, to: &str) -> anyhow::Result<()> {
    for family in Family::BOTH {
        let address = scene.task(to, family)?;
        eventually(AGREED, &format!("{from} reaches {to} at {address}"), || {
            let seen = scene.ask(from, address, 80)?;
            ensure!(seen.name == to, "{} answered", seen.name);
            Ok(())
        })?;
    }
    Ok(())
}

/// The status of a node.
pub(crate) fn status(scene: &Scene, node: &str) -> anyhow::Result<Value> {
    let text = scene
        .cluster
        .essaim(node, &["status", "--format", "json"])?
        .ok()?;
    serde_json::from_str(&text).with_context(|| format!("{node} answered {text}"))
}

/// What a node has counted.
pub(crate) fn counters(scene: &Scene, node: &str) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut status = status(scene, node)?;
    Ok(serde_json::from_value(status["counters"].take())?)
}

/// The associations of a node.
pub(crate) fn associations(scene: &Scene, node: &str) -> anyhow::Result<Vec<Value>> {
    let mut status = status(scene, node)?;
    Ok(serde_json::from_value(status["ipsec"].take())?)
}

/// Both nodes' underlay addresses.
pub(crate) fn vteps(cluster: &Cluster, family: Family) -> anyhow::Result<[IpAddr; 2]> {
    Ok([cluster.address("n1", family)?, cluster.address("n2", family)?])
}
