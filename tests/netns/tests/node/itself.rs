//! A node's own processes reach VIPs, tasks and published ports.

use anyhow::ensure;
use essaim_abi::Protocol;
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::Port;
use essaim_netns_tests::{Scene, connect};
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

pub(crate) fn published() -> [Port; 2] {
    let mut udp = Port::new(7007, 7);
    udp.protocol = Protocol::Udp;
    [Port::new(8080, 80), udp]
}

/// The names that answer a few requests and datagrams; all must be answered.
pub(crate) fn names(
    scene: &Scene,
    at: &str,
    to: IpAddr,
    tcp: u16,
    udp: u16,
) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for _ in 0..8 {
        names.insert(scene.ask(at, to, tcp)?.name);
    }
    let target = SocketAddr::new(to, udp);
    for more in [
        &["--count", "8", "--fresh"][..],
        &["--count", "8", "--fresh", "--unconnected"],
    ] {
        names.extend(scene.probe(at, target, more)?.by_name.into_keys());
    }
    Ok(names)
}

#[test]
fn node_reaches_vips_tasks_and_published_ports() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(3).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?.ports.extend(published());
    for node in ["n1", "n2"] {
        catalog.task("web", node)?;
    }
    let scene = Scene::start(cluster, catalog)?;
    // The third has no task.
    for node in ["n1", "n3"] {
        for family in Family::BOTH {
            let loopback: IpAddr = match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            };
            let both = |names: &BTreeSet<String>| names.iter().eq(["web.1", "web.2"].iter());
            let vip = scene.vip("web", family)?;
            let found = names(&scene, node, vip, 80, 7)?;
            ensure!(both(&found), "{node} to the VIP, {family}: {found:?}");
            scene.ping(node, vip, &[])?;
            for to in [
                loopback,
                scene.cluster.address(node, family)?,
                scene.cluster.address("n2", family)?,
            ] {
                let found = names(&scene, node, to, 8080, 7007)?;
                ensure!(both(&found), "{node} to {to}: {found:?}");
            }
            for task in ["web.1", "web.2"] {
                let address = scene.task(task, family)?;
                let seen = scene.ask(node, address, 80)?;
                ensure!(seen.name == task, "{node} to {task}: {seen:?}");
                let nodes = &scene.catalog.catalog().nodes;
                let own = nodes.iter().find(|found| found.name.as_str() == node);
                ensure!(
                    own.is_some_and(|own| own.overlay.contains(&seen.client.ip())),
                    "{node} was seen as {}, which is no overlay address of it",
                    seen.client
                );
                scene.ping(node, address, &[])?;
            }
            // Without the socket programs: the packets of a process that is in no group of the node.
            for task in ["web.1", "web.2"] {
                let target = SocketAddr::new(scene.task(task, family)?, 7);
                let stream = connect(&scene.cluster, node, target, Duration::from_secs(3))?;
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line)?;
                ensure!(line.starts_with(task), "{line:?}");
            }
        }
    }
    Ok(())
}
