//! Connections whose task has gone are reset, so that nobody hangs.

use anyhow::{bail, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::TaskState;
use essaim_netns_tests::{Scene, connect};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[test]
fn connection_to_a_task_that_is_gone_is_reset() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    catalog.task("user", "n1")?;
    for node in ["n1", "n2"] {
        catalog.task("web", node)?;
    }
    let mut scene = Scene::start(cluster, catalog)?;
    let mut streams = Vec::new();
    for family in Family::BOTH {
        for address in [
            scene.vip("web", family)?,
            scene.vip("web", family)?,
            scene.task("web.1", family)?,
            scene.task("web.2", family)?,
        ] {
            let target = SocketAddr::new(address, 7);
            let stream = connect(&scene.cluster, "user.1", target, Duration::from_secs(5))?;
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line)?;
            streams.push((target, line, stream));
        }
    }
    scene.catalog.set_state("web.1", TaskState::Gone)?;
    scene.catalog.set_state("web.2", TaskState::Gone)?;
    scene.apply()?;
    for (target, line, mut stream) in streams {
        let begun = Instant::now();
        stream.write_all(b"x")?;
        match stream.read(&mut [0; 16]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => bail!("{target} ({line:?}): {other:?}; {}", scene.all_drops()),
        }
        let took = begun.elapsed();
        ensure!(took < Duration::from_secs(1), "{target}: reset after {took:?}");
    }
    Ok(())
}
