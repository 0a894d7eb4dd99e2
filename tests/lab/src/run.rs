//! Running commands inside a cluster.

use crate::cluster::Cluster;
use crate::wait::patience;
use crate::{ip, spawn};
use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

/// After that a command that does not end is ended: nothing in a lab takes longer.
const LIMIT: Duration = Duration::from_mins(2);

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// What a command did.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The command, as one would type it.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Ran {
    /// What it printed, if it succeeded.
    ///
    /// # Errors
    /// When it failed, with what it complained about.
    pub fn ok(self) -> anyhow::Result<String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        bail!("{}: {}: {}", self.line, self.status, said.trim())
    }

    /// What it printed last, read as JSON, if it succeeded.
    ///
    /// # Errors
    /// When it failed, or its last line is not such JSON.
    pub fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let line = self.line.clone();
        let text = self.ok()?;
        let last = text.lines().last().unwrap_or_default();
        serde_json::from_str(last).with_context(|| format!("{line} printed {last:?}"))
    }
}

/// How long a request of many may take.
const LOADED: Duration = Duration::from_secs(3);

impl Cluster {
    /// Runs a command on a node, a client or the `hub`, or in a task's namespace, to its end.
    ///
    /// # Errors
    /// When it cannot be started; a command that fails is told in [`Ran::status`].
    pub fn exec(&self, at: &str, argv: &[&str]) -> anyhow::Result<Ran> {
        let limit = patience(LIMIT)?.as_secs().to_string();
        let mut command = self.command(at, &[&["timeout", "--kill-after=1", &limit], argv].concat())?;
        let output = command
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("failed to run {} at {at}", argv.join(" ")))?;
        Ok(Ran {
            line: format!("{at}: {}", argv.join(" ")),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Fetches a URL with curl, at most 5 seconds long.
    ///
    /// # Errors
    /// When curl fails, or the answer is not a 2xx.
    pub fn curl(&self, at: &str, url: &str) -> anyhow::Result<String> {
        let limit = patience(REQUEST)?.as_secs().to_string();
        self.exec(
            at,
            &["curl", "-gsSf", "--noproxy", "*", "--max-time", &limit, url],
        )?
        .ok()
    }

    /// Runs `essaim-peer` with these arguments.
    ///
    /// # Errors
    /// As [`Cluster::exec`].
    pub fn peer(&self, at: &str, arguments: &[&str]) -> anyhow::Result<Ran> {
        let program = self.binary("essaim-peer").display().to_string();
        self.exec(at, &[&[program.as_str()], arguments].concat())
    }

    /// Starts a command in the background; it is ended when the handle goes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, at: &str, argv: &[&str]) -> anyhow::Result<Running> {
        let line = format!("{at}: {}", argv.join(" "));
        let mut child = self
            .command(at, argv)?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("failed to run {line}"))?;
        let stdout = child
            .stdout
            .take()
            .with_context(|| format!("{line} has no output"))?;
        Ok(Running {
            child,
            stdout: BufReader::new(stdout),
            line,
        })
    }

    /// Starts `essaim-peer` in the background.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_peer(&self, at: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let program = self.binary("essaim-peer").display().to_string();
        self.start(at, &[&[program.as_str()], arguments].concat())
    }

    /// Starts requests to a URL over so many connections at a time, a new one for each request, with so many milliseconds
    /// between those of one. They go on for so many seconds, or until they are stopped. One that is not answered within
    /// 3 seconds has failed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_load(
        &self,
        at: &str,
        url: &str,
        connections: usize,
        interval_ms: u64,
        seconds: u64,
    ) -> anyhow::Result<Running> {
        let [connections, interval_ms] = [connections.to_string(), interval_ms.to_string()];
        let seconds = seconds.to_string();
        let timeout_ms = patience(LOADED)?.as_millis().to_string();
        let line = [
            "load",
            "--target",
            url,
            "--connections",
            &connections,
            "--interval-ms",
            &interval_ms,
            "--seconds",
            &seconds,
            "--timeout-ms",
            &timeout_ms,
        ];
        self.start_peer(at, &line)
    }

    pub(crate) fn command(&self, at: &str, argv: &[&str]) -> anyhow::Result<Command> {
        let (program, arguments) = argv.split_first().context("no command given")?;
        let mut command = spawn::command(&self.room(at)?, program)?;
        command.args(arguments);
        Ok(command)
    }
}

/// Runs a command of the machine itself, outside of every lab.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run_here(argv: &[&str]) -> anyhow::Result<String> {
    let (program, arguments) = argv.split_first().context("no command given")?;
    let output = Command::new(program)
        .env("PATH", ip::PATH)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {program}"))?;
    Ran {
        line: argv.join(" "),
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
    .ok()
}

/// A command in the background.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    line: String,
}

impl Running {
    /// Waits for the next line that it prints.
    ///
    /// # Errors
    /// When it ends before that.
    pub fn next_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let length = self
            .stdout
            .read_line(&mut line)
            .with_context(|| format!("failed to read from {}", self.line))?;
        if length == 0 {
            bail!("{} ended without a further line", self.line);
        }
        Ok(line)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        send(&self.child, signal).with_context(|| format!("failed to signal {}", self.line))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When its output cannot be read.
    pub fn finish(mut self) -> anyhow::Result<Ran> {
        let mut stdout = String::new();
        self.stdout
            .read_to_string(&mut stdout)
            .with_context(|| format!("failed to read from {}", self.line))?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("failed to wait for {}", self.line))?;
        Ok(Ran {
            line: std::mem::take(&mut self.line),
            status,
            stdout,
            stderr: String::new(),
        })
    }

    /// Ends it with SIGTERM, and hands out what it did.
    ///
    /// # Errors
    /// As [`Running::signal`] and [`Running::finish`].
    pub fn stop(self) -> anyhow::Result<Ran> {
        self.signal(Signal::SIGTERM)?;
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended: then there is nothing to kill, only to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn send(child: &Child, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, signal).with_context(|| format!("failed to send {signal} to process {pid}"))
}
