//! The tasks' resolver beside Docker's embedded one and aardvark-dns: see `benches/README.md`.
//!
//! Every server runs in namespaces of its own on the first core, `dnsperf` on the last, and all are measured once a
//! round, so that a slow moment of the machine meets all of them. Needs root; all that it makes goes with its processes.

mod interrupt;
mod load;
mod pace;
mod priority;
mod report;
mod sandbox;
mod servers;
mod upstream;

use anyhow::{Context as _, ensure};
use load::{Load, Outcome, Way};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, Uid};
use priority::Priority;
use report::{Measure, Report, quantile};
use servers::Server;
use std::env;
use std::fs;
use std::path::Path;
use std::process;

/// What the bench asks for: the program, and the Debian package that has it.
const NEEDED: [(&str, &str); 6] = [
    (servers::DOCKERD, "docker.io"),
    (servers::DOCKER, "docker.io"),
    (servers::AARDVARK, "aardvark-dns"),
    (load::DNSPERF, "dnsperf"),
    (servers::BUSYBOX, "busybox-static"),
    // The embedded resolver is reached by its rules.
    ("/usr/sbin/iptables", "iptables"),
];

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, mode, address_file, in_kernel] = arguments.as_slice()
        && mode == servers::SERVE
    {
        return servers::serve(Path::new(address_file), in_kernel == "true");
    }
    // `cargo test` runs benches too, to see that they start.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return Ok(());
    }
    check()?;
    interrupt::watch()?;
    // The servers get the first core; all else here, the upstream servers too, is not at their expense.
    let core = load::core()?;
    pin(core)?;
    let _priority = Priority::raise(&process::id().to_string())?;
    let folder = tempfile::Builder::new()
        .prefix("essaim-peers-")
        .tempdir()
        .context("failed to make a folder")?;
    let servers = [
        servers::ours(folder.path(), servers::OURS)?,
        servers::ours(folder.path(), servers::OURS_ALONE)?,
        servers::docker(folder.path())?,
        servers::aardvark(folder.path())?,
    ];
    let mut priorities = Vec::new();
    for server in &servers {
        server.wait_ready()?;
        priorities.push(Priority::raise(&server.process.to_string())?);
    }
    measure(&servers, core, folder.path())?.print();
    Ok(())
}

fn check() -> anyhow::Result<()> {
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(program, _)| !Path::new(program).exists())
        .map(|(_, package)| *package)
        .collect();
    ensure!(missing.is_empty(), "missing packages: {}", missing.join(" "));
    ensure!(Uid::effective().is_root(), "namespaces need root");
    Ok(())
}

fn pin(core: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("failed to move to core {core}"))
}

/// All measures by turns; a first round that is not counted warms caches up.
fn measure(servers: &[Server], core: usize, folder: &Path) -> anyhow::Result<Report> {
    let rounds = if env::var_os("BENCH_QUICK").is_some() {
        1
    } else {
        5
    };
    let mut report = Report::default();
    for round in 0..=rounds {
        for (kind, names) in [("cluster", servers::NAMES), ("upstream", servers::OUTSIDE)] {
            let questions = folder.join(kind);
            let lines: Vec<String> = names.iter().map(|name| format!("{name} A\n")).collect();
            fs::write(&questions, lines.concat())
                .with_context(|| format!("failed to write {}", questions.display()))?;
            for turn in [Turn::Load(Way::Full), Turn::Load(Way::Told), Turn::Paced] {
                for server in servers {
                    interrupt::check()?;
                    let what = || format!("{kind} names of {}", server.name);
                    let (figures, unanswered) = match turn {
                        Turn::Load(way) => {
                            let load = Load {
                                core,
                                questions: &questions,
                                way,
                                output: &folder.join("dnsperf"),
                            };
                            let outcome = load.run(server).with_context(what)?;
                            (load_figures(way, &outcome), outcome.unanswered())
                        }
                        Turn::Paced => {
                            let paced = pace::ask(server, &names).with_context(what)?;
                            let of = |fraction| quantile(&paced.latencies, fraction);
                            let figures = vec![(Measure::P50Paced, of(0.5)), (Measure::P99Paced, of(0.99))];
                            (figures, paced.unanswered)
                        }
                    };
                    if round > 0 {
                        report.add(kind, server.name, &figures, unanswered);
                    }
                }
            }
        }
        eprintln!("round {round} of {rounds}");
    }
    Ok(report)
}

/// What the servers are asked with in turn.
#[derive(Clone, Copy, Debug)]
enum Turn {
    Load(Way),
    Paced,
}

fn load_figures(way: Way, outcome: &Outcome) -> Vec<(Measure, f64)> {
    match way {
        Way::Full => vec![
            (Measure::CpuEach, outcome.cpu_each()),
            (Measure::CpuBoth, outcome.cpu_both()),
            (Measure::Rate, outcome.rate()),
        ],
        Way::Told => vec![(Measure::P99Full, quantile(&outcome.latencies, 0.99))],
    }
}
