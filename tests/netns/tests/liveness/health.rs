//! Health checks gate traffic and names.

use anyhow::ensure;
use essaim_lab::{ClusterBuilder, Family};
use essaim_model::{HealthCheck, HealthTest};
use essaim_netns_tests::names::{Answer, answered};
use essaim_netns_tests::site::{APPLIED, HTTP, SOON, Site, WEB};
use nix::sys::signal::Signal;
use std::time::Duration;

const NODES: [&str; 2] = ["n1", "n2"];

fn site(test: HealthTest) -> anyhow::Result<Site> {
    let mut site = Site::prepare(ClusterBuilder::new().nodes(2).gossip(true), |catalog| {
        catalog.network("app")?;
        let service = catalog.service(WEB, &["app"])?;
        service.ports.push(HTTP);
        service.health = Some(HealthCheck {
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(2),
            retries: 2,
            ..HealthCheck::new(test)
        });
        catalog.task(WEB, "n1")?;
        catalog.task(WEB, "n2")?;
        Ok(())
    })?;
    site.cluster.write_catalog(&mut site.catalog)?;
    site.cluster.spawn_agents()?;
    site.cluster.wait_ready(APPLIED)?;
    Ok(site)
}

fn gates(test: HealthTest) -> anyhow::Result<()> {
    let site = site(test)?;
    let first = Answer::of([site.catalog.task_address("web.1", "app", Family::V4)?]);
    let both = ["web.1", "web.2"].map(|task| site.catalog.task_address(task, "app", Family::V4));
    let both: Vec<_> = both.into_iter().collect::<Result<_, _>>()?;
    // Nothing listens yet: no traffic, no name, and a clear refusal.
    for task in ["web.1", "web.2"] {
        site.wait_task(&NODES, task, "starting", SOON)?;
    }
    answered(&site.cluster, "web.1", "tasks.web", "A", &Answer::empty())?;
    let url = format!("http://{}/", site.at("n2", 8080, Family::V4)?);
    ensure!(
        site.cluster.curl("c1", &url).is_err(),
        "a task that has not passed took traffic"
    );

    site.cluster.start_whoami("web.1")?;
    site.wait_task(&NODES, "web.1", "ready", SOON)?;
    answered(&site.cluster, "web.2", "tasks.web", "A", &first)?;
    for _ in 0..10 {
        ensure!(site.cluster.curl("c1", &url)?.contains("Name: web.1"));
    }

    site.cluster.start_whoami("web.2")?;
    site.wait_task(&NODES, "web.2", "ready", SOON)?;
    answered(&site.cluster, "web.1", "tasks.web", "A", &Answer::of(both))?;

    // A healthy task keeps its traffic while its agent starts anew.
    site.cluster.restart_agent("n1")?;
    site.cluster.wait_node_ready("n1", APPLIED)?;
    let state = site.task_state("n1", "web.1")?;
    ensure!(state == "ready", "right after the restart it is {state}");

    site.cluster.stop_task("web.2", Signal::SIGKILL)?;
    site.wait_task(&NODES, "web.2", "draining", SOON)?;
    answered(&site.cluster, "web.1", "tasks.web", "A", &first)?;
    for _ in 0..10 {
        ensure!(site.cluster.curl("c1", &url)?.contains("Name: web.1"));
    }
    let status = site.status("n2")?;
    let check = status
        .pointer("/checks/web.2/health")
        .and_then(serde_json::Value::as_str);
    ensure!(check == Some("unhealthy"), "{status}");
    Ok(())
}

#[test]
fn by_an_http_request() -> anyhow::Result<()> {
    gates(HealthTest::Http {
        port: 80,
        path: "/".to_owned(),
    })
}

#[test]
fn by_a_connection() -> anyhow::Result<()> {
    gates(HealthTest::Tcp(80))
}

#[test]
fn by_a_command_in_the_tasks_namespaces() -> anyhow::Result<()> {
    gates(HealthTest::Shell(
        "curl -gsf --max-time 1 http://127.0.0.1/ > /dev/null".to_owned(),
    ))
}
