//! An agent of another build takes over.

use anyhow::{Context as _, ensure};
use essaim_lab::ClusterBuilder;
use essaim_netns_tests::build::{generation, other_build};
use essaim_netns_tests::load::Load;
use essaim_netns_tests::site::{APPLIED, ECHO, HTTP, Site};

#[test]
fn an_upgrade_to_other_programs_and_maps_loses_nothing() -> anyhow::Result<()> {
    let site = Site::web(ClusterBuilder::new().nodes(2), &[HTTP, ECHO], &["n1", "n2"])?;
    let folder = tempfile::tempdir()?;
    let other = other_build(&site.cluster.binary("essaim"), folder.path())?;
    let mut load = Load::start(&site, &["n1", "n2"], 12)?;
    for (node, program) in [
        ("n1", &other),
        ("n2", &other),
        // And back.
        ("n1", &site.cluster.binary("essaim")),
    ] {
        let before = generation(&site.cluster, node)?;
        site.cluster.kill_agent(node)?;
        site.cluster.spawn_agent_with(node, program, &[])?;
        site.cluster.wait_node_ready(node, APPLIED)?;
        let after = generation(&site.cluster, node)?;
        ensure!(before != after, "{node} runs generation {after:?} still");
        for _ in 0..10 {
            load.all_live()
                .with_context(|| format!("after the upgrade of {node}"))?;
        }
    }
    site.verified("n1")?;
    load.end_without_failure()
}
