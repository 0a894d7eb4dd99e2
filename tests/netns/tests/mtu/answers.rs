//! Ping that may not be fragmented, at the limit and a byte above it: exact answers.

use anyhow::{Context as _, bail, ensure};
use essaim_abi::Protocol;
use essaim_lab::{ClusterBuilder, Family, WORLD_V4, WORLD_V6};
use essaim_model::Port;
use essaim_netns_tests::{Scene, option, report_errors, set_option, udp};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

/// What the headers of an echo request take.
fn headers(to: IpAddr) -> u32 {
    if to.is_ipv4() { 28 } else { 48 }
}

/// Pings with a packet of so many bytes, which may not be fragmented.
fn ping(scene: &Scene, at: &str, to: IpAddr, packet: u32) -> anyhow::Result<String> {
    let size = (packet - headers(to)).to_string();
    scene.ping(at, to, &["-M", "do", "-s", &size])
}

/// The limit passes; a byte more is refused by the task's own stack, which knows the MTU of its interface.
fn limit_is_the_interface(scene: &Scene, at: &str, to: IpAddr, limit: u32) -> anyhow::Result<()> {
    ping(scene, at, to, limit).with_context(|| format!("{at} to {to}; {}", scene.all_drops()))?;
    let Err(error) = ping(scene, at, to, limit + 1) else {
        bail!("{at} to {to}: {} bytes pass", limit + 1)
    };
    let text = format!("{error:#}");
    ensure!(
        text.contains("essage too long") && text.contains(&limit.to_string()),
        "{text}"
    );
    Ok(())
}

/// The limit passes; a byte more is answered with it.
fn limit_is_answered(scene: &Scene, at: &str, to: IpAddr, limit: u32) -> anyhow::Result<()> {
    // What was learnt must not hide the answer.
    scene.cluster.exec(at, &["ip", "route", "flush", "cache"])?.ok()?;
    scene
        .cluster
        .exec(at, &["ip", "-6", "route", "flush", "cache"])?
        .ok()?;
    ping(scene, at, to, limit).with_context(|| format!("{at} to {to}; {}", scene.all_drops()))?;
    let Err(error) = ping(scene, at, to, limit + 1) else {
        bail!("{at} to {to}: {} bytes pass", limit + 1)
    };
    let text = format!("{error:#}");
    let told = if to.is_ipv4() {
        format!("mtu = {limit}")
    } else {
        format!("mtu={limit}")
    };
    ensure!(
        text.to_lowercase().replace("mtu: ", "mtu=").contains(&told),
        "{at} to {to}: {text}; {}",
        scene.all_drops()
    );
    Ok(())
}

fn world(family: Family) -> IpAddr {
    match family {
        Family::V4 => WORLD_V4.into(),
        Family::V6 => WORLD_V6.into(),
    }
}

/// Two tasks on the first node, one on the second.
fn scene(uplink_mtu: u32, underlay: Family, mtu: Option<u32>) -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(2).uplink_mtu(uplink_mtu).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?.mtu = mtu;
    let mut port = Port::new(7000, 7);
    port.protocol = Protocol::Udp;
    catalog.service("a", &["app"])?.ports.push(port);
    for node in ["n1", "n1", "n2"] {
        catalog.task("a", node)?;
    }
    Scene::start(cluster, catalog)
}

fn everything_is_at(scene: &Scene, limit: u32) -> anyhow::Result<()> {
    for family in Family::BOTH {
        for to in ["a.2", "a.3"] {
            limit_is_the_interface(scene, "a.1", scene.task(to, family)?, limit)?;
        }
        limit_is_the_interface(scene, "a.1", scene.vip("a", family)?, limit)?;
        limit_is_the_interface(scene, "a.1", world(family), limit)?;
    }
    Ok(())
}

#[test]
fn limit_follows_the_underlay() -> anyhow::Result<()> {
    let scene = scene(1400, Family::V4, None)?;
    everything_is_at(&scene, 1350)
}

#[test]
fn network_option_sets_the_limit() -> anyhow::Result<()> {
    let scene = scene(1500, Family::V6, Some(1300))?;
    everything_is_at(&scene, 1300)
}

/// A task that believes in 1500 is told 1450 where its packet must be encapsulated.
#[test]
fn too_big_for_the_tunnel_is_answered() -> anyhow::Result<()> {
    let scene = scene(1500, Family::V4, Some(1500))?;
    for family in Family::BOTH {
        limit_is_the_interface(&scene, "a.1", scene.task("a.2", family)?, 1500)?;
        limit_is_the_interface(&scene, "a.1", world(family), 1500)?;
        limit_is_answered(&scene, "a.1", scene.task("a.3", family)?, 1450)?;
    }
    Ok(())
}

/// What leaves for the world is answered by the node's kernel.
#[test]
fn too_big_for_the_uplink_is_answered() -> anyhow::Result<()> {
    let scene = scene(1400, Family::V4, Some(1450))?;
    for family in Family::BOTH {
        limit_is_answered(&scene, "a.1", world(family), 1400)?;
    }
    Ok(())
}

/// A client's datagram that fits its link may not fit the tunnel: the edge tells it what does.
#[test]
fn too_big_from_a_client_is_answered_at_the_edge() -> anyhow::Result<()> {
    let scene = scene(1500, Family::V4, None)?;
    for family in Family::BOTH {
        let target = SocketAddr::new(scene.cluster.address("n2", family)?, 7000);
        let header = if family == Family::V4 { 28 } else { 48 };
        // Many ports, so that some flows go to the other node.
        let mut told = 0;
        for _ in 0..12 {
            let socket = udp(&scene.cluster, "c1", target.ip(), 0)?;
            forbid_fragments(&socket, family)?;
            socket.connect(target)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            // What an earlier socket was told the kernel remembers for the address; it must not hide the answer.
            scene
                .cluster
                .exec("c1", &["ip", "route", "flush", "cache"])?
                .ok()?;
            scene
                .cluster
                .exec("c1", &["ip", "-6", "route", "flush", "cache"])?
                .ok()?;
            socket.send(&vec![b'x'; 1500 - header])?;
            let mut buffer = [0; 4096];
            match socket.recv(&mut buffer) {
                Ok(length) => ensure!(length >= 1500 - header, "{length}"),
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    told += 1;
                    let limit = path_mtu(&socket, family)?;
                    ensure!(limit == 1450, "{family}: the client was told {limit}");
                    socket.send(&vec![b'x'; 1450 - header])?;
                    let length = socket.recv(&mut buffer).with_context(|| scene.all_drops())?;
                    ensure!(length >= 1450 - header, "{length}");
                }
                Err(error) => bail!("{family}: {error}; {}", scene.all_drops()),
            }
        }
        ensure!(
            told > 0,
            "{family}: no flow went to another node, or nobody was told"
        );
    }
    Ok(())
}

/// Sets "don't fragment", and asks for every error.
fn forbid_fragments(socket: &UdpSocket, family: Family) -> std::io::Result<()> {
    let (level, name, value) = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        Family::V6 => (
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DO,
        ),
    };
    set_option(socket, level, name, value)?;
    report_errors(socket, family)
}

/// What the kernel knows of the way to a connected socket's peer.
fn path_mtu(socket: &UdpSocket, family: Family) -> std::io::Result<i32> {
    match family {
        Family::V4 => option(socket, libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU),
    }
}
