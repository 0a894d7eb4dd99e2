//! What a run found: a table, the targets, a file for programs, and criterion's closing.

use crate::rounds::{Samples, quantile};
use crate::settings::Settings;
use anyhow::Context as _;
use criterion::{Criterion, SamplingMode};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A figure with its limit.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    name: String,
    /// What was measured.
    found: f64,
    /// At most this.
    limit: f64,
    unit: &'static str,
    /// Whether it was met.
    pass: bool,
}

impl Target {
    /// A target: `found` is to be at most `limit`.
    pub fn at_most(name: impl Into<String>, found: f64, limit: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            found,
            limit,
            unit,
            pass: found <= limit,
        }
    }
}

/// A line of the table: a case's figure, and what it is in terms of the floors.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    id: String,
    median: f64,
    low: f64,
    high: f64,
    rounds: usize,
    /// Named figures made from the medians.
    derived: Vec<(&'static str, f64)>,
}

/// A run's report.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    unit: &'static str,
    kernel: String,
    cpu: String,
    commit: String,
    load: String,
    packets: u32,
    quick: bool,
    rows: Vec<Row>,
    targets: Vec<Target>,
    notes: Vec<String>,
}

impl Report {
    /// An empty report; `unit` is that of the rows' medians.
    pub fn new(bench: &'static str, unit: &'static str, settings: Settings) -> Self {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpuinfo = line("/proc/cpuinfo");
        let cpu = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            bench,
            unit,
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: cpu.map_or("", |(_, name)| name).to_owned(),
            commit: commit(),
            load: line("/proc/loadavg"),
            packets: settings.packets,
            quick: settings.quick,
            rows: Vec::new(),
            targets: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds every case of some samples; `derive` names further figures of a case, made from its median.
    pub fn rows(&mut self, samples: &Samples, derive: impl Fn(&str, f64) -> Vec<(&'static str, f64)>) {
        for (id, figures) in samples.iter() {
            self.figures(id, figures);
            if let Some(row) = self.rows.last_mut() {
                row.derived = derive(id, row.median);
            }
        }
    }

    /// Adds one case.
    pub fn figures(&mut self, id: impl Into<String>, figures: &[f64]) {
        self.rows.push(Row {
            id: id.into(),
            median: quantile(figures, 0.5),
            low: quantile(figures, 0.25),
            high: quantile(figures, 0.75),
            rounds: figures.len(),
            derived: Vec::new(),
        });
    }

    /// Adds a target.
    pub fn target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// Adds a sentence that the reader must know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Prints the report and writes `bench/results/BENCH.json`. A target that is missed fails nothing.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(&self) -> anyhow::Result<()> {
        let Self {
            bench,
            unit,
            kernel,
            cpu,
            commit,
            load,
            ..
        } = self;
        println!("\n== {bench}: kernel {kernel}, {cpu}, commit {commit}, load {load}");
        if self.quick {
            println!("   a smoke run: the figures are worth little");
        }
        println!("{:<52} {:>10} {:>21}", "case", unit, "quartiles");
        for Row {
            id,
            median,
            low,
            high,
            derived,
            ..
        } in &self.rows
        {
            let derived: Vec<String> = derived
                .iter()
                .map(|(name, figure)| format!("{name} {figure:.2}"))
                .collect();
            println!(
                "{id:<52} {median:>10.1} {low:>10.1}{high:>11.1}  {}",
                derived.join("  ")
            );
        }
        if !self.targets.is_empty() {
            println!("\n{:<72} {:>10} {:>10}", "target", "found", "at most");
        }
        for Target {
            name,
            found,
            limit,
            unit,
            pass,
        } in &self.targets
        {
            let verdict = if *pass { "PASS" } else { "MISS" };
            println!("{name:<72} {found:>10.3} {limit:>10.3} {unit:<6} {verdict}");
        }
        for note in &self.notes {
            println!("note: {note}");
        }
        let folder = results();
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let path = folder.join(bench).with_extension("json");
        fs::write(&path, serde_json::to_vec_pretty(self)?)
            .with_context(|| format!("failed to write {}", path.display()))
    }
}

fn results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("results")
}

fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    git.ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(String::new, |id| id.trim().to_owned())
}

/// Gives criterion the figures of the rounds, in nanoseconds, for its closing and its comparison with the last run. They
/// were taken by turns; criterion would measure one case after the other.
pub fn close_with_criterion(samples: &Samples) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_nanos(1))
        .measurement_time(Duration::from_millis(1))
        .configure_from_args();
    let mut stages: std::collections::BTreeMap<&str, Vec<(&str, &[f64])>> = std::collections::BTreeMap::new();
    for (id, figures) in samples.iter() {
        let (stage, rest) = id.split_once('/').unwrap_or(("bench", id));
        stages.entry(stage).or_default().push((rest, figures));
    }
    for (stage, cases) in stages {
        let mut group = criterion.benchmark_group(stage);
        group.sampling_mode(SamplingMode::Flat);
        for (rest, figures) in cases {
            let mut turn = figures.iter().cycle();
            group.bench_function(rest, |bencher| {
                bencher.iter_custom(|iterations| {
                    let figure = turn.next().copied().unwrap_or(0.0);
                    Duration::from_secs_f64(figure.max(0.001) * crate::cpu::count(iterations) / 1e9)
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
