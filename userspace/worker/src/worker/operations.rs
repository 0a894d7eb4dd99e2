//! The operations that are under way.

use super::{end_of, launch_of};
use crate::core::{Core, Done, Failure, Operation};
use crate::logs::runner_id;
use crate::session::Shared;
use crate::spec::{netns_path, task_spec};
use crate::{Dataplane, Given, TaskSpec};
use essaim_objects::{Task, TaskId};
use essaim_rpc::chain;
use essaim_runner::{Runner, RunnerError};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::task::{AbortHandle, Id, JoinSet};

type Outcome = Result<Done, Failure>;

pub(super) struct Operations<R, D> {
    shared: Arc<Shared<R, D>>,
    running: JoinSet<Outcome>,
    by_id: HashMap<Id, (TaskId, u64)>,
    handles: BTreeMap<(TaskId, u64), AbortHandle>,
}

impl<R: Runner<Spec = TaskSpec> + 'static, D: Dataplane> Operations<R, D> {
    pub(super) fn new(shared: Arc<Shared<R, D>>) -> Self {
        Self {
            shared,
            running: JoinSet::new(),
            by_id: HashMap::new(),
            handles: BTreeMap::new(),
        }
    }

    /// Begins an operation; an error is its outcome already.
    pub(super) fn begin(
        &mut self,
        core: &Core,
        task: TaskId,
        number: u64,
        operation: Operation,
    ) -> Result<(), Failure> {
        let name = runner_id(task);
        let assigned = || {
            let assigned = core.task(task).cloned();
            assigned.ok_or_else(|| Failure::new("the task is not assigned any more"))
        };
        let (runner, dataplane) = (
            Arc::clone(&self.shared.runner),
            Arc::clone(&self.shared.dataplane),
        );
        let handle = match operation {
            Operation::Prepare => {
                let spec = self.spec(core, &*assigned()?)?;
                self.running
                    .spawn(async move { prepare(&*runner, &name, spec).await })
            }
            Operation::Attach => {
                let assigned = assigned()?;
                self.running
                    .spawn(async move { attach(&*dataplane, &assigned).await })
            }
            Operation::Start => self.running.spawn(async move { start(&*runner, &name).await }),
            Operation::Drain => self.running.spawn(async move {
                dataplane.drain(task).await;
                Ok(Done::Done)
            }),
            Operation::Stop => self.running.spawn(async move { stop(&*runner, &name).await }),
            Operation::Remove => self.running.spawn(async move {
                let removed = runner.remove(&name).await;
                removed
                    .map(|()| Done::Done)
                    .map_err(|error| failed(task, "remove", &error))
            }),
        };
        self.by_id.insert(handle.id(), (task, number));
        self.handles.insert((task, number), handle);
        Ok(())
    }

    fn spec(&self, core: &Core, task: &Task) -> Result<TaskSpec, Failure> {
        let given = Given {
            node: &self.shared.facts,
            secrets: core.secrets(),
            configs: core.configs(),
        };
        let resolv_conf = self.shared.dataplane.resolv_conf(task.id);
        task_spec(task, given, resolv_conf).map_err(|error| Failure::new(error.to_string()))
    }

    pub(super) fn abandon(&mut self, task: TaskId, number: u64) {
        if let Some(handle) = self.handles.remove(&(task, number)) {
            handle.abort();
        }
    }

    /// The next outcome; `None` where nothing is under way.
    pub(super) async fn next(&mut self) -> Option<(TaskId, u64, Outcome)> {
        loop {
            let (id, outcome) = match self.running.join_next_with_id().await? {
                Ok((id, outcome)) => (id, outcome),
                Err(error) => {
                    let why = format!("the operation was cut short (a bug): {error}");
                    (error.id(), Err(Failure::new(why)))
                }
            };
            if let Some((task, number)) = self.by_id.remove(&id)
                && self.handles.remove(&(task, number)).is_some()
            {
                return Some((task, number, outcome));
            }
        }
    }
}

fn failed(task: impl std::fmt::Display, doing: &str, error: &RunnerError) -> Failure {
    let reason = chain(error);
    tracing::warn!(%task, reason, "failed to {doing} a task");
    Failure::new(reason)
}

/// A task that an earlier agent prepared in another way, as after a change of the node's name, is prepared anew.
async fn prepare<R: Runner<Spec = TaskSpec>>(
    runner: &R,
    name: &essaim_model::TaskId,
    spec: TaskSpec,
) -> Outcome {
    let mut prepared = runner.prepare(name, spec.clone()).await;
    if matches!(prepared, Err(RunnerError::Differs { .. })) {
        runner
            .remove(name)
            .await
            .map_err(|error| failed(name, "remove", &error))?;
        prepared = runner.prepare(name, spec).await;
    }
    prepared
        .map(|_| Done::Done)
        .map_err(|error| failed(name, "prepare", &error))
}

async fn attach<D: Dataplane>(dataplane: &D, task: &Task) -> Outcome {
    let attached = dataplane.attach(task, &netns_path(task)).await;
    attached.map(|()| Done::Done).map_err(|error| {
        tracing::warn!(task = %task.id, %error, "a task has no endpoints");
        Failure::new(error.reason)
    })
}

async fn start<R: Runner>(runner: &R, name: &essaim_model::TaskId) -> Outcome {
    match runner.start(name).await {
        Ok(record) => Ok(Done::Started(launch_of(&record))),
        Err(error) => {
            let (exit_code, is_end) = match &error {
                RunnerError::NotStarted { record, .. } | RunnerError::Refused { record, .. } => {
                    (record.exit.code(), true)
                }
                RunnerError::HasEnded { .. } => (None, true),
                _ => (None, false),
            };
            let reason = format!(
                "starting container failed: {}",
                failed(name, "start", &error).reason
            );
            Err(Failure {
                reason,
                exit_code,
                is_end,
            })
        }
    }
}

async fn stop<R: Runner>(runner: &R, name: &essaim_model::TaskId) -> Outcome {
    match runner.stop(name, None, None).await {
        Ok(record) => Ok(Done::Ended(end_of(&record))),
        Err(RunnerError::Unknown { .. }) => Ok(Done::Ended(crate::core::End {
            code: None,
            reason: Some("nothing of it is left on this node".to_owned()),
        })),
        Err(error) => Err(failed(name, "stop", &error)),
    }
}
