//! What becomes of the child between fork and exec: namespaces, mounts, limits, privileges; in this order, since each step
//! takes away what the ones before it need.

mod exec;
mod files;
mod init;
mod limits;
mod mounts;
mod proc;
mod root;
mod user;

use crate::cgroup::Hierarchies;
use crate::protocol::Launch;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Why a command was not run, as it goes from the child to the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SetupError {
    /// As [`crate::Exit::NotStarted`] has it.
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl SetupError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            code: 128,
            message: message.into(),
        }
    }

    /// For an operation that the system refused.
    fn io<E: Into<io::Error>>(doing: impl Display) -> impl FnOnce(E) -> Self {
        move |source| Self::new(format!("failed to {doing}: {}", source.into()))
    }
}

/// The child's ends of the pipes.
pub(crate) struct Pipes {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// A byte comes once the process is in its control groups.
    pub(crate) go: File,
    /// Takes the [`SetupError`]; closed by exec.
    pub(crate) errors: File,
}

/// Becomes the task's process, or says why it cannot and ends.
pub(crate) fn become_task(launch: Launch, task_root: &Path, oom_score: &str, mut pipes: Pipes) -> ! {
    let mut errors = pipes.errors;
    let mut byte = [0];
    // Without the byte the shim is gone, and nobody would see the task's end.
    if pipes.go.read_exact(&mut byte).is_err() {
        std::process::exit(1);
    }
    drop(pipes.go);
    let result = set_up(launch, task_root, oom_score, pipes.stdout, pipes.stderr);
    let error = match result {
        Ok(ready) => ready.run(),
        Err(error) => error,
    };
    let _ = serde_json::to_vec(&error).map(|bytes| errors.write_all(&bytes));
    std::process::exit(i32::from(error.code))
}

/// A process that only has to run its command.
struct Ready {
    command: exec::Command,
    init: bool,
}

impl Ready {
    /// Runs the command; returns only to say why it did not.
    fn run(self) -> SetupError {
        if self.init
            && let Err(error) = init::split()
        {
            return error;
        }
        self.command.exec()
    }
}

fn set_up(
    launch: Launch,
    task_root: &Path,
    oom_score: &str,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> Result<Ready, SetupError> {
    let Launch {
        mut spec,
        netns,
        etc,
        hidden,
        ..
    } = launch;
    nix::unistd::setsid().map_err(SetupError::io("begin a session"))?;
    let null = File::open("/dev/null").map_err(SetupError::io("open /dev/null"))?;
    nix::unistd::dup2_stdin(null)
        .and_then(|()| nix::unistd::dup2_stdout(stdout))
        .and_then(|()| nix::unistd::dup2_stderr(stderr))
        .map_err(SetupError::io("connect the output"))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    if let Some(path) = &netns {
        let file = File::open(path);
        let entered = file.and_then(|file| setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        entered.map_err(SetupError::io(format_args!(
            "enter the network namespace {}",
            path.display()
        )))?;
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(SetupError::io("make namespaces"))?;
    if let Some(hostname) = &spec.hostname {
        nix::unistd::sethostname(hostname).map_err(SetupError::io("set the hostname"))?;
    }
    // Later, where they are mounted can no longer be seen.
    let cgroups = Hierarchies::find().map_err(SetupError::io("find the control groups"))?;
    let sources = mounts::Sources::open(&spec.mounts, etc)?;
    let places = root::enter(&spec.root, spec.read_only_root, task_root, &hidden)?;
    let places = proc::mount_all(places, &spec.root, &cgroups)?;
    let places = mounts::mount_all(places, &spec.mounts, sources)?;
    files::place(places, &spec.files)?;
    // They are on the tmpfs now; this copy is wiped.
    spec.files.clear();
    write_sysctls(&spec.sysctls)?;
    proc::protect()?;
    if spec.read_only_root {
        root::close()?;
    }
    let score = spec
        .oom_score_adj
        .map_or_else(|| oom_score.trim().to_owned(), |score| score.to_string());
    write_file(Path::new("/proc/self/oom_score_adj"), &score)?;
    limits::set(&spec.ulimits)?;
    let user = user::find(&spec.user, &spec.groups)?;
    let command = exec::Command::new(&spec, &user)?;
    user::become_user(&user, crate::spec::bounding_set(&spec.cap_add, &spec.cap_drop))?;
    if spec.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().map_err(SetupError::io("give up new privileges"))?;
    }
    // Lost where the user changes, so it is set after that: a task does not outlive its shim.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(SetupError::io("tie the task to its shim"))?;
    if let Some(dir) = &spec.dir {
        nix::unistd::chdir(dir).map_err(SetupError::io(format_args!(
            "enter the working directory {}",
            dir.display()
        )))?;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    default_signals()?;
    crate::sys::close_from(3, true).map_err(SetupError::io("have exec close what is open"))?;
    let init = spec.init;
    Ok(Ready { command, init })
}

/// The shim ignores signals that the task is to see.
fn default_signals() -> Result<(), SetupError> {
    for signal in 1..=libc::SIGRTMAX() {
        // These two cannot be anything else; those between are the C library's own.
        let fixed = [libc::SIGKILL, libc::SIGSTOP].contains(&signal);
        if !fixed && (signal <= libc::SIGSYS || signal >= libc::SIGRTMIN()) {
            crate::sys::set_default(signal, false).map_err(SetupError::io("reset signals"))?;
        }
    }
    SigSet::all()
        .thread_unblock()
        .map_err(SetupError::io("let signals through"))
}

fn write_sysctls(sysctls: &std::collections::BTreeMap<String, String>) -> Result<(), SetupError> {
    for (name, value) in sysctls {
        write_file(&Path::new("/proc/sys").join(name.replace('.', "/")), value)?;
    }
    Ok(())
}

fn write_file(path: &Path, text: &str) -> Result<(), SetupError> {
    fs::write(path, text).map_err(SetupError::io(format_args!("write {text} to {}", path.display())))
}
