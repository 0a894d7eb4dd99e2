//! Real tasks of the process runner. Needs root.

use crate::fakes::FakeDataplane;
use crate::manager::{Authority, Manager, clock};
use crate::within;
use essaim_ca::{LiveIdentity, Role};
use essaim_docker::{DockerRunner, DockerRunnerConfig};
use essaim_objects::{Config, ConfigId, Secret, SecretId, Task, TaskId, TaskState};
use essaim_protocol::{
    Assignment, Basis, LogMessage, LogPosition, LogSelector, LogSubscription, LogSubscriptionId, Stream,
    ToNode,
};
use essaim_runner::{ProcessRunner, ProcessRunnerConfig, Runner as _, ShimProgram};
use essaim_worker::{Describe, LeaderLink, NodeRunner, Notice, Word, WorkerOptions, run_worker, stop_all};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Found nowhere else on the machine, in parts so that this program's own text does not hold it either.
fn marker() -> String {
    format!("{}-{}-{}", "hush", std::process::id(), "worker bee")
}

fn shim() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let shim = tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/worker-shim");
    assert!(
        shim.exists(),
        "{} is missing: build the examples, too",
        shim.display()
    );
    shim
}

/// What outlives a worker.
struct Machine {
    name: String,
    identity: Arc<LiveIdentity>,
    directory: TempDir,
    dataplane: Arc<FakeDataplane>,
}

struct Worker {
    runner: Arc<NodeRunner>,
    notices: mpsc::Receiver<Notice>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Machine {
    fn new(authority: &Authority, what: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let name = format!("essaim-worker-{what}-{}", std::process::id());
        let directory = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        std::fs::write(&resolv_conf, "nameserver 127.0.0.11\n").unwrap();
        Self {
            name,
            identity: authority.member(Role::Worker),
            directory,
            dataplane: Arc::new(FakeDataplane {
                resolv_conf,
                ..FakeDataplane::default()
            }),
        }
    }

    /// A worker and its runner, as a new process has them: they know nothing.
    fn worker(&self, managers: Vec<String>) -> Worker {
        let (tell_event, events) = mpsc::channel(100);
        let config = ProcessRunnerConfig {
            state_dir: self.directory.path().join("tasks"),
            cgroup_parent: self.name.clone().into(),
            hidden: Vec::new(),
            shim: ShimProgram {
                program: shim(),
                arguments: vec!["task-shim".into()],
            },
        };
        let containers = DockerRunnerConfig {
            socket: self.engine(),
            state_dir: self.directory.path().join("containers"),
            run_dir: self.directory.path().join("files"),
            cgroup_parent: None,
        };
        let containers = DockerRunner::new(containers, tell_event.clone()).unwrap();
        let processes = ProcessRunner::new(config, tell_event).unwrap();
        let runner = Arc::new(NodeRunner::new(processes, containers));
        let options = WorkerOptions {
            identity: Arc::clone(&self.identity),
            time: clock(),
            managers,
            directory: self.directory.path().join("worker"),
            describe: Describe {
                hostname: Some("one".to_owned()),
                ..Describe::default()
            },
            data_path: None,
            runner: Arc::clone(&runner),
            events,
            dataplane: Arc::clone(&self.dataplane),
            leader: LeaderLink::default(),
        };
        let (tell, notices) = mpsc::channel(100);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            run_worker(options, tell, stopped).await.unwrap();
        });
        Worker {
            runner,
            notices,
            stop,
            running,
        }
    }

    /// Where no Docker Engine listens.
    fn engine(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn words(&self, task: TaskId) -> Vec<Word> {
        let told = self.dataplane.told.lock().unwrap();
        let told = told.iter().filter(|(of, _)| *of == task);
        let mut words: Vec<Word> = told.map(|(_, word)| *word).collect();
        // A restart says again what is so.
        words.dedup();
        words
    }

    fn holds(&self, text: &str) -> bool {
        let found = std::process::Command::new("grep")
            .args(["-raqsF", text])
            .arg(self.directory.path())
            .status();
        found.unwrap().success()
    }
}

impl Worker {
    async fn stop(self) -> Arc<NodeRunner> {
        self.stop.send(()).unwrap();
        within(self.running).await.unwrap();
        self.runner
    }
}

fn container(script: &str) -> Value {
    json!({"ContainerSpec": {"Image": "host", "Command": ["/bin/sh", "-c", script]}})
}

fn task(number: u128, desired: TaskState, spec: Value) -> Assignment {
    let mut task = Task::new(
        TaskId::from_bits(number),
        None,
        Arc::new(serde_json::from_value(spec).unwrap()),
    );
    task.slot = Some(3);
    task.status.state = TaskState::Assigned;
    task.desired_state = desired;
    Assignment::Task(Arc::new(task))
}

fn subscription(task: TaskId, follow: bool) -> LogSubscription {
    LogSubscription {
        id: LogSubscriptionId(9),
        selector: LogSelector {
            services: Vec::new(),
            tasks: vec![task],
            nodes: Vec::new(),
        },
        tail: None,
        since: None,
        until: None,
        follow,
        streams: vec![Stream::Stdout],
        resume: Vec::new(),
        round: 0,
    }
}

fn text(message: &LogMessage) -> &str {
    std::str::from_utf8(message.data.as_bytes()).unwrap().trim_end()
}

/// Follows a task's log until it has said this.
async fn says(manager: &mut Manager, task: TaskId, line: &str) -> Vec<String> {
    manager.says(&ToNode::Logs(subscription(task, true)));
    let mut said = Vec::new();
    while said.last().is_none_or(|last| last != line) {
        let batch = manager.logs().await;
        assert_eq!(batch.ended, None, "{said:?}");
        said.extend(batch.messages.iter().map(|message| text(message).to_owned()));
    }
    manager.says(&ToNode::EndLogs(LogSubscriptionId(9)));
    said
}

/// Follows a task's log until it has said so many lines; where they begin, and they.
async fn follows(
    manager: &mut Manager,
    asked: &LogSubscription,
    count: usize,
) -> (Vec<LogPosition>, Vec<LogMessage>) {
    manager.says(&ToNode::Logs(asked.clone()));
    let (mut begins, mut lines, mut number) = (Vec::new(), Vec::new(), 0);
    while lines.len() < count {
        let batch = manager.logs().await;
        // What another request had still to say.
        if (batch.subscription, batch.round) != (asked.id, asked.round) {
            continue;
        }
        assert_eq!((batch.number, batch.ended), (number, None));
        number += 1;
        begins.extend(batch.begins);
        lines.extend(batch.messages);
    }
    (begins, lines)
}

/// All that a task has said that has ended.
async fn said_in_all(manager: &mut Manager, task: TaskId) -> Vec<String> {
    manager.says(&ToNode::Logs(subscription(task, false)));
    let mut said = Vec::new();
    loop {
        let batch = manager.logs().await;
        // What another request had still to say.
        if batch.messages.iter().any(|message| message.source.task != task) {
            continue;
        }
        said.extend(batch.messages.iter().map(|message| text(message).to_owned()));
        if let Some(end) = batch.ended {
            assert_eq!(end.error, None);
            return said;
        }
    }
}

/// A secret that holds the marker, and a config with placeholders.
fn files(marker: &str) -> [Assignment; 2] {
    let secret = json!({"Name": "key", "Data": base64(marker)});
    let secret = Secret::new(SecretId::from_bits(1), serde_json::from_value(secret).unwrap());
    let config = json!({"Name": "app.conf", "Templating": {"Name": "golang"},
        "Data": base64("slot {{.Task.Slot}} on {{.Node.Hostname}}\n")});
    let config = Config::new(ConfigId::from_bits(1), serde_json::from_value(config).unwrap());
    [
        Assignment::Secret(Arc::new(secret)),
        Assignment::Config(Arc::new(config)),
    ]
}

/// A task that shows what it has, and stops when it is asked to.
fn spec() -> Value {
    let script = "trap 'echo stopping; exit 0' TERM; stat -c '%n %a %u %g' /run/secrets/key /app.conf; \
        stat -f -c %T /run/secrets/key; wc -c < /run/secrets/key; cat /app.conf /etc/resolv.conf; \
        echo $SLOT at $(hostname); echo up; while :; do sleep 1000 & wait; done";
    let mut spec = container(script);
    let own = &mut spec["ContainerSpec"];
    own["Env"] = json!(["SLOT={{.Task.Slot}}"]);
    own["Hostname"] = json!("bee-{{.Task.Slot}}");
    own["StopGracePeriod"] = json!(20_000_000_000u64);
    own["Secrets"] = json!([{"SecretID": SecretId::from_bits(1), "SecretName": "key",
        "File": {"Name": "key", "UID": "1", "GID": "2", "Mode": 0o440}}]);
    own["Configs"] = json!([{"ConfigID": ConfigId::from_bits(1), "ConfigName": "app.conf",
        "File": {"Name": "app.conf", "UID": "0", "GID": "0", "Mode": 0o444}}]);
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_run_with_their_secrets_through_a_restart_and_an_update_and_leave_nothing() {
    let authority = Authority::new();
    let mut manager = authority.manager("127.0.0.1:0").await;
    let machine = Machine::new(&authority, "files");
    let worker = machine.worker(vec![manager.address.clone()]);
    manager.session().await;
    manager.says(&ToNode::Managers(vec![manager.named()]));

    let (marker, old, new) = (marker(), TaskId::from_bits(1), TaskId::from_bits(2));
    let (files, spec) = (files(&marker), spec());
    assert!(!format!("{files:?}").contains(&marker));
    let mut changed = files.to_vec();
    changed.push(task(1, TaskState::Running, spec.clone()));
    manager.assigns(Basis::Nothing, 1, changed);
    let status = manager.hears(old, TaskState::Running).await;
    let pid = status.container_status.unwrap().pid.unwrap();
    let length = marker.len().to_string();
    let said = says(&mut manager, old, "up").await;
    let expected = [
        "/run/secrets/key 440 1 2",
        "/app.conf 444 0 0",
        "tmpfs",
        &length,
        "slot 3 on one",
        "nameserver 127.0.0.11",
        "3 at bee-3",
        "up",
    ];
    assert_eq!(said, expected);
    assert!(!machine.holds(&marker), "a secret is on the disk");
    assert!(machine.holds("bee-"), "the search finds nothing at all");

    // The managers go away and the agent is restarted: the task does not notice.
    let address = manager.kill().await;
    worker.stop().await;
    let worker = machine.worker(Vec::new());
    let mut manager = authority.manager(&address).await;
    manager.session().await;
    let status = manager.hears(old, TaskState::Running).await;
    assert_eq!(status.container_status.unwrap().pid, Some(pid));

    // An update: the new one is ready first and starts once the old one has ended.
    let mut changed = files.to_vec();
    changed.push(task(1, TaskState::Running, spec.clone()));
    // One that does not listen is killed after a grace of a tenth of a second.
    let mut deaf = container("trap '' TERM; echo deaf; sleep 1000; sleep 1000");
    deaf["ContainerSpec"]["StopGracePeriod"] = json!(100_000_000u64);
    changed.push(task(2, TaskState::Ready, deaf.clone()));
    manager.assigns(Basis::Nothing, 1, changed);
    manager.hears(new, TaskState::Ready).await;
    manager.assigns(Basis::Number(1), 2, vec![task(1, TaskState::Shutdown, spec)]);
    let status = manager.hears(old, TaskState::Shutdown).await;
    assert_eq!(status.container_status.unwrap().exit_code, Some(0));
    manager.assigns(Basis::Number(2), 3, vec![task(2, TaskState::Running, deaf)]);
    manager.hears(new, TaskState::Running).await;
    says(&mut manager, new, "deaf").await;
    // What has ended has its logs still, and they end.
    let said = said_in_all(&mut manager, old).await;
    assert_eq!(said.last().map(String::as_str), Some("stopping"));

    // One that cannot be run says why; what is not assigned any more is removed.
    let terminal = json!({"ContainerSpec": {"Image": "host", "Command": ["/bin/true"], "TTY": true}});
    manager.assigns(Basis::Nothing, 4, vec![task(3, TaskState::Running, terminal)]);
    let status = manager.hears(TaskId::from_bits(3), TaskState::Rejected).await;
    let why = "ContainerSpec.TTY: tasks of this node have no terminals";
    assert_eq!(status.err.as_deref(), Some(why));
    let image = json!({"ContainerSpec": {"Image": "nginx"}});
    manager.assigns(Basis::Number(4), 5, vec![task(4, TaskState::Running, image)]);
    let status = manager.hears(TaskId::from_bits(4), TaskState::Rejected).await;
    let socket = machine.engine();
    let why = format!(
        "no Docker Engine answers at {}: there is no such socket",
        socket.display()
    );
    assert_eq!(status.err, Some(why));
    let mut worker = worker;
    while let Ok(notice) = worker.notices.try_recv() {
        assert_ne!(notice, Notice::Removed);
    }
    let runner = worker.stop().await;
    let directory = machine.directory.path().join("worker");
    within(stop_all(&runner, &machine.dataplane, &directory))
        .await
        .unwrap();
    assert!(runner.list().is_empty());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
    assert_eq!(
        std::fs::read_dir(machine.directory.path().join("tasks"))
            .unwrap()
            .count(),
        0
    );
    assert!(!PathBuf::from(format!("/run/netns/es-{old}")).exists());
    assert!(!machine.holds(&marker));
    let pid = i32::try_from(pid).unwrap();
    let running = Word::Running { pid };
    assert_eq!(machine.words(old), [Word::Starting, running, Word::Gone]);
    within(runner.processes().remove_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_runs_once_its_check_passes_and_has_failed_once_it_does_not() {
    let authority = Authority::new();
    let mut manager = authority.manager("127.0.0.1:0").await;
    let machine = Machine::new(&authority, "health");
    let worker = machine.worker(vec![manager.address.clone()]);
    manager.session().await;
    let (well, ill) = (TaskId::from_bits(11), TaskId::from_bits(12));
    let checked = |test: &str| {
        let mut spec = container("echo here > /run/mark; exec sleep 1000");
        // Process 1 does not listen to signals that it has no handler for.
        spec["ContainerSpec"]["Init"] = json!(true);
        spec["ContainerSpec"]["Healthcheck"] =
            json!({"Test": ["CMD-SHELL", test], "Interval": 10_000_000u64, "Retries": 2});
        spec
    };
    // The check is run where the task is: nobody else sees its mark.
    manager.assigns(
        Basis::Nothing,
        1,
        vec![task(11, TaskState::Running, checked("grep -q here /run/mark"))],
    );
    manager.hears(well, TaskState::Running).await;
    manager.assigns(
        Basis::Number(1),
        2,
        vec![task(12, TaskState::Running, checked("exit 7"))],
    );
    let status = manager.hears(ill, TaskState::Failed).await;
    let why = "task: non-zero exit (143): unhealthy container: 2 checks in a row have failed, the last one with \
        exit status 7";
    assert_eq!(status.err.as_deref(), Some(why));
    assert_eq!(machine.words(ill), [Word::Starting, Word::Unhealthy, Word::Gone]);
    manager.assigns(Basis::Nothing, 3, Vec::new());
    let runner = worker.stop().await;
    let directory = machine.directory.path().join("worker");
    within(stop_all(&runner, &machine.dataplane, &directory))
        .await
        .unwrap();
    assert!(runner.list().is_empty());
    within(runner.processes().remove_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_that_are_asked_for_once_more_go_on_where_the_reader_is() {
    let authority = Authority::new();
    let mut manager = authority.manager("127.0.0.1:0").await;
    let machine = Machine::new(&authority, "logs");
    let worker = machine.worker(vec![manager.address.clone()]);
    manager.session().await;
    let id = TaskId::from_bits(21);
    let script = "for i in 1 2 3 4 5; do echo $i; echo other >&2; done; exec sleep 1000";
    let mut spec = container(script);
    spec["ContainerSpec"]["StopGracePeriod"] = json!(100_000_000u64);
    manager.assigns(Basis::Nothing, 1, vec![task(21, TaskState::Running, spec)]);
    manager.hears(id, TaskState::Running).await;
    says(&mut manager, id, "5").await;
    let mut asked = LogSubscription {
        id: LogSubscriptionId(10),
        tail: Some(2),
        ..subscription(id, true)
    };
    let texts = |lines: &[LogMessage]| lines.iter().map(|line| text(line).to_owned()).collect::<Vec<_>>();
    let (begins, lines) = follows(&mut manager, &asked, 2).await;
    assert_eq!(texts(&lines), ["4", "5"]);
    let [begin] = begins[..] else {
        panic!("it says once where they begin: {begins:?}")
    };
    let mut second = begin;
    second.pass(lines[0].timestamp);
    for (place, expected) in [(begin, &["4", "5"][..]), (second, &["5"])] {
        asked.round += 1;
        asked.resume = vec![place];
        let (begins, lines) = follows(&mut manager, &asked, expected.len()).await;
        assert_eq!(
            (texts(&lines), begins),
            (expected.iter().map(ToString::to_string).collect(), vec![])
        );
    }
    manager.assigns(Basis::Nothing, 2, Vec::new());
    let runner = worker.stop().await;
    let directory = machine.directory.path().join("worker");
    within(stop_all(&runner, &machine.dataplane, &directory))
        .await
        .unwrap();
    within(runner.processes().remove_all()).await.unwrap();
}

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}
