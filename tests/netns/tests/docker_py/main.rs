//! The integration tests of docker-py, Docker's client library for Python, at a node's socket: those of swarm mode, of
//! networks and of the node, as they are. They are in the source package of version 7.0.0; the library is 7.2.0, which
//! works with the libraries of today.
//!
//! `expected.txt` has the outcome of each with Docker's own daemon (20.10.24): 158 pass, one is skipped, and of three
//! that are marked as failing one does; the others pass where `eth0` has one address, as in a lab. Each must be the same
//! here, and none be missing.

mod python;

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, EngineSettings};
use std::collections::{BTreeMap, BTreeSet};

/// With Docker's own daemon: `FILE::CLASS::TEST OUTCOME`.
const EXPECTED: &str = include_str!("expected.txt");

/// Seconds that a test may take. The longest take 6 with Docker's.
const TEST_LIMIT: &str = "--timeout=60";

/// The outcomes in a report of `pytest -v`, by test.
fn outcomes(report: &str) -> BTreeMap<String, String> {
    let of_line = |line: &str| {
        let (test, outcome) = line.strip_prefix("tests/integration/")?.split_once(' ')?;
        let outcome = outcome.split(' ').next()?;
        let is_outcome = ["PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"].contains(&outcome);
        (test.contains("::") && is_outcome).then(|| (test.to_owned(), outcome.to_owned()))
    };
    let mut outcomes = BTreeMap::new();
    for (test, outcome) in report.lines().filter_map(of_line) {
        // One that passes, and whose end does not, has two: the error is the later one.
        outcomes.insert(test, outcome);
    }
    outcomes
}

fn expected() -> anyhow::Result<BTreeMap<String, String>> {
    let lines = EXPECTED.lines().map(|line| {
        let (test, outcome) = line.split_once(' ').context("a line without an outcome")?;
        let outcome = match outcome {
            "passed" => "PASSED",
            "skipped" => "SKIPPED",
            "xfailed" => "XFAIL",
            "xpassed" => "XPASS",
            other => anyhow::bail!("{test}: what is {other}?"),
        };
        Ok((test.to_owned(), outcome.to_owned()))
    });
    lines.collect()
}

#[test]
fn docker_pys_own_tests_end_as_with_dockers_daemon() -> anyhow::Result<()> {
    let expected = expected()?;
    let lab = ClusterBuilder::new().nodes(1).clients(0).build()?;
    let python = python::environment(&lab)?;
    let settings = EngineSettings {
        bridge: true,
        ..EngineSettings::default()
    };
    let engine = lab.spawn_engine_with("n1", settings)?;
    for image in ["alpine:3.10", "alpine:latest"] {
        engine.docker(&["tag", "busybox:latest", image])?;
    }
    lab.spawn_node("n1")?;

    let files: BTreeSet<&str> = expected
        .keys()
        .filter_map(|test| test.split("::").next())
        .collect();
    let host = format!("DOCKER_HOST=unix://{}", lab.api_socket("n1").display());
    let home = format!("HOME={}", lab.state_dir("n1").display());
    let program = python.program.display().to_string();
    let folder = python.tests.display().to_string();
    let mut found = BTreeMap::new();
    let mut reports = String::new();
    for file in files {
        let file = format!("tests/integration/{file}");
        let line = [
            "env",
            "-C",
            &folder,
            &host,
            &home,
            &program,
            "-m",
            "pytest",
            "-v",
            "--no-header",
            "-p",
            "no:cacheprovider",
            TEST_LIMIT,
            &file,
        ];
        let ran = lab.start("n1", &line)?.finish()?;
        println!("{}", ran.stdout.lines().last().unwrap_or_default());
        found.extend(outcomes(&ran.stdout));
        if !ran.status.success() {
            reports = format!("{reports}{file}: {}\n{}\n", ran.status, ran.stdout);
        }
    }
    let differ: Vec<String> = expected
        .iter()
        .filter(|(test, outcome)| found.get(*test) != Some(outcome))
        .map(|(test, outcome)| format!("{test}: {:?}, expected {outcome}", found.get(test)))
        .collect();
    let unknown: Vec<&String> = found
        .keys()
        .filter(|test| !expected.contains_key(*test))
        .collect();
    let count = |outcome: &str| found.values().filter(|found| *found == outcome).count();
    println!(
        "{} passed, {} skipped, {} failed as expected, {} passed all the same",
        count("PASSED"),
        count("SKIPPED"),
        count("XFAIL"),
        count("XPASS")
    );
    ensure!(
        differ.is_empty() && unknown.is_empty(),
        "{reports}\n{} differ:\n{}\nnot in expected.txt: {unknown:?}",
        differ.len(),
        differ.join("\n")
    );
    Ok(())
}

#[test]
fn outcomes_are_read_from_a_report() {
    let report = "collecting ... collected 3 items\n\n\
        tests/integration/a_test.py::A::test_one PASSED                       [ 33%]\n\
        tests/integration/a_test.py::A::test_two SKIPPED (why not)            [ 66%]\n\
        tests/integration/a_test.py::A::test_three PASSED                     [100%]\n\
        tests/integration/a_test.py::A::test_three ERROR                      [100%]\n\
        === 2 passed ===\n";
    let found: Vec<(String, String)> = outcomes(report).into_iter().collect();
    let text = |test: &str, outcome: &str| (format!("a_test.py::A::{test}"), outcome.to_owned());
    assert_eq!(
        found,
        [
            text("test_one", "PASSED"),
            text("test_three", "ERROR"),
            text("test_two", "SKIPPED")
        ]
    );
}
