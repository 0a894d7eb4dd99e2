//! A runner of the test's own, which leaves nothing.

use essaim_model::TaskId;
use essaim_runner::{
    ExitRecord, LogQuery, NetworkNamespace, ProcessRunner, ProcessRunnerConfig, ProcessSpec, Runner as _,
    RunnerError, ShimProgram, TaskEvent,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Longest that any condition may take.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// The program beside the tests that is shim and agent.
pub(crate) fn host() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let host = tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/runner-host");
    assert!(
        host.exists(),
        "{} is missing: build the examples, too",
        host.display()
    );
    host
}

pub(crate) struct Rig {
    pub(crate) runner: ProcessRunner,
    pub(crate) events: mpsc::Receiver<TaskEvent>,
    pub(crate) name: String,
    pub(crate) dir: tempfile::TempDir,
}

static RIGS: AtomicU32 = AtomicU32::new(0);

impl Rig {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let number = RIGS.fetch_add(1, Ordering::Relaxed);
        let name = format!("essaim-runner-{}-{number}", std::process::id());
        let dir = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let (runner, events) = runner(&dir.path().join("tasks"), &name);
        Self {
            runner,
            events,
            name,
            dir,
        }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("tasks")
    }

    /// An agent that was started anew: it knows nothing.
    pub(crate) fn restart(&mut self) {
        (self.runner, self.events) = runner(&self.state_dir(), &self.name);
    }

    /// A spec with a network namespace of its own.
    pub(crate) fn spec(&self, task: &str, argv: &[&str]) -> ProcessSpec {
        ProcessSpec {
            command: argv.iter().map(|part| (*part).to_owned()).collect(),
            network: NetworkNamespace::Create(self.netns(task)),
            ..ProcessSpec::default()
        }
    }

    pub(crate) fn netns(&self, task: &str) -> String {
        format!("{}-{task}", self.name)
    }

    /// A spec that runs lines of shell.
    pub(crate) fn shell(&self, task: &str, script: &str) -> ProcessSpec {
        self.spec(task, &["/bin/sh", "-c", script])
    }

    pub(crate) async fn start(&self, task: &str, spec: ProcessSpec) -> Result<TaskId, RunnerError> {
        let id = TaskId::new(task).unwrap();
        self.runner.prepare(&id, spec).await?;
        self.runner.start(&id).await?;
        Ok(id)
    }

    /// Runs a task to its end; how it ended, and what it said.
    pub(crate) async fn run(&self, task: &str, spec: ProcessSpec) -> (ExitRecord, String) {
        let id = self.start(task, spec).await.unwrap();
        let record = within(self.runner.wait(&id)).await.unwrap();
        let said = self.said(&id).await;
        (record, said)
    }

    /// What a task has said, as far as it was heard before its end.
    pub(crate) async fn said(&self, task: &TaskId) -> String {
        let mut log = self.runner.logs(task, LogQuery::default()).await.unwrap();
        let mut said = String::new();
        while let Some(record) = within(log.next_record()).await.unwrap() {
            said.push_str(&record.text);
        }
        said
    }

    /// Follows the log until a line of this text comes.
    pub(crate) async fn hears(&self, task: &TaskId, line: &str) {
        let mut log = self
            .runner
            .logs(
                task,
                LogQuery {
                    follow: true,
                    ..LogQuery::default()
                },
            )
            .await
            .unwrap();
        while let Some(record) = within(log.next_record()).await.unwrap() {
            if record.text.trim_end() == line {
                return;
            }
        }
        panic!("{task} ended without saying {line:?}");
    }

    /// Removes all tasks, and checks that nothing is left of them.
    pub(crate) async fn finish(self) {
        within(self.runner.remove_all()).await.unwrap();
        assert_eq!(self.left(), BTreeSet::new());
    }

    /// Everything on this machine that has this rig's name.
    pub(crate) fn left(&self) -> BTreeSet<String> {
        let mut left = BTreeSet::new();
        for hierarchy in hierarchies() {
            if hierarchy.join(&self.name).exists() {
                left.insert(hierarchy.join(&self.name).display().to_string());
            }
        }
        left.extend(names("/run/netns", &self.name));
        left.extend(
            fs::read_dir(self.state_dir())
                .unwrap()
                .map(|entry| entry.unwrap().path().display().to_string()),
        );
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&self.name))
                .map(str::to_owned),
        );
        left.extend(self.processes());
        left
    }

    /// The processes of the rig's tasks, by their control group or, of shims, by their arguments.
    fn processes(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let line = read("cmdline");
            // One that has ended and was not waited for by the machine's init yet has no arguments.
            let ended = read("stat")
                .rsplit_once(')')
                .is_none_or(|(_, rest)| rest.starts_with(" Z"));
            if ended {
                continue;
            }
            if read("cgroup").contains(&self.name) || line.contains(&self.name) {
                found.insert(format!("{} {line}", entry.path().display()));
            }
        }
        found
    }

    /// Takes from the rig's tasks what does not outlive the machine: processes, namespaces and control groups.
    pub(crate) fn take_kernel_parts(&self) {
        let pids = hierarchies()
            .into_iter()
            .flat_map(|hierarchy| pids_below(&hierarchy.join(&self.name)));
        for pid in pids {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        for name in names("/run/netns", &self.name) {
            let path = Path::new("/run/netns").join(name);
            let _ = nix::mount::umount2(&path, nix::mount::MntFlags::MNT_DETACH);
            let _ = fs::remove_file(path);
        }
        let start = Instant::now();
        for hierarchy in hierarchies() {
            let group = hierarchy.join(&self.name);
            while group.exists() && start.elapsed() < Duration::from_secs(5) {
                remove_groups(&group);
                std::thread::yield_now();
            }
        }
    }
}

/// What a test that fails leaves is removed, too.
impl Drop for Rig {
    fn drop(&mut self) {
        self.take_kernel_parts();
    }
}

fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

fn pids_below(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            pids.extend(pids_below(&entry.path()));
        }
    }
    pids
}

fn names(directory: &str, part: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with(&format!("{part}-")))
        .collect()
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut found = Vec::new();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if fields[2].starts_with("cgroup") {
            found.push(PathBuf::from(fields[1]));
        }
    }
    found
}

pub(crate) fn runner(state_dir: &Path, cgroup: &str) -> (ProcessRunner, mpsc::Receiver<TaskEvent>) {
    let (tell, events) = mpsc::channel(100_000);
    let config = ProcessRunnerConfig {
        state_dir: state_dir.to_owned(),
        cgroup_parent: cgroup.into(),
        hidden: Vec::new(),
        shim: ShimProgram {
            program: host(),
            arguments: vec!["task-shim".into()],
        },
    };
    (ProcessRunner::new(config, tell).unwrap(), events)
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it takes too long")
}

/// Looks at a condition until it holds, and hands out what it found.
pub(crate) async fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
