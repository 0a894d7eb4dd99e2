//! Probes and stops of real processes, in namespaces of the tests' own. Needs root, and util-linux' `unshare` and
//! `setpriv`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod commands;
mod namespaces;
mod network;
mod room;
mod service;
mod stops;

use essaim_health::{
    HealthChange, HealthCheck, HealthService, Pace, Probe, ProbeResult, TaskPlace, TaskProbe,
};
use essaim_model::TaskId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Longest that any condition may take.
const DEADLINE: Duration = Duration::from_secs(20);

fn task(name: &str) -> TaskId {
    TaskId::new(name).unwrap()
}

/// Probes often, and believes the second failure.
fn pace() -> Pace {
    Pace {
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(10),
        retries: 2,
        ..Pace::default()
    }
}

fn watched(probe: Probe, pace: Pace, at: TaskPlace) -> TaskProbe {
    TaskProbe {
        check: HealthCheck::new(probe, pace).unwrap(),
        place: at,
        started: Instant::now(),
        was_healthy: false,
    }
}

/// The only task of a service.
fn only(probe: TaskProbe) -> BTreeMap<TaskId, TaskProbe> {
    BTreeMap::from([(task("web.1"), probe)])
}

async fn next(service: &mut HealthService) -> HealthChange {
    timeout(DEADLINE, service.next_change())
        .await
        .expect("no change in time")
        .expect("the service failed")
}

/// Runs one probe; how it ended.
async fn probe_once(probe: Probe, pace: Pace, at: TaskPlace) -> ProbeResult {
    let service = HealthService::start();
    service.set_tasks(only(watched(probe, pace, at)));
    let result = eventually("a probe has ended", || {
        let status = service.status();
        status
            .get(&task("web.1"))?
            .results
            .first()
            .map(|record| record.result.clone())
    })
    .await;
    timeout(DEADLINE, service.stop()).await.expect("probes are left");
    result
}

/// Looks at a condition until it holds, and hands out what it found.
async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
