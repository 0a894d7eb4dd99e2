//! Packets that did not come through IPsec, as CVE-2023-28840, CVE-2023-28841 and CVE-2023-28842 had them: let in, sent in
//! clear, or forged by anybody who knows the VNI.

use crate::stage::{VNI, associations};
use anyhow::{Context as _, ensure};
use essaim_abi::DropReason;
use essaim_lab::{Family, eventually};
use essaim_netns_tests::frames::{Wire, mac};
use essaim_netns_tests::{Scene, udp};
use etherparse::PacketBuilder;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

const VXLAN: u16 = 4789;
const VICTIM: u16 = 9999;

/// A frame from a.2 to a.1, as nobody but n2's kernel may send it, encrypted.
fn forged(scene: &Scene) -> anyhow::Result<Vec<u8>> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (scene.task("a.2", Family::V4)?, scene.task("a.1", Family::V4)?)
    else {
        anyhow::bail!("asked for IPv4");
    };
    let macs = (
        mac(&scene.cluster, "a.2", "eth0")?,
        mac(&scene.cluster, "a.1", "eth0")?,
    );
    let packet = PacketBuilder::ethernet2(macs.0, macs.1).ipv4(from.octets(), to.octets(), 64);
    let mut frame = Vec::new();
    packet.udp(1234, VICTIM).write(&mut frame, b"forged")?;
    let [_, a, b, c] = VNI.to_be_bytes();
    let mut vxlan = vec![0x08, 0, 0, 0, a, b, c, 0];
    vxlan.extend(frame);
    Ok(vxlan)
}

fn victim(scene: &Scene) -> anyhow::Result<UdpSocket> {
    let socket = udp(&scene.cluster, "a.1", scene.task("a.1", Family::V4)?, VICTIM)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(socket)
}

/// The next that the victim hears is what a real peer says now.
fn hears_only_what_is_real(scene: &Scene, victim: &UdpSocket) -> anyhow::Result<()> {
    let address = scene.task("a.1", Family::V4)?;
    let peer = udp(&scene.cluster, "a.2", scene.task("a.2", Family::V4)?, 0)?;
    peer.send_to(b"real", SocketAddr::new(address, VICTIM))?;
    let mut heard = [0; 64];
    let length = victim.recv(&mut heard).context("the real peer was not heard")?;
    let heard = heard.get(..length).unwrap_or_default();
    ensure!(heard == b"real", "the victim heard {heard:?}");
    Ok(())
}

pub(crate) fn vxlan_in_clear_reaches_nobody(scene: &Scene) -> anyhow::Result<()> {
    let (victim, forged) = (victim(scene)?, forged(scene)?);
    let node = scene.cluster.address("n1", Family::V4)?;
    let send = |from: &str| -> anyhow::Result<()> {
        let socket = udp(&scene.cluster, from, scene.cluster.address(from, Family::V4)?, 0)?;
        for _ in 0..3 {
            socket.send_to(&forged, SocketAddr::new(node, VXLAN))?;
        }
        Ok(())
    };
    scene.counted("n1", DropReason::NotMember, 3, || send("c1"))?;
    // From a member's own address, by a process of that node.
    scene.counted("n1", DropReason::NotEncrypted, 3, || send("n2"))?;
    hears_only_what_is_real(scene, &victim)?;
    // From a member's address, by a stranger who lies about it, and in two fragments.
    let wire = Wire::open(&scene.cluster, "c1", "eth0")?;
    let macs = (
        mac(&scene.cluster, "c1", "eth0")?,
        mac(&scene.cluster, "n1", "eth0")?,
    );
    let (IpAddr::V4(member), IpAddr::V4(to)) = (scene.cluster.address("n2", Family::V4)?, node) else {
        anyhow::bail!("asked for IPv4");
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(member.octets(), to.octets(), 64)
        .udp(50_000, VXLAN)
        .write(&mut frame, &forged)?;
    scene.counted("n1", DropReason::NotEncrypted, 1, || wire.send(&frame))?;
    scene.counted("n1", DropReason::NotEncrypted, 1, || {
        let mut long = forged.clone();
        long.resize(2500, 0);
        let socket = udp(&scene.cluster, "n2", member.into(), 0)?;
        socket
            .send_to(&long, SocketAddr::new(node, VXLAN))
            .map(drop)
            .context("failed to send")
    })?;
    hears_only_what_is_real(scene, &victim)
}

pub(crate) fn esp_that_was_recorded_opens_nothing_a_second_time(scene: &Scene) -> anyhow::Result<()> {
    let victim = victim(scene)?;
    let recorder = Wire::open(&scene.cluster, "n1", "eth0")?;
    hears_only_what_is_real(scene, &victim)?;
    let esp = recorder.receive(Duration::from_secs(20), "ESP from n2", |frame| {
        // IPv4, protocol 50, from n2's last number.
        let is_esp = frame.get(12..14)? == [8, 0] && *frame.get(23)? == 50;
        let own = mac(&scene.cluster, "n1", "eth0").ok()?;
        (is_esp && frame.get(..6)? == own).then(|| frame.to_vec())
    })?;
    let replayed = || -> anyhow::Result<u64> {
        let associations = associations(scene, "n1")?;
        let counts = associations.iter().filter_map(|sa| sa["replayed"].as_u64());
        Ok(counts.sum())
    };
    let before = replayed()?;
    let wire = Wire::open(&scene.cluster, "n2", "eth0")?;
    for _ in 0..5 {
        wire.send(&esp)?;
    }
    // The agent tells of what its last look at the kernel found.
    eventually(Duration::from_mins(2), "the replayed packets are counted", || {
        let pid = scene
            .cluster
            .agent_pid("n1")
            .context("an agent runs")?
            .to_string();
        scene.cluster.exec("n1", &["kill", "-HUP", &pid])?.ok()?;
        let now = replayed()?;
        ensure!(now >= before + 5, "{before}, then {now}");
        Ok(())
    })?;
    hears_only_what_is_real(scene, &victim)
}
