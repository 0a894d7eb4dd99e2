//! The service tells every change once, forgets tasks, and carries health over restarts and changes.

use crate::namespaces::Netns;
use crate::{eventually, next, only, pace, task, watched};
use essaim_health::{Health, HealthService, Pace, Probe, TaskProbe};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;

fn command(netns: &Netns, line: &str) -> TaskProbe {
    watched(Probe::shell(line).unwrap(), pace(), netns.place())
}

/// A probe that runs only after the test.
fn idle(netns: &Netns) -> TaskProbe {
    let pace = Pace {
        interval: Duration::from_mins(10),
        ..pace()
    };
    watched(Probe::shell("true").unwrap(), pace, netns.place())
}

#[tokio::test]
async fn a_task_that_was_healthy_keeps_its_traffic_until_its_probes_have_failed() {
    let netns = Netns::new();
    let mut service = HealthService::start();
    let probe = TaskProbe {
        was_healthy: true,
        ..command(&netns, "exit 1")
    };
    service.set_tasks(only(probe));
    assert_eq!(next(&mut service).await.health, Health::Healthy);
    let change = next(&mut service).await;
    assert!(
        matches!(change.health, Health::Unhealthy { failures: 2, .. }),
        "{change:?}"
    );
    service.stop().await;
}

#[tokio::test]
async fn a_task_whose_check_changes_stays_healthy_meanwhile() {
    let netns = Netns::new();
    let mut service = HealthService::start();
    service.set_tasks(only(command(&netns, "true")));
    assert_eq!(next(&mut service).await.health, Health::Starting);
    assert_eq!(next(&mut service).await.health, Health::Healthy);
    service.set_tasks(only(idle(&netns)));
    assert_eq!(next(&mut service).await.health, Health::Healthy);
    assert!(
        service.status()[&task("web.1")].results.is_empty(),
        "it is watched anew"
    );
    service.stop().await;
}

#[tokio::test]
async fn tasks_that_are_set_again_as_they_were_go_on() {
    let netns = Netns::new();
    let mut service = HealthService::start();
    let tasks = only(command(&netns, "true"));
    service.set_tasks(tasks.clone());
    assert_eq!(next(&mut service).await.health, Health::Starting);
    assert_eq!(next(&mut service).await.health, Health::Healthy);
    let later = tasks.into_iter().map(|(id, probe)| {
        let started = std::time::Instant::now();
        (id, TaskProbe { started, ..probe })
    });
    service.set_tasks(later.collect());
    let more = timeout(Duration::from_millis(200), service.next_change()).await;
    assert!(more.is_err(), "{more:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_task_that_is_removed_is_forgotten_and_told_anew_when_it_returns() {
    let netns = Netns::new();
    let mut service = HealthService::start();
    service.set_tasks(only(idle(&netns)));
    assert_eq!(next(&mut service).await.health, Health::Starting);
    service.set_tasks(BTreeMap::new());
    eventually("it is forgotten", || service.status().is_empty().then_some(())).await;
    service.set_tasks(only(idle(&netns)));
    assert_eq!(next(&mut service).await.health, Health::Starting);
    service.stop().await;
}

#[tokio::test]
async fn every_task_has_a_health_of_its_own_and_slow_probes_hold_up_no_others() {
    let netns = Netns::new();
    let mut service = HealthService::start();
    let lines = [("good.1", "true"), ("bad.1", "exit 1"), ("slow.1", "sleep 1000")];
    service.set_tasks(
        lines
            .map(|(name, line)| (task(name), command(&netns, line)))
            .into(),
    );
    let mut health = BTreeMap::new();
    while health.get(&task("good.1")) != Some(&Health::Healthy)
        || !matches!(health.get(&task("bad.1")), Some(Health::Unhealthy { .. }))
    {
        let change = next(&mut service).await;
        health.insert(change.task, change.health);
    }
    assert_eq!(health[&task("slow.1")], Health::Starting);
    timeout(crate::DEADLINE, service.stop()).await.unwrap();
    eventually("no probe is left", || netns.pids().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_task_that_starts_slowly_is_not_given_up_within_its_start_period() {
    let netns = Netns::new();
    let folder = std::env::temp_dir().join(format!("essaim-health-{}-slow", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    // Passes from the sixth time on.
    let line = format!("echo x >> {0}/n; test $(wc -l < {0}/n) -ge 6", folder.display());
    let slow = Pace {
        start_period: Duration::from_mins(10),
        start_interval: Duration::from_millis(20),
        ..pace()
    };
    let mut service = HealthService::start();
    service.set_tasks(only(watched(Probe::shell(&line).unwrap(), slow, netns.place())));
    assert_eq!(next(&mut service).await.health, Health::Starting);
    let change = next(&mut service).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(change.health, Health::Healthy);
    let results = &service.status()[&task("web.1")].results;
    assert_eq!(results.iter().filter(|record| record.result.is_err()).count(), 4);
    service.stop().await;
}
