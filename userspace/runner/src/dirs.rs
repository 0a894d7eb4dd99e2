//! What lies where in the directory of a task.

use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::Pid;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

/// The directory of a task.
#[derive(Clone, Debug)]
pub(crate) struct TaskDir(PathBuf);

impl TaskDir {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The spec, without contents of files. First to be made and last to be removed: it names all the rest.
    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    /// Is there once everything is that a start needs.
    pub(crate) fn prepared(&self) -> PathBuf {
        self.0.join("prepared")
    }

    /// Is there from just before the command is let go.
    pub(crate) fn started(&self) -> PathBuf {
        self.0.join("started.json")
    }

    /// How it ended.
    pub(crate) fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// Locked as long as the shim lives.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("shim.lock")
    }

    /// What the shim says that has no other place.
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// Where the task's root is put together, in its mount namespace only.
    pub(crate) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// A file that is mounted below `/etc`.
    pub(crate) fn etc(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A path to the shim's socket that is short enough for any directory; valid as long as what it comes with.
    pub(crate) fn socket(&self) -> io::Result<(File, PathBuf)> {
        let directory = File::open(&self.0)?;
        let path = format!("/proc/self/fd/{}/shim.sock", directory.as_raw_fd());
        Ok((directory, path.into()))
    }

    /// Takes the lock for as long as this process lives; `false` where another has it.
    ///
    /// It is one that a fork does not pass on: only the shim itself holds it.
    pub(crate) fn take_lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.lock())?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(file)),
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether a shim lives.
    pub(crate) fn is_locked(&self) -> io::Result<bool> {
        self.lock_holder().map(|holder| holder.is_some())
    }

    /// The shim that lives.
    pub(crate) fn lock_holder(&self) -> io::Result<Option<Pid>> {
        let file = match OpenOptions::new().write(true).open(self.lock()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut lock = whole(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
        Ok((i32::from(lock.l_type) != libc::F_UNLCK).then(|| Pid::from_raw(lock.l_pid)))
    }
}

fn whole(kind: i32) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
