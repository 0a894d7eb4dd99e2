//! From `service scale` to the new task's traffic, beside docker.io's Swarm. `README.md` says what is measured.
//!
//! As root, with `essaim` built: `cargo bench -p essaim-netns-tests --bench scale`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints, and says what it could not remove"
)]

mod probe;
mod sandbox;
mod swarm;

use anyhow::{Context as _, bail};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};
use swarm::{Docker, Ours, PROBE, Swarm, running};

/// How long a task may take to come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two questions to the API.
const PACE: Duration = Duration::from_millis(5);

/// What happened when, from the command's start on.
struct Times {
    /// The operator's command has ended.
    command: Duration,
    /// The API says that the task runs.
    running: Duration,
    /// The task has answered the client on one node …
    first: Duration,
    /// … and those on all.
    all: Duration,
}

/// A cluster under measurement.
struct Measured<'s> {
    swarm: &'s dyn Swarm,
    /// Which client heard whom, and when.
    heard: Receiver<(usize, String, Instant)>,
    clients: usize,
    times: Vec<Times>,
}

impl<'s> Measured<'s> {
    fn of(swarm: &'s dyn Swarm) -> anyhow::Result<Self> {
        let probes = swarm.probes()?;
        let clients = probes.len();
        let (tell, heard) = mpsc::channel();
        for (number, lines) in probes.into_iter().enumerate() {
            let tell = tell.clone();
            thread::spawn(move || {
                for line in lines {
                    if tell.send((number, line, Instant::now())).is_err() {
                        return;
                    }
                }
            });
        }
        let mut measured = Self {
            swarm,
            clients,
            heard,
            times: Vec::new(),
        };
        // Everything is as it will be: each client has reached the first task.
        measured.all_hear("web.1")?;
        Ok(measured)
    }

    /// When the first client and when the last heard of a task.
    fn all_hear(&mut self, name: &str) -> anyhow::Result<(Instant, Instant)> {
        let mut when = vec![None; self.clients];
        while when.contains(&None) {
            let Ok((client, heard, at)) = self.heard.recv_timeout(PATIENCE) else {
                bail!(
                    "{}: {name} has not answered everybody: {when:?}",
                    self.swarm.name()
                );
            };
            if heard == name {
                when[client].get_or_insert(at);
            }
        }
        let when: Vec<Instant> = when.into_iter().flatten().collect();
        when.iter()
            .min()
            .zip(when.iter().max())
            .map(|(a, b)| (*a, *b))
            .context("no client")
    }

    fn round(&mut self, replicas: usize) -> anyhow::Result<()> {
        let (socket, slot) = (self.swarm.socket(), replicas.try_into()?);
        let begun = Instant::now();
        let watching = thread::spawn(move || -> anyhow::Result<Instant> {
            while !running(&socket)?.contains(&slot) {
                if begun.elapsed() > PATIENCE {
                    bail!("the task does not run");
                }
                thread::park_timeout(PACE);
            }
            Ok(Instant::now())
        });
        self.swarm.scale(replicas)?;
        let command = begun.elapsed();
        let (first, all) = self.all_hear(&format!("web.{replicas}"))?;
        let running = watching
            .join()
            .map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
        self.times.push(Times {
            command,
            running: running - begun,
            first: first - begun,
            all: all - begun,
        });
        Ok(())
    }

    fn row(&self, what: &str, of: impl Fn(&Times) -> Duration) -> String {
        let mut times: Vec<Duration> = self.times.iter().map(of).collect();
        times.sort_unstable();
        let at = |quarter: usize| times[(times.len() - 1) * quarter / 4].as_millis();
        let name = self.swarm.name();
        format!("| {name} | {what} | {} ({} to {}) ms |", at(2), at(1), at(3))
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == PROBE
    {
        return probe::run(name);
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let rounds = if is_test { 1 } else { 11 };
    let binaries = binaries()?;
    let folder = tempfile::tempdir().context("failed to make a directory")?;
    let ours = Ours::start(&binaries)?;
    let docker = match Docker::missing() {
        Some(package) => {
            println!("without docker.io's Swarm: Debian's package {package} is not installed");
            None
        }
        None => Some(Docker::start(folder.path())?),
    };
    let mut all = vec![Measured::of(&ours)?];
    if let Some(docker) = &docker {
        all.push(Measured::of(docker)?);
    }
    // The first round does not count.
    for replicas in 2..=rounds + 2 {
        for measured in &mut all {
            measured.round(replicas)?;
            if replicas == 2 {
                measured.times.clear();
            }
        }
    }
    println!("| cluster | from the command's start to | median (quartiles) of {rounds} |\n|---|---|---|");
    for measured in &all {
        println!("{}", measured.row("its end", |times| times.command));
        println!("{}", measured.row("`running` in the API", |times| times.running));
        println!(
            "{}",
            measured.row("an answer to the first node", |times| times.first)
        );
        println!("{}", measured.row("an answer to every node", |times| times.all));
    }
    Ok(())
}

/// Where `essaim` is: this program is in `deps` beside it.
fn binaries() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let folder = program
        .ancestors()
        .nth(2)
        .context("this program is in no folder")?;
    Ok(folder.to_owned())
}
