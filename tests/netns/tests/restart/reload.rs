//! Catalogs that change under load.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, eventually};
use essaim_model::{Port, TaskState};
use essaim_netns_tests::load::Load;
use essaim_netns_tests::site::{ECHO, HTTP, SOON, Site};
use nix::sys::signal::Signal;

/// How many catalogs.
const RELOADS: u16 = 20;

#[test]
fn reloads_lose_nothing() -> anyhow::Result<()> {
    let mut site = Site::web(ClusterBuilder::new().nodes(2), &[HTTP, ECHO], &["n1", "n2"])?;
    let mut load = Load::start(&site, &["n1"], 12)?;
    for number in 0..RELOADS {
        // A service comes and goes; web's own place in the maps and tables must not move.
        let name = format!("extra{number}");
        site.catalog
            .service(&name, &["app"])?
            .ports
            .push(Port::new(9000 + number, 80));
        if number > 2 {
            let services = &mut site.catalog.catalog_mut().services;
            services.retain(|service| service.name.as_str() != format!("extra{}", number - 2));
        }
        site.apply()?;
        load.all_live()?;
    }
    load.end_without_failure()
}

#[test]
fn a_task_that_drains_and_stops_fails_no_request() -> anyhow::Result<()> {
    let mut site = Site::web(ClusterBuilder::new().nodes(2), &[HTTP, ECHO], &["n1", "n2", "n2"])?;
    let mut load = Load::start(&site, &["n1", "n2"], 12)?;
    site.set_state("web.2", TaskState::Draining)?;
    // It keeps what it has.
    load.all_live()?;
    drop(load.let_go("web.2"));
    eventually(SOON, "web.2 has no connection any more", || {
        let left = site
            .cluster
            .exec("web.2", &["ss", "-Htn", "state", "established"])?
            .ok()?;
        ensure!(left.trim().is_empty(), "{left}");
        Ok(())
    })?;
    site.cluster.stop_task("web.2", Signal::SIGTERM)?;
    site.set_state("web.2", TaskState::Gone)?;
    load.all_live()?;
    site.catalog.remove_task("web.2")?;
    site.apply()?;
    load.end_without_failure()
}
