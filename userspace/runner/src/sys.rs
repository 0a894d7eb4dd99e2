//! What safe code cannot do: fork, the mount API by descriptors, pidfds, and capabilities.

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid};
use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

/// Splits the process in two; refused where it has more than one thread.
pub(crate) fn fork_single_threaded() -> Result<ForkResult, Errno> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    if threads != 1 {
        return Err(Errno::EBUSY);
    }
    // Nothing safe goes on as a copy of the program without exec.
    // SAFETY: there is one thread, so no lock, the allocator's included, can be held by another one that is missing in
    // the child; the child may do all that the parent may.
    unsafe { nix::unistd::fork() }
}

/// Closes all descriptors from this one on, or has exec close them.
pub(crate) fn close_from(first: u32, at_exec: bool) -> Result<(), Errno> {
    let flags = if at_exec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // Neither the standard library nor nix has it.
    // SAFETY: close_range(2) takes three integers; callers use no descriptor of this
    // range again when it closes them at once.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }).map(drop)
}

fn owned(raw: libc::c_long) -> Result<OwnedFd, Errno> {
    let raw = RawFd::try_from(raw).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel returned `raw` to the caller a moment ago, it is open, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Opens a process by its number; the descriptor never means another one.
pub(crate) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // Neither the standard library nor nix has it for a process that is no child of `Command`.
    // SAFETY: pidfd_open(2) takes two integers and no memory.
    owned(Errno::result(unsafe {
        libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0)
    })?)
}

/// Sends a signal to the process of a pidfd; `false` where it has ended and been waited for.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<bool, Errno> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // Neither the standard library nor nix has it, and real-time signals are none of nix's.
    // SAFETY: pidfd_send_signal(2) reads no memory where `info` is null; the descriptor is open while it is borrowed.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Collects a child, or any, that has ended; `None` where none has yet and `wait` is not set.
pub(crate) fn collect(child: Option<Pid>, wait: bool) -> Result<Option<(Pid, ExitStatus)>, Errno> {
    let pid = child.map_or(-1, Pid::as_raw);
    let flags = if wait { 0 } else { libc::WNOHANG };
    let mut status = 0;
    loop {
        // nix fails for real-time signals, and has then lost the status.
        // SAFETY: waitpid(2) writes one integer, which lives through the call.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(ended) => return Ok(Some((Pid::from_raw(ended), ExitStatus::from_raw(status)))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Has the process ignore a signal, or do what is the default of it.
pub(crate) fn set_default(signal: i32, ignore: bool) -> Result<(), Errno> {
    let handler = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // Handlers are what makes it unsafe, and nix has no real-time signals.
    // SAFETY: no code is run by either action, so there is none that must be async-signal-safe.
    let before = unsafe { libc::signal(signal, handler) };
    if before == libc::SIG_ERR {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

/// Sends a signal of any number to a process of this PID namespace.
pub(crate) fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // nix has it for the signals it knows, which the real-time ones are not among.
    // SAFETY: kill(2) takes two integers and no memory.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

/// A mount, or a tree of them, that is attached nowhere yet.
#[derive(Debug)]
pub(crate) struct DetachedMount(OwnedFd);

impl DetachedMount {
    /// A bind mount of a file or directory; with what is mounted below it where `recursive`.
    pub(crate) fn bind(source: &Path, recursive: bool) -> Result<Self, Errno> {
        let source = c_path(source)?;
        let mut flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
        if recursive {
            flags |= libc::AT_RECURSIVE.cast_unsigned();
        }
        // Nothing safe holds a mount that outlives the path it was taken by.
        // SAFETY: open_tree(2) reads the path, which ends in a zero byte and lives through the call.
        let raw = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) };
        owned(Errno::result(raw)?).map(Self)
    }

    /// Sets attributes (`MOUNT_ATTR_…`), and propagation (`MS_…`) where it is not 0.
    pub(crate) fn set(&self, attributes: u64, propagation: u64, recursive: bool) -> Result<(), Errno> {
        set_mount(self.0.as_raw_fd(), c"", attributes, 0, propagation, recursive)
    }

    /// Puts it there.
    pub(crate) fn attach(self, target: &Path) -> Result<(), Errno> {
        let target = c_path(target)?;
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_SYMLINKS;
        // Nothing safe does so.
        // SAFETY: move_mount(2) reads two paths, which end in a zero byte and live through the call; the descriptor is
        // open.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                target.as_ptr(),
                flags,
            )
        };
        Errno::result(result).map(drop)
    }
}

/// Sets and clears attributes of the mount at a path, and of those below it where `recursive`.
pub(crate) fn set_mount_at(path: &Path, set: u64, clear: u64, recursive: bool) -> Result<(), Errno> {
    let path = c_path(path)?;
    set_mount(libc::AT_FDCWD, &path, set, clear, 0, recursive)
}

fn set_mount(
    at: RawFd,
    path: &CStr,
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation,
        userns_fd: 0,
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // Nothing safe changes a whole tree at once.
    // SAFETY: mount_setattr(2) reads the path, which ends in a zero byte, and the structure of the size given; both
    // live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Gives a capability up for good; `false` where the kernel has none of this number, nor of those after it.
pub(crate) fn drop_from_bounding_set(capability: u32) -> Result<bool, Errno> {
    let capability = libc::c_ulong::from(capability);
    // nix does not have it.
    // SAFETY: PR_CAPBSET_DROP takes an integer and no memory.
    match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes the loopback interface of the calling thread's network namespace up.
pub(crate) fn loopback_up() -> Result<(), Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let control = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: every field of `ifreq` is an integer, a character or a union of such, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::EINVAL)?;
    // Nothing safe sets the flags of an interface without a netlink library.
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives through the call; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map(drop)
}
