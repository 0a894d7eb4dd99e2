//! A task reaches itself through its own service's VIP.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::{Scene, connect, udp};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn task_reaches_itself_through_its_vip() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.task("web", "n1")?;
    let scene = Scene::start(cluster, catalog)?;
    for family in Family::BOTH {
        let vip = scene.vip("web", family)?;
        // At connect, by the socket programs.
        let seen = scene.ask("web.1", vip, 80)?;
        ensure!(seen.name == "web.1", "{seen:?}");
        for more in [&["--count", "5"][..], &["--count", "5", "--unconnected"]] {
            scene
                .probe("web.1", SocketAddr::new(vip, 7), more)
                .with_context(|| format!("{more:?}"))?;
        }
        // Per packet.
        let target = SocketAddr::new(vip, 7);
        let mut stream = connect(&scene.cluster, "web.1", target, Duration::from_secs(3))
            .with_context(|| scene.all_drops())?;
        stream.write_all(b"hello\n")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(
            text.starts_with("web.1 ") && text.ends_with("hello\n"),
            "{text:?}; {}",
            scene.all_drops()
        );
        let socket = udp(&scene.cluster, "web.1", vip, 0)?;
        socket.connect(target)?;
        for _ in 0..3 {
            socket.send(b"hello")?;
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).with_context(|| scene.all_drops())?;
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            ensure!(text.ends_with(" hello"), "{text:?}");
        }
    }
    Ok(())
}
