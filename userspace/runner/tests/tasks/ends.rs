//! How tasks end, and how that is told.

use crate::rig::{Rig, within};
use essaim_runner::{Exit, NetworkNamespace, Runner as _, RunnerError, TaskState};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn every_exit_code_is_told() {
    let rig = Rig::new();
    for code in 0..=255u8 {
        let task = format!("exit.{code}");
        let mut spec = rig.shell(&task, &format!("exit {code}"));
        spec.network = NetworkNamespace::Host;
        let (record, _) = rig.run(&task, spec).await;
        assert_eq!(record.exit, Exit::Code { code });
        assert!(!record.oom_killed);
        assert!(record.started.unwrap() <= record.finished);
        rig.runner.remove(&task.parse().unwrap()).await.unwrap();
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_ends_a_task_is_told() {
    let rig = Rig::new();
    let task = rig
        .start("plain", rig.spec("plain", &["sleep", "1000"]))
        .await
        .unwrap();
    assert!(rig.runner.signal(&task, "KILL".parse().unwrap()).await.unwrap());
    let record = within(rig.runner.wait(&task)).await.unwrap();
    assert_eq!(record.exit, Exit::Signal { signal: 9 });
    assert_eq!(record.exit.code(), Some(137));
    assert!(!rig.runner.signal(&task, "KILL".parse().unwrap()).await.unwrap());
    // Under an init the command is no process 1, and every signal ends it that would end it elsewhere.
    for (signal, code) in [(15, 143), (11, 139), (6, 134), (37, 165), (64, 192)] {
        let task = format!("init.{signal}");
        let mut spec = rig.shell(&task, &format!("kill -{signal} $$; sleep 1000"));
        spec.init = true;
        let (record, _) = rig.run(&task, spec).await;
        assert_eq!(record.exit, Exit::Code { code }, "signal {signal}");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_ends_with_the_shells_number_and_a_reason() {
    let rig = Rig::new();
    let file = |name: &str, text: &str, mode: u32| {
        let path = rig.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let closed = file("closed", "#!/bin/sh\n", 0o644);
    let data = file("data", "no program", 0o755);
    let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
    for (init, argv, code, reason) in [
        (
            false,
            vec!["/no/such/program"],
            127,
            "was not found in the task's root",
        ),
        (
            true,
            vec!["/no/such/program"],
            127,
            "was not found in the task's root",
        ),
        (
            false,
            vec!["no-such-program"],
            127,
            "was not found in the directories of PATH",
        ),
        (false, vec![lost.as_str()], 127, "needs an interpreter"),
        (false, vec![closed.as_str()], 126, "permission denied"),
        (true, vec![closed.as_str()], 126, "permission denied"),
        (false, vec!["/etc"], 126, "is a directory"),
        (false, vec![data.as_str()], 126, "is no program"),
    ] {
        let mut spec = rig.spec("task", &argv);
        spec.init = init;
        not_started(&rig, spec, code, reason).await;
    }
    let mut spec = rig.shell("task", "exit 0");
    spec.dir = Some("/no/such/directory".into());
    not_started(
        &rig,
        spec,
        128,
        "failed to enter the working directory /no/such/directory",
    )
    .await;
    let mut spec = rig.shell("task", "exit 0");
    spec.user = "no-such-user".into();
    not_started(&rig, spec, 128, "no user no-such-user").await;
    let mut spec = rig.shell("task", "exit 0");
    spec.network = NetworkNamespace::Existing("/run/netns/essaim-no-such".into());
    not_started(
        &rig,
        spec,
        128,
        "failed to enter the network namespace /run/netns/essaim-no-such",
    )
    .await;
    rig.finish().await;
}

async fn not_started(rig: &Rig, spec: essaim_runner::ProcessSpec, code: u8, reason: &str) {
    let task = "task".parse().unwrap();
    rig.runner.prepare(&task, spec).await.unwrap();
    let error = rig.runner.start(&task).await.unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    let RunnerError::NotStarted { record, .. } = error else {
        panic!("{error}");
    };
    assert!(
        matches!(record.exit, Exit::NotStarted { code: found, .. } if found == code),
        "{record:?}"
    );
    assert_eq!(rig.runner.wait(&task).await.unwrap(), record);
    assert_eq!(rig.runner.list().get(&task), Some(&TaskState::Ended(record)));
    assert!(matches!(
        rig.runner.start(&task).await,
        Err(RunnerError::HasEnded { .. })
    ));
    rig.runner.remove(&task).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_told_in_order_and_operations_may_be_repeated() {
    let mut rig = Rig::new();
    let task = "task".parse().unwrap();
    let spec = rig.shell("task", "read never < /run/lock/no 2>/dev/null; exec sleep 1000");
    assert!(matches!(
        rig.runner.start(&task).await,
        Err(RunnerError::Unknown { .. })
    ));
    assert!(matches!(
        rig.runner.wait(&task).await,
        Err(RunnerError::Unknown { .. })
    ));
    rig.runner.remove(&task).await.unwrap();
    for _ in 0..2 {
        assert_eq!(
            rig.runner.prepare(&task, spec.clone()).await.unwrap(),
            TaskState::Prepared
        );
    }
    assert!(matches!(
        rig.runner.kill(&task).await,
        Err(RunnerError::NotRunning { .. })
    ));
    let other = rig.shell("task", "exit 1");
    assert!(matches!(
        rig.runner.prepare(&task, other).await,
        Err(RunnerError::Differs { .. })
    ));
    let started = rig.runner.start(&task).await.unwrap();
    assert_eq!(rig.runner.start(&task).await.unwrap(), started);
    assert_eq!(
        rig.runner.prepare(&task, spec).await.unwrap(),
        TaskState::Running(started.clone())
    );
    assert_eq!(rig.runner.pids(&task).unwrap().first(), Some(&started.pid));
    let status = rig.runner.shim_status(&task).await.unwrap();
    assert_eq!((status.start, status.log_lost), (started.clone(), 0));
    let record = within(rig.runner.kill(&task)).await.unwrap();
    assert_eq!(record.exit, Exit::Signal { signal: 9 });
    assert_eq!(within(rig.runner.kill(&task)).await.unwrap(), record);
    assert_eq!(within(rig.runner.stop(&task, None, None)).await.unwrap(), record);
    for _ in 0..2 {
        rig.runner.remove(&task).await.unwrap();
    }
    let mut told = Vec::new();
    while let Ok(event) = rig.events.try_recv() {
        assert_eq!(event.task, task);
        told.push(event.state);
    }
    let expected = [
        Some(TaskState::Prepared),
        Some(TaskState::Running(started)),
        Some(TaskState::Ended(record)),
        None,
    ];
    assert_eq!(told, expected);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_cannot_be_prepared_leaves_nothing() {
    let rig = Rig::new();
    let task = "task".parse().unwrap();
    let mut spec = rig.shell("task", "exit 0");
    // More than there is: the kernel refuses a quota so large.
    spec.resources.nano_cpus = Some(1 << 62);
    rig.runner.prepare(&task, spec).await.unwrap_err();
    assert!(rig.runner.list().is_empty());
    let left: Vec<_> = rig
        .left()
        .into_iter()
        .filter(|left| !left.starts_with("/sys/fs/cgroup"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    rig.finish().await;
}
