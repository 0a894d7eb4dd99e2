//! SCTP by packet: the kernel at hand may have no SCTP sockets, so the packets are made by hand.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::Scene;
use essaim_netns_tests::frames::{Wire, mac};
use etherparse::PacketBuilder;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(5);
const SCTP: u8 = 132;
const PORT: u16 = 3868;
/// Of the node's side, as every endpoint sees it; the programs do not look at it.
const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// An SCTP packet with one chunk (RFC 9260 section 3), its `CRC32c` filled in.
fn sctp(source: u16, destination: u16, tag: u32, chunk: u8) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(source.to_be_bytes());
    packet.extend(destination.to_be_bytes());
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    // Flags, length 20: initiate tag, window, streams out and in, first TSN.
    packet.extend([chunk, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 7]);
    let sum = crc32c(&packet).to_le_bytes();
    packet.splice(8..12, sum);
    packet
}

/// Bit by bit, reflected polynomial of Castagnoli.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    };
    !bytes.iter().fold(!0, step)
}

/// An SCTP packet in its frame.
fn frame(from_mac: [u8; 6], from: IpAddr, to: IpAddr, packet: &[u8]) -> anyhow::Result<Vec<u8>> {
    let ethernet = PacketBuilder::ethernet2(from_mac, ROUTER);
    let mut frame = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            ethernet
                .ipv4(from.octets(), to.octets(), 64)
                .write(&mut frame, SCTP.into(), packet)?;
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            ethernet
                .ipv6(from.octets(), to.octets(), 64)
                .write(&mut frame, SCTP.into(), packet)?;
        }
        _ => anyhow::bail!("{from} and {to} are of different families"),
    }
    Ok(frame)
}

/// The addresses and the SCTP packet of a frame from a port.
fn read(frame: &[u8], source: u16) -> Option<(IpAddr, IpAddr, Vec<u8>)> {
    let (from, to, packet) = match frame.get(12..14)? {
        [0x08, 0x00] if *frame.get(23)? == SCTP => (
            IpAddr::from(<[u8; 4]>::try_from(frame.get(26..30)?).ok()?),
            IpAddr::from(<[u8; 4]>::try_from(frame.get(30..34)?).ok()?),
            frame.get(34..)?,
        ),
        [0x86, 0xdd] if *frame.get(20)? == SCTP => (
            IpAddr::from(<[u8; 16]>::try_from(frame.get(22..38)?).ok()?),
            IpAddr::from(<[u8; 16]>::try_from(frame.get(38..54)?).ok()?),
            frame.get(54..)?,
        ),
        _ => return None,
    };
    (packet.get(..2)? == source.to_be_bytes()).then(|| (from, to, packet.to_vec()))
}

#[test]
fn associations_are_balanced_and_answered_from_the_vip() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    catalog.task("user", "n1")?;
    for node in ["n1", "n2"] {
        catalog.task("web", node)?;
    }
    let scene = Scene::start(cluster, catalog)?;
    let client = Wire::open(&scene.cluster, "user.1", "eth0")?;
    let client_mac = mac(&scene.cluster, "user.1", "eth0")?;
    for family in Family::BOTH {
        let (own, vip) = (scene.task("user.1", family)?, scene.vip("web", family)?);
        let mut reached = BTreeSet::new();
        for port in [5001, 5002] {
            let wires = ["web.1", "web.2"]
                .map(|task| Wire::open(&scene.cluster, task, "eth0").map(|wire| (task, wire)));
            let init = sctp(port, PORT, 0, 1);
            client.send(&frame(client_mac, own, vip, &init)?)?;
            // One of the two has it; each is asked in turn.
            let mut found = None;
            for wire in wires {
                let (task, wire) = wire?;
                let arrived = wire.receive(Duration::from_millis(500), "the INIT", |frame| read(frame, port));
                if let Ok(arrived) = arrived {
                    found = Some((task, wire, arrived));
                }
            }
            let (task, wire, (from, to, packet)) =
                found.with_context(|| format!("no INIT arrived; {}", scene.all_drops()))?;
            let address = scene.task(task, family)?;
            ensure!(
                from == own && to == address,
                "{task} ({address}) got {from} to {to}"
            );
            ensure!(packet == init, "the packet was changed: {packet:x?}");
            reached.insert(task);
            // The answer comes from the VIP.
            let task_mac = mac(&scene.cluster, task, "eth0")?;
            let answer = sctp(PORT, port, 9, 2);
            wire.send(&frame(task_mac, address, own, &answer)?)?;
            let (from, to, packet) = client
                .receive(DEADLINE, "the INIT ACK", |frame| read(frame, PORT))
                .with_context(|| scene.all_drops())?;
            ensure!(
                from == vip && to == own,
                "the answer went {from} to {to}, not from {vip}"
            );
            ensure!(packet == answer, "the answer was changed: {packet:x?}");
            // What follows belongs to the flow: no INIT needed, the same task.
            let data = sctp(port, PORT, 9, 10);
            client.send(&frame(client_mac, own, vip, &data)?)?;
            let (_, to, packet) = wire
                .receive(DEADLINE, "the COOKIE ECHO", |frame| {
                    read(frame, port).filter(|(_, _, packet)| packet.get(12) == Some(&10))
                })
                .with_context(|| scene.all_drops())?;
            ensure!(to == address && packet == data, "{packet:x?}");
        }
        ensure!(reached.len() == 2, "both went to {reached:?}");
    }
    Ok(())
}
