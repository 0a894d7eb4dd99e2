//! A service with nobody behind it refuses at once: never silence.

use anyhow::{Context as _, bail, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::TaskState;
use essaim_netns_tests::{Scene, connect, report_errors, udp};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const AT_ONCE: Duration = Duration::from_millis(100);

/// The kind of an error that came from a socket.
pub(crate) fn kind(error: &anyhow::Error) -> Option<ErrorKind> {
    error.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

/// TCP is refused: by the socket programs (`nc` in the task's control group), and by the packet's answer.
fn tcp_is_refused(scene: &Scene, at: &str, to: IpAddr) -> anyhow::Result<()> {
    let target = SocketAddr::new(to, 80);
    let begun = Instant::now();
    match connect(&scene.cluster, at, target, Duration::from_secs(3)) {
        Ok(_) => bail!("{at} could connect to {target}"),
        Err(error) => ensure!(
            kind(&error) == Some(ErrorKind::ConnectionRefused),
            "{error:#}; {}",
            scene.all_drops()
        ),
    }
    let took = begun.elapsed();
    ensure!(took < AT_ONCE, "{at} was refused by {target} after {took:?}");
    let url = format!("http://{target}/");
    let ran = scene.cluster.exec(
        at,
        &["curl", "-gs", "--max-time", "3", "-w", "%{time_total}", &url],
    )?;
    ensure!(ran.status.code() == Some(7), "{}: {}", ran.line, ran.status);
    let took: f64 = ran.stdout.trim().parse()?;
    ensure!(took < AT_ONCE.as_secs_f64(), "{}: {took} s", ran.line);
    Ok(())
}

/// A connected UDP socket learns that nobody is there.
fn udp_is_refused(scene: &Scene, at: &str, to: IpAddr) -> anyhow::Result<ErrorKind> {
    let socket = udp(&scene.cluster, at, to, 0)?;
    // Without it Linux hides what is not final, such as an unreachable host.
    report_errors(&socket, if to.is_ipv4() { Family::V4 } else { Family::V6 })?;
    socket.connect(SocketAddr::new(to, 7))?;
    socket.send(b"x")?;
    let begun = Instant::now();
    let Err(error) = socket.recv(&mut [0; 64]) else {
        bail!("somebody answered at {to}")
    };
    let took = begun.elapsed();
    ensure!(
        took < AT_ONCE,
        "{at} to {to}: {error} after {took:?}; {}",
        scene.all_drops()
    );
    Ok(error.kind())
}

/// Ping is told that nobody is there, at once.
fn ping_is_refused(scene: &Scene, at: &str, to: IpAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    let Err(error) = scene.ping(at, to, &[]) else {
        bail!("{to} answers ping")
    };
    let text = format!("{error:#}");
    ensure!(text.contains("nreachable"), "{text}; {}", scene.all_drops());
    ensure!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn nobody_behind_a_vip() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("none", &["app"])?;
    catalog.service("user", &["app"])?;
    catalog.task("user", "n1")?;
    catalog.task("web", "n1")?;
    let mut scene = Scene::start(cluster, catalog)?;
    for family in Family::BOTH {
        scene.ping("user.1", scene.vip("web", family)?, &[])?;
        scene.ask("user.1", scene.vip("web", family)?, 80)?;
    }
    // A service that never had a task, and one whose last task has just ended.
    scene.catalog.set_state("web.1", TaskState::Gone)?;
    scene.apply()?;
    for family in Family::BOTH {
        for service in ["none", "web"] {
            let vip = scene.vip(service, family)?;
            let context = || format!("{service}, {family}");
            tcp_is_refused(&scene, "user.1", vip).with_context(context)?;
            let kind = udp_is_refused(&scene, "user.1", vip).with_context(context)?;
            ensure!(
                kind == ErrorKind::ConnectionRefused,
                "{service}, {family}: {kind}"
            );
            ping_is_refused(&scene, "user.1", vip).with_context(context)?;
        }
    }
    scene.catalog.set_state("web.1", TaskState::Ready)?;
    scene.apply()?;
    for family in Family::BOTH {
        scene.ask("user.1", scene.vip("web", family)?, 80)?;
    }
    Ok(())
}

#[test]
fn address_of_a_task_that_is_gone() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    for node in ["n1", "n2"] {
        catalog.task("user", node)?;
    }
    catalog.task("web", "n1")?;
    let mut scene = Scene::start(cluster, catalog)?;
    for family in Family::BOTH {
        scene.ask("user.2", scene.task("web.1", family)?, 80)?;
    }
    scene.catalog.set_state("web.1", TaskState::Gone)?;
    scene.apply()?;
    for family in Family::BOTH {
        let address = scene.task("web.1", family)?;
        for user in ["user.1", "user.2"] {
            let context = || format!("{user}, {family}");
            tcp_is_refused(&scene, user, address).with_context(context)?;
            let kind = udp_is_refused(&scene, user, address).with_context(context)?;
            ensure!(
                matches!(kind, ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused),
                "{user}, {family}: {kind}"
            );
            ping_is_refused(&scene, user, address).with_context(context)?;
        }
    }
    Ok(())
}
