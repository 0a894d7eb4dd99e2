//! Many tasks at once, and what each costs.

use crate::rig::{Rig, within};
use essaim_model::TaskId;
use essaim_runner::{Exit, Runner as _};
use std::fs;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn fifty_tasks_run_side_by_side() {
    let rig = Rig::new();
    let start = Instant::now();
    let starts = (0..50).map(|number| {
        let (runner, task) = (rig.runner.clone(), format!("task.{number}"));
        let mut spec = rig.shell(&task, "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done");
        spec.resources.memory_bytes = Some(64 << 20);
        tokio::spawn(async move {
            let id: TaskId = task.parse().unwrap();
            runner.prepare(&id, spec).await.unwrap();
            runner.start(&id).await.unwrap();
            id
        })
    });
    let mut tasks = Vec::new();
    for started in starts.collect::<Vec<_>>() {
        tasks.push(within(started).await.unwrap());
    }
    eprintln!("50 tasks were prepared and started in {:?}", start.elapsed());
    for task in &tasks {
        rig.hears(task, "up").await;
    }
    let stops = tasks.iter().map(|task| {
        let (runner, task) = (rig.runner.clone(), task.clone());
        tokio::spawn(async move {
            runner
                .stop(&task, None, Some(Duration::from_secs(30)))
                .await
                .unwrap()
        })
    });
    for (stopped, task) in stops.collect::<Vec<_>>().into_iter().zip(&tasks) {
        let record = within(stopped).await.unwrap();
        assert_eq!(record.exit, Exit::Code { code: 0 }, "{task}");
    }
    rig.finish().await;
}

fn kib(pid: i32, file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_costs_milliseconds_and_its_shim_little_memory() {
    let rig = Rig::new();
    let (mut prepares, mut starts, mut shims) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..20 {
        let task: TaskId = format!("task.{number}").parse().unwrap();
        let mut spec = rig.spec(task.as_str(), &["sleep", "1000"]);
        spec.resources.memory_bytes = Some(64 << 20);
        let start = Instant::now();
        rig.runner.prepare(&task, spec).await.unwrap();
        prepares.push(start.elapsed());
        let start = Instant::now();
        let record = rig.runner.start(&task).await.unwrap();
        starts.push(start.elapsed());
        shims.push(record.shim);
    }
    prepares.sort_unstable();
    starts.sort_unstable();
    let median = |times: &[Duration]| times[times.len() / 2];
    let total = |file: &str, field: &str| {
        shims.iter().map(|shim| kib(*shim, file, field)).sum::<u64>() / u64::try_from(shims.len()).unwrap()
    };
    let (rss, anonymous, pss) = (
        total("status", "VmRSS"),
        total("status", "RssAnon"),
        total("smaps_rollup", "Pss:"),
    );
    eprintln!(
        "prepare {:?} (most {:?}), start to exec {:?} (most {:?}); a shim: {rss} KiB resident, {pss} KiB proportional, \
         {anonymous} KiB of its own",
        median(&prepares),
        prepares[19],
        median(&starts),
        starts[19],
    );
    assert!(median(&starts) < Duration::from_millis(500), "{starts:?}");
    assert!(anonymous < 1024, "{anonymous} KiB");
    rig.finish().await;
}
