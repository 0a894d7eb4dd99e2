//! The process runner: its tasks, and what can be done with them.

mod adopt;
mod follow;
mod launch;
mod prepare;
mod remove;
mod shim_client;
mod watcher;

pub use follow::LogFollower;

use crate::cgroup::{CgroupError, Hierarchies, TaskGroup};
use crate::dirs::TaskDir;
use crate::{
    Adopted, ExitRecord, LogQuery, ProcessSpec, Runner, RunnerError, ShimStatus, StartRecord, Stats,
    TaskEvent, TaskState,
};
use essaim_health::{Stop, StopAction, StopSettings, StopSignal};
use essaim_model::TaskId;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

/// Where a runner keeps things, and how it starts shims.
#[derive(Clone, Debug)]
pub struct ProcessRunnerConfig {
    /// Holds a directory for each task. Only root may see into it.
    pub state_dir: PathBuf,
    /// The control group above those of the tasks, from the root of the hierarchy; made where it is missing. In version
    /// 2 it must hold no process itself, and it should not be below that of the agent's service, whose stop would end it.
    pub cgroup_parent: PathBuf,
    /// Directories of the node that tasks with its root are not to see, besides `state_dir`.
    pub hidden: Vec<PathBuf>,
    /// What runs [`crate::shim_main`].
    pub shim: ShimProgram,
}

/// A program that runs [`crate::shim_main`] with what it is given after these arguments.
#[derive(Clone, Debug)]
pub struct ShimProgram {
    /// The program.
    pub program: PathBuf,
    /// Its first arguments.
    pub arguments: Vec<OsString>,
}

impl Default for ShimProgram {
    /// This process' own program, also where its file was replaced meanwhile, with `task-shim`.
    fn default() -> Self {
        Self {
            program: "/proc/self/exe".into(),
            arguments: vec!["task-shim".into()],
        }
    }
}

/// Runs tasks as processes of the host. Cheap to clone; all clones are one runner.
#[derive(Clone, Debug)]
pub struct ProcessRunner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ProcessRunnerConfig,
    hierarchies: Hierarchies,
    events: mpsc::Sender<TaskEvent>,
    tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
}

/// A task of the runner.
#[derive(Debug)]
struct Task {
    id: TaskId,
    dir: TaskDir,
    group: TaskGroup,
    /// What makes, starts and removes it, one after the other.
    turn: tokio::sync::Mutex<()>,
    state: watch::Sender<TaskState>,
    /// With the contents of its files where `prepare` was called by this agent.
    spec: Mutex<ProcessSpec>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it guards is whole at all times.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProcessRunner {
    /// A runner; what happens to its tasks is sent to `events`. Where that is full, the runner waits: take from it.
    ///
    /// # Errors
    /// [`RunnerError::Io`] where the state directory cannot be made, or control groups cannot be found.
    pub fn new(
        mut config: ProcessRunnerConfig,
        events: mpsc::Sender<TaskEvent>,
    ) -> Result<Self, RunnerError> {
        use std::os::unix::fs::DirBuilderExt as _;
        // Shims have another working directory.
        config.state_dir = std::path::absolute(&config.state_dir)
            .map_err(RunnerError::io("find the directory", &config.state_dir))?;
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.state_dir);
        made.map_err(RunnerError::io("make the directory", &config.state_dir))?;
        let hierarchies = Hierarchies::find();
        let hierarchies = hierarchies.map_err(RunnerError::io("read", "/proc/self/mountinfo"))?;
        // Whether there are any is seen now rather than by the first task.
        TaskGroup::new(&hierarchies, &config.cgroup_parent, "probe")?;
        let inner = Inner {
            config,
            hierarchies,
            events,
            tasks: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The processes of a task, as the node numbers them, whoever started them.
    ///
    /// # Errors
    /// [`RunnerError::Unknown`] and [`RunnerError::Cgroup`].
    pub fn pids(&self, task: &TaskId) -> Result<BTreeSet<i32>, RunnerError> {
        let pids = self.task(task)?.group.pids()?;
        Ok(pids.into_iter().map(nix::unistd::Pid::as_raw).collect())
    }

    /// What the shim of a task that runs says of itself.
    ///
    /// # Errors
    /// [`RunnerError`] where it does not answer.
    pub async fn shim_status(&self, task: &TaskId) -> Result<ShimStatus, RunnerError> {
        let task = self.task(task)?;
        shim_client::status(&task.dir)
            .await
            .map_err(RunnerError::io("ask the shim of", task.dir.path()))
    }

    /// Sends the process of a task a signal; `false` where it has ended.
    ///
    /// # Errors
    /// [`RunnerError::Signal`], and [`RunnerError::NotRunning`] where it has not been started.
    pub async fn signal(&self, task: &TaskId, signal: StopSignal) -> Result<bool, RunnerError> {
        let task = self.task(task)?;
        let state = task.state.borrow().clone();
        match state {
            TaskState::Prepared => Err(RunnerError::NotRunning {
                task: task.id.clone(),
            }),
            TaskState::Ended(_) => Ok(false),
            TaskState::Running(_) => task.signal(signal).await,
        }
    }

    /// Removes every task, and the control group above them as far as nothing else is in it.
    ///
    /// # Errors
    /// [`RunnerError`] for the first that could not be removed; the others were.
    pub async fn remove_all(&self) -> Result<(), RunnerError> {
        let tasks: Vec<TaskId> = locked(&self.inner.tasks).keys().cloned().collect();
        let mut first = Ok(());
        for task in tasks {
            first = first.and(self.remove(&task).await);
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            TaskGroup::remove_empty_parents(&inner.hierarchies, &inner.config.cgroup_parent);
            Ok(())
        })
        .await?;
        first
    }

    fn task(&self, id: &TaskId) -> Result<Arc<Task>, RunnerError> {
        let found = locked(&self.inner.tasks).get(id).cloned();
        found.ok_or_else(|| RunnerError::Unknown { task: id.clone() })
    }
}

impl Inner {
    fn dir(&self, name: &str) -> TaskDir {
        TaskDir::new(self.config.state_dir.join(name))
    }

    fn group(&self, name: &str) -> Result<TaskGroup, CgroupError> {
        TaskGroup::new(&self.hierarchies, &self.config.cgroup_parent, name)
    }

    /// Enters a task into the list, unless it is there; that one then.
    fn enter(&self, id: &TaskId, spec: ProcessSpec, state: TaskState) -> Result<Arc<Task>, RunnerError> {
        let group = self.group(id.as_str())?;
        let mut tasks = locked(&self.tasks);
        let entry = tasks.entry(id.clone()).or_insert_with(|| {
            Arc::new(Task {
                id: id.clone(),
                dir: self.dir(id.as_str()),
                group,
                turn: tokio::sync::Mutex::default(),
                state: watch::Sender::new(state),
                spec: Mutex::new(spec),
            })
        });
        Ok(Arc::clone(entry))
    }

    /// Takes a task forward, and tells so; one that has gone further stays there.
    ///
    /// It is told at the same moment: whoever sees the state may rely on what comes later being told later.
    async fn advance(&self, task: &Task, to: TaskState) {
        let rank = |state: &TaskState| match state {
            TaskState::Prepared => 0,
            TaskState::Running(_) => 1,
            TaskState::Ended(_) => 2,
        };
        // Whoever no longer listens need not know.
        let room = self.events.reserve().await.ok();
        task.state.send_if_modified(|state| {
            let further = rank(&to) > rank(state);
            if further {
                state.clone_from(&to);
                tell(room, &task.id, Some(to));
            }
            further
        });
    }
}

fn tell(room: Option<mpsc::Permit<'_, TaskEvent>>, task: &TaskId, state: Option<TaskState>) {
    tracing::info!(%task, ?state, "a task changed");
    if let Some(room) = room {
        let task = task.clone();
        room.send(TaskEvent { task, state });
    }
}

impl Task {
    async fn signal(&self, signal: StopSignal) -> Result<bool, RunnerError> {
        match shim_client::signal(&self.dir, signal.number()).await {
            Ok(delivered) => Ok(delivered),
            // It is about to be seen that it has ended.
            Err(_) if matches!(self.dir.is_locked(), Ok(false)) => Ok(false),
            Err(error) => Err(RunnerError::Signal {
                signal,
                task: self.id.clone(),
                message: error.to_string(),
            }),
        }
    }

    async fn ended(&self) -> Result<ExitRecord, RunnerError> {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| matches!(state, TaskState::Ended(_))).await;
        match ended.as_deref() {
            Ok(TaskState::Ended(record)) => Ok(record.clone()),
            _ => Err(RunnerError::Unknown {
                task: self.id.clone(),
            }),
        }
    }

    async fn kill_all(self: &Arc<Self>) -> Result<(), RunnerError> {
        let task = Arc::clone(self);
        blocking(move || Ok(task.group.kill()?)).await
    }
}

/// Does what waits for disk and kernel where it holds nobody up. It is done to its end, whatever becomes of the caller.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunnerError> + Send + 'static,
) -> Result<T, RunnerError> {
    spawn_blocking(work).await.map_err(RunnerError::Panicked)?
}

impl Runner for ProcessRunner {
    type Spec = ProcessSpec;

    async fn prepare(&self, task: &TaskId, spec: ProcessSpec) -> Result<TaskState, RunnerError> {
        self.inner.prepare(task, spec).await
    }

    async fn start(&self, task: &TaskId) -> Result<StartRecord, RunnerError> {
        let task = self.task(task)?;
        let inner = Arc::clone(&self.inner);
        // A start that nobody waits for any more is still seen to its end.
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
        if *task.state.borrow() == TaskState::Prepared {
            return Err(RunnerError::NotRunning {
                task: task.id.clone(),
            });
        }
        let settings = {
            let spec = locked(&task.spec);
            StopSettings {
                drain_deadline: Duration::ZERO,
                signal: signal.unwrap_or(spec.stop_signal),
                grace: grace.unwrap_or(spec.stop_grace),
            }
        };
        let mut stop = Stop::new(settings, Instant::now());
        // Who sends to the task was told before, or there is nobody.
        stop.drain_pending(&BTreeSet::new(), Instant::now());
        loop {
            while let Some(action) = stop.poll_action() {
                match action {
                    StopAction::TellDraining | StopAction::TellGone => {}
                    StopAction::Signal(signal) => {
                        if let Err(error) = task.signal(signal).await {
                            tracing::warn!(error = &error as &dyn std::error::Error, "failed to stop a task");
                        }
                    }
                    StopAction::Kill => task.kill_all().await?,
                }
            }
            let due = stop.poll_timeout().unwrap_or_else(Instant::now);
            tokio::select! {
                record = task.ended() => return record,
                () = tokio::time::sleep_until(due.into()) => stop.handle_timeout(Instant::now()),
            }
        }
    }

    async fn kill(&self, task: &TaskId) -> Result<ExitRecord, RunnerError> {
        let task = self.task(task)?;
        if *task.state.borrow() == TaskState::Prepared {
            return Err(RunnerError::NotRunning {
                task: task.id.clone(),
            });
        }
        task.kill_all().await?;
        task.ended().await
    }

    async fn remove(&self, task: &TaskId) -> Result<(), RunnerError> {
        let (inner, task) = (Arc::clone(&self.inner), task.clone());
        let removed = tokio::spawn(async move { inner.remove(&task).await });
        removed.await.map_err(RunnerError::Panicked)?
    }

    async fn wait(&self, task: &TaskId) -> Result<ExitRecord, RunnerError> {
        let (id, weak) = {
            let task = self.task(task)?;
            (task.id.clone(), task.state.subscribe())
        };
        let mut state = weak;
        // The sender goes with the task.
        let ended = state.wait_for(|state| matches!(state, TaskState::Ended(_))).await;
        match ended.as_deref() {
            Ok(TaskState::Ended(record)) => Ok(record.clone()),
            _ => Err(RunnerError::Unknown { task: id }),
        }
    }

    async fn stats(&self, task: &TaskId) -> Result<Stats, RunnerError> {
        let task = self.task(task)?;
        blocking(move || Ok(task.group.stats())).await
    }

    async fn logs(&self, task: &TaskId, query: LogQuery) -> Result<LogFollower, RunnerError> {
        let task = self.task(task)?;
        let max_file = locked(&task.spec).log.max_file;
        blocking(move || Ok(LogFollower::start(task.dir.clone(), max_file, query)?)).await
    }

    fn list(&self) -> BTreeMap<TaskId, TaskState> {
        let tasks = locked(&self.inner.tasks);
        tasks
            .iter()
            .map(|(id, task)| (id.clone(), task.state.borrow().clone()))
            .collect()
    }

    async fn adopt(&self) -> Result<Adopted, RunnerError> {
        self.inner.adopt().await
    }
}
