//! What lies where of a task: what it is and how far it has come where it outlives a boot, its secrets in memory.

use crate::plan::ContainerTask;
use bollard::models::{HostConfig, Mount, MountType};
use essaim_runner::{FileKind, RunnerError, read_record, write_record};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The directories of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskDirs {
    /// Outlives a boot.
    kept: PathBuf,
    /// In memory.
    files: PathBuf,
}

impl TaskDirs {
    pub(crate) fn new(state_dir: &Path, run_dir: &Path, task: &str) -> Self {
        Self {
            kept: state_dir.join(task),
            files: run_dir.join(task),
        }
    }

    /// The plan, without contents of files. First to be made and last to be removed: it names all the rest.
    pub(crate) fn spec(&self) -> PathBuf {
        self.kept.join("spec.json")
    }

    /// Is there once everything is that a start needs.
    pub(crate) fn prepared(&self) -> PathBuf {
        self.kept.join("prepared")
    }

    pub(crate) fn started(&self) -> PathBuf {
        self.kept.join("started.json")
    }

    pub(crate) fn exit(&self) -> PathBuf {
        self.kept.join("exit.json")
    }

    fn hosts(&self) -> PathBuf {
        self.kept.join("hosts")
    }

    /// Writes the plan and what the container has mounted.
    pub(crate) fn make(&self, task: &ContainerTask) -> Result<(), RunnerError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.kept);
        made.map_err(RunnerError::io("make the directory", &self.kept))?;
        write(&self.spec(), task)?;
        let hosts = self.hosts();
        fs::write(&hosts, &task.hosts).map_err(RunnerError::io("write", &hosts))?;
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(&hosts, open).map_err(RunnerError::io("open", &hosts))?;
        if !task.files.is_empty() {
            self.make_files(task)?;
        }
        Ok(())
    }

    /// Writes secrets and configs, each under its number.
    fn make_files(&self, task: &ContainerTask) -> Result<(), RunnerError> {
        let dir = &self.files;
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(RunnerError::io("make the directory", dir))?;
        let is_in_memory = statfs(dir).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        if !is_in_memory {
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some("mode=0700"))
                .map_err(|errno| RunnerError::io("mount memory at", dir)(errno.into()))?;
        }
        for (number, file) in task.files.iter().enumerate() {
            let path = dir.join(number.to_string());
            let contents = file.contents.bytes().unwrap_or_default();
            let write = || {
                // Another one of the same name is mounted already where the container runs.
                let mut to = fs::OpenOptions::new()
                    .create(true)
                    .write(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&path)?;
                to.write_all(contents)?;
                std::os::unix::fs::fchown(&to, Some(file.uid), Some(file.gid))?;
                to.set_permissions(fs::Permissions::from_mode(file.mode))
            };
            write().map_err(RunnerError::io("write", &path))?;
        }
        Ok(())
    }

    /// Adds what the container has mounted from these directories, and its resolver's settings. What the spec mounts at
    /// these places itself comes instead.
    pub(crate) fn add_mounts(&self, task: &ContainerTask, host: &mut HostConfig) {
        let bind = |source: PathBuf, target: PathBuf, read_only: bool| Mount {
            typ: Some(MountType::BIND),
            source: Some(source.display().to_string()),
            target: Some(target.display().to_string()),
            read_only: Some(read_only),
            ..Mount::default()
        };
        let files = task.files.iter().enumerate().map(|(number, file)| {
            let below = match file.kind {
                FileKind::Secret => "/run/secrets",
                FileKind::Config => "/",
            };
            let target = Path::new(below).join(&file.target);
            bind(self.files.join(number.to_string()), target, true)
        });
        let mounts = host.mounts.get_or_insert_default();
        let is_free = |target: &str| !mounts.iter().any(|mount| mount.target.as_deref() == Some(target));
        // The file comes when the task is attached; the engine looks for the source of a mount already when it makes
        // the container, and for that of a bind when it starts it.
        if is_free("/etc/resolv.conf") {
            let bind = format!("{}:/etc/resolv.conf", task.resolv_conf.display());
            host.binds.get_or_insert_default().push(bind);
        }
        if is_free("/etc/hosts") {
            mounts.push(bind(self.hosts(), "/etc/hosts".into(), false));
        }
        mounts.extend(files);
    }

    /// Removes both directories; what is absent is no error.
    pub(crate) fn remove(&self) -> Result<(), RunnerError> {
        let spec = self.spec();
        loop {
            match umount2(&self.files, MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => break,
                Err(errno) => return Err(RunnerError::io("unmount", &self.files)(errno.into())),
            }
        }
        absent(fs::remove_dir_all(&self.files)).map_err(RunnerError::io("remove", &self.files))?;
        let entries = absent(fs::read_dir(&self.kept)).map_err(RunnerError::io("list", &self.kept))?;
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            if path != spec {
                absent(fs::remove_file(&path)).map_err(RunnerError::io("remove", &path))?;
            }
        }
        absent(fs::remove_file(&spec)).map_err(RunnerError::io("remove", &spec))?;
        absent(fs::remove_dir(&self.kept)).map_err(RunnerError::io("remove", &self.kept))?;
        Ok(())
    }
}

/// What a file holds; `None` where there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RunnerError> {
    read_record(path).map_err(RunnerError::io("read", path))
}

/// Writes a file to the disk, whole or not at all.
pub(crate) fn write(path: &Path, what: &impl Serialize) -> Result<(), RunnerError> {
    write_record(path, what, true).map_err(RunnerError::io("write", path))
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}
