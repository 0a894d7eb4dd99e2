//! Long transfers over every path, in both directions, with packets as large as they can be.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::Port;
use essaim_netns_tests::Scene;
use std::net::{IpAddr, SocketAddr};

const BYTES: usize = 8_000_000;
const IPERF: u16 = 5201;

/// Downloads and uploads by HTTP.
fn http(scene: &Scene, at: &str, to: IpAddr, port: u16) -> anyhow::Result<()> {
    let target = SocketAddr::new(to, port);
    let file = scene.cluster.state_dir("n1").with_file_name("upload");
    if !file.exists() {
        std::fs::write(&file, vec![b'u'; BYTES])?;
    }
    let size = [
        "-gsSf",
        "--noproxy",
        "*",
        "--max-time",
        "20",
        "-o",
        "/dev/null",
        "-w",
    ];
    let (down, up) = (
        format!("http://{target}/bytes/{BYTES}"),
        format!("http://{target}/"),
    );
    let body = format!("@{}", file.display());
    let upload = ["%{size_upload}", "-H", "Expect:", "--data-binary", &body, &up];
    for more in [&["%{size_download}", &down][..], &upload] {
        let ran = scene.cluster.exec(at, &[&["curl"], &size[..], more].concat())?;
        let moved = ran
            .ok()
            .with_context(|| format!("{at} to {target}; {}", scene.all_drops()))?;
        ensure!(
            moved.trim() == BYTES.to_string(),
            "{at} to {target}: {moved} of {BYTES} bytes"
        );
    }
    Ok(())
}

/// Sends with iperf3, then receives.
fn iperf3(scene: &Scene, at: &str, to: IpAddr, port: u16) -> anyhow::Result<()> {
    let (to, port) = (to.to_string(), port.to_string());
    for direction in [&[][..], &["--reverse"]] {
        let client = [
            "iperf3",
            "--json",
            "--connect-timeout",
            "5000",
            "-n",
            "8M",
            "-c",
            &to,
            "-p",
            &port,
        ];
        let ran = scene.cluster.exec(at, &[&client[..], direction].concat())?;
        let line = ran.line.clone();
        let text = ran
            .ok()
            .with_context(|| format!("{at} to {to}; {}", scene.all_drops()))?;
        let report: serde_json::Value = serde_json::from_str(&text)?;
        let received = report
            .pointer("/end/sum_received/bytes")
            .and_then(serde_json::Value::as_u64);
        ensure!(
            received.is_some_and(|bytes| bytes > 1_000_000),
            "{line} received {received:?} bytes"
        );
    }
    Ok(())
}

/// Two nodes; web has a task on each, both published, iperf one on the second.
fn scene(uplink_mtu: u32, underlay: Family, mtu: Option<u32>) -> anyhow::Result<Scene> {
    let cluster = ClusterBuilder::new().nodes(2).uplink_mtu(uplink_mtu).build()?;
    let mut catalog = cluster.catalog_over(underlay)?;
    catalog.network("app")?.mtu = mtu;
    catalog.service("web", &["app"])?.ports.push(Port::new(8080, 80));
    catalog
        .service("iperf", &["app"])?
        .ports
        .push(Port::new(15_201, IPERF));
    for (service, node) in [("web", "n1"), ("web", "n2"), ("iperf", "n2")] {
        catalog.task(service, node)?;
    }
    Scene::start(cluster, catalog)
}

fn every_path_carries_long_transfers(scene: &Scene) -> anyhow::Result<()> {
    scene
        .cluster
        .stop_task("iperf.1", nix::sys::signal::Signal::SIGKILL)?;
    scene
        .cluster
        .start_task("iperf.1", &["iperf3", "-s", "-p", &IPERF.to_string()])?;
    essaim_lab::eventually(essaim_netns_tests::READY, "iperf3 listens", || {
        let shown = scene.cluster.exec("iperf.1", &["ss", "-Hltn"])?.ok()?;
        ensure!(shown.contains(":5201"), "{shown}");
        Ok(())
    })?;
    for family in Family::BOTH {
        for node in ["n1", "n2"] {
            let edge = scene.cluster.address(node, family)?;
            http(scene, "c1", edge, 8080)?;
            iperf3(scene, "c1", edge, 15_201)?;
        }
        for from in ["web.1", "web.2"] {
            http(scene, from, scene.vip("web", family)?, 80)?;
            http(scene, from, scene.task("web.2", family)?, 80)?;
            iperf3(scene, from, scene.vip("iperf", family)?, IPERF)?;
            iperf3(scene, from, scene.task("iperf.1", family)?, IPERF)?;
        }
    }
    Ok(())
}

#[test]
fn underlay_of_1500() -> anyhow::Result<()> {
    every_path_carries_long_transfers(&scene(1500, Family::V4, None)?)
}

#[test]
fn underlay_of_1400() -> anyhow::Result<()> {
    every_path_carries_long_transfers(&scene(1400, Family::V6, None)?)
}

/// The tasks believe in more than the underlay carries: segments are clamped, the rest is answered.
#[test]
fn network_that_promises_too_much() -> anyhow::Result<()> {
    every_path_carries_long_transfers(&scene(1400, Family::V4, Some(1500))?)
}
