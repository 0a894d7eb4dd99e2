//! What is taken away by hand comes back.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family, eventually, ip};
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{APPLIED, CLIENT, ECHO, SOON, Site};
use std::path::PathBuf;

fn serves(site: &Site) -> anyhow::Result<()> {
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        let mut held = Held::open(&site.cluster, CLIENT, target, 16)?;
        ensure!(held.by_task().len() == 2, "only {:?}", held.by_task());
        held.all_live()?;
    }
    Ok(())
}

/// The name of the node's only link of this kind.
fn link(site: &Site, kind: &str) -> anyhow::Result<String> {
    let links = site
        .cluster
        .exec("n1", &["ip", "-brief", "link", "show", "type", kind])?
        .ok()?;
    let names = links.lines().filter_map(|line| line.split(['@', ' ']).next());
    let own = names.filter(|name| *name != "eth0" && !name.starts_with("essaim0"));
    let mut own: Vec<_> = own.map(str::to_owned).collect();
    if own.is_empty() && kind == "vxlan" {
        own = links
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next())
            .map(str::to_owned)
            .collect();
    }
    ensure!(own.len() == 1, "links of kind {kind}: {links}");
    own.pop().context("one link")
}

#[test]
fn links_and_rules_that_were_deleted_are_made_again() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &["n1", "n2"])?;
    let netns = site.cluster.netns("n1");
    serves(&site)?;
    for kind in ["vxlan", "veth"] {
        let name = link(&site, kind)?;
        ip::batch(&netns, &[format!("link del {name}")])?;
        mended(&site).with_context(|| format!("after {name} was deleted"))?;
    }
    ip::batch(&netns, &["link del essaim0".to_owned()])?;
    mended(&site).context("after essaim0 was deleted")?;
    let tables = site.cluster.exec("n1", &["nft", "list", "tables"])?.ok()?;
    let table = tables
        .lines()
        .find(|line| line.contains("essaim"))
        .context("there is a table of essaim")?;
    let words: Vec<_> = table.split_whitespace().collect();
    site.cluster
        .exec("n1", &[&["nft", "delete"], words.as_slice()].concat())?
        .ok()?;
    mended(&site).context("after the nft table was deleted")
}

#[test]
fn pins_that_were_deleted_are_made_again() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &["n1", "n2"])?;
    let root: PathBuf = site.cluster.bpf_root("n1").join("n1");
    for folder in ["links", "progs", "maps", "stub", ""] {
        let path = root.join(folder);
        ensure!(path.is_dir(), "{} is no folder", path.display());
        std::fs::remove_dir_all(&path).with_context(|| format!("failed to remove {}", path.display()))?;
        // The agent that runs holds maps and programs; links went with their pins.
        site.cluster.restart_agent("n1")?;
        site.cluster.wait_ready(APPLIED)?;
        mended(&site).with_context(|| format!("after {} was deleted", path.display()))?;
    }
    Ok(())
}

#[test]
fn links_that_lost_their_pins_are_attached_again_while_the_agent_runs() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[ECHO], &["n1", "n2"])?;
    let links = site.cluster.bpf_root("n1").join("n1").join("links");
    for entry in std::fs::read_dir(&links)? {
        std::fs::remove_file(entry?.path())?;
    }
    mended(&site)
}

/// Waits until all is as it should be, and traffic flows.
fn mended(site: &Site) -> anyhow::Result<()> {
    site.verified("n1")?;
    eventually(SOON, "traffic flows again", || serves(site))
}
