//! Taking over what earlier agents left.

use super::remove::{network_of, unmake};
use super::{Inner, Task, blocking};
use crate::{Adopted, ProcessSpec, RunnerError, TaskState, record};
use essaim_model::TaskId;
use nix::poll::{PollTimeout, poll};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest that a shim may take from its lock to the start of its task: mounts may be slow.
const START_LIMIT: Duration = Duration::from_secs(30);
/// From one look to the next, milliseconds.
const LOOK_AGAIN_MS: u16 = 5;

impl Inner {
    pub(super) async fn adopt(self: &Arc<Self>) -> Result<Adopted, RunnerError> {
        let inner = Arc::clone(self);
        let names = blocking(move || inner.names()).await?;
        let mut adopted = Adopted::default();
        for name in names {
            let (inner, looked) = (Arc::clone(self), name.clone());
            match blocking(move || inner.look(&looked)).await? {
                Some((task, state)) => {
                    if matches!(state, TaskState::Running(_)) {
                        self.watch(&task);
                    }
                    adopted.tasks.insert(task.id.clone(), state);
                }
                None => adopted.removed.push(name),
            }
        }
        Ok(adopted)
    }

    /// The names of the directories that there are, in order.
    fn names(&self) -> Result<Vec<String>, RunnerError> {
        let state_dir = &self.config.state_dir;
        let list = fs::read_dir(state_dir).map_err(RunnerError::io("list", state_dir))?;
        let mut names = Vec::new();
        for entry in list {
            let entry = entry.map_err(RunnerError::io("list", state_dir))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            match entry.file_name().into_string() {
                Ok(name) if is_dir => names.push(name),
                _ => tracing::warn!(path = %entry.path().display(), "this is none of the runner's"),
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Takes a task over; `None` where it was not whole, and is removed.
    fn look(&self, name: &str) -> Result<Option<(Arc<Task>, TaskState)>, RunnerError> {
        let dir = self.dir(name);
        let spec: Option<ProcessSpec> = record::read(&dir.spec()).unwrap_or_default();
        let whole = spec.filter(|_| dir.prepared().exists());
        let (Some(spec), Ok(id)) = (whole, TaskId::new(name)) else {
            unmake(&dir, &self.group(name)?, network_of(&dir).as_ref())?;
            return Ok(None);
        };
        let task = self.enter(&id, spec.clone(), TaskState::Prepared)?;
        let state = task.find_state()?;
        if state == TaskState::Prepared {
            // The machine may have been restarted since: directories are left then, and nothing of the kernel's.
            task.make(&spec)?;
        }
        task.state.send_replace(state.clone());
        Ok(Some((task, state)))
    }
}

impl Task {
    /// How far a task has come, by what is in its directory.
    pub(super) fn find_state(&self) -> Result<TaskState, RunnerError> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let lives = self
                .dir
                .is_locked()
                .map_err(RunnerError::io("look at", self.dir.lock()))?;
            if let Some(record) =
                record::read(&self.dir.exit()).map_err(RunnerError::io("read", self.dir.exit()))?
            {
                return Ok(TaskState::Ended(record));
            }
            let started =
                record::read(&self.dir.started()).map_err(RunnerError::io("read", self.dir.started()))?;
            match (lives, started) {
                (true, Some(started)) => return Ok(TaskState::Running(started)),
                (false, None) => return Ok(TaskState::Prepared),
                (false, Some(_)) => {
                    // Its shim is gone, and left no word.
                    if let Some(record) = self.settle()? {
                        return Ok(TaskState::Ended(record));
                    }
                }
                (true, None) if Instant::now() > deadline => {
                    return Err(RunnerError::Shim {
                        task: self.id.clone(),
                        message: format!("it has been starting the task for {START_LIMIT:?}"),
                    });
                }
                // The shim is about to start the task.
                (true, None) => {}
            }
            // Fails only where a signal comes between.
            let _ = poll(&mut [], PollTimeout::from(LOOK_AGAIN_MS));
        }
    }
}
