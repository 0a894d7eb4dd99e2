//! Names while agents are killed and started again.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_netns_tests::site::APPLIED;
use essaim_netns_tests::{Scene, names};
use std::net::IpAddr;

/// Asks again and again until it is ended, and counts.
const ASK: &str = r#"
failed=0 asked=0
trap 'echo "$asked $failed"; exit 0' TERM
while :; do
    asked=$((asked + 1))
    getent ahostsv4 web | grep -q "^$1 " || failed=$((failed + 1))
done
"#;

#[test]
fn no_lookup_fails_while_the_agent_is_killed_and_started_in_a_loop() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    let task = catalog.task("web", "n1")?;
    let scene = Scene::start_idle(cluster, catalog)?;
    let vip: IpAddr = scene.catalog.vip("web", "app", Family::V4)?;
    names::answered(&scene.cluster, &task, "web", "A", &names::Answer::of([vip]))?;
    let loops = scene
        .cluster
        .start(&task, &["bash", "-c", ASK, "ask", &vip.to_string()])?;
    for _ in 0..8 {
        scene.cluster.restart_agent("n1")?;
        scene.cluster.wait_node_ready("n1", APPLIED)?;
        for _ in 0..10 {
            let found = names::dig(&scene.cluster, &task, "web", "A", &[])?;
            ensure!(found == names::Answer::of([vip]), "{found:?}");
        }
    }
    let printed = loops.stop()?.ok()?;
    let counts: Vec<u64> = printed
        .split_whitespace()
        .filter_map(|count| count.parse().ok())
        .collect();
    let [asked, failed] = counts[..] else {
        anyhow::bail!("the loop printed {printed:?}");
    };
    ensure!(failed == 0, "{failed} of {asked} lookups failed");
    ensure!(asked >= 50, "only {asked} lookups were made");
    let verified = scene.cluster.essaim("n1", &["verify"])?;
    verified.ok().map(drop).context("verify after the last start")
}
