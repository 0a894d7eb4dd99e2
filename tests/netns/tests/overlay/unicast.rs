//! Tasks of one network reach each other, and see each other's own addresses.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::Scene;
use std::net::SocketAddr;

/// Two tasks on the first node, one on the second.
fn scene(underlay: Family) -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?;
    catalog.service("a", &["app"])?;
    for node in ["n1", "n1", "n2"] {
        catalog.task("a", node)?;
    }
    Scene::start(cluster, catalog)
}

/// TCP, UDP and ping between all pairs of tasks.
fn everybody_reaches_everybody(scene: &Scene) -> anyhow::Result<()> {
    for family in Family::BOTH {
        for (from, to) in [("a.1", "a.2"), ("a.1", "a.3"), ("a.3", "a.1"), ("a.2", "a.3")] {
            let (own, address) = (scene.task(from, family)?, scene.task(to, family)?);
            let seen = scene.ask(from, address, 80)?;
            ensure!(
                seen.name == to && seen.client.ip() == own,
                "{from} ({own}) asked {to} ({address}): {seen:?}"
            );
            for more in [&["--count", "5"][..], &["--count", "5", "--unconnected"]] {
                let probed = scene.probe(from, SocketAddr::new(address, 7), more)?;
                ensure!(
                    probed.by_name.keys().eq([to]) && probed.by_seen.keys().eq([&own.to_string()]),
                    "{from} ({own}) asked {to} ({address}): {probed:?}"
                );
            }
            scene.ping(from, address, &[])?;
        }
    }
    Ok(())
}

/// The MTU of a task's interface.
fn mtu(scene: &Scene, task: &str) -> anyhow::Result<u64> {
    let shown = scene
        .cluster
        .exec(task, &["ip", "-json", "link", "show", "dev", "eth0"])?;
    let links: serde_json::Value = shown.json()?;
    Ok(links
        .pointer("/0/mtu")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_default())
}

#[test]
fn tasks_reach_each_other_over_ipv4() -> anyhow::Result<()> {
    let scene = scene(Family::V4)?;
    everybody_reaches_everybody(&scene)?;
    ensure!(mtu(&scene, "a.1")? == 1450, "{}", mtu(&scene, "a.1")?);
    Ok(())
}

#[test]
fn tasks_reach_each_other_over_ipv6() -> anyhow::Result<()> {
    let scene = scene(Family::V6)?;
    everybody_reaches_everybody(&scene)?;
    ensure!(mtu(&scene, "a.1")? == 1430, "{}", mtu(&scene, "a.1")?);
    Ok(())
}

#[test]
fn datagrams_too_long_for_a_packet_arrive_whole() -> anyhow::Result<()> {
    let scene = scene(Family::V4)?;
    for family in Family::BOTH {
        for to in ["a.2", "a.3"] {
            let target = SocketAddr::new(scene.task(to, family)?, 7);
            scene.probe("a.1", target, &["--count", "3", "--size", "9000"])?;
        }
    }
    Ok(())
}
