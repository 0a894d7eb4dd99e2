//! VXLAN from outside: only members' VTEPs may send it, and only for the network that the destination is in.

use crate::vxlan::{VXLAN, Victim, datagram, encapsulated};
use anyhow::ensure;
use essaim_abi::DropReason;
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::frames::mac;
use essaim_netns_tests::{Scene, udp};
use std::net::{IpAddr, SocketAddr};

/// Network app has VNI 5001, other has 5002, nobody has 4242.
const APP: u32 = 5001;
const OTHER: u32 = 5002;
const NOBODYS: u32 = 4242;
const INGRESS: u32 = 4095;

fn scene(underlay: Family) -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(2).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?;
    catalog.network("other")?;
    catalog.service("a", &["app"])?;
    catalog.task("a", "n1")?;
    catalog.task("a", "n2")?;
    Scene::start_idle(cluster, catalog)
}

/// Frames from a.2 to a.1, as nobody but n2 may send them.
fn frames(scene: &Scene) -> anyhow::Result<Vec<Vec<u8>>> {
    let macs = (
        mac(&scene.cluster, "a.2", "eth0")?,
        mac(&scene.cluster, "a.1", "eth0")?,
    );
    Family::BOTH
        .iter()
        .map(|family| {
            datagram(
                macs,
                scene.task("a.2", *family)?,
                scene.task("a.1", *family)?,
                b"forged",
            )
        })
        .collect()
}

/// Sends each frame in VXLAN from a machine to a node.
fn send(scene: &Scene, from: &str, to: IpAddr, vni: u32, frames: &[Vec<u8>]) -> anyhow::Result<()> {
    let socket = udp(&scene.cluster, from, to, 0)?;
    for frame in frames {
        socket.send_to(&encapsulated(vni, frame), SocketAddr::new(to, VXLAN))?;
    }
    Ok(())
}

fn outsiders_reach_nobody(underlay: Family) -> anyhow::Result<()> {
    let scene = scene(underlay)?;
    let frames = frames(&scene)?;
    let victims = Family::BOTH
        .iter()
        .map(|family| Victim::open(&scene.cluster, "a.1", scene.task("a.1", *family)?))
        .collect::<Result<Vec<_>, _>>()?;
    // Both addresses of the node are its own, whichever is its VTEP's.
    for family in Family::BOTH {
        let node = scene.cluster.address("n1", family)?;
        for vni in [APP, INGRESS] {
            scene.counted("n1", DropReason::NotMember, 2, || {
                send(&scene, "c1", node, vni, &frames)
            })?;
        }
    }
    // A fragmented one: its second part has no ports, so the kernel puts it together before it can be judged.
    let node = scene.cluster.address("n1", underlay)?;
    let mut long = frames.clone();
    for frame in &mut long {
        frame.resize(3000, 0);
    }
    scene.counted("n1", DropReason::NotMember, 2, || {
        send(&scene, "c1", node, APP, &long)
    })?;
    for victim in &victims {
        victim.hears_only(&scene.cluster, "a.2")?;
    }
    // The same bytes from a member are let in: the frames are as they should be.
    send(&scene, "n2", node, APP, &frames)?;
    for victim in &victims {
        let heard = victim.hear()?;
        ensure!(heard == "forged", "heard {heard:?}");
    }
    Ok(())
}

#[test]
fn outsiders_reach_nobody_over_ipv4() -> anyhow::Result<()> {
    outsiders_reach_nobody(Family::V4)
}

#[test]
fn outsiders_reach_nobody_over_ipv6() -> anyhow::Result<()> {
    outsiders_reach_nobody(Family::V6)
}

#[test]
fn members_reach_only_the_network_that_they_name() -> anyhow::Result<()> {
    let scene = scene(Family::V4)?;
    let frames = frames(&scene)?;
    let victim = Victim::open(&scene.cluster, "a.1", scene.task("a.1", Family::V4)?)?;
    let node = scene.cluster.address("n1", Family::V4)?;
    for vni in [OTHER, NOBODYS] {
        scene.counted("n1", DropReason::UnknownVni, 2, || {
            send(&scene, "n2", node, vni, &frames)
        })?;
    }
    // Cut short within the inner UDP header.
    let cut: Vec<_> = frames
        .iter()
        .map(|frame| {
            frame
                .get(..frame.len() - b"forged".len() - 4)
                .unwrap_or_default()
                .to_vec()
        })
        .collect();
    scene.counted("n1", DropReason::Truncated, 2, || {
        send(&scene, "n2", node, APP, &cut)
    })?;
    victim.hears_only(&scene.cluster, "a.2")
}

#[test]
fn packets_routed_to_a_node_do_not_enter_the_overlay() -> anyhow::Result<()> {
    let scene = scene(Family::V4)?;
    for family in Family::BOTH {
        let node = scene.cluster.address("n1", family)?;
        let task = scene.task("a.1", family)?;
        let victim = Victim::open(&scene.cluster, "a.1", task)?;
        let (task, node) = (task.to_string(), node.to_string());
        let route = ["ip", "route", "add", &task, "via", &node];
        scene.cluster.exec("c1", &route)?.ok()?;
        let socket = udp(&scene.cluster, "c1", task.parse()?, 0)?;
        for _ in 0..3 {
            socket.send_to(
                b"routed",
                SocketAddr::new(task.parse()?, crate::vxlan::VICTIM_PORT),
            )?;
        }
        // Ping would be answered; and it comes after the datagrams.
        ensure!(
            scene.ping("c1", task.parse()?, &["-W", "1"]).is_err(),
            "{family}: a client outside can ping a task"
        );
        victim.hears_only(&scene.cluster, "a.2")?;
    }
    Ok(())
}
