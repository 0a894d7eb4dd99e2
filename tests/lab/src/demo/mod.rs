//! The demo: a cluster of three nodes, two services on it, and every way to them shown.

mod answers;
mod client;
mod scene;
mod steps;
mod table;

use crate::Prefix;
use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use client::Client;
use nix::sys::signal::{SigSet, Signal};
use scene::Scene;
use table::{Outcome, heading, row};

/// The prefix of a demo that stays up.
const KEPT: &str = "essaimdemo";

/// Brings up a cluster of three nodes on this machine, runs two services on it, shows the traffic, takes it down.
#[derive(Debug, Parser)]
#[command(name = "essaim-demo", version)]
#[command(
    after_help = "Examples:\n  scripts/demo           show it\n  scripts/demo --docker  with the docker CLI and containers\n  \
                        scripts/demo --keep    and leave the cluster up\n  \
                        scripts/demo --down    take down what --keep left up"
)]
pub struct DemoArgs {
    /// Tell the same story with Docker's own client, and with containers of a Docker Engine on each machine
    #[arg(long)]
    docker: bool,
    /// Leave the cluster up, and say how to look round
    #[arg(long)]
    keep: bool,
    /// Take down the cluster that --keep left up
    #[arg(long, conflicts_with_all = ["keep", "docker"])]
    down: bool,
}

/// Runs the demo.
///
/// # Errors
/// When a step fails, or something is left behind.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    if args.down {
        return take_down();
    }
    let prefix = if args.keep {
        Prefix::lasting(KEPT)?
    } else {
        Prefix::unique()
    };
    if args.keep && !prefix.left()?.is_empty() {
        bail!("a cluster is up already; take it down with: scripts/demo --down");
    }
    remove_when_interrupted(prefix.clone())?;
    println!(
        "Three machines (n1, n2, n3) and a client (c1) on one underlay, with nothing on them. They become a cluster of"
    );
    println!(
        "three managers; services web (port 8080 published) and api run on the dual-stack overlay network app."
    );
    let client = if args.docker {
        Client::Docker
    } else {
        Client::Essaim
    };
    println!(
        "The operator's client is {client}; tasks are {}.\n",
        client.tasks()
    );
    print!("{}", heading());
    let mut report = Report::default();
    let scene = report.step("three empty machines, a daemon on each", || {
        let scene = Scene::build(prefix.clone(), client)?;
        Ok((scene, "each waits for swarm init or swarm join".to_owned()))
    });
    let up = scene.and_then(|scene| {
        steps::show(&scene, &mut report);
        if report.failed > 0 {
            scene.print_logs();
        }
        if args.keep {
            return Some(scene);
        }
        report.step("swarm leave and essaim clean leave nothing of it", || {
            Ok(((), scene.clean()?))
        });
        None
    });
    if up.is_none() {
        report.step("the machine is as before", || nothing_left(&prefix));
    }
    let total = report.passed + report.failed;
    println!("\n{} of {total} steps passed.", report.passed);
    if let Some(scene) = up {
        print!("{}", scene.look_round());
        scene.keep();
    }
    ensure!(report.failed == 0, "{} of {total} steps failed", report.failed);
    Ok(())
}

/// Prints the steps and counts how they end.
#[derive(Debug, Default)]
struct Report {
    passed: usize,
    failed: usize,
}

impl Report {
    /// Does a step, prints its row, and hands out what it made.
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> anyhow::Result<(T, String)>) -> Option<T> {
        match work() {
            Ok((made, seen)) => {
                self.passed += 1;
                print!("{}", row(name, &Outcome::Passed(seen)));
                Some(made)
            }
            Err(error) => {
                self.failed += 1;
                print!("{}", row(name, &Outcome::Failed(format!("{error:#}"))));
                None
            }
        }
    }
}

fn nothing_left(prefix: &Prefix) -> anyhow::Result<((), String)> {
    let left = prefix.left()?;
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok((
        (),
        "no namespace, program, map, process or file of it is left".to_owned(),
    ))
}

fn take_down() -> anyhow::Result<()> {
    let prefix = Prefix::lasting(KEPT)?;
    if prefix.left()?.is_empty() {
        println!("No cluster of the demo is up.");
        return Ok(());
    }
    prefix.remove()?;
    let ((), told) = nothing_left(&prefix)?;
    println!("The demo's cluster is down: {told}.");
    Ok(())
}

/// Ctrl-C takes the cluster down before the process ends. To be called before any thread is made.
fn remove_when_interrupted(prefix: Prefix) -> anyhow::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().context("failed to block signals")?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("\n{signal}: taking the cluster down");
            if let Err(error) = prefix.remove() {
                eprintln!("{error:#}");
            }
            std::process::exit(130);
        }
    });
    Ok(())
}
