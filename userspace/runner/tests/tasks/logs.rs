//! What tasks say.

use crate::rig::{Rig, eventually, within};
use essaim_runner::{Exit, LogOptions, LogQuery, LogStream, Runner as _};
use std::fs;
use std::path::Path;
use std::time::Instant;

fn bytes_in(directory: &Path) -> u64 {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_has_both_streams_the_tail_and_what_came_since() {
    let rig = Rig::new();
    let script =
        "echo one; sleep 0.02; echo two >&2; sleep 0.02; printf 'thr\\377ee'; sleep 0.02; echo; printf end";
    let (_, said) = rig.run("task", rig.shell("task", script)).await;
    assert_eq!(said, "one\ntwo\nthr\u{fffd}ee\nend\n");
    let task = "task".parse().unwrap();
    let mut log = rig
        .runner
        .logs(
            &task,
            LogQuery {
                tail: Some(3),
                ..LogQuery::default()
            },
        )
        .await
        .unwrap();
    let two = within(log.next_record()).await.unwrap().unwrap();
    assert_eq!((two.stream, two.text.as_str()), (LogStream::Stderr, "two\n"));
    let since = LogQuery {
        since: Some(two.time),
        ..LogQuery::default()
    };
    let mut log = rig.runner.logs(&task, since).await.unwrap();
    assert_eq!(within(log.next_record()).await.unwrap(), Some(two));
    let first = fs::read_to_string(rig.state_dir().join("task/logs/task.log")).unwrap();
    assert!(
        first.starts_with("{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"20"),
        "{first}"
    );
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_every_line_across_rotation_and_then_the_end() {
    let rig = Rig::new();
    // Paced, so that it can be followed: each batch fits what is kept.
    let script =
        "i=0; while [ $i -lt 60 ]; do seq $((i * 100)) $((i * 100 + 99)); i=$((i + 1)); sleep 0.02; done";
    let mut spec = rig.shell("task", script);
    spec.log = LogOptions {
        max_size: 128 << 10,
        max_file: 2,
    };
    let task = "task".parse().unwrap();
    rig.runner.prepare(&task, spec).await.unwrap();
    // Before it says anything.
    let mut log = rig
        .runner
        .logs(
            &task,
            LogQuery {
                follow: true,
                ..LogQuery::default()
            },
        )
        .await
        .unwrap();
    rig.runner.start(&task).await.unwrap();
    let mut next = 0u32;
    while let Some(record) = within(log.next_record()).await.unwrap() {
        assert_eq!(record.text, format!("{next}\n"));
        next += 1;
    }
    assert_eq!(next, 6000);
    let logs = rig.state_dir().join("task/logs");
    assert_eq!(fs::read_dir(&logs).unwrap().count(), 2);
    assert!(bytes_in(&logs) <= 256 << 10);
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_a_gigabyte_is_bounded_and_holds_up_nobody_else() {
    let rig = Rig::new();
    let options = LogOptions {
        max_size: 1 << 20,
        max_file: 3,
    };
    let mut spec = rig.shell("flood", "yes 'a line of some sixty-four characters, as programs do say them.' | head -c 1000000000; echo; echo end");
    spec.log = options;
    let start = Instant::now();
    let flood = rig.start("flood", spec).await.unwrap();
    let shim = rig.runner.shim_status(&flood).await.unwrap().start.shim;
    let logs = rig.state_dir().join("flood/logs");
    let (mut most, mut others, mut slowest) = (0, 0, std::time::Duration::ZERO);
    while rig
        .runner
        .list()
        .values()
        .any(|state| matches!(state, essaim_runner::TaskState::Running(_)))
    {
        let name = format!("other.{others}");
        let before = Instant::now();
        let (record, said) = rig.run(&name, rig.shell(&name, "echo here")).await;
        slowest = slowest.max(before.elapsed());
        assert_eq!((record.exit, said.as_str()), (Exit::Code { code: 0 }, "here\n"));
        rig.runner.remove(&name.parse().unwrap()).await.unwrap();
        others += 1;
        let size: u64 = fs::read_dir(&logs)
            .unwrap()
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        most = most.max(size);
        let memory = fs::read_to_string(format!("/proc/{shim}/status")).unwrap_or_default();
        if let Some(line) = memory.lines().find(|line| line.starts_with("VmHWM")) {
            let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            assert!(kib < 16 << 10, "the shim took {line}");
        }
        assert!(
            start.elapsed() < crate::rig::DEADLINE * 2,
            "the flood takes too long"
        );
    }
    eprintln!(
        "1 GB of log in {:?}; {others} other tasks meanwhile, the slowest in {slowest:?}; {most} bytes at most",
        start.elapsed()
    );
    assert!(most <= options.max_size * u64::from(options.max_file), "{most}");
    assert!(others > 0);
    let mut log = rig
        .runner
        .logs(
            &flood,
            LogQuery {
                tail: Some(1),
                ..LogQuery::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(within(log.next_record()).await.unwrap().unwrap().text, "end\n");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_costs_log_records_and_neither_the_task_nor_its_exit_code() {
    let rig = Rig::new();
    let disk = rig.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    nix::mount::mount(
        Some("tmpfs"),
        &disk,
        Some("tmpfs"),
        nix::mount::MsFlags::empty(),
        Some("size=256k"),
    )
    .unwrap();
    let (runner, _events) = crate::rig::runner(&disk, &rig.name);
    let task = "task".parse().unwrap();
    let mut spec = rig.shell(
        "task",
        "seq 100000; echo said; while [ ! -e /tmp/essaim-runner-go ]; do sleep 0.01; done; exit 6",
    );
    spec.mounts = vec![essaim_runner::Mount {
        target: "/gate".into(),
        read_only: true,
        source: essaim_runner::MountSource::Bind {
            path: rig.dir.path().into(),
            non_recursive: true,
            propagation: essaim_runner::Propagation::Private,
        },
    }];
    spec.command[2] = spec.command[2].replace("/tmp/essaim-runner-go", "/gate/go");
    runner.prepare(&task, spec).await.unwrap();
    runner.start(&task).await.unwrap();
    let mut lost = 0;
    let start = Instant::now();
    while lost == 0 && start.elapsed() < crate::rig::DEADLINE {
        lost = runner.shim_status(&task).await.unwrap().log_lost;
        tokio::task::yield_now().await;
    }
    assert!(lost > 0);
    fs::write(rig.dir.path().join("go"), "").unwrap();
    let record = within(runner.wait(&task)).await.unwrap();
    assert_eq!(record.exit, Exit::Code { code: 6 });
    assert!(disk.join("task/exit.json").exists());
    within(runner.remove(&task)).await.unwrap();
    assert_eq!(fs::read_dir(&disk).unwrap().count(), 0);
    nix::mount::umount2(&disk, nix::mount::MntFlags::MNT_DETACH).unwrap();
    rig.finish().await;
}

/// A disk of the test's own: an image on a loop device, which can be frozen.
struct Disk(std::path::PathBuf);

fn run(argv: &[&str]) {
    let output = std::process::Command::new(argv[0])
        .args(&argv[1..])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{argv:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Disk {
    fn new(rig: &Rig) -> Self {
        let (image, disk) = (rig.dir.path().join("image"), rig.dir.path().join("disk"));
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        fs::create_dir(&disk).unwrap();
        run(&["mkfs.ext4", "-q", image.to_str().unwrap()]);
        run(&[
            "mount",
            "-o",
            "loop",
            image.to_str().unwrap(),
            disk.to_str().unwrap(),
        ]);
        Self(disk)
    }

    fn freeze(&self) {
        run(&["fsfreeze", "-f", self.0.to_str().unwrap()]);
    }

    fn thaw(&self) {
        run(&["fsfreeze", "-u", self.0.to_str().unwrap()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Fails where it is not frozen.
        let _ = std::process::Command::new("fsfreeze")
            .args(["-u", self.0.to_str().unwrap()])
            .output();
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_holds_up_what_a_task_says_and_nothing_else() {
    let rig = Rig::new();
    let disk = Disk::new(&rig);
    let (runner, _events) = crate::rig::runner(&disk.0, &rig.name);
    let task = "task".parse().unwrap();
    let script = "trap 'exit 8' TERM; echo up; while ! test -e /gate/go; do sleep 0.01; done; \
                  seq 50000; echo said > /gate/said; while :; do sleep 0.01; done";
    let mut spec = rig.shell("task", script);
    let path = rig.dir.path().join("gate");
    fs::create_dir(&path).unwrap();
    let propagation = essaim_runner::Propagation::Private;
    let source = essaim_runner::MountSource::Bind {
        path: path.clone(),
        non_recursive: true,
        propagation,
    };
    spec.mounts = vec![essaim_runner::Mount {
        target: "/gate".into(),
        read_only: false,
        source,
    }];
    runner.prepare(&task, spec).await.unwrap();
    runner.start(&task).await.unwrap();
    let log = disk.0.join("task/logs/task.log");
    eventually("the task is up", || {
        fs::read_to_string(&log).unwrap().contains("up").then_some(())
    })
    .await;
    disk.freeze();
    fs::write(path.join("go"), "").unwrap();
    // More than pipes hold: it cannot be said while the disk hangs. The shim answers all the while.
    for _ in 0..50 {
        within(runner.shim_status(&task)).await.unwrap();
        assert!(!path.join("said").exists());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    disk.thaw();
    eventually("all is said", || path.join("said").exists().then_some(())).await;
    assert_eq!(runner.shim_status(&task).await.unwrap().log_lost, 0);
    let record = within(runner.stop(&task, None, None)).await.unwrap();
    assert_eq!(record.exit, Exit::Code { code: 8 });
    let mut log = runner
        .logs(
            &task,
            LogQuery {
                tail: Some(1),
                ..LogQuery::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(within(log.next_record()).await.unwrap().unwrap().text, "50000\n");
    within(runner.remove(&task)).await.unwrap();
    drop(disk);
    rig.finish().await;
}
