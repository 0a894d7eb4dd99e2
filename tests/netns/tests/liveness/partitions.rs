//! Nodes that cannot hear each other for a while.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, eventually};
use essaim_netns_tests::site::{HTTP, SOON, Site};
use std::time::{Duration, Instant};

/// A load through one node; it must not fail while it lasts.
fn requests(site: &Site, node: &str, seconds: &str) -> anyhow::Result<essaim_lab::peer::LoadReport> {
    let url = format!("http://{}/", site.at(node, 8080, Family::V4)?);
    let arguments = [
        "load",
        "--target",
        &url,
        "--connections",
        "2",
        "--interval-ms",
        "10",
        "--seconds",
        seconds,
    ];
    site.cluster.peer("c1", &arguments)?.json()
}

fn wait(time: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    eventually(time + SOON, "a partition has lasted", || {
        ensure!(begun.elapsed() >= time);
        Ok(())
    })
}

/// Cuts the last of `nodes` off for `time`, and checks that the others serve without failures once they know, and that
/// everybody serves after it is back.
fn partition(nodes: u8, time: Duration) -> anyhow::Result<()> {
    let names: Vec<String> = (1..=nodes).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let tasks = [names[0], names[1], names[names.len() - 1]];
    let site = Site::web(ClusterBuilder::new().nodes(nodes).gossip(true), &[HTTP], &tasks)?;
    let (cut, others) = names.split_last().context("a cluster without nodes")?;
    for node in &names {
        site.wait_member(&[names[0], cut], node, "up", SOON)?;
    }
    let begun = Instant::now();
    site.cluster.unplug(cut)?;
    site.wait_member(others, cut, "down", SOON)?;
    println!("{nodes} nodes: all others knew after {:?}", begun.elapsed());
    for node in [names[0], names[1]] {
        let report = requests(&site, node, "2")?;
        ensure!(
            report.failed == 0 && report.ok > 20,
            "while {cut} was cut off: {report:?}"
        );
    }
    wait(time.saturating_sub(begun.elapsed()))?;
    site.cluster.plug(cut)?;
    let healed = Instant::now();
    site.wait_member(&names, cut, "up", SOON)?;
    for node in others {
        site.wait_member(&[cut], node, "up", SOON)?;
    }
    for task in ["web.1", "web.2", "web.3"] {
        site.wait_task(&names, task, "ready", SOON)?;
    }
    println!(
        "{nodes} nodes: all knew of all {:?} after the partition of {time:?}",
        healed.elapsed()
    );
    for node in [names[0], cut] {
        let report = requests(&site, node, "3")?;
        ensure!(
            report.failed == 0 && report.ok > 20,
            "after the partition: {report:?}"
        );
    }
    Ok(())
}

#[test]
fn half_a_second_takes_nobody_down() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().gossip(true), &[HTTP], &["n1", "n2", "n3"])?;
    for node in ["n1", "n2", "n3"] {
        site.wait_member(&["n1", "n2", "n3"], node, "up", SOON)?;
    }
    let program = site.cluster.binary("essaim").display().to_string();
    let state_dir = site.cluster.state_dir("n1").display().to_string();
    let monitor = ["monitor", "--state-dir", &state_dir, "--format", "json"];
    let mut monitor = site
        .cluster
        .start("n1", &[&[program.as_str()], &monitor[..]].concat())?;
    site.cluster.unplug("n3")?;
    wait(Duration::from_millis(500))?;
    site.cluster.plug("n3")?;
    // A change that is told after the partition shows that the monitor has told everything until then.
    wait(Duration::from_secs(4))?;
    let mut site = site;
    site.apply()?;
    let mut told = Vec::new();
    loop {
        let line = monitor.next_line()?;
        ensure!(!line.contains("member-down"), "{line}; before: {told:?}");
        let is_last = line.contains("catalog-applied") && line.contains("\"n1\"");
        told.push(line);
        if is_last {
            break;
        }
    }
    let report = requests(&site, "n1", "1")?;
    ensure!(report.failed == 0 && report.ok > 20, "{report:?}");
    Ok(())
}

#[test]
fn ten_seconds_among_three() -> anyhow::Result<()> {
    partition(3, Duration::from_secs(10))
}

#[test]
fn a_minute_among_three() -> anyhow::Result<()> {
    partition(3, Duration::from_mins(1))
}

#[test]
fn ten_seconds_among_ten() -> anyhow::Result<()> {
    partition(10, Duration::from_secs(10))
}

#[test]
fn ten_seconds_among_twenty_five() -> anyhow::Result<()> {
    partition(25, Duration::from_secs(10))
}
