//! Removing what there is of a task: first the mark that it is whole, last the spec that names the rest.

use super::{Inner, Task, blocking, locked, tell};
use crate::dirs::TaskDir;
use crate::{NetworkNamespace, ProcessSpec, RunnerError, TaskState, record, sys};
use essaim_model::TaskId;
use nix::poll::{PollTimeout, poll};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest that a shim may take to end once its task has: the last of the log and the exit record go to the disk.
const SHIM_LIMIT: Duration = Duration::from_secs(10);
/// From one look at its lock to the next, milliseconds.
const LOOK_AGAIN_MS: u16 = 2;

impl Inner {
    pub(super) async fn remove(self: &Arc<Self>, id: &TaskId) -> Result<(), RunnerError> {
        let Some(task) = locked(&self.tasks).get(id).cloned() else {
            return Ok(());
        };
        let running = matches!(*task.state.borrow(), TaskState::Running(_));
        if running {
            task.kill_all().await?;
            // Its end is told before its removal. A shim that cannot write its record down is ended below.
            let _ = tokio::time::timeout(SHIM_LIMIT, task.ended()).await;
        }
        let _turn = task.turn.lock().await;
        if !self.is_listed(&task) {
            return Ok(());
        }
        let unmade = Arc::clone(&task);
        blocking(move || unmade.unmake()).await?;
        locked(&self.tasks).remove(id);
        let room = self.events.reserve().await.ok();
        tell(room, id, None);
        Ok(())
    }
}

impl Task {
    /// Removes all that there is of it.
    pub(super) fn unmake(&self) -> Result<(), RunnerError> {
        let network = locked(&self.spec).network.clone();
        unmake(&self.dir, &self.group, Some(&network))
    }
}

/// Removes all that there is of a task; what is absent is no error.
pub(super) fn unmake(
    dir: &TaskDir,
    group: &crate::cgroup::TaskGroup,
    network: Option<&NetworkNamespace>,
) -> Result<(), RunnerError> {
    absent(fs::remove_file(dir.prepared())).map_err(RunnerError::io("remove", dir.prepared()))?;
    group.kill()?;
    end_shim(dir)?;
    group.remove()?;
    if let Some(NetworkNamespace::Create(name)) = network {
        essaim_netlink::remove_netns(name)?;
    }
    remove_dir(dir)
}

/// Reads what the spec in a directory says of the network; `None` where it cannot be read.
pub(super) fn network_of(dir: &TaskDir) -> Option<NetworkNamespace> {
    let spec: Option<ProcessSpec> = record::read(&dir.spec()).ok()?;
    spec.map(|spec| spec.network)
}

/// Waits until the shim is gone; one that cannot write its record is ended.
fn end_shim(dir: &TaskDir) -> Result<(), RunnerError> {
    let deadline = Instant::now() + SHIM_LIMIT;
    loop {
        let holder = dir
            .lock_holder()
            .map_err(RunnerError::io("look at", dir.lock()))?;
        let Some(pid) = holder else {
            return Ok(());
        };
        if Instant::now() > deadline {
            tracing::warn!(dir = %dir.path().display(), %pid, "ending a shim that does not end by itself");
            // It is gone, or its lock is seen again.
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        // Fails only where a signal comes between.
        let _ = poll(&mut [], PollTimeout::from(LOOK_AGAIN_MS));
    }
}

fn remove_dir(dir: &TaskDir) -> Result<(), RunnerError> {
    let spec = dir.spec();
    let entries = absent(fs::read_dir(dir.path())).map_err(RunnerError::io("list", dir.path()))?;
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        if path != spec {
            remove_any(&path).map_err(RunnerError::io("remove", &path))?;
        }
    }
    absent(fs::remove_file(&spec)).map_err(RunnerError::io("remove", &spec))?;
    absent(fs::remove_dir(dir.path())).map_err(RunnerError::io("remove", dir.path()))?;
    Ok(())
}

fn remove_any(path: &Path) -> io::Result<()> {
    let is_dir = absent(fs::symlink_metadata(path))?.is_some_and(|metadata| metadata.is_dir());
    let removed = if is_dir {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    absent(removed).map(drop)
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
