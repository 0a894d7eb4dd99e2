use crate::sys::{pidfd_open, pidfd_send_signal, watch_readable};
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A process, and never another one that was given its number later.
#[derive(Debug)]
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    /// Opens the process that has this number now.
    pub(crate) fn open(pid: u32) -> Result<Self, Errno> {
        let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
        pidfd_open(pid).map(Self)
    }

    /// Whether the process still has its number: it runs, or has not been waited for.
    pub(crate) fn exists(&self) -> bool {
        pidfd_send_signal(self.0.as_fd(), 0) != Err(Errno::ESRCH)
    }

    /// Sends a signal; `false` where the process has ended and been waited for.
    pub(crate) fn signal(&self, number: i32) -> Result<bool, Errno> {
        match pidfd_send_signal(self.0.as_fd(), number) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Waits until the process has ended, whoever its parent is.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        watch_readable(self.0.as_fd())?.readable().await.map(drop)
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
