//! `kill -9`, and the next start.

use anyhow::{Context as _, ensure};
use essaim_lab::ClusterBuilder;
use essaim_netns_tests::load::Load;
use essaim_netns_tests::site::{APPLIED, ECHO, HTTP, Site};
use std::collections::BTreeMap;
use std::path::Path;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

#[test]
fn agents_killed_in_turn_lose_nothing() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new(), &[HTTP, ECHO], &["n1", "n2", "n3"])?;
    let mut load = Load::start(&site, &["n1", "n3"], 12)?;
    for node in NODES {
        site.cluster.kill_agent(node)?;
        for _ in 0..20 {
            load.all_live()
                .with_context(|| format!("without the agent of {node}"))?;
        }
        site.cluster.spawn_agent(node)?;
        site.cluster.wait_node_ready(node, APPLIED)?;
        load.all_live()
            .with_context(|| format!("with a new agent of {node}"))?;
        site.verified(node)?;
    }
    load.end_without_failure()
}

#[test]
fn a_restart_changes_nothing_in_the_kernel() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(1), &[HTTP, ECHO], &["n1"])?;
    site.verified("n1")?;
    let before = kernel(&site)?;
    for _ in 0..2 {
        site.cluster.restart_agent("n1")?;
        site.cluster.wait_ready(APPLIED)?;
        let verified = site.cluster.essaim("n1", &["verify"])?;
        verified.ok().context("verify right after the start")?;
        let after = kernel(&site)?;
        for (what, was) in &before {
            let is = after.get(what).map_or("nothing", String::as_str);
            ensure!(is == was, "{what} was\n{was}\nand is\n{is}");
        }
        ensure!(after.keys().eq(before.keys()), "pins differ: {:?}", after.keys());
    }
    Ok(())
}

/// What the kernel holds of a node: links with their numbers, routes, rules, and every pin.
fn kernel(site: &Site) -> anyhow::Result<BTreeMap<String, String>> {
    let mut held = BTreeMap::new();
    for command in [
        &["ip", "-oneline", "addr"][..],
        &["ip", "-details", "-oneline", "link"],
        &["ip", "route"],
        &["ip", "-6", "route"],
        &["nft", "--stateless", "list", "ruleset"],
    ] {
        // Duplicate address detection of the uplink's own address is the kernel's, and ends when it ends.
        let printed = site.cluster.exec("n1", command)?.ok()?.replace(" tentative", "");
        held.insert(command.join(" "), printed);
    }
    pins(&site.cluster.bpf_root("n1"), &mut held)?;
    Ok(held)
}

/// Every pin, with its inode: one that was made again has another.
fn pins(folder: &Path, held: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            pins(&path, held)?;
        } else {
            held.insert(path.display().to_string(), path.metadata()?.ino().to_string());
        }
    }
    Ok(())
}
