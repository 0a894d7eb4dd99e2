//! What trusts a node's address a task cannot reach: it would leave under its node's.

use crate::vxlan::{VXLAN, Victim, datagram, encapsulated};
use anyhow::ensure;
use essaim_abi::DropReason;
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::frames::mac;
use essaim_netns_tests::{Scene, connect, udp};
use std::net::SocketAddr;
use std::time::Duration;

const GOSSIP: u16 = 7946;
const MANAGER: u16 = 2377;
const FREE: u16 = 7000;

fn task_cannot_reach_the_nodes_ports(underlay: Family) -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?;
    catalog.service("a", &["app"])?;
    for node in ["n1", "n1", "n2"] {
        catalog.task("a", node)?;
    }
    let scene = Scene::start_idle(cluster, catalog)?;
    for (node, target, peer) in [("n1", "a.2", "a.3"), ("n2", "a.3", "a.2")] {
        let vtep = scene.cluster.address(node, underlay)?;
        let socket = udp(&scene.cluster, "a.1", vtep, 0)?;
        for family in Family::BOTH {
            let macs = (
                mac(&scene.cluster, peer, "eth0")?,
                mac(&scene.cluster, target, "eth0")?,
            );
            let address = scene.task(target, family)?;
            let victim = Victim::open(&scene.cluster, target, address)?;
            let frame = datagram(macs, scene.task(peer, family)?, address, b"forged")?;
            scene.counted("n1", DropReason::ForbiddenPort, 1, || {
                socket.send_to(&encapsulated(5001, &frame), SocketAddr::new(vtep, VXLAN))?;
                Ok(())
            })?;
            // In fragments, whose later parts have no port.
            let mut long = encapsulated(5001, &frame);
            long.resize(4000, 0);
            scene.counted("n1", DropReason::ForbiddenPort, 2, || {
                socket.send_to(&long, SocketAddr::new(vtep, VXLAN))?;
                Ok(())
            })?;
            victim.hears_only(&scene.cluster, peer)?;
        }
        scene.counted("n1", DropReason::ForbiddenPort, 1, || {
            socket.send_to(b"x", SocketAddr::new(vtep, GOSSIP))?;
            Ok(())
        })?;
        for port in [GOSSIP, MANAGER] {
            scene.counted("n1", DropReason::ForbiddenPort, 1, || {
                let target = SocketAddr::new(vtep, port);
                let connected = connect(&scene.cluster, "a.1", target, Duration::from_millis(300));
                ensure!(connected.is_err(), "a.1 could connect to {target}");
                Ok(())
            })?;
        }
        // Any other port of a node is part of the world.
        let open = udp(&scene.cluster, node, vtep, FREE)?;
        socket.send_to(b"hello", SocketAddr::new(vtep, FREE))?;
        let mut buffer = [0; 16];
        let (length, _) = open.recv_from(&mut buffer)?;
        ensure!(buffer.get(..length) == Some(b"hello"), "{buffer:?}");
    }
    // The overlay addresses of the nodes are no way round.
    for node in ["n1", "n2"] {
        let nodes = &scene.catalog.catalog().nodes;
        let overlay = nodes.iter().filter(|found| found.name.as_str() == node);
        for address in overlay.flat_map(|node| &node.overlay).copied() {
            let socket = udp(&scene.cluster, "a.1", address, 0)?;
            scene.counted("n1", DropReason::ForbiddenPort, 2, || {
                socket.send_to(b"x", SocketAddr::new(address, VXLAN))?;
                socket.send_to(b"x", SocketAddr::new(address, GOSSIP))?;
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn task_cannot_reach_the_nodes_ports_over_ipv4() -> anyhow::Result<()> {
    task_cannot_reach_the_nodes_ports(Family::V4)
}

#[test]
fn task_cannot_reach_the_nodes_ports_over_ipv6() -> anyhow::Result<()> {
    task_cannot_reach_the_nodes_ports(Family::V6)
}
