//! An environment of Python with docker-py, and with its tests, in the folder of what is built.

use anyhow::{Context as _, ensure};
use essaim_lab::{Cluster, run_here};
use std::fs;
use std::path::{Path, PathBuf};

/// What is installed, in fixed versions: the tests make every warning an error.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The package whose source has the tests.
const TESTS: &str = "docker==7.0.0";

/// Where Python is.
#[derive(Debug)]
pub(crate) struct Python {
    /// The interpreter.
    pub(crate) program: PathBuf,
    /// Holds `tests/integration`.
    pub(crate) tests: PathBuf,
}

/// The environment, which is made where it is absent or another one.
///
/// # Errors
/// When there is no Python with `venv`, or its package registry cannot be reached.
pub(crate) fn environment(lab: &Cluster) -> anyhow::Result<Python> {
    // Two builds of one target share it.
    let target = lab
        .binary("")
        .parent()
        .context("programs in no folder")?
        .to_owned();
    let folder = target.join("docker-py");
    let python = Python {
        program: folder.join("venv/bin/python"),
        tests: folder.join("source"),
    };
    let wanted = format!("{TESTS}\n{REQUIREMENTS}");
    let mark = folder.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS).context("failed to write what is to be installed")?;
    let text = |path: &Path| path.display().to_string();
    run_here(&["python3", "-m", "venv", &text(&folder.join("venv"))])
        .context("no Python with venv (package python3-venv)")?;
    let pip = [
        &text(&python.program),
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
    ];
    run_here(&[&pip[..], &["install", "--requirement", &text(&requirements)]].concat())?;
    // With a binary package of the same version there would be no tests.
    let source = [
        "download",
        "--no-deps",
        "--no-binary",
        "docker",
        "--dest",
        &text(&folder),
        TESTS,
    ];
    run_here(&[&pip[..], &source].concat())?;
    fs::create_dir_all(&python.tests).context("failed to make a folder for the tests")?;
    let archive = text(&folder.join("docker-7.0.0.tar.gz"));
    run_here(&[
        "tar",
        "-xzf",
        &archive,
        "-C",
        &text(&python.tests),
        "--strip-components",
        "1",
    ])?;
    // The tests are not to find the library of their own version.
    fs::remove_dir_all(python.tests.join("docker")).context("failed to remove the older library")?;
    ensure!(
        python.tests.join("tests/integration").exists(),
        "{TESTS} has no integration tests"
    );
    fs::write(&mark, wanted).context("failed to mark what is installed")?;
    Ok(python)
}
