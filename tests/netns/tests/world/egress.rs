//! What leaves the overlay does so under the node's address, from ports of its own.

use anyhow::{Context as _, ensure};
use essaim_abi::DropReason;
use essaim_lab::{ClusterBuilder, Family, Running, WORLD_V4, WORLD_V6, eventually};
use essaim_netns_tests::{READY, Scene, connect, udp};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const ECHO: u16 = 9000;
/// The ports that masquerading takes begin here; published ports end before it.
const MASQUERADED: u16 = 61_000;

fn world(family: Family) -> IpAddr {
    match family {
        Family::V4 => WORLD_V4.into(),
        Family::V6 => WORLD_V6.into(),
    }
}

/// Starts the echoes of the client outside.
fn echo(scene: &Scene) -> anyhow::Result<Running> {
    let port = ECHO.to_string();
    let running = scene.cluster.start_peer(
        "c1",
        &["echo", "--name", "outside", "--udp", &port, "--tcp-echo", &port],
    )?;
    eventually(READY, "the echoes listen", || {
        let shown = scene.cluster.exec("c1", &["ss", "-Hln"])?.ok()?;
        let count = shown.matches(&format!(":{port} ")).count();
        ensure!(count >= 2, "{shown}");
        Ok(())
    })?;
    Ok(running)
}

/// Whom the TCP echo sees.
fn seen_by_tcp(scene: &Scene, at: &str, to: SocketAddr) -> anyhow::Result<SocketAddr> {
    let mut stream = connect(&scene.cluster, at, to, Duration::from_secs(3))?;
    // More than a window's worth, there and back.
    let data = vec![b'x'; 50_000];
    stream.write_all(&data)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut back = vec![0; data.len()];
    reader.read_exact(&mut back)?;
    ensure!(back == data, "the echo is not what was sent");
    peer(&line)
}

/// Whom the UDP echo sees.
fn seen_by_udp(scene: &Scene, at: &str, to: SocketAddr) -> anyhow::Result<SocketAddr> {
    let socket = udp(&scene.cluster, at, to.ip(), 0)?;
    socket.connect(to)?;
    socket.send(b"x")?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    peer(&String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()))
}

/// The address in "NAME ADDRESS …".
fn peer(text: &str) -> anyhow::Result<SocketAddr> {
    let address = text.split_whitespace().nth(1).unwrap_or_default();
    address.parse().with_context(|| format!("the echo said {text:?}"))
}

fn is_masqueraded(scene: &Scene, seen: SocketAddr, node: &str, family: Family) -> anyhow::Result<()> {
    let node = scene.cluster.address(node, family)?;
    ensure!(
        seen.ip() == node && seen.port() >= MASQUERADED,
        "seen as {seen}, expected {node} and a port from {MASQUERADED} on"
    );
    Ok(())
}

#[test]
fn traffic_to_the_world_is_masqueraded() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("a", &["app"])?;
    for node in ["n1", "n2"] {
        catalog.task("a", node)?;
    }
    let scene = Scene::start_idle(cluster, catalog)?;
    let _echo = echo(&scene)?;
    for family in Family::BOTH {
        let target = SocketAddr::new(scene.cluster.address("c1", family)?, ECHO);
        for (task, node) in [("a.1", "n1"), ("a.2", "n2")] {
            for _ in 0..3 {
                let seen = seen_by_tcp(&scene, task, target).with_context(|| scene.all_drops())?;
                is_masqueraded(&scene, seen, node, family)?;
                let seen = seen_by_udp(&scene, task, target).with_context(|| scene.all_drops())?;
                is_masqueraded(&scene, seen, node, family)?;
            }
            scene.ping(task, world(family), &[])?;
            // In the task's control group, past the socket programs.
            let probed = scene.probe(task, target, &["--count", "3", "--unconnected", "--fresh"])?;
            let node = scene.cluster.address(node, family)?.to_string();
            ensure!(probed.by_seen.keys().eq([&node]), "{probed:?}");
        }
    }
    Ok(())
}

#[test]
fn internal_network_has_no_world() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?.internal = true;
    catalog.service("a", &["app"])?;
    for node in ["n1", "n2"] {
        catalog.task("a", node)?;
    }
    let scene = Scene::start(cluster, catalog)?;
    let _echo = echo(&scene)?;
    for family in Family::BOTH {
        let seen = scene.ask("a.1", scene.task("a.2", family)?, 80)?;
        ensure!(seen.name == "a.2", "{seen:?}");
        scene.ask("a.1", scene.vip("a", family)?, 80)?;
        let client = SocketAddr::new(scene.cluster.address("c1", family)?, ECHO);
        scene.counted("n1", DropReason::InternalNetwork, 3, || {
            let connected = connect(&scene.cluster, "a.1", client, Duration::from_millis(500));
            ensure!(connected.is_err(), "a.1 could connect to {client}");
            let socket = udp(&scene.cluster, "a.1", client.ip(), 0)?;
            socket.send_to(b"x", client)?;
            let pinged = scene.ping("a.1", world(family), &["-W", "0.3"]);
            ensure!(pinged.is_err(), "a.1 could ping the world");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn task_on_two_networks_leaves_by_the_one_that_is_not_internal() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("inner")?.internal = true;
    catalog.network("outer")?;
    catalog.service("both", &["inner", "outer"])?;
    catalog.service("in", &["inner"])?;
    catalog.service("out", &["outer"])?;
    catalog.task("both", "n1")?;
    for service in ["in", "out"] {
        catalog.task(service, "n1")?;
        catalog.task(service, "n2")?;
    }
    let scene = Scene::start(cluster, catalog)?;
    let _echo = echo(&scene)?;
    for family in Family::BOTH {
        let target = SocketAddr::new(scene.cluster.address("c1", family)?, ECHO);
        let seen = seen_by_tcp(&scene, "both.1", target).with_context(|| scene.all_drops())?;
        is_masqueraded(&scene, seen, "n1", family)?;
        for (service, network) in [("in", "inner"), ("out", "outer")] {
            let own = scene.catalog.task_address("both.1", network, family)?;
            for task in [format!("{service}.1"), format!("{service}.2")] {
                let seen = scene.ask("both.1", scene.task(&task, family)?, 80)?;
                ensure!(
                    seen.name == task && seen.client.ip() == own,
                    "{seen:?}, from {own}"
                );
                let seen = scene.ask(&task, own, 80)?;
                ensure!(seen.name == "both.1", "{seen:?}");
                let vip = scene.catalog.vip("both", network, family)?;
                let seen = scene.ask(&task, vip, 80)?;
                ensure!(seen.name == "both.1", "{seen:?}");
                scene.probe(&task, SocketAddr::new(vip, 7), &["--count", "2"])?;
            }
            let vip = scene.vip(service, family)?;
            let seen = scene.ask("both.1", vip, 80)?;
            ensure!(seen.client.ip() == own, "{seen:?}, from {own}");
            scene.probe("both.1", SocketAddr::new(vip, 7), &["--count", "2"])?;
        }
    }
    Ok(())
}
