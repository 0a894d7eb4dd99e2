//! Commands are where their task is: in its namespaces, its control group, its directory, with its privileges.

use crate::namespaces::{Netns, Running};
use crate::{eventually, pace, probe_once};
use essaim_health::{FailureCause, Probe, TaskPlace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A task with namespaces of its own, whose process has given up what it can.
struct Task {
    netns: Netns,
    /// The process outside of them, which ends the others with it.
    _outer: Running,
    pid: u32,
}

impl Task {
    async fn start() -> Self {
        let netns = Netns::new();
        let own = [
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--mount",
            "--uts",
            "--ipc",
        ];
        let make = "hostname essaim-probe && mount -t tmpfs none /mnt && mkdir -m 777 /mnt/here && cd /mnt/here \
            && exec setpriv --reuid 65534 --regid 65533 --groups 4,24 --bounding-set -sys_admin --no-new-privs \
            env -i MARK=yes PATH=/usr/bin:/bin sleep 1000";
        let outer = netns.spawn(Command::new("unshare").args(own).args(["/bin/sh", "-c", make]));
        let pid = eventually("the task runs", || {
            let is_sleep = |pid: &u32| {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n")
            };
            netns.pids().into_iter().find(is_sleep)
        })
        .await;
        Self {
            netns,
            _outer: outer,
            pid,
        }
    }

    fn place(&self) -> TaskPlace {
        TaskPlace {
            process: Some(self.pid),
            ..self.netns.place()
        }
    }

    /// What a line says, run as a probe of the task.
    async fn says(&self, line: &str) -> String {
        let result = probe_once(Probe::shell(line).unwrap(), pace(), self.place()).await;
        result
            .unwrap_or_else(|failure| panic!("{line}: {failure}"))
            .to_string()
    }
}

#[tokio::test]
async fn a_command_is_in_all_namespaces_of_its_task() {
    let task = Task::start().await;
    for kind in ["net", "mnt", "pid", "uts", "ipc", "cgroup", "user"] {
        let expected = fs::read_link(format!("/proc/{}/ns/{kind}", task.pid)).unwrap();
        let found = task.says(&format!("readlink /proc/self/ns/{kind}")).await;
        assert_eq!(Path::new(found.trim()), expected);
    }
    assert_eq!(
        task.says("uname -n; cat /proc/1/comm").await,
        "essaim-probe\nsleep\n"
    );
}

#[tokio::test]
async fn a_command_has_the_tasks_directory_environment_and_privileges() {
    let task = Task::start().await;
    assert_eq!(task.says("pwd; echo $MARK").await, "/mnt/here\nyes\n");
    assert_eq!(
        task.says("id -u; id -g; id -G").await,
        "65534\n65533\n65533 4 24\n"
    );
    let limits = "grep -e CapBnd -e NoNewPrivs -e CapPrm /proc/self/status";
    let expected = fs::read_to_string(format!("/proc/{}/status", task.pid)).unwrap();
    let expected: Vec<&str> = expected
        .lines()
        .filter(|line| {
            ["CapBnd", "NoNewPrivs", "CapPrm"]
                .iter()
                .any(|field| line.starts_with(field))
        })
        .collect();
    let found = task.says(limits).await;
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    assert!(expected.contains(&"NoNewPrivs:\t1") && expected.contains(&"CapPrm:\t0000000000000000"));
}

#[tokio::test]
async fn a_command_is_in_the_control_group_of_its_task() {
    let task = Task::start().await;
    let group = Group::new();
    fs::write(group.0.join("cgroup.procs"), task.pid.to_string()).unwrap();
    let found = task.says("cat /proc/self/cgroup").await;
    let expected = fs::read_to_string(format!("/proc/{}/cgroup", task.pid)).unwrap();
    let version_2 = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("0::"))
            .map(str::to_owned)
    };
    assert_eq!(version_2(&found), version_2(&expected));
    assert!(found.contains("essaim-health-test"), "{found}");
    drop(task);
}

#[tokio::test]
async fn a_process_that_is_none_of_the_tasks_is_not_entered() {
    let netns = Netns::new();
    let other = Netns::new();
    let stranger = other.shell("sleep 1000");
    let place = TaskPlace {
        process: Some(stranger.pid()),
        ..netns.place()
    };
    let failure = probe_once(Probe::shell("true").unwrap(), pace(), place.clone())
        .await
        .unwrap_err();
    assert!(matches!(failure.cause, FailureCause::NotRun { .. }), "{failure}");
    assert!(
        failure
            .to_string()
            .contains("is not in the task's network namespace"),
        "{failure}"
    );
    drop(stranger);
    let failure = probe_once(Probe::shell("true").unwrap(), pace(), place)
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("failed to open process"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_process_in_a_user_namespace_of_its_own_is_not_entered() {
    let netns = Netns::new();
    let task = netns.spawn(Command::new("unshare").args(["--user", "sleep", "1000"]));
    let user = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    eventually("the task runs", || {
        (user(&task.pid().to_string()) != user("self")).then_some(())
    })
    .await;
    let place = TaskPlace {
        process: Some(task.pid()),
        ..netns.place()
    };
    let failure = probe_once(Probe::shell("true").unwrap(), pace(), place)
        .await
        .unwrap_err();
    assert!(
        failure.to_string().contains("user namespace of its own"),
        "{failure}"
    );
}

/// A control group of the test's own.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let point = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then_some(point)
        });
        let path = Path::new(point.expect("no cgroup v2 hierarchy is mounted"))
            .join(format!("essaim-health-test-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let start = std::time::Instant::now();
        while fs::remove_dir(&self.0).is_err() && start.elapsed() < crate::DEADLINE {
            std::thread::yield_now();
        }
    }
}
