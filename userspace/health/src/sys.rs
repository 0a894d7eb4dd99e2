//! What safe code cannot do: pidfds, signals of any number, and what a child does between fork and exec.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Opens a process by its number; the descriptor never means another one.
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // Neither the standard library nor nix has it for a process that is no child.
    // SAFETY: pidfd_open(2) takes two integers and no memory.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let raw = RawFd::try_from(raw).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel returned `raw` a moment ago, it is open, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends a signal to the process of a pidfd; 0 only asks whether it has been waited for.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // Neither the standard library nor nix has it, and real-time signals are none of nix's.
    // SAFETY: pidfd_send_signal(2) reads no memory where `info` is null; the descriptor is open while it is borrowed.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    Errno::result(result).map(drop)
}

/// Has the current runtime watch a descriptor until it can be read.
pub(crate) fn watch_readable(descriptor: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // tokio's safe way is deprecated: a type may answer `as_raw_fd` as it likes.
    // SAFETY: a `BorrowedFd` answers the same number every time, and that is open for as long as it is borrowed, which
    // outlives the value.
    unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
        .map_err(|error| error.into_parts().1)
}

/// What a child takes over from a task before it becomes a command.
#[derive(Debug)]
pub(crate) struct Privileges {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
    /// The capabilities that the task may ever have, a bit each.
    pub(crate) bounding: u64,
    /// Whether it gains none through programs either (`no_new_privs`).
    pub(crate) gains_nothing: bool,
}

/// Makes the child of a command join this control group and take these privileges between fork and exec.
///
/// Nothing safe does so for a child only: a control group is joined by a whole process, and the C library sets user and
/// groups for all threads of one.
pub(crate) fn before_exec(command: &mut Command, members: Option<File>, privileges: Privileges) {
    let prepare = move || {
        if let Some(members) = &members {
            // 0 stands for the process that writes.
            let mut members = members;
            members.write_all(b"0")?;
        }
        take(&privileges)
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called; the closure makes system calls
    // (write, prctl, setgroups, setresgid, setresuid) on what it owns, allocates nothing and takes no lock.
    unsafe { command.pre_exec(prepare) };
}

fn take(privileges: &Privileges) -> io::Result<()> {
    for capability in 0..u64::BITS {
        if privileges.bounding & (1 << capability) == 0 && !drop_from_bounding_set(capability)? {
            break;
        }
    }
    nix::unistd::setgroups(&privileges.groups)?;
    let Privileges { uid, gid, .. } = *privileges;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    if privileges.gains_nothing {
        nix::sys::prctl::set_no_new_privs()?;
    }
    Ok(())
}

/// Gives a capability up for good; `false` where the kernel has none of this number, nor of those after it.
fn drop_from_bounding_set(capability: u32) -> io::Result<bool> {
    let capability = libc::c_ulong::from(capability);
    // nix does not have it.
    // SAFETY: PR_CAPBSET_DROP takes an integer and no memory.
    match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
