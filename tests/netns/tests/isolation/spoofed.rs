//! A task may send only under its own addresses.

use crate::vxlan::{Victim, datagram};
use essaim_abi::DropReason;
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::Scene;
use essaim_netns_tests::frames::{Wire, mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[test]
fn task_cannot_take_anothers_address() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("a", &["app"])?;
    for node in ["n1", "n1", "n2"] {
        catalog.task("a", node)?;
    }
    let scene = Scene::start_idle(cluster, catalog)?;
    let wire = Wire::open(&scene.cluster, "a.1", "eth0")?;
    let own = mac(&scene.cluster, "a.1", "eth0")?;
    let other = mac(&scene.cluster, "a.2", "eth0")?;
    for family in Family::BOTH {
        let address = scene.task("a.1", family)?;
        let stranger: IpAddr = match family {
            Family::V4 => Ipv4Addr::new(8, 8, 8, 8).into(),
            Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 8).into(),
        };
        for (target, peer) in [("a.2", "a.3"), ("a.3", "a.2")] {
            let to = scene.task(target, family)?;
            let victim = Victim::open(&scene.cluster, target, to)?;
            let to_mac = mac(&scene.cluster, target, "eth0")?;
            for from in [
                scene.task(peer, family)?,
                scene.vip("a", family)?,
                scene.cluster.address("n1", family)?,
                stranger,
            ] {
                scene.counted("n1", DropReason::SpoofedAddress, 1, || {
                    wire.send(&datagram((own, to_mac), from, to, b"spoofed")?)
                })?;
            }
            scene.counted("n1", DropReason::SpoofedMac, 1, || {
                wire.send(&datagram((other, to_mac), address, to, b"spoofed")?)
            })?;
            victim.hears_only(&scene.cluster, peer)?;
            // Under its own addresses it is heard: the frames are as they should be.
            wire.send(&datagram((own, to_mac), address, to, b"honest")?)?;
            anyhow::ensure!(victim.hear()? == "honest", "something else was heard");
        }
    }
    // An ARP request in another's name would change what its receiver knows.
    let octets = |task: &str| -> anyhow::Result<[u8; 4]> {
        match scene.task(task, Family::V4)? {
            IpAddr::V4(address) => Ok(address.octets()),
            IpAddr::V6(address) => anyhow::bail!("{address} is no IPv4 address"),
        }
    };
    let mut frame = [0xff; 6].to_vec();
    frame.extend(own);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(own);
    frame.extend(octets("a.2")?);
    frame.extend([0; 6]);
    frame.extend(octets("a.3")?);
    scene.counted("n1", DropReason::SpoofedArp, 1, || wire.send(&frame))
}
