//! What an onlooker on the wire sees.

use crate::stage::{PUBLISHED, associations, counters, vteps};
use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, Family, eventually};
use essaim_netns_tests::{Scene, udp};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// In every packet of the tasks' talk, and nowhere else.
const SECRET: &[u8] = b"the-secret-of-the-encrypted-network";

/// What was seen between two nodes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) esp: usize,
    pub(crate) vxlan: usize,
    pub(crate) secrets: usize,
}

/// Reads what tcpdump wrote (pcap of Ethernet frames, in this machine's byte order).
fn seen_between(capture: &[u8], vteps: [IpAddr; 2]) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let mut rest = capture.get(24..).context("a capture begins with 24 bytes")?;
    while let Some((head, more)) = rest.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) as usize;
        // The last one may be half written.
        let Some((frame, more)) = more.split_at_checked(length) else {
            break;
        };
        rest = more;
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            continue;
        };
        let (source, destination, protocol): (IpAddr, IpAddr, u8) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let ip = ip.header();
                (
                    ip.source_addr().into(),
                    ip.destination_addr().into(),
                    ip.protocol().0,
                )
            }
            Some(NetSlice::Ipv6(ip)) => {
                let ip = ip.header();
                (
                    ip.source_addr().into(),
                    ip.destination_addr().into(),
                    ip.next_header().0,
                )
            }
            _ => continue,
        };
        if !vteps.contains(&source) || !vteps.contains(&destination) {
            continue;
        }
        seen.esp += usize::from(protocol == 50);
        let is_vxlan =
            matches!(&packet.transport, Some(TransportSlice::Udp(udp)) if udp.destination_port() == 4789);
        seen.vxlan += usize::from(is_vxlan);
        seen.secrets += usize::from(frame.windows(SECRET.len()).any(|window| window == SECRET));
    }
    Ok(seen)
}

/// Sent between the nodes when a talk is over: once it is in the capture, so is all that was before.
const END: &[u8] = b"the-end-of-the-capture";

/// Captures on a node's uplink while `talk` goes on.
pub(crate) fn captured(
    cluster: &Cluster,
    vteps: [IpAddr; 2],
    talk: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Seen> {
    let file = tempfile::NamedTempFile::new()?;
    let path = file.path().display().to_string();
    let dump = [
        "tcpdump",
        "--immediate-mode",
        "-Z",
        "root",
        "-i",
        "eth0",
        "-s",
        "0",
        "-U",
        "-w",
        &path,
    ];
    let running = cluster.start("n2", &dump)?;
    eventually(Duration::from_secs(30), "tcpdump listens", || {
        let written = std::fs::metadata(&path)?.len();
        ensure!(written >= 24, "{written} bytes so far");
        Ok(())
    })?;
    talk()?;
    let [first, second] = vteps;
    let end = udp(cluster, "n1", first, 0)?;
    let capture = eventually(
        Duration::from_secs(30),
        "tcpdump has written all of the talk",
        || {
            end.send_to(END, SocketAddr::new(second, 9))?;
            let capture = std::fs::read(&path)?;
            let ended = capture.windows(END.len()).any(|window| window == END);
            ensure!(ended, "{} bytes so far", capture.len());
            Ok(capture)
        },
    )?;
    running.stop()?;
    seen_between(&capture, vteps)
}

/// Asks with the secret in the request; the answer repeats it.
pub(crate) fn whisper(cluster: &Cluster, from: &str, to: IpAddr, port: u16) -> anyhow::Result<()> {
    whisper_to(cluster, from, &SocketAddr::new(to, port).to_string())
}

/// As [`whisper`], to a host by its name or with its port.
pub(crate) fn whisper_to(cluster: &Cluster, from: &str, host: &str) -> anyhow::Result<()> {
    let secret = std::str::from_utf8(SECRET)?;
    let url = format!("http://{host}/{secret}");
    let header = format!("X-Secret: {secret}");
    cluster
        .exec(
            from,
            &[
                "curl",
                "-sS",
                "--max-time",
                "20",
                "-o",
                "/dev/null",
                "-H",
                &header,
                &url,
            ],
        )?
        .ok()
        .map(drop)
}

pub(crate) fn only_esp_is_on_the_wire(scene: &Scene, underlay: Family) -> anyhow::Result<()> {
    let cluster = &scene.cluster;
    let vteps = vteps(cluster, underlay)?;
    let before = counters(scene, "n2")?;
    let seen = captured(cluster, vteps, || {
        for family in Family::BOTH {
            whisper(cluster, "a.1", scene.task("a.2", family)?, 80)?;
            whisper(cluster, "a.2", scene.task("a.1", family)?, 80)?;
            // A published port, whose client comes in at either node: some of it goes to the other one's task. From the
            // client to the edge nothing is encrypted: it is not part of the network.
            for node in ["n1", "n2"] {
                for _ in 0..4 {
                    whisper(cluster, "c1", scene.cluster.address(node, family)?, PUBLISHED)?;
                }
            }
            // The node's own processes.
            whisper(cluster, "n1", scene.task("a.2", family)?, 80)?;
            whisper(cluster, "n1", scene.vip("a", family)?, 80)?;
        }
        Ok(())
    })?;
    ensure!(
        seen.esp > 20 && seen.vxlan == 0 && seen.secrets == 0,
        "between the nodes were {seen:?}"
    );
    // The other network goes as before, which shows that the capture would show.
    let plain = captured(cluster, vteps, || {
        whisper(cluster, "b.1", scene.task("b.2", Family::V4)?, 80)
    })?;
    ensure!(
        plain.vxlan > 0 && plain.secrets > 0,
        "a plain network's packets are seen: {plain:?}"
    );
    let after = counters(scene, "n2")?;
    for name in ["packets encrypted", "packets decrypted"] {
        let count =
            |counters: &std::collections::BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
        ensure!(
            count(&after) > count(&before),
            "{name}: {before:?}, then {after:?}"
        );
    }
    // The status tells of each association, and of no key.
    let associations = associations(scene, "n2")?;
    ensure!(
        associations
            .iter()
            .any(|sa| sa["inbound"] == true && sa["packets"] != 0)
            && associations
                .iter()
                .any(|sa| sa["inbound"] == false && sa["in_use"] == true && sa["generation"] == 1),
        "{associations:?}"
    );
    let shown = scene.cluster.essaim("n2", &["status"])?.ok()?;
    ensure!(shown.contains("security associations"), "{shown}");
    let kernel = scene.cluster.exec("n2", &["ip", "xfrm", "state"])?;
    let kernel = kernel.ok().unwrap_or_default();
    for key in kernel.lines().filter_map(|line| line.split("0x").nth(1)) {
        let key = key.split_whitespace().next().unwrap_or_default();
        ensure!(key.len() < 60 || !shown.contains(key), "a key is shown");
    }
    Ok(())
}

/// A large transfer fits: no packet is too long for the wire once it is encrypted.
pub(crate) fn the_mtu_leaves_room_for_esp(scene: &Scene) -> anyhow::Result<()> {
    let address = scene.task("a.2", Family::V4)?.to_string();
    let shown = scene
        .cluster
        .exec("a.1", &["ip", "-o", "link", "show", "eth0"])?
        .ok()?;
    ensure!(
        shown.contains(" mtu 1413 "),
        "expected 1500 less 50 less 37: {shown}"
    );
    // The longest packet that may not be fragmented goes through, the next does not.
    let ping = |size: &str| {
        let line = [
            "ping", "-n", "-c", "1", "-W", "5", "-M", "do", "-s", size, &address,
        ];
        scene.cluster.exec("a.1", &line)
    };
    ping("1385")?.ok()?;
    ensure!(ping("1386")?.ok().is_err(), "1414 bytes do not fit");
    Ok(())
}
