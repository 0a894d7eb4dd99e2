//! A task reaches nothing of a network that it is not on.

use crate::vxlan::{Victim, datagram};
use anyhow::{bail, ensure};
use essaim_abi::DropReason;
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::frames::{Wire, mac};
use essaim_netns_tests::{Scene, connect, udp};
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_millis(500);

#[test]
fn networks_do_not_see_each_other() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    for (service, network) in [("a", "app"), ("b", "other")] {
        catalog.network(network)?;
        catalog.service(service, &[network])?;
        catalog.task(service, "n1")?;
        catalog.task(service, "n2")?;
    }
    let scene = Scene::start(cluster, catalog)?;
    let wire = Wire::open(&scene.cluster, "a.1", "eth0")?;
    let own = mac(&scene.cluster, "a.1", "eth0")?;
    for family in Family::BOTH {
        for (target, peer) in [("b.1", "b.2"), ("b.2", "b.1")] {
            let address = scene.task(target, family)?;
            ensure!(
                scene.ask(peer, address, 80)?.name == target,
                "{peer} reaches somebody else"
            );
            let victim = Victim::open(&scene.cluster, target, address)?;
            let to_mac = mac(&scene.cluster, target, "eth0")?;
            scene.counted("n1", DropReason::NotInNetwork, 1, || {
                let frame = datagram((own, to_mac), scene.task("a.1", family)?, address, b"intruder")?;
                wire.send(&frame)
            })?;
            victim.hears_only(&scene.cluster, peer)?;
        }
        for address in [
            scene.task("b.1", family)?,
            scene.task("b.2", family)?,
            scene.vip("b", family)?,
        ] {
            scene.counted("n1", DropReason::NotInNetwork, 3, || {
                let target = SocketAddr::new(address, 80);
                if connect(&scene.cluster, "a.1", target, PATIENCE).is_ok() {
                    bail!("a.1 could connect to {target}");
                }
                let socket = udp(&scene.cluster, "a.1", address, 0)?;
                socket.send_to(b"x", SocketAddr::new(address, 7))?;
                ensure!(
                    scene.ping("a.1", address, &["-W", "0.2"]).is_err(),
                    "a.1 could ping {address}"
                );
                Ok(())
            })?;
            // In the task's control group, so that the socket programs judge it, too.
            let url = format!("http://{}/", SocketAddr::new(address, 80));
            let ran = scene
                .cluster
                .exec("a.1", &["curl", "-gsS", "--max-time", "0.5", &url])?;
            ensure!(!ran.status.success(), "a.1 could fetch {url}");
        }
    }
    Ok(())
}
