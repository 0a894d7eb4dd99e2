//! The runners of a node as one.

use crate::TaskSpec;
use essaim_docker::DockerRunner;
use essaim_health::StopSignal;
use essaim_model::TaskId;
use essaim_runner::{
    Adopted, ExitRecord, LogFollower, LogQuery, ProcessRunner, Runner, RunnerError, StartRecord, Stats,
    TaskState,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// Runs tasks as processes or as containers, each as its spec says. Both tell of their tasks in the same channel.
#[derive(Clone, Debug)]
pub struct NodeRunner {
    processes: ProcessRunner,
    containers: DockerRunner,
}

impl NodeRunner {
    /// Of these two.
    pub fn new(processes: ProcessRunner, containers: DockerRunner) -> Self {
        Self {
            processes,
            containers,
        }
    }

    /// The runner of processes.
    pub fn processes(&self) -> &ProcessRunner {
        &self.processes
    }

    /// Whether a task is a container; one that nobody knows is none.
    fn is_container(&self, task: &TaskId) -> bool {
        self.containers.has(task)
    }
}

/// Asks the runner that has a task.
macro_rules! ask {
    ($self:ident, $task:ident, $operation:ident $(, $argument:expr)*) => {
        if $self.is_container($task) {
            $self.containers.$operation($task $(, $argument)*).await
        } else {
            $self.processes.$operation($task $(, $argument)*).await
        }
    };
}

impl Runner for NodeRunner {
    type Spec = TaskSpec;

    async fn prepare(&self, task: &TaskId, spec: TaskSpec) -> Result<TaskState, RunnerError> {
        match spec {
            TaskSpec::Process(spec) => self.processes.prepare(task, *spec).await,
            TaskSpec::Container(spec) => self.containers.prepare(task, *spec).await,
        }
    }

    async fn start(&self, task: &TaskId) -> Result<StartRecord, RunnerError> {
        ask!(self, task, start)
    }

    async fn stop(
        &self,
        task: &TaskId,
        signal: Option<StopSignal>,
        grace: Option<Duration>,
    ) -> Result<ExitRecord, RunnerError> {
        ask!(self, task, stop, signal, grace)
    }

    async fn kill(&self, task: &TaskId) -> Result<ExitRecord, RunnerError> {
        ask!(self, task, kill)
    }

    async fn remove(&self, task: &TaskId) -> Result<(), RunnerError> {
        ask!(self, task, remove)
    }

    async fn wait(&self, task: &TaskId) -> Result<ExitRecord, RunnerError> {
        ask!(self, task, wait)
    }

    async fn stats(&self, task: &TaskId) -> Result<Stats, RunnerError> {
        ask!(self, task, stats)
    }

    async fn logs(&self, task: &TaskId, query: LogQuery) -> Result<LogFollower, RunnerError> {
        ask!(self, task, logs, query)
    }

    fn list(&self) -> BTreeMap<TaskId, TaskState> {
        let mut all = self.processes.list();
        all.extend(self.containers.list());
        all
    }

    async fn adopt(&self) -> Result<Adopted, RunnerError> {
        let mut adopted = self.processes.adopt().await?;
        let containers = self.containers.adopt().await?;
        adopted.tasks.extend(containers.tasks);
        adopted.removed.extend(containers.removed);
        Ok(adopted)
    }
}
