//! ARP and neighbour discovery: the node answers for everybody of the network, and for nobody else.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::Scene;
use essaim_netns_tests::frames::{Wire, mac, mac_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);
const NOBODY4: Ipv4Addr = Ipv4Addr::new(10, 1, 200, 200);
const NOBODY6: Ipv6Addr = Ipv6Addr::new(0xfd42, 1, 0, 0, 0, 0, 0, 0xdead);

fn scene() -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.network("other")?;
    catalog.service("a", &["app"])?;
    catalog.service("b", &["other"])?;
    for (service, node) in [("a", "n1"), ("a", "n1"), ("a", "n2"), ("b", "n1")] {
        catalog.task(service, node)?;
    }
    Scene::start(cluster, catalog)
}

/// What the task's neighbour table says of an address.
fn neighbour(scene: &Scene, task: &str, address: IpAddr) -> anyhow::Result<[u8; 6]> {
    let address = address.to_string();
    let ran = scene
        .cluster
        .exec(task, &["ip", "neigh", "show", &address, "dev", "eth0"])?;
    let shown = ran.ok()?;
    let words: Vec<_> = shown.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "lladdr");
    let text = at.and_then(|at| words.get(at + 1));
    mac_of(text.with_context(|| format!("{task} knows no neighbour {address}: {shown:?}"))?)
}

#[test]
fn peers_have_their_own_ethernet_addresses() -> anyhow::Result<()> {
    let scene = scene()?;
    for family in Family::BOTH {
        for to in ["a.2", "a.3"] {
            scene.ping("a.1", scene.task(to, family)?, &[])?;
            let found = neighbour(&scene, "a.1", scene.task(to, family)?)?;
            let own = mac(&scene.cluster, to, "eth0")?;
            ensure!(found == own, "a.1 has {found:x?} for {to}, whose is {own:x?}");
        }
    }
    Ok(())
}

/// An ARP request.
fn arp(sender_mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(sender_mac);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(sender_mac);
    frame.extend(sender.octets());
    frame.extend([0; 6]);
    frame.extend(target.octets());
    frame
}

/// Whom an ARP reply is about.
fn arp_reply(frame: &[u8]) -> Option<Ipv4Addr> {
    let is_reply = frame.get(12..14)? == [0x08, 0x06] && frame.get(20..22)? == [0, 2];
    let sender: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    is_reply.then_some(Ipv4Addr::from(sender))
}

#[test]
fn arp_is_answered_for_the_network_only() -> anyhow::Result<()> {
    let scene = scene()?;
    let IpAddr::V4(own) = scene.task("a.1", Family::V4)? else {
        unreachable!("asked for IPv4")
    };
    let other = scene.task("b.1", Family::V4)?;
    let wire = Wire::open(&scene.cluster, "a.1", "eth0")?;
    let own_mac = mac(&scene.cluster, "a.1", "eth0")?;
    let ask = |sender: Ipv4Addr, target: IpAddr| match target {
        IpAddr::V4(target) => wire.send(&arp(own_mac, sender, target)),
        IpAddr::V6(_) => unreachable!("asked for IPv4"),
    };
    // A probe for the own address (RFC 5227), nobody's address, another network's; then one that is answered. Frames of
    // one socket keep their order: an answer to an earlier one would have come first.
    ask(Ipv4Addr::UNSPECIFIED, own.into())?;
    ask(own, NOBODY4.into())?;
    ask(own, other)?;
    for target in [
        scene.task("a.2", Family::V4)?,
        scene.task("a.3", Family::V4)?,
        scene.vip("a", Family::V4)?,
        Ipv4Addr::new(10, 1, 0, 1).into(),
    ] {
        ask(own, target)?;
        let answered = wire.receive(DEADLINE, "an ARP reply", arp_reply)?;
        ensure!(IpAddr::V4(answered) == target, "{answered} answered for {target}");
    }
    Ok(())
}

/// A neighbour solicitation (RFC 4861 section 4.3).
fn solicitation(source_mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> anyhow::Result<Vec<u8>> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    let mut body = vec![0; 4];
    body.extend(target.octets());
    if !source.is_unspecified() {
        body.extend([1, 1]);
        body.extend(source_mac);
    }
    let builder = etherparse::PacketBuilder::ethernet2(source_mac, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(source.octets(), group.octets(), 255)
        .icmpv6_raw(135, 0, [0; 4]);
    let mut frame = Vec::new();
    builder.write(&mut frame, body.get(4..).unwrap_or_default())?;
    Ok(frame)
}

/// Whom a neighbour advertisement is about.
fn advertisement(frame: &[u8]) -> Option<Ipv6Addr> {
    let is_advertisement =
        frame.get(12..14)? == [0x86, 0xdd] && *frame.get(20)? == 58 && *frame.get(54)? == 136;
    let target: [u8; 16] = frame.get(62..78)?.try_into().ok()?;
    is_advertisement.then_some(Ipv6Addr::from(target))
}

#[test]
fn solicitations_are_answered_for_the_network_only() -> anyhow::Result<()> {
    let scene = scene()?;
    let IpAddr::V6(own) = scene.task("a.1", Family::V6)? else {
        unreachable!("asked for IPv6")
    };
    let other = scene.task("b.1", Family::V6)?;
    let wire = Wire::open(&scene.cluster, "a.1", "eth0")?;
    let own_mac = mac(&scene.cluster, "a.1", "eth0")?;
    let ask = |source: Ipv6Addr, target: IpAddr| match target {
        IpAddr::V6(target) => wire.send(&solicitation(own_mac, source, target)?),
        IpAddr::V4(_) => unreachable!("asked for IPv6"),
    };
    // A probe for the own address (duplicate address detection) must not be answered: the task would lose it.
    ask(Ipv6Addr::UNSPECIFIED, own.into())?;
    ask(own, NOBODY6.into())?;
    ask(own, other)?;
    for target in [
        scene.task("a.2", Family::V6)?,
        scene.task("a.3", Family::V6)?,
        scene.vip("a", Family::V6)?,
        Ipv6Addr::new(0xfd42, 1, 0, 0, 0, 0, 0, 1).into(),
    ] {
        ask(own, target)?;
        let answered = wire.receive(DEADLINE, "a neighbour advertisement", |frame| {
            // The kernel's own solicitations may be answered meanwhile; this task talks to nobody else.
            advertisement(frame)
        })?;
        ensure!(IpAddr::V6(answered) == target, "{answered} answered for {target}");
    }
    Ok(())
}
