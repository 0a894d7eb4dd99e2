//! Processes in namespaces of their own, which end with them.

use crate::interrupt;
use anyhow::{Context as _, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that is the first of its PID namespace, in a network and a mount namespace of its own. When it ends, all
/// its descendants end, and the kernel takes down what they mounted and configured.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The process that made the namespaces and waits for the first one in them.
    outer: Child,
    init: Pid,
    log: PathBuf,
}

impl Sandbox {
    /// Runs a shell script whose last command stays; its output goes to a file.
    pub(crate) fn start(script: &str, log: PathBuf) -> anyhow::Result<Self> {
        let output = File::create(&log).with_context(|| format!("failed to write {}", log.display()))?;
        let mut outer = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
            ])
            .args(["--kill-child", "--mount-proc", "sh", "-ec", script])
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("failed to duplicate a descriptor")?)
            .stderr(output)
            .spawn()
            .context("failed to start setpriv and unshare (package util-linux)")?;
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let first = || {
            fs::read_to_string(&children)
                .ok()?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        match eventually("the namespaces", first) {
            Ok(init) => Ok(Self {
                outer,
                init: Pid::from_raw(init),
                log,
            }),
            Err(error) => {
                let _ = outer.kill();
                let _ = outer.wait();
                Err(error)
            }
        }
    }

    /// The process with this name in the sandbox, by its number outside.
    pub(crate) fn find(&self, name: &str) -> Option<Pid> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.init.as_raw())?;
        let entries = fs::read_dir("/proc").ok()?;
        let mut numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let found = numbers.find(|pid| {
            let is_called =
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
            is_called && namespace(*pid).as_ref() == Some(&own)
        });
        found.map(Pid::from_raw)
    }

    /// The first process, by its number outside.
    pub(crate) const fn init(&self) -> Pid {
        self.init
    }

    /// Its network namespace.
    pub(crate) fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.init).into()
    }

    /// The network namespace of a process by its number inside.
    pub(crate) fn netns_inside(&self, pid: &str) -> PathBuf {
        format!("/proc/{}/root/proc/{pid}/ns/net", self.init).into()
    }

    /// Waits until a function gives something; the script's own words explain it when it never does.
    pub(crate) fn wait<T>(&self, what: &str, find: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
        eventually(what, find).with_context(|| {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            let from = said.len().saturating_sub(2000);
            said.get(from..).unwrap_or(&said).to_owned()
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It is a child's child that is waited for only below, so the number is still its own.
        let _ = kill(self.init, Signal::SIGKILL);
        let _ = self.outer.wait();
    }
}

/// Waits until a function gives something.
pub(crate) fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return Ok(found);
        }
        interrupt::check()?;
        if Instant::now() > deadline {
            bail!("{what}: not there after {} s", PATIENCE.as_secs());
        }
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// Runs a function on a thread inside a network namespace.
pub(crate) fn inside<T: Send>(
    netns: &Path,
    run: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    let file = File::open(netns).with_context(|| format!("failed to open {}", netns.display()))?;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).context("failed to enter a network namespace")?;
            run()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("failed to run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
