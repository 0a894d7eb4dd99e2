//! Who gets how many.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::Affinity;
use essaim_netns_tests::scene::Probed;
use essaim_netns_tests::{Scene, connect, udp};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

const CONNECTIONS: u64 = 10_000;
const TASKS: u64 = 10;

#[test]
fn connections_are_spread_evenly() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    catalog.task("user", "n1")?;
    for number in 0..TASKS {
        catalog.task("web", if number % 2 == 0 { "n1" } else { "n2" })?;
    }
    let scene = Scene::start(cluster, catalog)?;
    for (family, requests) in [(Family::V4, CONNECTIONS), (Family::V6, CONNECTIONS / 5)] {
        let target = format!("http://{}", SocketAddr::new(scene.vip("web", family)?, 80));
        let report: Probed = scene
            .cluster
            .peer(
                "user.1",
                &[
                    "load",
                    "--target",
                    &target,
                    "--requests",
                    &requests.to_string(),
                    "--connections",
                    "4",
                    "--seconds",
                    "100",
                ],
            )?
            .json()?;
        ensure!(report.failed == 0 && report.ok == requests, "{report:?}");
        let fair = requests / TASKS;
        for (name, count) in &report.by_name {
            ensure!(
                count.abs_diff(fair) <= fair / 20,
                "{name} got {count}: {report:?}"
            );
        }
        ensure!(report.by_name.len() as u64 == TASKS, "{report:?}");
        let own = scene.task("user.1", family)?.to_string();
        ensure!(report.by_seen.keys().eq([&own]), "{report:?}");
    }
    // UDP: sockets that are not connected by the socket programs, connected ones per packet.
    for family in Family::BOTH {
        let target = SocketAddr::new(scene.vip("web", family)?, 7);
        for more in [
            &["--count", "200", "--fresh"][..],
            &["--count", "200", "--fresh", "--unconnected"],
        ] {
            let probed = scene.probe("user.1", target, more)?;
            ensure!(
                probed.by_name.len() as u64 == TASKS
                    && probed.by_name.values().all(|count| (18..=22).contains(count)),
                "{more:?} to {target}: {probed:?}"
            );
        }
        // One socket keeps its backend.
        for more in [&["--count", "20"][..], &["--count", "20", "--unconnected"]] {
            let probed = scene.probe("user.1", target, more)?;
            ensure!(probed.by_name.len() == 1, "{more:?} to {target}: {probed:?}");
        }
    }
    // TCP that the socket programs do not see is balanced by its first packet.
    for family in Family::BOTH {
        let mut names = BTreeMap::<String, u32>::new();
        for _ in 0..40 {
            *names.entry(greeting(&scene, "user.1", family)?.0).or_default() += 1;
        }
        ensure!(
            names.len() as u64 == TASKS && names.values().all(|count| (3..=5).contains(count)),
            "{family}: {names:?}"
        );
    }
    Ok(())
}

/// Connects to the TCP echo of web, and says who greeted whom.
fn greeting(scene: &Scene, at: &str, family: Family) -> anyhow::Result<(String, SocketAddr)> {
    let target = SocketAddr::new(scene.vip("web", family)?, 7);
    let stream = connect(&scene.cluster, at, target, Duration::from_secs(5))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let (name, seen) = line.trim().split_once(' ').unwrap_or_default();
    Ok((name.to_owned(), seen.parse()?))
}

#[test]
fn affinity_keeps_a_client_at_its_task() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(2).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?.affinity = Affinity::Client;
    catalog.service("user", &["app"])?;
    for node in ["n1", "n2", "n1", "n2"] {
        catalog.task("web", node)?;
        catalog.task("user", node)?;
    }
    let scene = Scene::start(cluster, catalog)?;
    for family in Family::BOTH {
        let mut all = BTreeSet::new();
        for user in ["user.1", "user.2", "user.3", "user.4"] {
            let mut names = BTreeSet::new();
            for _ in 0..6 {
                names.insert(scene.ask(user, scene.vip("web", family)?, 80)?.name);
                names.insert(greeting(&scene, user, family)?.0);
            }
            let target = SocketAddr::new(scene.vip("web", family)?, 7);
            for more in [
                &["--count", "6", "--fresh"][..],
                &["--count", "6", "--fresh", "--unconnected"],
            ] {
                names.extend(scene.probe(user, target, more)?.by_name.into_keys());
            }
            let socket = udp(&scene.cluster, user, target.ip(), 0)?;
            socket.send_to(b"x", target)?;
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer)?;
            ensure!(from == target, "the answer came from {from}");
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            names.extend(text.split(' ').next().map(str::to_owned));
            ensure!(names.len() == 1, "{user} over {family} met {names:?}");
            all.extend(names);
        }
        ensure!(all.len() > 1, "all clients have the same task: {all:?}");
    }
    Ok(())
}
