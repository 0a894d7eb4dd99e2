//! `essaim clean`.

use anyhow::ensure;
use essaim_lab::ClusterBuilder;
use essaim_netns_tests::site::{APPLIED, ECHO, HTTP, Site, UDP_ECHO, WEB};
use std::path::Path;

/// What a node has of ours and of others': interfaces, rules, routes, pins and processes.
fn seen(site: &Site) -> anyhow::Result<Vec<String>> {
    let mut seen = Vec::new();
    for command in [
        &["ip", "-brief", "link"][..],
        &["ip", "-oneline", "addr"],
        &["ip", "route"],
        &["ip", "-6", "route"],
        &["ip", "rule"],
        &["nft", "list", "ruleset"],
        &["ss", "-Hltun"],
    ] {
        let said = site.cluster.exec("n1", command)?.ok()?;
        // An address is tentative until the kernel has looked for a duplicate.
        seen.extend(said.lines().map(|line| line.replace(" tentative", "")));
    }
    seen.sort();
    // The folder itself may go or stay.
    let pins = std::fs::read_dir(site.cluster.bpf_root("n1"))
        .into_iter()
        .flatten();
    let pins = pins.map(|entry| entry.map(|entry| entry.path().display().to_string()));
    seen.extend(pins.collect::<Result<Vec<_>, _>>()?);
    let processes = processes(site.cluster.cgroup("n1")?)?;
    seen.push(format!("{processes} processes"));
    Ok(seen)
}

fn processes(group: &Path) -> anyhow::Result<usize> {
    let mut count = std::fs::read_to_string(group.join("cgroup.procs"))?
        .lines()
        .count();
    for entry in std::fs::read_dir(group)? {
        let path = entry?.path();
        if path.is_dir() {
            count += processes(&path)?;
        }
    }
    Ok(count)
}

#[test]
fn clean_leaves_nothing_even_after_a_crash_and_twice() -> anyhow::Result<()> {
    let mut site = Site::prepare(ClusterBuilder::new().nodes(1), |catalog| {
        catalog.network("app")?;
        catalog
            .service(WEB, &["app"])?
            .ports
            .extend([HTTP, ECHO, UDP_ECHO]);
        catalog.task(WEB, "n1").map(drop)
    })?;
    site.cluster.write_catalog(&mut site.catalog)?;
    let before = seen(&site)?;
    for _ in 0..2 {
        site.cluster.spawn_agents()?;
        site.cluster.wait_ready(APPLIED)?;
        ensure!(seen(&site)? != before, "the agent did nothing");
        let early = site.cluster.essaim("n1", &["clean"])?;
        ensure!(!early.status.success(), "clean went ahead under a running agent");
        site.verified("n1")?;
        site.cluster.kill_agent("n1")?;
        for _ in 0..2 {
            site.cluster.essaim("n1", &["clean"])?.ok()?;
            let after = seen(&site)?;
            ensure!(
                after == before,
                "before:\n{}\nafter:\n{}",
                before.join("\n"),
                after.join("\n")
            );
        }
    }
    let inside = site.cluster.exec("web.1", &["ip", "-brief", "link"])?.ok()?;
    ensure!(!inside.contains("eth0"), "the task has {inside}");
    Ok(())
}
