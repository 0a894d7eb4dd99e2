//! The runner of containers beside an engine that answers, refuses, hangs, and goes. Needs root: it names network
//! namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod fake;

use essaim_docker::{Asked, ContainerTask, DockerRunner, DockerRunnerConfig};
use essaim_model::TaskId;
use essaim_objects::{NodeId, Task};
use essaim_runner::{
    Contents, Exit, FileKind, LogQuery, LogStream, Runner as _, RunnerError, StartRecord, TaskEvent,
    TaskFile, TaskHealth, TaskState,
};
use fake::Fake;
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long what must come may take.
const SOON: Duration = Duration::from_secs(30);

/// Where a runner and its engine keep things.
struct Place {
    directory: TempDir,
    engine: Fake,
    task: essaim_objects::TaskId,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let directory = tempfile::tempdir().unwrap();
        let engine = Fake::new(directory.path().join("docker.sock"));
        engine.lock().images.insert("web:1".to_owned());
        // Other programs' namespaces have other names.
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let task = u128::from(std::process::id()) << 32 | u128::from(number);
        Self {
            directory,
            engine,
            task: essaim_objects::TaskId::from_bits(task),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A runner that has found what there is, as a new agent's does.
    async fn runner(&self) -> (DockerRunner, mpsc::Receiver<TaskEvent>) {
        let (tell, events) = mpsc::channel(100);
        let config = DockerRunnerConfig {
            socket: self.path("docker.sock"),
            state_dir: self.path("tasks"),
            run_dir: self.path("run"),
            cgroup_parent: Some("group/tasks".into()),
        };
        let runner = DockerRunner::new(config, tell).unwrap();
        runner.adopt().await.unwrap();
        (runner, events)
    }

    fn id(&self) -> TaskId {
        TaskId::new(self.task.as_str()).unwrap()
    }

    fn name(&self) -> String {
        format!("shop.1.{}", self.task)
    }

    fn netns(&self) -> PathBuf {
        PathBuf::from(format!("/run/netns/es-{}", self.task))
    }

    fn plan(&self, members: &Value, files: &[TaskFile]) -> ContainerTask {
        let mut container = json!({"Image": "web:1"});
        for (name, value) in members.as_object().unwrap() {
            container[name] = value.clone();
        }
        let spec = json!({"ContainerSpec": container});
        let task = Task::new(self.task, None, Arc::new(serde_json::from_value(spec).unwrap()));
        ContainerTask::plan(Asked {
            task: &task,
            container: task.spec.container.as_ref().unwrap(),
            node: NodeId::from_bits(3),
            service_name: "shop",
            task_name: &self.name(),
            hostname: "box",
            env: &[],
            files,
            hosts: "127.0.0.1\tlocalhost\n",
            resolv_conf: Path::new("/run/resolv.conf"),
            netns: &format!("es-{}", self.task),
        })
        .unwrap()
    }

    fn bare(&self) -> ContainerTask {
        self.plan(&json!({}), &[])
    }

    /// Nothing of a task is left anywhere.
    fn is_bare(&self) {
        let left = self.engine.lock().containers.clone();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.netns().exists());
        for name in ["tasks", "run"] {
            let path = self.path(name);
            let left = path.exists().then(|| std::fs::read_dir(&path).unwrap().count());
            assert!(matches!(left, None | Some(0)), "{name}: {left:?}");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Of a test that failed.
        let _ = essaim_runner::remove_netns(&format!("es-{}", self.task));
        let _ = nix::mount::umount(&self.path("run").join(self.task.as_str()));
    }
}

/// The next state that is told and is looked for.
async fn told(events: &mut mpsc::Receiver<TaskEvent>, wanted: impl Fn(&TaskState) -> bool) -> TaskState {
    let next = async {
        loop {
            let state = events.recv().await.unwrap().state;
            if let Some(state) = state.filter(&wanted) {
                return state;
            }
        }
    };
    timeout(SOON, next).await.expect("it is not told")
}

async fn ended(events: &mut mpsc::Receiver<TaskEvent>) -> Exit {
    match told(events, |state| matches!(state, TaskState::Ended(_))).await {
        TaskState::Ended(record) => record.exit,
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait)
        .await
        .unwrap_or_else(|_| panic!("{what}: never"));
}

#[tokio::test]
async fn a_task_is_a_container_beside_its_sandbox() {
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, mut events) = place.runner().await;
    let id = place.id();
    assert_eq!(
        runner.prepare(&id, place.bare()).await.unwrap(),
        TaskState::Prepared
    );
    // The sandbox runs and its namespace has its name before the task is started.
    let own = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
    assert_eq!(std::fs::metadata(place.netns()).unwrap().ino(), own);
    let made = place.engine.lock().containers.clone();
    let made: Vec<(&str, &str)> = made
        .iter()
        .map(|made| (made.name.as_str(), made.status))
        .collect();
    let sandbox = format!("essaim-sandbox-{}", place.task);
    let name = place.name();
    assert_eq!(made, [(sandbox.as_str(), "running"), (name.as_str(), "created")]);
    let container = place.engine.container(id.as_str()).unwrap();
    assert_eq!(container.body["HostConfig"]["CgroupParent"], "/group/tasks");
    let binds = &container.body["HostConfig"]["Binds"];
    assert_eq!(binds, &json!(["/run/resolv.conf:/etc/resolv.conf"]));
    let (hosts, _) = container.source("/etc/hosts").unwrap();
    assert_eq!(std::fs::read_to_string(hosts).unwrap(), "127.0.0.1\tlocalhost\n");
    // The same again changes nothing; another one is refused.
    runner.prepare(&id, place.bare()).await.unwrap();
    assert_eq!(place.engine.lock().containers.len(), 2);
    let other = place.plan(&json!({"Args": ["x"]}), &[]);
    assert!(matches!(
        runner.prepare(&id, other).await,
        Err(RunnerError::Differs { .. })
    ));

    let record = runner.start(&id).await.unwrap();
    assert_eq!(record.pid, std::process::id().cast_signed());
    assert_eq!(record.health, None);
    place.engine.change(id.as_str(), "die", |container| {
        container.status = "exited";
        container.exit_code = 3;
    });
    assert_eq!(ended(&mut events).await, Exit::Code { code: 3 });
    assert!(matches!(
        runner.start(&id).await,
        Err(RunnerError::HasEnded { .. })
    ));
    runner.remove(&id).await.unwrap();
    runner.remove(&id).await.unwrap();
    assert!(runner.list().is_empty());
    place.is_bare();
}

#[tokio::test]
async fn an_image_is_pulled_and_one_that_is_nowhere_is_named() {
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, _events) = place.runner().await;
    let plan = place.plan(&json!({"Image": "new"}), &[]);
    let error = runner.prepare(&place.id(), plan.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "No such image: new:latest");
    assert!(runner.list().is_empty());
    place.is_bare();
    place.engine.lock().registry.insert("new:latest".to_owned());
    runner.prepare(&place.id(), plan).await.unwrap();
    // One that is here serves where the registry has none, and one with a digest is not asked for.
    place.engine.lock().registry.clear();
    runner.remove(&place.id()).await.unwrap();
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    runner.remove(&place.id()).await.unwrap();
    place.engine.lock().images.insert("web@sha256:0".to_owned());
    place.engine.lock().asked.clear();
    let plan = place.plan(&json!({"Image": "web@sha256:0"}), &[]);
    runner.prepare(&place.id(), plan).await.unwrap();
    let asked = place.engine.lock().asked.clone();
    assert!(!asked.contains(&"POST /images/create".to_owned()), "{asked:?}");
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn a_start_that_the_engine_refuses_is_an_end_with_its_words() {
    const WORDS: &str = "exec: \"nope\": executable file not found in $PATH: unknown";
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, mut events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    place.engine.lock().start_error = Some((400, WORDS));
    let error = runner.start(&place.id()).await.unwrap_err();
    assert_eq!(error.to_string(), WORDS);
    let expected = Exit::NotStarted {
        code: 127,
        message: WORDS.to_owned(),
    };
    assert_eq!(ended(&mut events).await, expected);
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn an_engine_that_comes_later_serves_what_comes_later() {
    let place = Place::new();
    let (runner, _events) = place.runner().await;
    let error = runner.prepare(&place.id(), place.bare()).await.unwrap_err();
    let socket = place.path("docker.sock");
    let expected = format!(
        "no Docker Engine answers at {}: there is no such socket",
        socket.display()
    );
    assert_eq!(error.to_string(), expected);
    place.is_bare();
    let engine = place.engine.run();
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    runner.start(&place.id()).await.unwrap();
    // Gone again: nothing is done, and it can be tried again.
    drop(engine);
    std::fs::remove_file(&socket).unwrap();
    assert!(matches!(
        runner.remove(&place.id()).await,
        Err(RunnerError::Engine { .. })
    ));
    let _engine = place.engine.run();
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn an_engine_that_hangs_is_not_waited_for() {
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, _events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    place.engine.lock().hangs = true;
    let started = timeout(Duration::from_mins(2), runner.stats(&place.id())).await;
    let error = started.expect("it is waited for").unwrap_err().to_string();
    assert!(error.contains("it has not answered within 20s"), "{error}");
    // What it does not answer is no reason to forget the task.
    assert_eq!(runner.list().get(&place.id()), Some(&TaskState::Prepared));
    place.engine.lock().hangs = false;
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn no_end_is_lost_with_a_connection() {
    let place = Place::new();
    let engine = place.engine.run();
    let (runner, mut events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    runner.start(&place.id()).await.unwrap();
    let state = place.engine.clone();
    until("events are followed", || {
        state.lock().asked.contains(&"GET /events".to_owned())
    })
    .await;
    // It goes; all its containers end, and nobody tells.
    drop(engine);
    place.engine.lock().is_mute = true;
    place.engine.change(place.task.as_str(), "die", |container| {
        container.status = "exited";
        container.exit_code = 137;
    });
    let _engine = place.engine.run();
    assert_eq!(ended(&mut events).await, Exit::Code { code: 137 });
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn a_container_that_somebody_removed_has_ended() {
    let place = Place::new();
    let engine = place.engine.run();
    let (runner, mut events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    runner.start(&place.id()).await.unwrap();
    drop(engine);
    place.engine.lock().containers.clear();
    let _engine = place.engine.run();
    let exit = ended(&mut events).await;
    assert!(
        matches!(&exit, Exit::Lost { message } if message.contains(&place.name())),
        "{exit:?}"
    );
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn health_is_what_the_engine_says() {
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, mut events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    for container in &mut place.engine.lock().containers {
        container.health = Some("starting");
    }
    let record = runner.start(&place.id()).await.unwrap();
    assert_eq!(record.health, Some(TaskHealth::Starting));
    for (status, expected) in [
        ("healthy", TaskHealth::Healthy),
        ("unhealthy", TaskHealth::Unhealthy { failures: 3 }),
    ] {
        let action = format!("health_status: {status}");
        place.engine.change(place.task.as_str(), &action, |container| {
            container.health = Some(status);
        });
        let is_expected = |state: &TaskState| matches!(state, TaskState::Running(StartRecord { health, .. }) if *health == Some(expected));
        told(&mut events, is_expected).await;
    }
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn a_process_that_ends_while_there_is_no_engine_is_noticed() {
    let place = Place::new();
    let engine = place.engine.run();
    let (runner, mut events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    let mut process = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    place.engine.change(place.task.as_str(), "update", |container| {
        container.pid = Some(process.id());
    });
    runner.start(&place.id()).await.unwrap();
    drop(engine);
    // It is looked at more than once before it ends.
    let early = timeout(Duration::from_millis(2500), ended(&mut events)).await;
    assert!(early.is_err(), "{early:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    let exit = ended(&mut events).await;
    assert!(
        matches!(&exit, Exit::Lost { message } if message.contains("no Docker Engine")),
        "{exit:?}"
    );
    let _engine = place.engine.run();
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn the_next_agent_takes_over_what_there_is() {
    let place = Place::new();
    let engine = place.engine.run();
    let (runner, events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    let started = runner.start(&place.id()).await.unwrap();
    drop((runner, events));
    // Without its engine, an agent knows its tasks all the same.
    drop(engine);
    let (runner, mut events) = place.runner().await;
    assert_eq!(runner.list().get(&place.id()), Some(&TaskState::Running(started)));
    // Others have begun and not ended since, as an agent leaves them that is killed.
    let half = essaim_objects::TaskId::from_bits(7).to_string();
    std::fs::create_dir(place.path("tasks").join(&half)).unwrap();
    for task in [half.as_str(), place.task.as_str()] {
        let mut of_task = place.engine.container(place.task.as_str()).unwrap();
        if task == half {
            of_task.id = "stray".to_owned();
            of_task.name = "stray".to_owned();
            of_task.body["Labels"]["io.essaim.task"] = json!(task);
            place.engine.lock().containers.push(of_task);
        }
    }
    let _engine = place.engine.run();
    let state = place.engine.clone();
    until("the stray container goes", || {
        !state.lock().containers.iter().any(|found| found.id == "stray")
    })
    .await;
    assert_eq!(place.engine.lock().containers.len(), 2, "its own is gone, too");
    place.engine.change(place.task.as_str(), "die", |container| {
        container.status = "exited";
    });
    assert_eq!(ended(&mut events).await, Exit::Code { code: 0 });
    drop((runner, events));
    let (runner, _events) = place.runner().await;
    assert!(!place.path("tasks").join(&half).exists());
    assert!(matches!(
        runner.list().get(&place.id()),
        Some(TaskState::Ended(_))
    ));
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn a_secret_is_in_memory_and_its_owners() {
    const SECRET: &str = "hunter2 in a container";
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, _events) = place.runner().await;
    let file = |kind, target: &str| TaskFile {
        kind,
        target: target.into(),
        mode: 0o440,
        uid: 5,
        gid: 6,
        contents: Contents::new(SECRET.into()),
    };
    let files = [file(FileKind::Secret, "key"), file(FileKind::Config, "app.conf")];
    runner
        .prepare(&place.id(), place.plan(&json!({}), &files))
        .await
        .unwrap();
    let container = place.engine.container(place.task.as_str()).unwrap();
    for target in ["/run/secrets/key", "/app.conf"] {
        let (source, is_read_only) = container.source(target).unwrap();
        assert!(is_read_only, "{target}");
        assert_eq!(std::fs::read_to_string(&source).unwrap(), SECRET);
        let metadata = std::fs::metadata(&source).unwrap();
        let found = (
            metadata.uid(),
            metadata.gid(),
            metadata.permissions().mode() & 0o7777,
        );
        assert_eq!(found, (5, 6, 0o440));
        let system = nix::sys::statfs::statfs(&source).unwrap().filesystem_type();
        assert_eq!(system, nix::sys::statfs::TMPFS_MAGIC);
    }
    for entry in std::fs::read_dir(place.path("tasks").join(place.task.as_str())).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read(&path).unwrap();
        let has_it = text.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!has_it, "{}", path.display());
    }
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}

#[tokio::test]
async fn a_log_is_read_with_times_and_streams() {
    let place = Place::new();
    let _engine = place.engine.run();
    let (runner, _events) = place.runner().await;
    runner.prepare(&place.id(), place.bare()).await.unwrap();
    let lines = [
        (1_u8, "2026-01-02T03:04:05.1Z one\n"),
        (2, "2026-01-02T03:04:05.2Z two\n"),
        (1, "2026-01-02T03:04:05.3Z three\n"),
    ];
    for (stream, text) in lines {
        let mut state = place.engine.lock();
        state.log.extend([stream, 0, 0, 0]);
        state.log.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        state.log.extend(text.as_bytes());
    }
    let query = LogQuery {
        since: Some("2026-01-02T03:04:05.2Z".parse().unwrap()),
        ..LogQuery::default()
    };
    let mut log = runner.logs(&place.id(), query).await.unwrap();
    let mut said = Vec::new();
    while let Some(record) = timeout(SOON, log.next_record()).await.unwrap().unwrap() {
        said.push((record.stream, record.text));
    }
    assert_eq!(
        said,
        [
            (LogStream::Stderr, "two\n".to_owned()),
            (LogStream::Stdout, "three\n".to_owned())
        ]
    );
    runner.remove(&place.id()).await.unwrap();
    place.is_bare();
}
