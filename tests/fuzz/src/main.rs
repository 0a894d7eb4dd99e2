//! Looks for inputs that a decoder breaks a promise on, and keeps each, minimised, as a regression.
#![allow(clippy::print_stdout, reason = "a program for people")]

use anyhow::{Context as _, ensure};
use clap::Parser;
use essaim_fuzz::{Folder, TARGETS, Target, minimise};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

#[cfg(not(feature = "libfuzzer"))]
mod blind;

/// Most runs of a target to make one input smaller.
const MINIMISE_BUDGET: usize = 3000;

/// Look for inputs that a decoder breaks a promise on.
#[derive(Parser)]
struct Arguments {
    /// The target; all are listed where none is named.
    target: Option<String>,
    /// How long to look, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Repeats a run; the clock's where none is given.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this file and nothing else.
    #[arg(long, value_name = "FILE", conflicts_with = "keep")]
    replay: Option<PathBuf>,
    /// Take into the corpus what leads through code that nothing in it does; needs coverage.
    #[arg(long)]
    keep: bool,
    /// Look in this process, and leave what fails in this folder.
    #[arg(long, hide = true)]
    into: Option<PathBuf>,
    /// Do what libFuzzer's own arguments say, which follow.
    #[cfg(feature = "libfuzzer")]
    #[arg(long, hide = true, num_args = 0.., allow_hyphen_values = true)]
    libfuzzer: Option<Vec<String>>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let Some(name) = &arguments.target else {
        for target in TARGETS {
            println!("{}", target.name);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let target = Target::named(name)
        .with_context(|| format!("there is no target {name}; essaim-fuzz without one lists them"))?;
    if let Some(file) = &arguments.replay {
        let input = fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        (target.run)(&input);
        return Ok(ExitCode::SUCCESS);
    }
    #[cfg(feature = "libfuzzer")]
    if let Some(own) = arguments.libfuzzer {
        return code(essaim_fuzz::guided::drive(target, own)?);
    }
    if arguments.keep {
        return keep(target);
    }
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => essaim_fuzz::seed().context("ESSAIM_SEED is no number")?,
    };
    if let Some(artifacts) = &arguments.into {
        return look(target, arguments.seconds, seed, artifacts);
    }
    println!("target {name}, seed {seed}, {} s", arguments.seconds);
    discover(target, arguments.seconds, seed)
}

/// Looks in a process of its own, which what is found may end in any way.
fn discover(target: Target, seconds: u64, seed: u64) -> anyhow::Result<ExitCode> {
    let artifacts = Folder::at(Folder::discovered(target).path().with_extension("failed"));
    Folder::discovered(target).make()?;
    artifacts.make()?;
    let status = itself(target)?
        .args([
            "--seconds",
            &seconds.to_string(),
            "--seed",
            &seed.to_string(),
            "--into",
        ])
        .arg(artifacts.path())
        .status()
        .context("failed to start the search")?;
    let found = artifacts.inputs()?;
    for input in &found {
        let smallest = if is_slow(&input.path) {
            input.bytes.clone()
        } else {
            smallest(target, &input.bytes, artifacts.path())?
        };
        let kept = Folder::regressions(target).keep(&smallest)?;
        println!(
            "{} fails on \"{}\", kept as {}",
            target.name,
            smallest.escape_ascii(),
            kept.display()
        );
        fs::remove_file(&input.path).with_context(|| format!("failed to remove {}", input.path.display()))?;
    }
    ensure!(
        status.success() || !found.is_empty(),
        "the search ended with {status}, and left nothing"
    );
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Inputs that are slow or hungry are kept as they are: each look at one would be so, too.
fn is_slow(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.starts_with("timeout-") || name.starts_with("oom-") || name.starts_with("slow-unit-")
}

/// Minimises in processes of their own, since an input may end one.
fn smallest(target: Target, input: &[u8], place: &Path) -> anyhow::Result<Vec<u8>> {
    let file = place.with_extension("candidate");
    let mut replay = itself(target)?;
    replay
        .arg("--replay")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut fails = |candidate: &[u8]| {
        fs::write(&file, candidate).is_ok() && replay.status().is_ok_and(|status| !status.success())
    };
    ensure!(
        fails(input),
        "an input that failed did not fail again; it is in {}",
        place.display()
    );
    let smallest = minimise(input, MINIMISE_BUDGET, fails);
    fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))?;
    Ok(smallest)
}

fn itself(target: Target) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program is not to be found")?);
    command.arg(target.name);
    Ok(command)
}

#[cfg(feature = "libfuzzer")]
fn look(target: Target, seconds: u64, seed: u64, artifacts: &Path) -> anyhow::Result<ExitCode> {
    code(essaim_fuzz::guided::discover(target, seconds, seed, artifacts)?)
}

#[cfg(not(feature = "libfuzzer"))]
fn look(target: Target, seconds: u64, seed: u64, artifacts: &Path) -> anyhow::Result<ExitCode> {
    blind::look(target, seconds, seed, &Folder::at(artifacts))
}

#[cfg(feature = "libfuzzer")]
fn keep(target: Target) -> anyhow::Result<ExitCode> {
    code(essaim_fuzz::guided::merge(target)?)
}

#[cfg(not(feature = "libfuzzer"))]
fn keep(_target: Target) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build sees no coverage; run `tests/fuzz/discover` instead")
}

#[cfg(feature = "libfuzzer")]
fn code(status: i32) -> anyhow::Result<ExitCode> {
    u8::try_from(status)
        .map(ExitCode::from)
        .context("an exit status that is none")
}
