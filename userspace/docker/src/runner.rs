//! The runner: its tasks, and what can be done with them.

use crate::dirs::{self, TaskDirs};
use crate::engine::{CALL, Engine, Fault, WORK};
use crate::logs;
use crate::plan::{ContainerTask, sandbox_name};
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ContainerStatsResponse};
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, KillContainerOptions, RemoveContainerOptions,
    StartContainerOptions, StatsOptions, StopContainerOptions,
};
use essaim_health::StopSignal;
use essaim_model::TaskId;
use essaim_runner::{
    Adopted, Exit, ExitRecord, LogFollower, LogQuery, Runner, RunnerError, StartRecord, Stats, TaskEvent,
    TaskState, hold_netns, remove_netns,
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

/// Where a runner keeps things, and which engine it uses.
#[derive(Clone, Debug)]
pub struct DockerRunnerConfig {
    /// Where the engine listens; it may be absent, and come and go.
    pub socket: PathBuf,
    /// Holds a directory for each task. Only root may see into it.
    pub state_dir: PathBuf,
    /// Holds secrets and configs in memory; gone after a boot.
    pub run_dir: PathBuf,
    /// The control group above those of the containers, from the root of the hierarchy; the engine's own where there is
    /// none given, or where it has systemd make its groups.
    pub cgroup_parent: Option<PathBuf>,
}

/// Runs tasks as containers. Cheap to clone; all clones are one runner.
#[derive(Clone, Debug)]
pub struct DockerRunner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    config: DockerRunnerConfig,
    pub(crate) engine: Arc<Engine>,
    events: mpsc::Sender<TaskEvent>,
    tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
}

/// A task of the runner.
#[derive(Debug)]
pub(crate) struct Task {
    id: TaskId,
    dirs: TaskDirs,
    /// What makes, starts and removes it, one after the other.
    turn: tokio::sync::Mutex<()>,
    state: watch::Sender<TaskState>,
    /// Who writes its state down and tells it: events and operations may want to at once.
    telling: tokio::sync::Mutex<()>,
    spec: Mutex<ContainerTask>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what waits for disk and kernel where it holds nobody up. It is done to its end, whatever becomes of the caller.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunnerError> + Send + 'static,
) -> Result<T, RunnerError> {
    spawn_blocking(work).await.map_err(RunnerError::Panicked)?
}

impl DockerRunner {
    /// A runner; what happens to its tasks is sent to `events`. Where that is full, the runner waits: take from it.
    ///
    /// # Errors
    /// [`RunnerError::Io`] where the state directory cannot be made.
    pub fn new(config: DockerRunnerConfig, events: mpsc::Sender<TaskEvent>) -> Result<Self, RunnerError> {
        use std::os::unix::fs::DirBuilderExt as _;
        // The engine has another working directory.
        let absolute =
            |path: &Path| std::path::absolute(path).map_err(RunnerError::io("find the directory", path));
        let config = DockerRunnerConfig {
            state_dir: absolute(&config.state_dir)?,
            run_dir: absolute(&config.run_dir)?,
            ..config
        };
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.state_dir);
        made.map_err(RunnerError::io("make the directory", &config.state_dir))?;
        let inner = Inner {
            engine: Arc::new(Engine::new(config.socket.clone(), &config.state_dir)),
            config,
            events,
            tasks: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether there is such a task.
    pub fn has(&self, id: &TaskId) -> bool {
        self.inner.find(id).is_some()
    }

    fn task(&self, id: &TaskId) -> Result<Arc<Task>, RunnerError> {
        let found = self.inner.find(id);
        found.ok_or_else(|| RunnerError::Unknown { task: id.clone() })
    }
}

impl Inner {
    pub(crate) fn find(&self, id: &TaskId) -> Option<Arc<Task>> {
        locked(&self.tasks).get(id).cloned()
    }

    /// All tasks, in no state in particular.
    pub(crate) fn all(&self) -> Vec<Arc<Task>> {
        locked(&self.tasks).values().cloned().collect()
    }

    pub(crate) fn dirs(&self, task: &str) -> TaskDirs {
        TaskDirs::new(&self.config.state_dir, &self.config.run_dir, task)
    }

    /// Enters a task into the list, unless it is there; that one then.
    fn enter(&self, id: &TaskId, spec: ContainerTask, state: TaskState) -> Arc<Task> {
        let mut tasks = locked(&self.tasks);
        let entry = tasks.entry(id.clone()).or_insert_with(|| {
            Arc::new(Task {
                id: id.clone(),
                dirs: self.dirs(id.as_str()),
                turn: tokio::sync::Mutex::default(),
                state: watch::Sender::new(state),
                telling: tokio::sync::Mutex::default(),
                spec: Mutex::new(spec),
            })
        });
        Arc::clone(entry)
    }

    /// Whether it is what its name stands for; it may have been removed.
    fn is_listed(&self, task: &Arc<Task>) -> bool {
        self.find(&task.id)
            .is_some_and(|listed| Arc::ptr_eq(&listed, task))
    }

    /// Takes a task forward; one that has gone further stays there.
    async fn advance(&self, task: &Arc<Task>, to: TaskState) -> Result<(), RunnerError> {
        self.change(task, to.clone(), |state| rank(&to) > rank(state))
            .await
    }

    /// As [`Inner::advance`], or takes what the engine says of the health of one that runs.
    async fn advance_or_check(&self, task: &Arc<Task>, to: TaskState) -> Result<(), RunnerError> {
        let is_other_health = |state: &TaskState| {
            matches!((state, &to), (TaskState::Running(now), TaskState::Running(to))
                if now.health != to.health)
        };
        let is_news = |state: &TaskState| rank(&to) > rank(state) || is_other_health(state);
        self.change(task, to.clone(), is_news).await
    }

    /// Changes a task's state where that is news.
    ///
    /// It is on the disk before it is told. It is told at the same moment: whoever sees the state may rely on what comes
    /// later being told later.
    async fn change(
        &self,
        task: &Arc<Task>,
        to: TaskState,
        is_news: impl Fn(&TaskState) -> bool,
    ) -> Result<(), RunnerError> {
        let _telling = task.telling.lock().await;
        if !is_news(&task.state.borrow()) {
            return Ok(());
        }
        let (dirs, written) = (task.dirs.clone(), to.clone());
        blocking(move || match written {
            TaskState::Prepared => Ok(()),
            TaskState::Running(record) => dirs::write(&dirs.started(), &record),
            TaskState::Ended(record) => dirs::write(&dirs.exit(), &record),
        })
        .await?;
        // Whoever no longer listens need not know.
        let room = self.events.reserve().await.ok();
        task.state.send_if_modified(|state| {
            let is_news = is_news(state);
            if is_news {
                state.clone_from(&to);
                tell(room, &task.id, Some(to));
            }
            is_news
        });
        Ok(())
    }

    async fn prepare(self: &Arc<Self>, id: &TaskId, spec: ContainerTask) -> Result<TaskState, RunnerError> {
        if spec.files.iter().any(|file| file.contents.bytes().is_none()) {
            return Err(RunnerError::ContentsGone { task: id.clone() });
        }
        loop {
            let is_new = self.find(id).is_none();
            let task = self.enter(id, spec.clone(), TaskState::Prepared);
            let _turn = task.turn.lock().await;
            if !self.is_listed(&task) {
                continue;
            }
            if !is_new && !task.takes(&spec)? {
                return Err(RunnerError::Differs { task: id.clone() });
            }
            let state = task.state.borrow().clone();
            if state != TaskState::Prepared {
                return Ok(state);
            }
            if let Err(error) = Box::pin(self.make(&task, &spec)).await {
                if let Err(left) = self.unmake(&task.id, &task.dirs, &spec.netns, true).await {
                    tracing::warn!(
                        task = %id,
                        error = &left as &dyn std::error::Error,
                        "failed to remove what was made of a task"
                    );
                }
                locked(&self.tasks).remove(id);
                return Err(error);
            }
            if is_new {
                let room = self.events.reserve().await.ok();
                tell(room, id, Some(TaskState::Prepared));
            }
            let state = task.state.borrow().clone();
            return Ok(state);
        }
    }

    /// Makes everything; what is there already is kept.
    async fn make(&self, task: &Arc<Task>, spec: &ContainerTask) -> Result<(), RunnerError> {
        let (dirs, made) = (task.dirs.clone(), spec.clone());
        blocking(move || dirs.make(&made)).await?;
        self.engine.have_image(spec).await?;
        let sandbox = sandbox_name(task.id.as_str());
        let found = match self.inspect(&sandbox).await? {
            Some(found) => found,
            None => Box::pin(self.make_sandbox(&sandbox, spec)).await?,
        };
        let found = match pid(&found) {
            Some(_) => found,
            // One that a restart of the engine has ended.
            None => self.start_container(&sandbox).await?,
        };
        let pid = pid(&found).ok_or_else(|| RunnerError::Engine {
            message: format!("the container {sandbox}, which holds the task's network, does not run"),
        })?;
        let netns = spec.netns.clone();
        blocking(move || Ok(hold_netns(&netns, Path::new(&format!("/proc/{pid}/ns/net")))?)).await?;
        if self.inspect(&spec.name).await?.is_none() {
            let mut body = spec.container.clone();
            let host = body.host_config.get_or_insert_default();
            task.dirs.add_mounts(spec, host);
            Box::pin(self.create(&spec.name, body)).await?;
        }
        let dirs = task.dirs.clone();
        blocking(move || dirs::write(&dirs.prepared(), &true)).await
    }

    async fn make_sandbox(
        &self,
        name: &str,
        spec: &ContainerTask,
    ) -> Result<ContainerInspectResponse, RunnerError> {
        self.engine.have_sandbox_image().await?;
        Box::pin(self.create(name, spec.sandbox.clone())).await?;
        Ok(self.start_container(name).await?)
    }

    /// Makes a container under the runner's mark, in its control group.
    async fn create(&self, name: &str, mut body: ContainerCreateBody) -> Result<(), Fault> {
        let (label, owner) = self.engine.owner();
        body.labels.get_or_insert_default().insert(label, owner);
        if self.engine.connected().await?.has_cgroup_paths
            && let Some(parent) = &self.config.cgroup_parent
        {
            let parent = Path::new("/").join(parent).display().to_string();
            body.host_config.get_or_insert_default().cgroup_parent = Some(parent);
        }
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..CreateContainerOptions::default()
        };
        let made = self.engine.call(WORK, |docker| async move {
            docker.create_container(Some(options), body).await
        });
        let made = made.await?;
        for warning in made.warnings {
            tracing::warn!(container = name, warning, "the engine warns of a container");
        }
        Ok(())
    }

    async fn start_container(&self, name: &str) -> Result<ContainerInspectResponse, Fault> {
        let start = |docker: bollard::Docker| async move {
            docker.start_container(name, None::<StartContainerOptions>).await
        };
        match self.engine.call(WORK, start).await {
            // It runs already.
            Err(fault) if fault.is_status(304) => {}
            other => other?,
        }
        let found = self.inspect(name).await?;
        found.ok_or_else(|| Fault::Said {
            status: 404,
            message: format!("No such container: {name}"),
        })
    }

    /// A container; `None` where there is none.
    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, Fault> {
        let look = |docker: bollard::Docker| async move {
            docker
                .inspect_container(name, None::<InspectContainerOptions>)
                .await
        };
        match self.engine.call(CALL, look).await {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.is_status(404) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    async fn start(self: &Arc<Self>, task: &Arc<Task>) -> Result<StartRecord, RunnerError> {
        let _turn = task.turn.lock().await;
        if !self.is_listed(task) {
            return Err(RunnerError::Unknown {
                task: task.id.clone(),
            });
        }
        match &*task.state.borrow() {
            TaskState::Prepared => {}
            TaskState::Running(record) => return Ok(record.clone()),
            TaskState::Ended(_) => {
                return Err(RunnerError::HasEnded {
                    task: task.id.clone(),
                });
            }
        }
        let name = locked(&task.spec).name.clone();
        let found = match self.start_container(&name).await {
            Ok(found) => found,
            Err(fault) if fault.is_absent() => return Err(fault.into()),
            Err(fault) => {
                let record = self.refused(&name, &fault).await?;
                self.advance(task, TaskState::Ended(record.clone())).await?;
                return Err(RunnerError::Refused {
                    task: task.id.clone(),
                    record,
                });
            }
        };
        let mut record = start_record(&found);
        record.shim = self.sandbox_pid(task).await?;
        self.advance(task, TaskState::Running(record.clone())).await?;
        // It may have ended at once.
        if let Some(ended) = end_record(&found) {
            self.advance(task, TaskState::Ended(ended)).await?;
        }
        // An event may have said more meanwhile.
        match &*task.state.borrow() {
            TaskState::Running(record) => Ok(record.clone()),
            TaskState::Prepared | TaskState::Ended(_) => Ok(record),
        }
    }

    async fn sandbox_pid(&self, task: &Task) -> Result<i32, RunnerError> {
        let sandbox = self.inspect(&sandbox_name(task.id.as_str())).await?;
        Ok(sandbox.as_ref().and_then(pid).unwrap_or_default())
    }

    /// The end of a container that the engine could not start.
    async fn refused(&self, name: &str, fault: &Fault) -> Result<ExitRecord, RunnerError> {
        let found = self.inspect(name).await?;
        let code = found.and_then(|found| found.state?.exit_code);
        // As shells number it where the engine has no number.
        let code = code
            .and_then(|code| u8::try_from(code).ok())
            .filter(|code| *code != 0);
        Ok(ExitRecord {
            exit: Exit::NotStarted {
                code: code.unwrap_or(128),
                message: fault.to_string(),
            },
            oom_killed: false,
            started: None,
            finished: Timestamp::now(),
        })
    }

    /// Looks at a task's container, and takes the task to where that is.
    pub(crate) async fn settle(&self, task: &Arc<Task>) -> Result<(), RunnerError> {
        let state = task.state.borrow().clone();
        if matches!(state, TaskState::Ended(_)) {
            return Ok(());
        }
        let name = locked(&task.spec).name.clone();
        let Some(found) = self.inspect(&name).await? else {
            if let TaskState::Running(record) = state {
                let ended = ExitRecord {
                    exit: Exit::Lost {
                        message: format!("the engine has no container {name} any more"),
                    },
                    oom_killed: false,
                    started: Some(record.started),
                    finished: Timestamp::now(),
                };
                self.advance(task, TaskState::Ended(ended)).await?;
            }
            return Ok(());
        };
        if let Some(ended) = end_record(&found) {
            return self.advance(task, TaskState::Ended(ended)).await;
        }
        if pid(&found).is_some() {
            let mut record = start_record(&found);
            record.shim = match state {
                TaskState::Running(known) => known.shim,
                TaskState::Prepared | TaskState::Ended(_) => self.sandbox_pid(task).await?,
            };
            self.advance_or_check(task, TaskState::Running(record)).await?;
        }
        Ok(())
    }

    /// Takes a task whose process has ended to its end, where no engine tells of it: one that is told to end ends its
    /// containers after it has closed its connections, and the next one may be long in coming.
    pub(crate) async fn settle_without_engine(&self, task: &Arc<Task>) -> Result<(), RunnerError> {
        let TaskState::Running(record) = task.state.borrow().clone() else {
            return Ok(());
        };
        let netns = locked(&task.spec).netns.clone();
        let pid = record.pid;
        if pid <= 0 || blocking(move || Ok(is_within(pid, &netns))).await? {
            return Ok(());
        }
        let ended = ExitRecord {
            exit: Exit::Lost {
                message: "the container has ended while no Docker Engine answered".to_owned(),
            },
            oom_killed: false,
            started: Some(record.started),
            finished: Timestamp::now(),
        };
        self.advance(task, TaskState::Ended(ended)).await
    }

    async fn remove(self: &Arc<Self>, id: &TaskId) -> Result<(), RunnerError> {
        let Some(task) = self.find(id) else {
            return Ok(());
        };
        let _turn = task.turn.lock().await;
        if !self.is_listed(&task) {
            return Ok(());
        }
        let netns = locked(&task.spec).netns.clone();
        if matches!(*task.state.borrow(), TaskState::Running(_)) {
            // Its end is told before its removal.
            let name = locked(&task.spec).name.clone();
            self.kill_container(&name).await?;
            self.end_of(&task).await?;
        }
        self.unmake(id, &task.dirs, &netns, false).await?;
        locked(&self.tasks).remove(id);
        let room = self.events.reserve().await.ok();
        tell(room, id, None);
        Ok(())
    }

    /// Removes all that there is of a task, the spec last. Where the engine is away and `is_half`, its part is left to
    /// the next time that it is found.
    async fn unmake(
        &self,
        id: &TaskId,
        dirs: &TaskDirs,
        netns: &str,
        is_half: bool,
    ) -> Result<(), RunnerError> {
        match self.remove_containers(id).await {
            Err(fault) if !(is_half && fault.is_absent()) => return Err(fault.into()),
            _ => {}
        }
        let (dirs, netns) = (dirs.clone(), netns.to_owned());
        blocking(move || {
            remove_netns(&netns)?;
            dirs.remove()
        })
        .await
    }

    /// Removes a task's containers, its own before the sandbox, with what volumes have no name.
    async fn remove_containers(&self, id: &TaskId) -> Result<(), Fault> {
        let mut found = self.own_containers().await?;
        found.retain(|(task, _, _)| task == id.as_str());
        found.sort_by_key(|(_, _, is_sandbox)| *is_sandbox);
        for (_, container, _) in found {
            self.remove_container(&container).await?;
        }
        Ok(())
    }

    /// All containers with the runner's mark: the task, the identity, and whether it is a sandbox.
    pub(crate) async fn own_containers(&self) -> Result<Vec<(String, String, bool)>, Fault> {
        let options = bollard::query_parameters::ListContainersOptions {
            all: true,
            filters: Some(self.engine.own()),
            ..Default::default()
        };
        let list = |docker: bollard::Docker| async move { docker.list_containers(Some(options)).await };
        let found = self.engine.call(CALL, list).await?;
        let found = found.into_iter().filter_map(|found| {
            let task = found.labels?.remove(crate::plan::TASK_LABEL)?;
            let is_sandbox = found.image.as_deref() == Some(crate::plan::SANDBOX_IMAGE);
            Some((task, found.id?, is_sandbox))
        });
        Ok(found.collect())
    }

    pub(crate) async fn remove_container(&self, name: &str) -> Result<(), Fault> {
        let options = RemoveContainerOptions {
            v: true,
            force: true,
            link: false,
        };
        let remove =
            |docker: bollard::Docker| async move { docker.remove_container(name, Some(options)).await };
        match self.engine.call(WORK, remove).await {
            Err(fault) if fault.is_status(404) => Ok(()),
            // Somebody else is at it.
            Err(fault) if fault.is_status(409) => match self.inspect(name).await? {
                None => Ok(()),
                Some(_) => Err(fault),
            },
            other => other,
        }
    }

    async fn kill_container(&self, name: &str) -> Result<(), Fault> {
        self.signal_container(name, StopSignal::KILL).await
    }

    /// One that does not run is no error.
    async fn signal_container(&self, name: &str, signal: StopSignal) -> Result<(), Fault> {
        let options = KillContainerOptions {
            signal: signal.to_string(),
        };
        let kill = |docker: bollard::Docker| async move { docker.kill_container(name, Some(options)).await };
        match self.engine.call(CALL, kill).await {
            Err(fault) if fault.is_status(404) || fault.is_status(409) => Ok(()),
            other => other,
        }
    }

    async fn stop(
        &self,
        task: &Arc<Task>,
        signal: Option<StopSignal>,
        grace: Option<Duration>,
    ) -> Result<ExitRecord, RunnerError> {
        let (name, planned) = {
            let spec = locked(&task.spec);
            (spec.name.clone(), spec.stop_grace)
        };
        let grace = grace.unwrap_or(planned);
        if let Some(signal) = signal {
            self.signal_container(&name, signal).await?;
            if let Ok(ended) = tokio::time::timeout(grace, ended(task)).await {
                return ended;
            }
            self.kill_container(&name).await?;
        } else {
            let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
            let options = StopContainerOptions {
                signal: None,
                t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)),
            };
            // The signal is the one of the spec or the image: the engine knows.
            let stop =
                |docker: bollard::Docker| async move { docker.stop_container(&name, Some(options)).await };
            let limit = grace.saturating_add(WORK);
            match self.engine.call(limit, stop).await {
                // 304: it has ended already.
                Err(fault) if fault.is_status(404) || fault.is_status(304) => {}
                other => other?,
            }
        }
        self.end_of(task).await
    }

    /// The end of a task that is about to end.
    async fn end_of(&self, task: &Arc<Task>) -> Result<ExitRecord, RunnerError> {
        let limit = tokio::time::Instant::now() + WORK;
        loop {
            self.settle(task).await?;
            if let TaskState::Ended(record) = &*task.state.borrow() {
                return Ok(record.clone());
            }
            if tokio::time::Instant::now() > limit {
                return Err(RunnerError::Engine {
                    message: format!("the container of task {} still runs", task.id),
                });
            }
            // Told by the engine, or looked for again.
            let _ = tokio::time::timeout(Duration::from_secs(1), ended(task)).await;
        }
    }

    fn adopt(&self) -> Result<Adopted, RunnerError> {
        let mut adopted = Adopted::default();
        let state_dir = &self.config.state_dir;
        let list = std::fs::read_dir(state_dir).map_err(RunnerError::io("list", state_dir))?;
        for entry in list {
            let entry = entry.map_err(RunnerError::io("list", state_dir))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let dirs = self.dirs(&name);
            let spec: Option<ContainerTask> = dirs::read(&dirs.spec()).unwrap_or_default();
            let (Some(spec), Ok(id)) = (spec.filter(|_| dirs.prepared().exists()), TaskId::new(&name)) else {
                // Its containers are removed when the engine is found.
                remove_netns(&netns_of(&name))?;
                dirs.remove()?;
                adopted.removed.push(name);
                continue;
            };
            let ended = dirs::read(&dirs.exit())?.map(TaskState::Ended);
            let started = dirs::read(&dirs.started())?.map(TaskState::Running);
            let state = ended.or(started).unwrap_or(TaskState::Prepared);
            self.enter(&id, spec, state.clone());
            adopted.tasks.insert(id, state);
        }
        Ok(adopted)
    }
}

/// Whether there is a process of this number in a named network namespace; another one may have got the number since.
fn is_within(pid: i32, netns: &str) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let of = |path: String| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let own = of(format!("/proc/{pid}/ns/net"));
    own.is_ok_and(|own| of(format!("/run/netns/{netns}")).is_ok_and(|named| named == own))
}

fn rank(state: &TaskState) -> u8 {
    match state {
        TaskState::Prepared => 0,
        TaskState::Running(_) => 1,
        TaskState::Ended(_) => 2,
    }
}

/// The name that a task's network namespace has where its plan cannot be read.
pub(crate) fn netns_of(task: &str) -> String {
    format!("es-{task}")
}

impl Task {
    /// Takes a plan again, with what its files hold; `false` where it is another one.
    fn takes(&self, spec: &ContainerTask) -> Result<bool, RunnerError> {
        let text = |spec: &ContainerTask| {
            serde_json::to_value(spec)
                .map_err(|error| RunnerError::io("write", self.dirs.spec())(error.into()))
        };
        let mut known = locked(&self.spec);
        let is_same = text(&known)? == text(spec)?;
        if is_same {
            known.clone_from(spec);
        }
        Ok(is_same)
    }

    /// The task that it is.
    pub(crate) fn id(&self) -> &TaskId {
        &self.id
    }
}

fn tell(room: Option<mpsc::Permit<'_, TaskEvent>>, task: &TaskId, state: Option<TaskState>) {
    tracing::info!(%task, ?state, "a task changed");
    if let Some(room) = room {
        let task = task.clone();
        room.send(TaskEvent { task, state });
    }
}

async fn ended(task: &Task) -> Result<ExitRecord, RunnerError> {
    let mut state = task.state.subscribe();
    let ended = state.wait_for(|state| matches!(state, TaskState::Ended(_))).await;
    match ended.as_deref() {
        Ok(TaskState::Ended(record)) => Ok(record.clone()),
        _ => Err(RunnerError::Unknown {
            task: task.id.clone(),
        }),
    }
}

/// The process of a container that runs.
fn pid(found: &ContainerInspectResponse) -> Option<i32> {
    let state = found.state.as_ref().filter(|state| state.running == Some(true))?;
    state
        .pid
        .and_then(|pid| i32::try_from(pid).ok())
        .filter(|pid| *pid > 0)
}

/// A time as the engine writes it; the year 1 stands for none.
fn time(text: Option<&String>) -> Option<Timestamp> {
    let time: Timestamp = text?.parse().ok()?;
    (time.as_second() > 0).then_some(time)
}

fn start_record(found: &ContainerInspectResponse) -> StartRecord {
    use bollard::models::HealthStatusEnum;
    use essaim_runner::TaskHealth;
    let state = found.state.as_ref();
    let health = state.and_then(|state| state.health.as_ref());
    let failures = health
        .and_then(|health| health.failing_streak)
        .unwrap_or_default();
    let health = health.and_then(|health| match health.status? {
        HealthStatusEnum::EMPTY | HealthStatusEnum::NONE => None,
        HealthStatusEnum::STARTING => Some(TaskHealth::Starting),
        HealthStatusEnum::HEALTHY => Some(TaskHealth::Healthy),
        HealthStatusEnum::UNHEALTHY => Some(TaskHealth::Unhealthy {
            failures: u32::try_from(failures).unwrap_or_default(),
        }),
    });
    StartRecord {
        pid: pid(found).unwrap_or_default(),
        shim: 0,
        started: time(state.and_then(|state| state.started_at.as_ref())).unwrap_or_else(Timestamp::now),
        container: found.id.clone(),
        health,
    }
}

/// The end of a container that has run.
fn end_record(found: &ContainerInspectResponse) -> Option<ExitRecord> {
    use bollard::models::ContainerStateStatusEnum;
    let state = found.state.as_ref()?;
    let is_over = matches!(
        state.status,
        Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)
    );
    if !is_over || state.running == Some(true) {
        return None;
    }
    let code = state.exit_code.and_then(|code| u8::try_from(code).ok());
    Some(ExitRecord {
        exit: match code {
            Some(code) => Exit::Code { code },
            None => Exit::Lost {
                message: "the engine does not know how the container ended".to_owned(),
            },
        },
        oom_killed: state.oom_killed == Some(true),
        started: time(state.started_at.as_ref()),
        finished: time(state.finished_at.as_ref()).unwrap_or_else(Timestamp::now),
    })
}

fn stats_of(found: &ContainerStatsResponse) -> Stats {
    let cpu = found.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref());
    let memory = found.memory_stats.as_ref();
    let idle = memory.and_then(|memory| {
        let stats = memory.stats.as_ref()?;
        stats
            .get("total_inactive_file")
            .or_else(|| stats.get("inactive_file"))
            .copied()
    });
    Stats {
        cpu: cpu.and_then(|cpu| cpu.total_usage).map(Duration::from_nanos),
        memory_bytes: memory
            .and_then(|memory| memory.usage)
            .map(|used| used.saturating_sub(idle.unwrap_or_default())),
        memory_limit_bytes: memory.and_then(|memory| memory.limit),
        pids: found.pids_stats.as_ref().and_then(|pids| pids.current),
    }
}

impl Runner for DockerRunner {
    type Spec = ContainerTask;

    async fn prepare(&self, task: &TaskId, spec: ContainerTask) -> Result<TaskState, RunnerError> {
        let (inner, task) = (Arc::clone(&self.inner), task.clone());
        // Nothing is left half made where the caller is gone.
        let prepared = tokio::spawn(async move { Box::pin(inner.prepare(&task, spec)).await });
        prepared.await.map_err(RunnerError::Panicked)?
    }

    async fn start(&self, task: &TaskId) -> Result<StartRecord, RunnerError> {
        let (inner, task) = (Arc::clone(&self.inner), self.task(task)?);
        let started = tokio::spawn(async move { inner.start(&task).await });
        started.await.map_err(RunnerError::Panicked)?
    }

    async fn stop(
        &self,
        task: &TaskId,
        signal: Option<StopSignal>,
        grace: Option<Duration>,
    ) -> Result<ExitRecord, RunnerError> {
        let task = self.task(task)?;
        let state = task.state.borrow().clone();
        match state {
            TaskState::Prepared => Err(RunnerError::NotRunning {
                task: task.id.clone(),
            }),
            TaskState::Ended(record) => Ok(record),
            TaskState::Running(_) => self.inner.stop(&task, signal, grace).await,
        }
    }

    async fn kill(&self, task: &TaskId) -> Result<ExitRecord, RunnerError> {
        let task = self.task(task)?;
        if *task.state.borrow() == TaskState::Prepared {
            return Err(RunnerError::NotRunning {
                task: task.id.clone(),
            });
        }
        let name = locked(&task.spec).name.clone();
        self.inner.kill_container(&name).await?;
        self.inner.end_of(&task).await
    }

    async fn remove(&self, task: &TaskId) -> Result<(), RunnerError> {
        let (inner, task) = (Arc::clone(&self.inner), task.clone());
        let removed = tokio::spawn(async move { inner.remove(&task).await });
        removed.await.map_err(RunnerError::Panicked)?
    }

    async fn wait(&self, task: &TaskId) -> Result<ExitRecord, RunnerError> {
        let (id, mut state) = {
            let task = self.task(task)?;
            (task.id.clone(), task.state.subscribe())
        };
        // The sender goes with the task.
        let ended = state.wait_for(|state| matches!(state, TaskState::Ended(_))).await;
        match ended.as_deref() {
            Ok(TaskState::Ended(record)) => Ok(record.clone()),
            _ => Err(RunnerError::Unknown { task: id }),
        }
    }

    async fn stats(&self, task: &TaskId) -> Result<Stats, RunnerError> {
        let task = self.task(task)?;
        let name = locked(&task.spec).name.clone();
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let ask = |docker: bollard::Docker| async move {
            docker.stats(&name, Some(options)).next().await.transpose()
        };
        let found = self.inner.engine.call(CALL, ask).await?;
        Ok(found.as_ref().map(stats_of).unwrap_or_default())
    }

    async fn logs(&self, task: &TaskId, query: LogQuery) -> Result<LogFollower, RunnerError> {
        let task = self.task(task)?;
        let name = locked(&task.spec).name.clone();
        let engine = Arc::clone(&self.inner.engine);
        let docker = engine.connected().await?.docker;
        Ok(logs::follow(engine, docker, name, query))
    }

    fn list(&self) -> BTreeMap<TaskId, TaskState> {
        let tasks = locked(&self.inner.tasks);
        tasks
            .iter()
            .map(|(id, task)| (id.clone(), task.state.borrow().clone()))
            .collect()
    }

    async fn adopt(&self) -> Result<Adopted, RunnerError> {
        let inner = Arc::clone(&self.inner);
        let adopted = blocking(move || inner.adopt()).await?;
        self.inner.watch();
        Ok(adopted)
    }
}
