//! Agents that cannot start say why, and what would help.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, ip};
use essaim_netns_tests::site::{APPLIED, HTTP, SOON, Site, WEB};

fn prepared() -> anyhow::Result<Site> {
    let mut site = Site::prepare(ClusterBuilder::new().nodes(1), |catalog| {
        catalog.network("app")?;
        catalog.service(WEB, &["app"])?.ports.push(HTTP);
        catalog.task(WEB, "n1").map(drop)
    })?;
    site.cluster.write_catalog(&mut site.catalog)?;
    Ok(site)
}

/// Runs an agent that is expected to end with an error that holds these words.
fn refuses(site: &Site, name: &str, uplink: &str, words: &[&str]) -> anyhow::Result<()> {
    let text = |path: std::path::PathBuf| path.display().to_string();
    let ran = site.cluster.exec(
        "n1",
        &[
            &text(site.cluster.binary("essaim")),
            "node",
            "--name",
            name,
            "--uplink",
            uplink,
            "--catalog",
            &text(site.cluster.catalog_file("n1")),
            "--bpf-root",
            &text(site.cluster.bpf_root("n1")),
            "--cgroup",
            &text(site.cluster.cgroup("n1")?.to_owned()),
            "--state-dir",
            &text(site.cluster.state_dir("n1")),
        ],
    )?;
    ensure!(
        ran.status.code() == Some(1),
        "ended with {}: {}",
        ran.status,
        ran.stderr
    );
    ensure!(
        words.iter().all(|word| ran.stderr.contains(word)),
        "expected {words:?} in: {}",
        ran.stderr
    );
    Ok(())
}

#[test]
fn an_uplink_that_does_not_exist_is_named() -> anyhow::Result<()> {
    refuses(&prepared()?, "n1", "wan7", &["wan7", "does not exist", "eth0"])
}

#[test]
fn a_node_that_the_catalog_does_not_know_is_named() -> anyhow::Result<()> {
    refuses(&prepared()?, "n77", "eth0", &["n77", "catalog"])
}

#[test]
fn a_second_agent_of_a_node_is_refused() -> anyhow::Result<()> {
    let site = prepared()?;
    site.cluster.spawn_agents()?;
    site.cluster.wait_ready(APPLIED)?;
    refuses(&site, "n1", "eth0", &["another agent", "--state-dir"])?;
    site.verified("n1")
}

#[test]
fn a_foreign_device_at_the_vxlan_port_is_told_and_done_without_once_it_is_gone() -> anyhow::Result<()> {
    let site = prepared()?;
    let node = site.cluster.netns("n1");
    ip::batch(
        &node,
        &[
            "link add foreign type vxlan external dstport 4789".to_owned(),
            "link set foreign up".to_owned(),
        ],
    )?;
    site.cluster.spawn_agents()?;
    let line = site.logged("n1", &["ERROR", "4789"])?;
    ensure!(line.contains("foreign") || line.contains("in use"), "{line}");
    ip::batch(&node, &["link del foreign".to_owned()])?;
    site.cluster.wait_ready(SOON)?;
    site.verified("n1")?;
    site.start_tasks()
}
