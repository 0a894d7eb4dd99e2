//! What the health crate does with the runner's tasks.

use crate::rig::{DEADLINE, Rig, within};
use essaim_health::{
    Health, HealthCheck, HealthService, Pace, Probe, StopPhase, StopSettings, TaskPlace, TaskProbe,
    TaskProcesses, stop_task,
};
use essaim_runner::{Exit, Runner as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_runs_where_the_task_is() {
    let rig = Rig::new();
    let mut spec = rig.spec("task", &["sleep", "1000"]);
    spec.hostname = Some("inside".into());
    spec.user = "daemon".into();
    let task = rig.start("task", spec).await.unwrap();
    let pid = *rig.runner.pids(&task).unwrap().first().unwrap();
    let script = "test \"$(hostname)\" = inside && test \"$(id -u)\" = 1 && test -d /run/lock && test ! -e /run/netns \
                  && test \"$(cat /proc/1/comm)\" = sleep && test -z \"$(ls -A /dev/shm)\"";
    let check = |script: &str| {
        let pace = Pace {
            interval: Duration::from_millis(50),
            retries: 1,
            ..Pace::default()
        };
        HealthCheck::new(Probe::shell(script).unwrap(), pace).unwrap()
    };
    for (script, healthy) in [(script, true), ("exit 1", false)] {
        let mut service = HealthService::start();
        let place = TaskPlace {
            netns: rig.netns("task"),
            process: Some(u32::try_from(pid).unwrap()),
            addresses: Vec::new(),
        };
        let probe = TaskProbe {
            check: check(script),
            place,
            started: Instant::now(),
            was_healthy: false,
        };
        service.set_tasks(BTreeMap::from([(task.clone(), probe)]));
        let health = loop {
            let change = within(service.next_change()).await.unwrap();
            if !matches!(change.health, Health::Starting) {
                break change.health;
            }
        };
        assert_eq!(health.is_healthy(), healthy, "{health:?} {:?}", service.status());
        within(service.stop()).await;
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_ends_the_task_and_its_exit_is_told() {
    let rig = Rig::new();
    let task = rig
        .start(
            "task",
            rig.shell(
                "task",
                "trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done",
            ),
        )
        .await
        .unwrap();
    rig.hears(&task, "up").await;
    let netns = essaim_netlink::NetnsRef::open(&rig.netns("task")).unwrap();
    let processes = TaskProcesses::new(netns).unwrap();
    let (_tell, pending) = watch::channel(Some(BTreeSet::new()));
    let settings = StopSettings {
        grace: DEADLINE,
        ..StopSettings::default()
    };
    let report = within(stop_task(&processes, settings, pending, |_| {}))
        .await
        .unwrap();
    assert_eq!(report.reached, StopPhase::Signalled);
    let record = within(rig.runner.wait(&task)).await.unwrap();
    assert_eq!(record.exit, Exit::Code { code: 4 });
    rig.finish().await;
}
