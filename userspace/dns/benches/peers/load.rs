//! One run of `dnsperf`, and what the server spent on it.

use crate::servers::Server;
use anyhow::{Context as _, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{Pid, SysconfVar, sysconf};
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The program that asks.
pub(crate) const DNSPERF: &str = "/usr/bin/dnsperf";

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// 100 questions under way at any time.
    Full,
    /// So too, with a line for every answer, which costs some of the rate.
    Told,
}

/// A run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    /// Where `dnsperf` runs.
    pub(crate) core: usize,
    pub(crate) questions: &'a Path,
    pub(crate) way: Way,
    /// Where the output is kept: a pipe would have a reader at work meanwhile.
    pub(crate) output: &'a Path,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    sent: f64,
    /// Without those that told of an error.
    answered: f64,
    time: Duration,
    cpu: Duration,
    /// What `dnsperf` took, its start included.
    asker_cpu: Duration,
    /// In microseconds, of runs that tell them.
    pub(crate) latencies: Vec<f64>,
}

/// The last core, on which questions are asked; to be called before this process is kept on it.
pub(crate) fn core() -> anyhow::Result<usize> {
    let cores = std::thread::available_parallelism().context("failed to count the cores")?;
    ensure!(cores.get() > 1, "two cores are needed");
    Ok(cores.get() - 1)
}

impl Load<'_> {
    /// Asks a server.
    pub(crate) fn run(self, server: &Server) -> anyhow::Result<Outcome> {
        let output = || {
            File::create(self.output).with_context(|| format!("failed to write {}", self.output.display()))
        };
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", server.netns.display()))
            .args(["taskset", "-c", &self.core.to_string(), DNSPERF])
            .args(["-s", &server.address.ip().to_string()])
            .args(["-p", &server.address.port().to_string()])
            .args(["-a", &server.asker.to_string()])
            .args(["-l", if self.way == Way::Told { "1" } else { "2" }])
            .args(["-c", "4", "-q", "100", "-t", "1", "-d"])
            .arg(self.questions)
            .stdout(output()?);
        if self.way == Way::Told {
            command.arg("-v");
        }
        let before = cpu_time(server.process)?;
        let asked_before = children_time()?;
        let done = command.output().context("failed to run nsenter and dnsperf")?;
        let asker_cpu = children_time()?.saturating_sub(asked_before);
        let cpu = cpu_time(server.process)?.saturating_sub(before);
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "dnsperf: {}: {said}", done.status);
        let printed = fs::read_to_string(self.output).context("failed to read what dnsperf printed")?;
        Outcome::parse(&printed, cpu, asker_cpu)
    }
}

impl Outcome {
    fn parse(printed: &str, cpu: Duration, asker_cpu: Duration) -> anyhow::Result<Self> {
        let word = |after: &str| {
            let line = printed.lines().find_map(|line| line.trim().strip_prefix(after));
            let word = line.and_then(|rest| rest.split_whitespace().next());
            word.and_then(|word| word.parse::<f64>().ok())
                .with_context(|| format!("dnsperf told no {after:?}"))
        };
        let latencies = printed
            .lines()
            .filter_map(|line| line.strip_prefix("> NOERROR ")?.rsplit(' ').next()?.parse().ok())
            .map(|seconds: f64| seconds * 1e6)
            .collect();
        Ok(Self {
            sent: word("Queries sent:")?,
            answered: word("Response codes:       NOERROR").unwrap_or(0.0),
            time: Duration::from_secs_f64(word("Run time (s):")?),
            cpu,
            asker_cpu,
            latencies,
        })
    }

    /// CPU time of an answer, in microseconds.
    pub(crate) fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answered.max(1.0)
    }

    /// As above, with what the asker took: who answers in the asker's system call does not get it for nothing.
    pub(crate) fn cpu_both(&self) -> f64 {
        (self.cpu + self.asker_cpu).as_secs_f64() * 1e6 / self.answered.max(1.0)
    }

    /// Answers a second, in thousands.
    pub(crate) fn rate(&self) -> f64 {
        self.answered / self.time.as_secs_f64() / 1e3
    }

    /// The share of questions without an answer, or with an error for one.
    pub(crate) fn unanswered(&self) -> f64 {
        1.0 - self.answered / self.sent.max(1.0)
    }
}

/// User and system time of all processes that this one started and that have ended.
fn children_time() -> anyhow::Result<Duration> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).context("the kernel told no times")?;
    let times = [used.user_time(), used.system_time()];
    let micros: i64 = times.iter().map(TimeValLike::num_microseconds).sum();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}

/// User and system time of all threads of a process.
fn cpu_time(process: Pid) -> anyhow::Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    // Behind the name, which may contain anything: state is the first field, the times are the twelfth and thirteenth.
    let (_, fields) = stat.rsplit_once(')').context("the kernel told no name")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u32>)
        .sum::<Result<u32, _>>()
        .context("the kernel told no times")?;
    let each = sysconf(SysconfVar::CLK_TCK)?.context("the kernel told no length of a tick")?;
    #[expect(clippy::cast_precision_loss, reason = "it is 100")]
    let each = each as f64;
    Ok(Duration::from_secs_f64(f64::from(ticks) / each))
}
