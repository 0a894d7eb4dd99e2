//! Stops, and what is left of a task then.

use crate::rig::{Rig, within};
use essaim_runner::{Exit, ProcessSpec, Runner as _};
use std::time::{Duration, Instant};

async fn stopped(rig: &Rig, spec: ProcessSpec, grace: Duration) -> (Exit, Duration) {
    let task = rig.start("task", spec).await.unwrap();
    rig.hears(&task, "up").await;
    let start = Instant::now();
    let record = within(rig.runner.stop(&task, None, Some(grace))).await.unwrap();
    let took = start.elapsed();
    rig.runner.remove(&task).await.unwrap();
    (record.exit, took)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_hears_the_signal_ends_by_itself() {
    let rig = Rig::new();
    let long = Duration::from_secs(30);
    for (signal, name) in [("SIGTERM", "TERM"), ("SIGUSR1", "USR1"), ("SIGRTMIN+3", "37")] {
        let script = format!("trap 'exit 7' {name}; echo up; while :; do sleep 0.01; done");
        let mut spec = rig.shell("task", &script);
        spec.stop_signal = signal.parse().unwrap();
        let (exit, took) = stopped(&rig, spec, long).await;
        assert_eq!(exit, Exit::Code { code: 7 }, "{signal}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    // An init passes the signal on to a command that does not handle it, which ends it there.
    let mut spec = rig.shell("task", "echo up; exec sleep 1000");
    spec.init = true;
    let (exit, took) = stopped(&rig, spec, long).await;
    assert_eq!(exit, Exit::Code { code: 143 });
    assert!(took < Duration::from_secs(5), "{took:?}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_does_not_is_killed_after_the_grace_period() {
    let rig = Rig::new();
    for grace in [Duration::ZERO, Duration::from_millis(700)] {
        let spec = rig.shell("task", "trap '' TERM; echo up; while :; do sleep 0.01; done");
        let (exit, took) = stopped(&rig, spec, grace).await;
        assert_eq!(exit, Exit::Signal { signal: 9 });
        assert!(took >= grace && took < grace + Duration::from_secs(5), "{took:?}");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_leaves_behind_ends_with_it() {
    let rig = Rig::new();
    for init in [false, true] {
        let task = format!("task.{init}");
        let mut spec = rig.shell(
            &task,
            "setsid sleep 1000 & (trap '' TERM HUP; setsid sh -c 'sleep 1000; sleep 1000' &) ; sleep 0.05; exit 3",
        );
        spec.init = init;
        let (record, _) = rig.run(&task, spec).await;
        assert_eq!(record.exit, Exit::Code { code: 3 });
        assert!(rig.runner.pids(&task.parse().unwrap()).unwrap().is_empty());
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_collects_what_the_command_does_not() {
    let rig = Rig::new();
    let script = "for i in 1 2 3 4 5; do (sleep 0.01 &); done; sleep 0.3; cat /proc/[0-9]*/stat | cut -d' ' -f3 | grep -c Z";
    let mut spec = rig.shell("task", script);
    spec.init = true;
    let (_, said) = rig.run("task", spec).await;
    assert_eq!(said, "0\n");
    rig.finish().await;
}
