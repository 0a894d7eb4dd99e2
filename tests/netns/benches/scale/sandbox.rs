//! Processes in namespaces of their own, which end with them.

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long anything may take to come up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A process that is the first of its PID namespace, in a network and a mount namespace of its own. When it ends, or
/// the bench does, all its descendants end, and the kernel takes down what they mounted and configured.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// The process that made the namespaces and waits for the first one in them.
    outer: Child,
    init: Pid,
}

impl Sandbox {
    /// Runs a shell script whose last command stays; its output goes to a file.
    pub(crate) fn start(script: &str, log: &Path) -> anyhow::Result<Self> {
        let output = File::create(log).with_context(|| format!("failed to write {}", log.display()))?;
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
        let first = || -> anyhow::Result<i32> {
            let first = fs::read_to_string(&children)?;
            let first = first.split_whitespace().next().context("it has no child")?;
            Ok(first.parse()?)
        };
        match eventually("the namespaces", first) {
            Ok(init) => Ok(Self {
                outer,
                init: Pid::from_raw(init),
            }),
            Err(error) => {
                let _ = outer.kill();
                let _ = outer.wait();
                Err(error)
            }
        }
    }

    /// The first process, by its number outside.
    pub(crate) fn init(&self) -> String {
        self.init.to_string()
    }

    /// The network namespace of a process by its number inside.
    pub(crate) fn netns_inside(&self, pid: &str) -> PathBuf {
        format!("/proc/{}/root/proc/{pid}/ns/net", self.init).into()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // It is a child's child that is waited for only below, so the number is still its own.
        let _ = kill(self.init, Signal::SIGKILL);
        let _ = self.outer.wait();
    }
}

/// Waits until a function succeeds.
pub(crate) fn eventually<T>(what: &str, find: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    essaim_lab::eventually(PATIENCE, what, find)
}

/// Runs a command to its end and gives what it printed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
