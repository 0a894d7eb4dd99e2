//! A task reaches the published ports of its own node and of others, and is seen as itself.

use crate::itself::{names, published};
use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::Scene;

fn scene(underlay: Family) -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(3).clients(0).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?;
    catalog.network("other")?;
    catalog.service("web", &["app"])?.ports.extend(published());
    catalog.service("user", &["app"])?;
    catalog.service("stranger", &["other"])?;
    for (service, node) in [("web", "n1"), ("web", "n2"), ("user", "n1"), ("stranger", "n1")] {
        catalog.task(service, node)?;
    }
    Scene::start(cluster, catalog)
}

fn tasks_reach_published_ports(underlay: Family) -> anyhow::Result<()> {
    let scene = scene(underlay)?;
    // Of another service, of another network, and one of the service itself.
    for task in ["user.1", "stranger.1", "web.1"] {
        for node in ["n1", "n2", "n3"] {
            let to = scene.cluster.address(node, underlay)?;
            let found = names(&scene, task, to, 8080, 7007)?;
            ensure!(
                found.iter().eq(["web.1", "web.2"].iter()),
                "{task} to {node} ({to}): {found:?}"
            );
            let own = scene.task(task, underlay)?;
            for _ in 0..4 {
                let seen = scene.ask(task, to, 8080)?;
                // A task that meets itself cannot see its own address at both ends.
                if seen.name != task {
                    ensure!(seen.client.ip() == own, "{task} ({own}) to {node}: {seen:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn tasks_reach_published_ports_over_ipv4() -> anyhow::Result<()> {
    tasks_reach_published_ports(Family::V4)
}

#[test]
fn tasks_reach_published_ports_over_ipv6() -> anyhow::Result<()> {
    tasks_reach_published_ports(Family::V6)
}
