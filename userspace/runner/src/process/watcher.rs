//! Seeing the end of a task.

use super::{Inner, Task, blocking, shim_client};
use crate::record::{self, Exit, ExitRecord, StartRecord};
use crate::{RunnerError, TaskState};
use jiff::Timestamp;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// From one try to reach a shim that lives and does not answer to the next.
const TRY_AGAIN: Duration = Duration::from_millis(200);

impl Inner {
    /// Watches a task that runs, until it has ended or the runner is dropped.
    pub(super) fn watch(self: &Arc<Self>, task: &Arc<Task>) {
        let (inner, task) = (Arc::downgrade(self), Arc::downgrade(task));
        tokio::spawn(async move { follow(&inner, &task).await });
    }
}

async fn follow(inner: &Weak<Inner>, task: &Weak<Task>) {
    loop {
        let Some(dir) = task.upgrade().map(|task| task.dir.clone()) else {
            return;
        };
        // The record is on the disk when it is told; where the shim ended without a word it may still be.
        let told = shim_client::exited(&dir).await;
        let (Some(inner), Some(task)) = (inner.upgrade(), task.upgrade()) else {
            return;
        };
        let record = if let Ok(record) = told {
            Ok(Some(record))
        } else {
            let settled = Arc::clone(&task);
            blocking(move || settled.settle()).await
        };
        match record {
            Ok(Some(record)) => return inner.advance(&task, TaskState::Ended(record)).await,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    task = %task.id,
                    error = &error as &dyn std::error::Error,
                    "failed to see to a task that lost its shim; trying again"
                );
            }
        }
        drop((inner, task));
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

impl Task {
    /// The end of a task whose shim does not answer; `None` where that lives.
    ///
    /// A task whose shim was killed is killed, too: what it says would go nowhere, and nobody could learn how it ends.
    pub(super) fn settle(&self) -> Result<Option<ExitRecord>, RunnerError> {
        let read = || record::read(&self.dir.exit()).map_err(RunnerError::io("read", self.dir.exit()));
        if let Some(record) = read()? {
            return Ok(Some(record));
        }
        let is_locked = self.dir.is_locked();
        if is_locked.map_err(RunnerError::io("look at", self.dir.lock()))? {
            return Ok(None);
        }
        // It may have written its record and ended since.
        if let Some(record) = read()? {
            return Ok(Some(record));
        }
        self.group.kill()?;
        let started: Option<StartRecord> = record::read(&self.dir.started()).unwrap_or_default();
        let record = ExitRecord {
            exit: Exit::Lost {
                message: "the task's shim was killed, or the machine stopped, before the task ended"
                    .to_owned(),
            },
            oom_killed: self.group.oom_killed(),
            started: started.map(|started| started.started),
            finished: Timestamp::now(),
        };
        let written = record::write(&self.dir.exit(), &record, true);
        written.map_err(RunnerError::io("write", self.dir.exit()))?;
        Ok(Some(record))
    }
}
