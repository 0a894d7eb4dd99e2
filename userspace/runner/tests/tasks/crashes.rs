//! Agents and shims that are killed.

use crate::rig::{Rig, eventually, host, within};
use essaim_model::TaskId;
use essaim_runner::{Contents, Exit, FileKind, ProcessSpec, Runner as _, TaskFile, TaskState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn agent(rig: &Rig, task: &str, spec: &ProcessSpec) -> Child {
    Command::new(host())
        .arg("agent")
        .arg(rig.state_dir())
        .args([&rig.name, task])
        .arg(serde_json::to_string(spec).unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn with_secret(mut spec: ProcessSpec) -> ProcessSpec {
    spec.files = vec![TaskFile {
        kind: FileKind::Secret,
        target: "key".into(),
        mode: 0o444,
        uid: 0,
        gid: 0,
        contents: Contents::new(b"a secret of the test's agent".to_vec()),
    }];
    spec
}

/// Wherever the agent is killed, the next one finds a task that it can go on with, or nothing of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_time_loses_no_exit_code() {
    let mut rig = Rig::new();
    let task: TaskId = "task".parse().unwrap();
    let mut found: BTreeMap<&str, u32> = BTreeMap::new();
    for step in 0..120u64 {
        let spec = with_secret(rig.shell("task", "cat /run/secrets/key > /dev/null && sleep 0.02; exit 42"));
        let mut agent = agent(&rig, "task", &spec);
        // From before its first step to after the task's end; the steps between take a few milliseconds.
        tokio::time::sleep(Duration::from_micros(step * 600)).await;
        agent.kill().unwrap();
        agent.wait().unwrap();
        rig.restart();
        let adopted = within(rig.runner.adopt()).await.unwrap();
        let what = match adopted.tasks.get(&task) {
            Some(TaskState::Prepared) => "prepared",
            Some(TaskState::Running(_)) => "running",
            Some(TaskState::Ended(_)) => "ended",
            None if adopted.removed.is_empty() => "nothing",
            None => "removed",
        };
        *found.entry(what).or_default() += 1;
        if adopted.tasks.is_empty() {
            let left = rig.left();
            let left: Vec<_> = left
                .iter()
                .filter(|left| !left.starts_with("/sys/fs/cgroup"))
                .collect();
            assert!(left.is_empty(), "{left:?}");
        } else {
            if what == "prepared" {
                rig.runner.prepare(&task, spec).await.unwrap();
                rig.runner.start(&task).await.unwrap();
            }
            let record = within(rig.runner.wait(&task)).await.unwrap();
            assert_eq!(record.exit, Exit::Code { code: 42 }, "{what}");
        }
        within(rig.runner.remove(&task)).await.unwrap();
    }
    eprintln!("agents killed, and what the next one found: {found:?}");
    assert!(
        found.contains_key("running") && found.contains_key("ended"),
        "{found:?}"
    );
    rig.finish().await;
}

/// Each state that a prepare can be cut short in, made from a whole one: what comes later is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepare_that_was_cut_short_is_removed_completely() {
    let mut rig = Rig::new();
    let task: TaskId = "task".parse().unwrap();
    for cut in 0..6 {
        rig.runner
            .prepare(&task, rig.shell("task", "exit 0"))
            .await
            .unwrap();
        let dir = rig.state_dir().join("task");
        fs::remove_file(dir.join("prepared")).unwrap();
        let netns = format!("/run/netns/{}", rig.netns("task"));
        if cut >= 1 {
            nix::mount::umount2(netns.as_str(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
        if cut >= 2 {
            fs::remove_file(&netns).unwrap();
        }
        if cut >= 3 {
            fs::remove_dir_all(dir.join("logs")).unwrap();
        }
        if cut >= 4 {
            fs::write(dir.join("spec.draft"), "{\"comm").unwrap();
        }
        if cut >= 5 {
            fs::remove_file(dir.join("spec.json")).unwrap();
        }
        rig.restart();
        let adopted = rig.runner.adopt().await.unwrap();
        assert_eq!(
            (adopted.tasks.len(), adopted.removed.as_slice()),
            (0, &["task".to_owned()][..])
        );
        let left: Vec<_> = rig
            .left()
            .into_iter()
            .filter(|left| !left.ends_with(&rig.name))
            .collect();
        assert!(left.is_empty(), "cut {cut}: {left:?}");
    }
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_neither_notices_that_its_agent_is_killed_nor_that_there_is_a_new_one() {
    let mut rig = Rig::new();
    let task: TaskId = "task".parse().unwrap();
    let script = "echo up; trap 'echo asked; exit 9' TERM; while :; do sleep 0.01; done";
    let spec = with_secret(rig.shell("task", script));
    let mut agent = agent(&rig, "task", &spec);
    let started = rig.state_dir().join("task/started.json");
    eventually("the task has started", || started.exists().then_some(())).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    for _ in 0..3 {
        rig.restart();
        let adopted = within(rig.runner.adopt()).await.unwrap();
        assert!(
            matches!(adopted.tasks.get(&task), Some(TaskState::Running(_))),
            "{adopted:?}"
        );
        rig.hears(&task, "up").await;
    }
    let record = within(rig.runner.stop(&task, None, None)).await.unwrap();
    assert_eq!(record.exit, Exit::Code { code: 9 });
    assert_eq!(rig.said(&task).await, "up\nasked\n");
    // What ended while nobody was there is found as well.
    rig.restart();
    let adopted = rig.runner.adopt().await.unwrap();
    assert_eq!(adopted.tasks.get(&task), Some(&TaskState::Ended(record)));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_shim_is_killed_ends_and_its_exit_is_stated_as_unknown() {
    let mut rig = Rig::new();
    for (name, user, init, watched) in [
        ("a", "", false, true),
        ("b", "daemon", false, true),
        ("c", "", true, true),
        ("d", "daemon", true, false),
    ] {
        let mut spec = rig.shell(name, "echo up; (setsid sleep 1000 &); sleep 1000");
        spec.user = user.into();
        spec.init = init;
        let task = rig.start(name, spec).await.unwrap();
        rig.hears(&task, "up").await;
        let shim = rig.runner.shim_status(&task).await.unwrap().start.shim;
        if !watched {
            rig.restart();
        }
        kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
        if !watched {
            rig.runner.adopt().await.unwrap();
        }
        let record = within(rig.runner.wait(&task)).await.unwrap();
        assert!(matches!(record.exit, Exit::Lost { .. }), "{record:?}");
        assert_eq!((record.exit.code(), record.started.is_some()), (None, true));
        assert!(rig.runner.pids(&task).unwrap().is_empty());
        assert_eq!(rig.said(&task).await, "up\n");
    }
    rig.finish().await;
}

/// After a restart of the machine directories are left, and nothing of the kernel's.
#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_was_prepared_before_the_machine_restarted_can_be_started() {
    let mut rig = Rig::new();
    let prepared: TaskId = "prepared".parse().unwrap();
    let mut spec = rig.shell("prepared", "readlink /proc/self/ns/net; exit 5");
    spec.resources.memory_bytes = Some(64 << 20);
    rig.runner.prepare(&prepared, spec).await.unwrap();
    let lost = rig
        .start("lost", rig.spec("lost", &["sleep", "1000"]))
        .await
        .unwrap();
    within(rig.runner.kill(&lost)).await.unwrap();
    fs::remove_file(rig.state_dir().join("lost/exit.json")).unwrap();
    rig.take_kernel_parts();
    rig.restart();
    let adopted = rig.runner.adopt().await.unwrap();
    assert_eq!(adopted.tasks.get(&prepared), Some(&TaskState::Prepared));
    let record = match adopted.tasks.get(&lost) {
        Some(TaskState::Ended(record)) => record,
        other => panic!("{other:?}"),
    };
    assert!(matches!(record.exit, Exit::Lost { .. }), "{record:?}");
    rig.runner.start(&prepared).await.unwrap();
    let record = within(rig.runner.wait(&prepared)).await.unwrap();
    assert_eq!(record.exit, Exit::Code { code: 5 });
    let said = rig.said(&prepared).await;
    assert_ne!(
        said.trim(),
        fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap()
    );
    rig.finish().await;
}
