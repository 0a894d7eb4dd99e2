//! Prometheus (Debian's) finds services, tasks and nodes through the API.

use crate::stage::{SOON, Stage};
use anyhow::{Context as _, ensure};
use essaim_lab::eventually;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;

/// The targets of a job that Prometheus has found, by one of their labels.
fn found(stage: &Stage, job: &str, label: &str) -> anyhow::Result<BTreeSet<String>> {
    let text = stage
        .lab
        .curl("n1", "http://127.0.0.1:9090/api/v1/targets?state=any")?;
    let answer: Value = serde_json::from_str(&text)?;
    let lists = ["activeTargets", "droppedTargets"];
    let lists = lists.iter().filter_map(|list| answer["data"][list].as_array());
    let labels = lists.flatten().map(|target| &target["discoveredLabels"]);
    let of_job = labels.filter(|labels| labels["job"] == job);
    Ok(of_job
        .filter_map(|labels| labels[label].as_str().map(str::to_owned))
        .collect())
}

#[test]
fn prometheus_finds_services_tasks_and_nodes() -> anyhow::Result<()> {
    let stage = Stage::new()?;
    stage.serve(
        "web",
        &["--replicas", "2", "--publish", "8080:80", "--label", "kind=own"],
    )?;
    let web = stage.runs("web", 2)?;
    let folder = stage.lab.state_dir("n1").join("prometheus");
    fs::create_dir_all(&folder)?;
    let host = format!("unix://{}", stage.lab.api_socket("n1").display());
    let jobs = ["services", "tasks", "nodes"].map(|role| {
        format!(
            "- {{job_name: {role}, dockerswarm_sd_configs: [{{host: '{host}', role: {role}, refresh_interval: 1s}}]}}\n"
        )
    });
    let config = folder.join("prometheus.yml");
    fs::write(&config, format!("scrape_configs:\n{}", jobs.concat()))?;
    let config = format!("--config.file={}", config.display());
    let storage = format!("--storage.tsdb.path={}", folder.join("data").display());
    let line = [
        "prometheus",
        &config,
        &storage,
        "--web.listen-address=127.0.0.1:9090",
        "--log.level=warn",
    ];
    let _prometheus = stage.lab.start("n1", &line)?;

    let only = |text: &str| BTreeSet::from([text.to_owned()]);
    eventually(SOON, "it has found the service", || {
        let names = found(&stage, "services", "__meta_dockerswarm_service_name")?;
        ensure!(names == only("web"), "{names:?}");
        let labels = found(&stage, "services", "__meta_dockerswarm_service_label_kind")?;
        ensure!(labels == only("own"), "{labels:?}");
        let ports = found(
            &stage,
            "services",
            "__meta_dockerswarm_service_endpoint_port_publish_mode",
        )?;
        ensure!(ports == only("ingress"), "{ports:?}");
        Ok(())
    })?;
    let ids: BTreeSet<String> = web.iter().map(|task| task.id.clone()).collect();
    eventually(SOON, "it has found the tasks, and where they are", || {
        let tasks = found(&stage, "tasks", "__meta_dockerswarm_task_id")?;
        // Beside those that run stand those that did not come up at the first try.
        ensure!(ids.is_subset(&tasks), "{tasks:?}, expected {ids:?}");
        let addresses = found(&stage, "tasks", "__address__")?;
        for address in web.iter().flat_map(|task| &task.addresses) {
            let is_it = |found: &String| found.starts_with(&format!("{address}:"));
            ensure!(addresses.iter().any(is_it), "{address} is not in {addresses:?}");
        }
        let networks = found(&stage, "tasks", "__meta_dockerswarm_network_name")?;
        ensure!(networks.contains("app"), "{networks:?}");
        Ok(())
    })?;
    eventually(SOON, "it has found the nodes", || {
        let nodes = found(&stage, "nodes", "__meta_dockerswarm_node_hostname")?;
        let expected: BTreeSet<String> = ["n1", "n2"].map(str::to_owned).into();
        ensure!(nodes == expected, "{nodes:?}");
        let leaders = found(&stage, "nodes", "__meta_dockerswarm_node_manager_leader")?;
        ensure!(leaders.contains("true"), "{leaders:?}");
        Ok(())
    })?;
    // What it scrapes follows.
    stage.operate(&["service", "scale", "web=3"])?;
    let third = stage.runs("web", 3)?;
    let new = third
        .iter()
        .find(|task| !web.contains(task))
        .context("none is new")?;
    eventually(SOON, "it has found the third task", || {
        let tasks = found(&stage, "tasks", "__meta_dockerswarm_task_id")?;
        ensure!(tasks.contains(&new.id), "{tasks:?}");
        Ok(())
    })?;
    Ok(())
}
