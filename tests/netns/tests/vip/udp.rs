//! UDP moves at once off a backend that is gone, also where the sender's five-tuple never changes.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::TaskState;
use essaim_netns_tests::{Scene, udp};
use nix::sys::signal::Signal;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long an answer may take before the datagram counts as lost.
const ANSWER: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(1);

/// Sends a datagram and says who answered.
fn exchange(socket: &UdpSocket) -> std::io::Result<String> {
    socket.send(b"x")?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer)?;
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

#[test]
fn connected_socket_moves_off_a_dead_backend() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    catalog.task("user", "n1")?;
    for node in ["n1", "n2", "n1", "n2"] {
        catalog.task("web", node)?;
    }
    let mut scene = Scene::start(cluster, catalog)?;
    for family in Family::BOTH {
        let target = SocketAddr::new(scene.vip("web", family)?, 7);
        let socket = udp(&scene.cluster, "user.1", target.ip(), 0)?;
        socket.connect(target)?;
        let first = exchange(&socket).context("first datagram")?;
        socket.set_read_timeout(Some(ANSWER))?;
        for number in 0..20 {
            let name = exchange(&socket).with_context(|| format!("datagram {number}"))?;
            ensure!(name == first, "moved from {first} to {name} for no reason");
        }
        scene.cluster.stop_task(&first, Signal::SIGKILL)?;
        scene.catalog.set_state(&first, TaskState::Gone)?;
        scene.cluster.write_catalog(&mut scene.catalog)?;
        let (written, mut lost) = (Instant::now(), 0);
        let second = loop {
            match exchange(&socket) {
                Ok(name) => break name,
                Err(_) => lost += 1,
            }
            ensure!(
                written.elapsed() < LIMIT,
                "{family}: {lost} datagrams lost, nobody answers; {}",
                scene.all_drops()
            );
        };
        println!("{family}: moved after {:?}, {lost} lost", written.elapsed());
        ensure!(second != first, "the dead answers");
        for number in 0..20 {
            let name = exchange(&socket).with_context(|| format!("datagram {number} after the move"))?;
            ensure!(name == second, "moved again, from {second} to {name}");
        }
        scene.cluster.wait_ready(essaim_netns_tests::READY)?;
    }
    Ok(())
}
