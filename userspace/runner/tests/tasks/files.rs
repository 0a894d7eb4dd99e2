//! Secrets and configs.

use crate::rig::{Rig, within};
use essaim_runner::{Contents, Exit, FileKind, Runner as _, RunnerError, TaskFile};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Found nowhere else on the machine, in parts so that this program's own text does not hold it either.
fn marker() -> String {
    format!("{}-{}-{}", "hush", std::process::id(), "little swarm")
}

fn file(kind: FileKind, target: &str, mode: u32, text: &str) -> TaskFile {
    TaskFile {
        kind,
        target: target.into(),
        mode,
        uid: 1,
        gid: 2,
        contents: Contents::new(text.as_bytes().to_vec()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_have_their_place_owner_mode_and_contents() {
    let rig = Rig::new();
    let script = "for file in /run/secrets/plain /run/secrets/deep/er /run/own/key /app.conf /etc/hostname; do \
        stat -c '%n %a %u %g %s' $file; stat -f -c %T $file; cat $file; echo; done; ls -A /run/secrets; \
        (echo x > /run/secrets/new) 2>/dev/null && echo open; (echo x > /app.conf) 2>/dev/null && echo open; exit 0";
    let mut spec = rig.shell("task", script);
    spec.files = vec![
        file(FileKind::Secret, "plain", 0o440, "one"),
        file(FileKind::Secret, "deep/er", 0o400, ""),
        file(FileKind::Secret, "/run/own/key", 0o4755, "three"),
        file(FileKind::Config, "app.conf", 0o444, "four"),
        file(FileKind::Config, "/etc/hostname", 0o644, "five"),
    ];
    let (record, said) = rig.run("task", spec).await;
    assert_eq!(record.exit, Exit::Code { code: 0 });
    let expected = "/run/secrets/plain 440 1 2 3\ntmpfs\none\n/run/secrets/deep/er 400 1 2 0\ntmpfs\n\n\
        /run/own/key 4755 1 2 5\ntmpfs\nthree\n/app.conf 444 1 2 4\ntmpfs\nfour\n/etc/hostname 644 1 2 4\ntmpfs\nfive\ndeep\nplain\n";
    assert_eq!(said, expected);
    assert_ne!(fs::read_to_string("/etc/hostname").unwrap(), "five");
    // Configs alone leave no directory of secrets.
    let mut spec = rig.shell(
        "config",
        "cat /app.conf; ls -A /run/secrets; stat -f -c %T /run/secrets; grep -c secrets /proc/mounts; true",
    );
    spec.files = vec![file(FileKind::Config, "app.conf", 0o444, "four\n")];
    let (_, said) = rig.run("config", spec).await;
    assert_eq!(said, "four\ntmpfs\n0\n");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_on_no_disk_and_in_no_memory_but_the_tasks() {
    let rig = Rig::new();
    let marker = marker();
    let mut spec = rig.shell(
        "task",
        "cmp /run/secrets/key /app.conf && echo read; exec sleep 1000",
    );
    spec.init = true;
    spec.files = vec![
        file(FileKind::Secret, "key", 0o400, &marker),
        file(FileKind::Config, "app.conf", 0o400, &marker),
    ];
    let task = rig.start("task", spec).await.unwrap();
    rig.hears(&task, "read").await;
    assert!(!holds(&rig.dir.path().display().to_string(), &marker));
    let status = rig.runner.shim_status(&task).await.unwrap();
    let shim = status.start.shim;
    // That the search finds what is there: the task's id is in its arguments, and so on its stack.
    assert!(memory_holds(shim, rig.name.as_bytes()));
    assert!(
        !memory_holds(shim, marker.as_bytes()),
        "the shim holds the secret"
    );
    assert!(
        !memory_holds(status.start.pid, marker.as_bytes()),
        "the init holds the secret"
    );
    within(rig.runner.remove(&task)).await.unwrap();
    rig.finish().await;
}

fn holds(directory: &str, text: &str) -> bool {
    let found = std::process::Command::new("grep")
        .args(["-raqsF", text, directory])
        .status()
        .unwrap();
    found.success()
}

/// Whether a process has these bytes anywhere in memory that it can write to.
fn memory_holds(pid: i32, bytes: &[u8]) -> bool {
    let proc = Path::new("/proc").join(pid.to_string());
    let memory = File::open(proc.join("mem")).unwrap();
    let maps = fs::read_to_string(proc.join("maps")).unwrap();
    let mut searched = 0;
    let found = maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let at = |text| u64::from_str_radix(text, 16).unwrap();
        let mut area = vec![0; usize::try_from(at(end) - at(start)).unwrap()];
        // What cannot be read (the kernel's own pages) holds nothing of ours.
        let read = memory.read_at(&mut area, at(start)).unwrap_or_default();
        searched += read;
        area[..read].windows(bytes.len()).any(|window| window == bytes)
    });
    assert!(searched > 100_000, "{searched}");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_lost_the_contents_asks_for_them() {
    let mut rig = Rig::new();
    let task = "task".parse().unwrap();
    let mut spec = rig.shell("task", "cat /run/secrets/key");
    spec.files = vec![file(FileKind::Secret, "key", 0o444, "again")];
    rig.runner.prepare(&task, spec.clone()).await.unwrap();
    rig.restart();
    rig.runner.adopt().await.unwrap();
    assert!(matches!(
        rig.runner.start(&task).await,
        Err(RunnerError::ContentsGone { .. })
    ));
    rig.runner.prepare(&task, spec).await.unwrap();
    rig.runner.start(&task).await.unwrap();
    within(rig.runner.wait(&task)).await.unwrap();
    assert_eq!(rig.said(&task).await, "again\n");
    rig.finish().await;
}
