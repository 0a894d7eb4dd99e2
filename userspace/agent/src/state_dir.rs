use crate::tasks::Heard;
use essaim_model::{Liveness, TaskId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where an agent keeps what is not in the kernel: its lock, its sockets, a copy of the catalog that it applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
}

/// Why the state directory does not serve.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It could not be made.
    #[error("failed to create the state directory {path}")]
    Create {
        /// Its place.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file in it could not be read or written.
    #[error("failed to {doing} {path}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another agent runs with it.
    #[error(
        "another agent (pid {pid}) runs with the state directory {path}; stop it, or give this one its own with --state-dir"
    )]
    Busy {
        /// Its place.
        path: PathBuf,
        /// The other agent, as it wrote itself down.
        pid: String,
    },
    /// A record is not what this build writes.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Says that this process is the agent of a state directory, for as long as it lives.
#[derive(Debug)]
pub struct AgentLock {
    _file: Flock<File>,
}

/// How the agent of a state directory was started: enough to look at, verify and remove what it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// The node's name.
    pub node: String,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The uplinks.
    pub uplinks: Vec<String>,
    /// The folder of bpffs that holds the nodes' folders.
    pub bpf_root: PathBuf,
    /// The cgroup that the socket programs are attached to.
    pub cgroup: PathBuf,
    /// The agent's process.
    pub pid: u32,
}

impl NodeRecord {
    /// The folder of bpffs that holds what this node has pinned.
    pub fn pin_dir(&self) -> PathBuf {
        pin_dir(&self.bpf_root, &self.node)
    }
}

/// The folder of bpffs that holds what the node of this name has pinned.
///
/// The kernel reserves dots in names of bpffs, and names of nodes have no commas.
pub fn pin_dir(bpf_root: &Path, node: &str) -> PathBuf {
    bpf_root.join(node.replace('.', ","))
}

impl StateDir {
    /// The state directory at `path`, which need not exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the agent listens.
    pub fn agent_socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// Where the holder listens.
    pub fn holder_socket(&self) -> PathBuf {
        self.path.join("holder.sock")
    }

    /// Where the holder writes what it has to say.
    pub fn holder_log(&self) -> PathBuf {
        self.path.join("holder.log")
    }

    fn lock_file(&self) -> PathBuf {
        self.path.join("lock")
    }

    fn record_file(&self) -> PathBuf {
        self.path.join("node.json")
    }

    pub(crate) fn catalog_file(&self) -> PathBuf {
        self.path.join("catalog.toml")
    }

    /// Makes it, for root alone, where it does not exist.
    ///
    /// # Errors
    /// [`StateDirError::Create`].
    pub fn create(&self) -> Result<(), StateDirError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path)
            .map_err(|source| StateDirError::Create {
                path: self.path.clone(),
                source,
            })
    }

    /// Makes this process its agent.
    ///
    /// # Errors
    /// [`StateDirError::Busy`] where another one is; [`StateDirError::File`].
    pub fn lock(&self) -> Result<AgentLock, StateDirError> {
        let path = self.lock_file();
        let failed = |source| StateDirError::File {
            doing: "lock",
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path);
        let locked = Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock);
        let mut file = locked.map_err(|(mut file, error)| {
            if error != Errno::EWOULDBLOCK {
                return failed(error.into());
            }
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known {
                pid.trim().to_owned()
            } else {
                "unknown".to_owned()
            };
            StateDirError::Busy {
                path: self.path.clone(),
                pid,
            }
        })?;
        file.set_len(0)
            .and_then(|()| write!(&mut *file, "{}", std::process::id()))
            .map_err(failed)?;
        Ok(AgentLock { _file: file })
    }

    /// Writes down how this agent was started.
    ///
    /// # Errors
    /// [`StateDirError::File`].
    pub fn write_record(&self, record: &NodeRecord) -> Result<(), StateDirError> {
        write_json(&self.record_file(), record)
    }

    /// How the agent that runs, or ran last, was started; `None` where none has.
    ///
    /// # Errors
    /// [`StateDirError::File`], [`StateDirError::Damaged`].
    pub fn record(&self) -> Result<Option<NodeRecord>, StateDirError> {
        read_json(&self.record_file())
    }

    /// Keeps a copy of the catalog that was applied.
    ///
    /// # Errors
    /// [`StateDirError::File`].
    pub fn write_catalog(&self, text: &str) -> Result<(), StateDirError> {
        replace(&self.catalog_file(), text.as_bytes())
    }

    /// The catalog that was applied last, and its place; `None` where none was.
    ///
    /// # Errors
    /// [`StateDirError::File`].
    pub fn catalog(&self) -> Result<Option<(PathBuf, String)>, StateDirError> {
        let path = self.catalog_file();
        Ok(read(&path)?.map(|text| (path, text)))
    }

    /// Keeps what was heard of the node's tasks.
    ///
    /// # Errors
    /// [`StateDirError::File`].
    pub fn write_heard(&self, heard: &BTreeMap<TaskId, Heard>) -> Result<(), StateDirError> {
        write_json(&self.heard_file(), heard)
    }

    /// What earlier agents have heard of the node's tasks.
    ///
    /// # Errors
    /// [`StateDirError::File`], [`StateDirError::Damaged`].
    pub fn heard(&self) -> Result<BTreeMap<TaskId, Heard>, StateDirError> {
        Ok(read_json(&self.heard_file())?.unwrap_or_default())
    }

    /// Keeps what counts beside the catalog, for whoever looks while no agent runs.
    ///
    /// # Errors
    /// [`StateDirError::File`].
    pub fn write_reported(&self, reported: &Liveness) -> Result<(), StateDirError> {
        write_json(&self.reported_file(), reported)
    }

    /// What counted beside the catalog, as the last agent left it.
    ///
    /// # Errors
    /// [`StateDirError::File`], [`StateDirError::Damaged`].
    pub fn reported(&self) -> Result<Liveness, StateDirError> {
        Ok(read_json(&self.reported_file())?.unwrap_or_default())
    }

    /// Keeps the epoch of this run's gossip: the next run's is greater, whatever the clock says.
    ///
    /// # Errors
    /// [`StateDirError::File`].
    pub fn write_epoch(&self, epoch: u64) -> Result<(), StateDirError> {
        replace(&self.epoch_file(), epoch.to_string().as_bytes())
    }

    /// The epoch that was used last; `None` where none was kept, or what was kept is no number.
    pub fn epoch(&self) -> Option<u64> {
        read(&self.epoch_file()).ok()??.trim().parse().ok()
    }

    /// Gives tasks their `resolv.conf`, each in a folder of the task's name below `tasks/`, and takes away those of
    /// tasks that are not named. Whoever runs a task mounts it at the task's `/etc/resolv.conf`.
    ///
    /// # Errors
    /// [`StateDirError::File`]; the others are as asked for.
    pub fn write_resolv_confs(&self, texts: &BTreeMap<TaskId, String>) -> Result<(), StateDirError> {
        let mut outcome = Ok(());
        for (task, text) in texts {
            let path = self.resolv_conf(task);
            let written = match read(&path) {
                Ok(Some(found)) if found == *text => Ok(()),
                // In place: a mount of the file would go on showing one that was replaced.
                Ok(_) => path
                    .parent()
                    .map_or(Ok(()), fs::create_dir_all)
                    .and_then(|()| fs::write(&path, text))
                    .map_err(|source| StateDirError::File {
                        doing: "write",
                        path,
                        source,
                    }),
                Err(error) => Err(error),
            };
            outcome = outcome.and(written);
        }
        let folders = fs::read_dir(self.tasks_dir()).into_iter().flatten().flatten();
        for folder in folders {
            let is_named = |name: &str| texts.keys().any(|task| task.as_str() == name);
            if !folder.file_name().to_str().is_some_and(is_named) {
                outcome = outcome.and(remove_folder(folder.path()));
            }
        }
        outcome
    }

    /// Where a task's `resolv.conf` is, once it has a resolver.
    pub fn resolv_conf(&self, task: &TaskId) -> PathBuf {
        self.tasks_dir().join(task.as_str()).join("resolv.conf")
    }

    fn tasks_dir(&self) -> PathBuf {
        self.path.join("tasks")
    }

    fn reported_file(&self) -> PathBuf {
        self.path.join("liveness.json")
    }

    fn epoch_file(&self) -> PathBuf {
        self.path.join("epoch")
    }

    fn heard_file(&self) -> PathBuf {
        self.path.join("tasks.json")
    }

    /// Removes everything that an agent or a holder writes here, and the directory itself where nothing else is in it.
    ///
    /// # Errors
    /// [`StateDirError::File`]; what could be removed is gone.
    pub fn remove(&self) -> Result<(), StateDirError> {
        let files = [
            self.agent_socket(),
            self.holder_socket(),
            self.holder_log(),
            self.record_file(),
            self.catalog_file(),
            self.heard_file(),
            self.epoch_file(),
            self.reported_file(),
            self.lock_file(),
        ];
        let mut outcome = remove_folder(self.tasks_dir());
        for path in files {
            if let Err(source) = absent_is_fine(fs::remove_file(&path)) {
                outcome = Err(StateDirError::File {
                    doing: "remove",
                    path,
                    source,
                });
            }
        }
        match absent_is_fine(fs::remove_dir(&self.path)) {
            Err(source) if source.kind() != io::ErrorKind::DirectoryNotEmpty => {
                let path = self.path.clone();
                outcome.and(Err(StateDirError::File {
                    doing: "remove",
                    path,
                    source,
                }))
            }
            _ => outcome,
        }
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StateDirError> {
    let bytes = serde_json::to_vec_pretty(value).map_err(|source| StateDirError::Damaged {
        path: path.to_owned(),
        source,
    })?;
    replace(path, &bytes)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, StateDirError> {
    let damaged = |source| StateDirError::Damaged {
        path: path.to_owned(),
        source,
    };
    read(path)?
        .map(|text| serde_json::from_str(&text).map_err(damaged))
        .transpose()
}

fn read(path: &Path) -> Result<Option<String>, StateDirError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateDirError::File {
            doing: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes beside and renames: a reader sees the old file or the new one, whole.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateDirError> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|source| StateDirError::File {
            doing: "write",
            path: path.to_owned(),
            source,
        })
}

fn remove_folder(path: PathBuf) -> Result<(), StateDirError> {
    absent_is_fine(fs::remove_dir_all(&path)).map_err(|source| StateDirError::File {
        doing: "remove",
        path,
        source,
    })
}

fn absent_is_fine(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::TaskState;

    #[test]
    fn one_agent_at_a_time_and_the_next_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().join("deep/state"));
        state.create().unwrap();
        let lock = state.lock().unwrap();
        let error = state.lock().unwrap_err();
        assert!(
            matches!(&error, StateDirError::Busy { pid, .. } if *pid == std::process::id().to_string()),
            "{error}"
        );
        drop(lock);
        state.lock().unwrap();
    }

    #[test]
    fn what_was_written_reads_back_and_removal_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::new(directory.path().join("state"));
        assert_eq!(state.record().unwrap(), None);
        state.create().unwrap();
        let record = NodeRecord {
            node: "n1".into(),
            catalog: "/etc/essaim.toml".into(),
            uplinks: vec!["eth0".into()],
            bpf_root: "/sys/fs/bpf/essaim".into(),
            cgroup: "/sys/fs/cgroup".into(),
            pid: 1,
        };
        state.write_record(&record).unwrap();
        state.write_catalog("revision = 1").unwrap();
        assert_eq!(state.record().unwrap(), Some(record.clone()));
        assert_eq!(record.pin_dir(), Path::new("/sys/fs/bpf/essaim/n1"));
        assert_eq!(
            pin_dir(Path::new("/bpf"), "n1.example.org"),
            Path::new("/bpf/n1,example,org")
        );
        assert_eq!(state.catalog().unwrap().unwrap().1, "revision = 1");
        assert!(state.heard().unwrap().is_empty() && state.epoch().is_none());
        let [web, api] = ["web.1", "api.1"].map(|task| TaskId::new(task).unwrap());
        let reported = Liveness {
            tasks: BTreeMap::from([(web.clone(), TaskState::Gone)]),
            ..Liveness::default()
        };
        state.write_reported(&reported).unwrap();
        assert_eq!(state.reported().unwrap(), reported);
        state.write_epoch(7).unwrap();
        assert_eq!(state.epoch(), Some(7));
        let heard = BTreeMap::from([(
            web.clone(),
            Heard {
                told: Some(TaskState::Draining),
                ..Heard::default()
            },
        )]);
        state.write_heard(&heard).unwrap();
        assert_eq!(state.heard().unwrap(), heard);
        let texts = [&web, &api].map(|task| (task.clone(), "nameserver 127.0.0.11\n".to_owned()));
        state.write_resolv_confs(&texts.clone().into()).unwrap();
        state.write_resolv_confs(&[texts[0].clone()].into()).unwrap();
        assert!(state.resolv_conf(&web).exists() && !state.resolv_conf(&api).exists());
        state.remove().unwrap();
        assert!(!state.path().exists());
        state.remove().unwrap();
    }
}
