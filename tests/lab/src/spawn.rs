//! Starting a process inside a network namespace and a control group.
//!
//! Not through `ip netns exec`: that mounts a fresh /sys over control groups and bpffs.

use crate::{ip, netns};
use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::SigSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs look for their resolver.
const RESOLV_CONF: &CStr = c"/etc/resolv.conf";

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// The network namespace's name.
    pub(crate) netns: String,
    /// The control group; made where it is absent.
    pub(crate) cgroup: PathBuf,
    /// What stands at `/etc/resolv.conf` for its processes, where there is such a file; else what the machine has.
    pub(crate) resolv_conf: Option<PathBuf>,
}

/// A command that will run in a room.
pub(crate) fn command(room: &Room, program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    std::fs::create_dir_all(&room.cgroup)
        .with_context(|| format!("failed to make the control group {}", room.cgroup.display()))?;
    let namespace = File::open(netns::path(&room.netns))
        .with_context(|| format!("no network namespace {}", room.netns))?;
    let members = open_members(&room.cgroup)?;
    let mut command = Command::new(program);
    command.env("PATH", ip::PATH);
    // Ctrl-C is for the lab's own process, which then ends the others in order.
    command.process_group(0);
    let resolv_conf = room.resolv_conf.as_deref().filter(|path| path.exists());
    let resolv_conf = resolv_conf.map(|path| CString::new(path.as_os_str().as_bytes()));
    let resolv_conf = resolv_conf.transpose().context("a path with a zero byte")?;
    enter_before_exec(&mut command, namespace, members, resolv_conf);
    Ok(command)
}

fn open_members(cgroup: &Path) -> anyhow::Result<File> {
    let path = cgroup.join("cgroup.procs");
    OpenOptions::new()
        .write(true)
        .open(&path)
        .with_context(|| format!("failed to open {}", path.display()))
}

/// Makes the child enter the namespace and the group between fork and exec: the standard library has no safe way to
/// do either for a child only.
fn enter_before_exec(command: &mut Command, namespace: File, members: File, resolv_conf: Option<CString>) {
    let enter = move || {
        // The demo blocks signals in its own threads; a child takes them as usual.
        SigSet::empty().thread_set_mask()?;
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        if let Some(file) = &resolv_conf {
            const NONE: Option<&CStr> = None;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
            mount(Some(file.as_c_str()), RESOLV_CONF, NONE, MsFlags::MS_BIND, NONE)?;
        }
        // 0 stands for the process that writes.
        (&members).write_all(b"0")
    };
    // SAFETY: between fork and exec only async-signal-safe functions may be called; the closure makes system calls only
    // (rt_sigprocmask(2), setns(2), unshare(2), mount(2), write(2)), on descriptors and strings that it owns, and
    // allocates nothing.
    unsafe { command.pre_exec(enter) };
}
