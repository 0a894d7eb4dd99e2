use crate::StopSignal;
use crate::pidfd::Pidfd;
use essaim_netlink::NetnsRef;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Why the processes of a task could not be found, signalled or outwaited; those that were signalled stay so.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The network namespace is the node's own, whose processes are no task's: none was touched.
    #[error("{} is the network namespace of the node itself, expected that of a task", path.display())]
    NodeNetns {
        /// The namespace's file.
        path: PathBuf,
    },
    /// Something of `/proc`, or the namespace's file, could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The kernel refused a signal; the other processes were sent it.
    #[error("failed to send {signal} to process {pid}")]
    Signal {
        /// The signal.
        signal: StopSignal,
        /// The process.
        pid: u32,
        /// The kernel's reason.
        source: Errno,
    },
    /// A process could not be waited for; it may still run.
    #[error("failed to wait for process {pid}")]
    Wait {
        /// The process.
        pid: u32,
        /// The system's reason.
        source: io::Error,
    },
}

/// What tells a namespace from all others, as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceId {
    device: u64,
    inode: u64,
}

impl NamespaceId {
    /// Of a file such as `/proc/PID/ns/net`.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }

    pub(crate) fn of(netns: &NetnsRef) -> io::Result<Self> {
        let file = File::from(netns.as_fd().try_clone_to_owned()?);
        file.metadata().map(|metadata| Self::from(&metadata))
    }
}

impl From<&fs::Metadata> for NamespaceId {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The processes of a task: all that are in its network namespace, whoever started them.
///
/// Probes of the task are among them while they run; stop watching it first.
#[derive(Debug)]
pub struct TaskProcesses {
    /// Held open, so that its inode is not given to another namespace.
    netns: NetnsRef,
    id: NamespaceId,
}

struct Process {
    pid: u32,
    pidfd: Pidfd,
}

impl TaskProcesses {
    /// The processes of this network namespace.
    ///
    /// # Errors
    /// [`ProcessError::NodeNetns`] where it is that of this process or of process 1, and [`ProcessError::Read`].
    pub fn new(netns: NetnsRef) -> Result<Self, ProcessError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ProcessError::Read { path, source }
        };
        let id = NamespaceId::of(&netns).map_err(failed(netns.path()))?;
        let own = Path::new("/proc/self/ns/net");
        let own_id = NamespaceId::at(own).map_err(failed(own))?;
        // Hidden from those who may do less than it, who then could not signal it either.
        let first = NamespaceId::at(Path::new("/proc/1/ns/net"));
        if own_id == id || first.is_ok_and(|first| first == id) {
            let path = netns.path().to_owned();
            return Err(ProcessError::NodeNetns { path });
        }
        Ok(Self { netns, id })
    }

    /// The network namespace.
    pub fn netns(&self) -> &NetnsRef {
        &self.netns
    }

    /// The numbers of the processes that run now, in order.
    ///
    /// # Errors
    /// [`ProcessError::Read`].
    pub fn pids(&self) -> Result<Vec<u32>, ProcessError> {
        Ok(find(self.id)?.iter().map(|process| process.pid).collect())
    }

    /// Sends a signal to each process that runs now; tells how many got it.
    ///
    /// A process that is made meanwhile may not get it: repeat SIGKILL until [`TaskProcesses::ended`].
    ///
    /// # Errors
    /// [`ProcessError::Read`], and [`ProcessError::Signal`] for the first that was refused.
    pub fn signal(&self, signal: StopSignal) -> Result<usize, ProcessError> {
        let mut count = 0;
        let mut refused = None;
        for Process { pid, pidfd } in find(self.id)? {
            match pidfd.signal(signal.number()) {
                Ok(true) => count += 1,
                Ok(false) => {}
                Err(source) => {
                    refused.get_or_insert(ProcessError::Signal { signal, pid, source });
                }
            }
        }
        refused.map_or(Ok(count), Err)
    }

    /// Waits until no process is left in the namespace; those that have ended and not been waited for do not count.
    ///
    /// # Errors
    /// [`ProcessError::Read`] and [`ProcessError::Wait`].
    pub async fn ended(&self) -> Result<(), ProcessError> {
        let id = self.id;
        loop {
            let looked = tokio::task::spawn_blocking(move || find(id)).await;
            let found = looked.map_err(|error| ProcessError::Read {
                path: "/proc".into(),
                source: error.into(),
            })??;
            if found.is_empty() {
                return Ok(());
            }
            for Process { pid, pidfd } in found {
                pidfd
                    .ended()
                    .await
                    .map_err(|source| ProcessError::Wait { pid, source })?;
            }
        }
    }
}

/// The processes whose network namespace this is, in order of their numbers.
///
/// A process is looked at again once it is held by a pidfd: only then can its number not have passed to another one
/// between the look and what is done to it.
fn find(netns: NamespaceId) -> Result<Vec<Process>, ProcessError> {
    let failed = |source| ProcessError::Read {
        path: "/proc".into(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == std::process::id() || !is_in(&entry.path(), netns) {
            continue;
        }
        // Neither one that has just ended nor one that moved on is the task's any more.
        if let Ok(pidfd) = Pidfd::open(pid)
            && is_in(&entry.path(), netns)
        {
            found.push(Process { pid, pidfd });
        }
    }
    found.sort_unstable_by_key(|process| process.pid);
    Ok(found)
}

/// Whether a process of `/proc` is in the namespace. One that has ended is in none.
fn is_in(process: &Path, netns: NamespaceId) -> bool {
    if let Ok(id) = NamespaceId::at(&process.join("ns/net")) {
        return id == netns;
    }
    // Its first thread has ended; others may go on.
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let mut ids = threads.map(|thread| NamespaceId::at(&thread.path().join("ns/net")));
    ids.any(|id| id.is_ok_and(|id| id == netns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_of_the_node_itself_are_never_a_tasks() {
        let own = NetnsRef::open("/proc/self/ns/net").unwrap();
        let error = TaskProcesses::new(own).unwrap_err();
        assert!(matches!(error, ProcessError::NodeNetns { .. }), "{error}");
    }
}
