//! What a node keeps of its tasks and managers, so that a restart goes on without any manager.

use crate::core::Kept;
use essaim_protocol::ManagerAddress;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The managers, the leader first.
const MANAGERS: &str = "managers.json";
/// The tasks that are assigned, and how each is.
const TASKS: &str = "tasks.json";

/// What is kept could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub doing: &'static str,
    /// Of this file.
    pub path: PathBuf,
    /// The system's reason.
    pub source: io::Error,
}

/// The directory of a worker: only root may see into it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    directory: PathBuf,
}

impl Disk {
    pub(crate) fn open(directory: &Path) -> Result<Self, DiskError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(failed("make", directory))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    pub(crate) fn managers(&self) -> Result<Vec<ManagerAddress>, DiskError> {
        self.read(MANAGERS)
    }

    pub(crate) fn keep_managers(&self, managers: &[ManagerAddress]) -> Result<(), DiskError> {
        self.write(MANAGERS, &managers)
    }

    pub(crate) fn tasks(&self) -> Result<Vec<Kept>, DiskError> {
        self.read(TASKS)
    }

    pub(crate) fn keep_tasks(&self, tasks: &[Kept]) -> Result<(), DiskError> {
        self.write(TASKS, &tasks)
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) -> Result<(), DiskError> {
        for name in [MANAGERS, TASKS] {
            let path = self.directory.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What a file holds; nothing where it is missing. One that cannot be understood is set aside: the managers send it
    /// all again.
    fn read<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T, DiskError> {
        let path = self.directory.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(read) => Ok(read),
            Err(error) => {
                let aside = path.with_extension("broken");
                tracing::error!(path = %path.display(), aside = %aside.display(), %error, "a file is broken, and set aside");
                fs::rename(&path, &aside).map_err(failed("set aside", &path))?;
                Ok(T::default())
            }
        }
    }

    /// Writes a file, whole or not at all.
    fn write(&self, name: &str, content: &impl Serialize) -> Result<(), DiskError> {
        let path = self.directory.join(name);
        let draft = path.with_extension("draft");
        let write = || {
            let bytes = serde_json::to_vec(content)?;
            let mut file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed("write", &path))
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    move |source| DiskError {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::{NodeId, Task, TaskId, TaskSpec, TaskStatus};
    use std::sync::Arc;

    fn managers() -> Vec<ManagerAddress> {
        vec![ManagerAddress {
            node: NodeId::from_bits(1),
            address: "192.0.2.1:2377".to_owned(),
        }]
    }

    #[test]
    fn what_was_kept_is_read_again_and_can_be_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(&directory.path().join("worker")).unwrap();
        assert_eq!(disk.managers().unwrap(), Vec::new());
        assert_eq!(disk.tasks().unwrap(), Vec::new());
        let task = Task::new(TaskId::from_bits(1), None, Arc::new(TaskSpec::default()));
        let status = TaskStatus::default();
        let kept = vec![Kept {
            task: Arc::new(task),
            status,
            is_assigned: true,
            is_ending: false,
        }];
        disk.keep_managers(&managers()).unwrap();
        disk.keep_tasks(&kept).unwrap();
        assert_eq!(disk.managers().unwrap(), managers());
        assert_eq!(disk.tasks().unwrap(), kept);
        disk.clear().unwrap();
        disk.clear().unwrap();
        assert_eq!(disk.tasks().unwrap(), Vec::new());
        assert_eq!(fs::read_dir(directory.path().join("worker")).unwrap().count(), 0);
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path()).unwrap();
        fs::write(directory.path().join(TASKS), "[{\"task\":").unwrap();
        assert_eq!(disk.tasks().unwrap(), Vec::new());
        assert!(directory.path().join("tasks.broken").exists());
        assert!(!directory.path().join(TASKS).exists());
    }
}
