//! Making what a task needs, each step of which may be the last one of this process.

use super::{Inner, Task, blocking, locked, tell};
use crate::record;
use crate::{EtcFile, NetworkNamespace, ProcessSpec, RunnerError, TaskState, netns};
use essaim_model::TaskId;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

impl Inner {
    pub(super) async fn prepare(
        self: &Arc<Self>,
        id: &TaskId,
        spec: ProcessSpec,
    ) -> Result<TaskState, RunnerError> {
        spec.check()?;
        if spec.files.iter().any(|file| file.contents.bytes().is_none()) {
            return Err(RunnerError::ContentsGone { task: id.clone() });
        }
        loop {
            let known = locked(&self.tasks).get(id).cloned();
            if let Some(task) = known {
                let _turn = task.turn.lock().await;
                if !self.is_listed(&task) {
                    continue;
                }
                return task.prepare_again(spec);
            }
            let (inner, id) = (Arc::clone(self), id.clone());
            // Seen to its end, also where nobody waits for it any more.
            let made = tokio::spawn(async move { inner.prepare_new(&id, spec).await });
            return made.await.map_err(RunnerError::Panicked)?;
        }
    }

    /// Whether it is what its name stands for; it may have been removed.
    pub(super) fn is_listed(&self, task: &Arc<Task>) -> bool {
        locked(&self.tasks)
            .get(&task.id)
            .is_some_and(|listed| Arc::ptr_eq(listed, task))
    }

    async fn prepare_new(&self, id: &TaskId, spec: ProcessSpec) -> Result<TaskState, RunnerError> {
        let task = self.enter(id, spec.clone(), TaskState::Prepared)?;
        let _turn = task.turn.lock().await;
        let made = Arc::clone(&task);
        if let Err(error) = blocking(move || made.make(&spec)).await {
            let undone = Arc::clone(&task);
            if let Err(left) = blocking(move || undone.unmake()).await {
                tracing::warn!(
                    task = %id,
                    error = &left as &dyn std::error::Error,
                    "failed to remove what was made of a task"
                );
            }
            locked(&self.tasks).remove(id);
            return Err(error);
        }
        let room = self.events.reserve().await.ok();
        tell(room, id, Some(TaskState::Prepared));
        let state = task.state.borrow().clone();
        Ok(state)
    }
}

impl Task {
    fn prepare_again(&self, spec: ProcessSpec) -> Result<TaskState, RunnerError> {
        let mut known = locked(&self.spec);
        let text = |spec: &ProcessSpec| {
            serde_json::to_string(spec)
                .map_err(|error| RunnerError::io("write", self.dir.spec())(error.into()))
        };
        if text(&known)? != text(&spec)? {
            return Err(RunnerError::Differs {
                task: self.id.clone(),
            });
        }
        *known = spec;
        let state = self.state.borrow().clone();
        Ok(state)
    }

    /// Makes everything, the spec first, which names all the rest, and the mark that nothing is missing last.
    pub(super) fn make(&self, spec: &ProcessSpec) -> Result<(), RunnerError> {
        let dir = &self.dir;
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.path());
        made.map_err(RunnerError::io("make the directory", dir.path()))?;
        record::write(&dir.spec(), spec, false).map_err(RunnerError::io("write", dir.spec()))?;
        for path in [dir.root(), dir.logs()] {
            fs::create_dir_all(&path).map_err(RunnerError::io("make the directory", &path))?;
        }
        for (name, text) in etc_texts(spec) {
            let path = dir.etc(name);
            fs::write(&path, text).map_err(RunnerError::io("write", &path))?;
            // The task's user reads it, whatever the agent's mask is.
            let open = fs::Permissions::from_mode(0o644);
            fs::set_permissions(&path, open).map_err(RunnerError::io("open", &path))?;
        }
        self.group.create(&spec.resources)?;
        if let NetworkNamespace::Create(name) = &spec.network {
            netns::create(name)?;
        }
        fs::write(dir.prepared(), "").map_err(RunnerError::io("write", dir.prepared()))
    }
}

/// The files below `/etc` that the runner writes itself.
fn etc_texts(spec: &ProcessSpec) -> Vec<(&'static str, String)> {
    let mut texts = Vec::new();
    for (name, file) in [("resolv.conf", &spec.resolv_conf), ("hosts", &spec.hosts)] {
        if let Some(EtcFile::Text(text)) = file {
            texts.push((name, text.clone()));
        }
    }
    if let Some(hostname) = &spec.hostname {
        texts.push(("hostname", format!("{hostname}\n")));
    }
    texts
}

/// What is mounted below `/etc`: source and target.
pub(super) fn etc_mounts(spec: &ProcessSpec, task: &Task) -> Vec<(PathBuf, PathBuf)> {
    let mut mounts: Vec<(PathBuf, PathBuf)> = etc_texts(spec)
        .into_iter()
        .map(|(name, _)| (task.dir.etc(name), PathBuf::from("/etc").join(name)))
        .collect();
    for (name, file) in [("resolv.conf", &spec.resolv_conf), ("hosts", &spec.hosts)] {
        if let Some(EtcFile::File(path)) = file {
            mounts.push((path.clone(), PathBuf::from("/etc").join(name)));
        }
    }
    mounts
}
