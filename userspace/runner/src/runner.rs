use crate::{ExitRecord, LogError, LogFollower, LogQuery, RunnerError, StartRecord, Stats};
use essaim_health::StopSignal;
use essaim_model::TaskId;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// How far a task has come. It never goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// All that it needs is there, and it was not started.
    Prepared,
    /// It runs.
    Running(StartRecord),
    /// It has ended, or could not be started.
    Ended(ExitRecord),
}

/// What happened to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEvent {
    /// The task.
    pub task: TaskId,
    /// What it is from now on; `None` where it was removed.
    pub state: Option<TaskState>,
}

/// What an agent found of those that ran before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The tasks that go on under this runner.
    pub tasks: BTreeMap<TaskId, TaskState>,
    /// The names of those that were only half prepared or half removed: nothing of them is left.
    pub removed: Vec<String>,
}

/// Runs tasks. Every operation may be repeated, dropped half-way, and cut short by the end of the process: what it leaves
/// is found by [`Runner::adopt`].
pub trait Runner: Send + Sync {
    /// How a task is to run.
    type Spec;

    /// Makes all that a task needs to start. The same again changes nothing, but gives the runner the contents of secrets
    /// and configs, which it keeps in memory only.
    ///
    /// # Errors
    /// [`RunnerError`]; nothing of a new task is left then.
    fn prepare(
        &self,
        task: &TaskId,
        spec: Self::Spec,
    ) -> impl Future<Output = Result<TaskState, RunnerError>> + Send;

    /// Starts a task that is prepared; one that runs goes on.
    ///
    /// # Errors
    /// [`RunnerError::NotStarted`] where the command could not be run, which is its end; others leave it prepared.
    fn start(&self, task: &TaskId) -> impl Future<Output = Result<StartRecord, RunnerError>> + Send;

    /// Asks a task to stop, kills it once the grace period is over, and waits for its end.
    ///
    /// What is not given is as its spec says.
    ///
    /// # Errors
    /// [`RunnerError`]; the task may still run.
    fn stop(
        &self,
        task: &TaskId,
        signal: Option<StopSignal>,
        grace: Option<Duration>,
    ) -> impl Future<Output = Result<ExitRecord, RunnerError>> + Send;

    /// Kills all processes of a task, and waits for its end.
    ///
    /// # Errors
    /// [`RunnerError`]; the task may still run.
    fn kill(&self, task: &TaskId) -> impl Future<Output = Result<ExitRecord, RunnerError>> + Send;

    /// Removes all that there is of a task, its log too; ends it where it runs. One that is absent is no error.
    ///
    /// # Errors
    /// [`RunnerError`]; what is left can be removed by trying again.
    fn remove(&self, task: &TaskId) -> impl Future<Output = Result<(), RunnerError>> + Send;

    /// Waits for the end of a task.
    ///
    /// # Errors
    /// [`RunnerError::Unknown`], also where it is removed meanwhile.
    fn wait(&self, task: &TaskId) -> impl Future<Output = Result<ExitRecord, RunnerError>> + Send;

    /// What a task uses.
    ///
    /// # Errors
    /// [`RunnerError::Unknown`].
    fn stats(&self, task: &TaskId) -> impl Future<Output = Result<Stats, RunnerError>> + Send;

    /// What a task said, and says.
    ///
    /// # Errors
    /// [`RunnerError::Unknown`] and [`RunnerError::Log`].
    fn logs(
        &self,
        task: &TaskId,
        query: LogQuery,
    ) -> impl Future<Output = Result<LogFollower, RunnerError>> + Send;

    /// All tasks that the runner has.
    fn list(&self) -> BTreeMap<TaskId, TaskState>;

    /// Takes over what there is from agents that ran before; to be called once, before anything else.
    ///
    /// # Errors
    /// [`RunnerError`]; it may be tried again.
    fn adopt(&self) -> impl Future<Output = Result<Adopted, RunnerError>> + Send;
}

impl From<LogError> for RunnerError {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}
