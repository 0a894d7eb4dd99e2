//! Agents killed at any moment of their start.

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::Port;
use essaim_netns_tests::held::Held;
use essaim_netns_tests::site::{APPLIED, CLIENT, ECHO, HTTP, Site, WEB};

/// How many kills.
const KILLS: u32 = 36;

/// Between one kill's delay after the agent's start and the next one's, in milliseconds.
const STEP: u32 = 12;

#[test]
fn an_agent_killed_at_any_moment_leaves_nothing_that_the_next_start_does_not_mend() -> anyhow::Result<()> {
    let mut site = Site::prepare(ClusterBuilder::new().nodes(1), |catalog| {
        catalog.network("app")?;
        catalog.service(WEB, &["app"])?.ports.extend([HTTP, ECHO]);
        catalog.task(WEB, "n1")?;
        catalog.task(WEB, "n1").map(drop)
    })?;
    let essaim = site.cluster.binary("essaim").display().to_string();
    let text = |path: &std::path::Path| path.display().to_string();
    let node = [
        text(&site.cluster.catalog_file("n1")),
        text(&site.cluster.bpf_root("n1")),
        text(site.cluster.cgroup("n1")?),
        text(&site.cluster.state_dir("n1")),
    ];
    let [catalog, pins, cgroup, state] = &node;
    for kill in 1..=KILLS {
        // Every start has something else to do.
        let extra = format!("extra{}", kill % 3);
        let services = &mut site.catalog.catalog_mut().services;
        services.retain(|service| service.name.as_str() == WEB);
        site.catalog
            .service(&extra, &["app"])?
            .ports
            .push(Port::new(9000 + u16::try_from(kill % 5)?, 80));
        site.cluster.write_catalog(&mut site.catalog)?;
        let milliseconds = kill * STEP;
        let delay = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
        let ran = site.cluster.exec(
            "n1",
            &[
                "timeout",
                "--signal=KILL",
                &delay,
                &essaim,
                "node",
                "--name",
                "n1",
                "--uplink",
                "eth0",
                "--catalog",
                catalog,
                "--bpf-root",
                pins,
                "--cgroup",
                cgroup,
                "--state-dir",
                state,
            ],
        )?;
        ensure!(
            !ran.stderr.contains("ERROR"),
            "killed after {delay} s: {}",
            ran.stderr
        );
        if kill % 12 == 0 {
            site.cluster.spawn_agents()?;
            site.cluster
                .wait_ready(APPLIED)
                .with_context(|| format!("after {kill} kills"))?;
            site.verified("n1")?;
            site.cluster.kill_agent("n1")?;
        }
    }
    site.cluster.spawn_agents()?;
    site.cluster.wait_ready(APPLIED)?;
    site.verified("n1")?;
    site.start_tasks()?;
    for family in Family::BOTH {
        let target = site.at("n1", ECHO.published, family)?;
        Held::open(&site.cluster, CLIENT, target, 16)?.all_live()?;
    }
    Ok(())
}
