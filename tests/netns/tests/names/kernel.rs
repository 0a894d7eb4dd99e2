//! Names that the kernel answers for: the same for real programs, at once when they change, and each task its own.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, ClusterBuilder, Family, eventually};
use essaim_model::TaskState;
use essaim_netns_tests::Scene;
use essaim_netns_tests::names::{Answer, answered, dig};
use essaim_netns_tests::site::APPLIED;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;

/// How many questions the kernel has answered on a node since its agent's start.
fn in_kernel(cluster: &Cluster, node: &str) -> anyhow::Result<u64> {
    let printed = cluster.essaim(node, &["status", "--format", "json"])?.ok()?;
    let status: Value = serde_json::from_str(&printed)?;
    let count = &status["counters"]["resolver answered in the kernel"];
    Ok(count.as_u64().unwrap_or(0))
}

#[test]
fn common_questions_are_answered_in_the_kernel_and_change_with_the_names() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.network("other")?;
    catalog.service("web", &["app"])?;
    catalog.service("user", &["app"])?;
    catalog.service("secret", &["other"])?;
    for service in ["web", "user", "secret"] {
        catalog.task(service, "n1")?;
    }
    let mut scene = Scene::start_idle(cluster, catalog)?;
    let vip = Answer::of([scene.catalog.vip("web", "app", Family::V4)?]);
    let own: IpAddr = scene.catalog.task_address("web.1", "app", Family::V4)?;
    let own = Answer::of([own]);

    let before = in_kernel(&scene.cluster, "n1")?;
    for _ in 0..20 {
        for (name, expected) in [("web", &vip), ("WEB.app", &vip), ("tasks.web", &own)] {
            let found = dig(&scene.cluster, "user.1", name, "A", &[])?;
            ensure!(found == *expected, "{name}: {found:?}");
        }
        let printed = scene.cluster.exec("user.1", &["getent", "ahosts", "web"])?.ok()?;
        ensure!(
            printed.contains(&vip.data.iter().next().context("an address")?[..]),
            "{printed}"
        );
    }
    let counted = in_kernel(&scene.cluster, "n1")? - before;
    ensure!(
        counted >= 20 * 3 - 10,
        "the kernel answered {counted} questions only"
    );

    // The other network's tasks see none of it, however often it was asked here, and the other way round.
    for _ in 0..5 {
        let found = dig(&scene.cluster, "secret.1", "web", "A", &[]);
        ensure!(
            !found.is_ok_and(|found| found == vip),
            "a task of another network was told of web"
        );
        let secret = scene.catalog.vip("secret", "other", Family::V4)?;
        let found = dig(&scene.cluster, "secret.1", "secret", "A", &[])?;
        ensure!(found == Answer::of([secret]), "{found:?}");
        let found = dig(&scene.cluster, "user.1", "secret", "A", &[]);
        let secret = Answer::of([secret]);
        ensure!(
            !found.is_ok_and(|found| found == secret),
            "a task of another network was told of secret"
        );
    }

    // Once the change is applied, no answer is older.
    for state in [TaskState::Draining, TaskState::Ready, TaskState::Gone] {
        scene.catalog.set_state("web.1", state)?;
        scene.apply()?;
        let expected = if state == TaskState::Ready {
            own.clone()
        } else {
            Answer::empty()
        };
        for _ in 0..5 {
            let found = dig(&scene.cluster, "user.1", "tasks.web", "A", &[])?;
            ensure!(found == expected, "{state:?}: {found:?}");
        }
    }
    let verified = scene.cluster.essaim("n1", &["verify"])?;
    verified.ok().map(drop)
}

#[test]
fn the_kernel_answers_while_there_is_no_agent_and_for_seconds_only() -> anyhow::Result<()> {
    let cluster = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let mut catalog = cluster.catalog()?;
    catalog.network("app")?;
    catalog.service("web", &["app"])?;
    let task = catalog.task("web", "n1")?;
    let scene = Scene::start_idle(cluster, catalog)?;
    let vip = Answer::of([scene.catalog.vip("web", "app", Family::V4)?]);
    answered(&scene.cluster, &task, "web", "A", &vip)?;
    answered(&scene.cluster, &task, "web", "A", &vip)?;
    scene.cluster.kill_agent("n1")?;
    let found = dig(&scene.cluster, &task, "web", "A", &[])?;
    ensure!(found == vip, "without an agent: {found:?}");
    // What it has no answer for waits in the socket, as everything does after a while.
    ensure!(dig(&scene.cluster, &task, "other", "A", &[]).is_err());
    eventually(Duration::from_secs(20), "the kernel answers no more", || {
        ensure!(dig(&scene.cluster, &task, "web", "A", &[]).is_err());
        Ok(())
    })?;
    scene.cluster.spawn_agent("n1")?;
    scene.cluster.wait_node_ready("n1", APPLIED)?;
    answered(&scene.cluster, &task, "web", "A", &vip)
}
