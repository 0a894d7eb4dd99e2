//! Limits that hold.

use crate::rig::{Rig, eventually, within};
use essaim_runner::{Exit, Runner as _};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_takes_too_much_memory_is_killed_and_that_is_told() {
    let rig = Rig::new();
    let mut spec = rig.spec("task", &["perl", "-e", "$x = 'a' x (256 << 20); sleep 1000"]);
    spec.resources.memory_bytes = Some(64 << 20);
    let (record, _) = rig.run("task", spec).await;
    assert_eq!(record.exit, Exit::Signal { signal: 9 });
    assert!(record.oom_killed);
    // So is a child of the command, though that lives on.
    let mut spec = rig.shell("child", "perl -e '$x = \"a\" x (256 << 20)'; exit 5");
    spec.resources.memory_bytes = Some(64 << 20);
    let (record, _) = rig.run("child", spec).await;
    assert_eq!((record.exit, record.oom_killed), (Exit::Code { code: 5 }, true));
    // Its limit is what a task sees as its own.
    let mut spec = rig.shell(
        "sees",
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null",
    );
    spec.resources.memory_bytes = Some(64 << 20);
    let (record, said) = rig.run("sees", spec).await;
    assert_eq!((said.trim(), record.oom_killed), ("67108864", false));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_has_no_more_processes_than_it_may() {
    let rig = Rig::new();
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all; wait";
    let mut spec = rig.shell("task", script);
    spec.resources.pids = Some(5);
    let (record, said) = rig.run("task", spec).await;
    assert!(!said.contains("all"), "{said}");
    assert_ne!(record.exit, Exit::Code { code: 0 });
    let mut spec = rig.shell("fits", script);
    spec.resources.pids = Some(9);
    let task = rig.start("fits", spec).await.unwrap();
    rig.hears(&task, "all").await;
    let stats = rig.runner.stats(&task).await.unwrap();
    assert_eq!(stats.pids, Some(9));
    assert!(stats.memory_bytes.unwrap() > 100_000, "{stats:?}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_has_no_more_of_a_processor_than_it_may() {
    let rig = Rig::new();
    let mut spec = rig.shell("task", "while :; do :; done");
    spec.resources.nano_cpus = Some(200_000_000);
    let start = Instant::now();
    let task = rig.start("task", spec).await.unwrap();
    let mut used = Duration::ZERO;
    // Long enough that the first period's share does not matter.
    while start.elapsed() < Duration::from_secs(3) {
        used = rig.runner.stats(&task).await.unwrap().cpu.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
    eprintln!("a task with 0.2 of a processor used {share:.3}");
    assert!(share < 0.26 && share > 0.05, "{share}");
    within(rig.runner.kill(&task)).await.unwrap();
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_uses_is_counted_while_it_runs() {
    let rig = Rig::new();
    let mut spec = rig.spec(
        "task",
        &[
            "perl",
            "-e",
            "$x = 'a' x (32 << 20); $| = 1; print \"up\\n\"; sleep 1000",
        ],
    );
    spec.resources.memory_bytes = Some(256 << 20);
    let task = rig.start("task", spec).await.unwrap();
    rig.hears(&task, "up").await;
    let stats = rig.runner.stats(&task).await.unwrap();
    assert_eq!((stats.pids, stats.memory_limit_bytes), (Some(1), Some(256 << 20)));
    assert!(stats.memory_bytes.unwrap() > 30 << 20, "{stats:?}");
    assert!(stats.cpu.unwrap() > Duration::ZERO, "{stats:?}");
    within(rig.runner.kill(&task)).await.unwrap();
    let runner = rig.runner.clone();
    eventually("no process is counted", || {
        runner.pids(&task).unwrap().is_empty().then_some(())
    })
    .await;
    rig.finish().await;
}
