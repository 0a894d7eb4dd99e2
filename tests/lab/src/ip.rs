//! The `ip` command, for the lab's own plumbing (the agent under test has its own netlink code).

use anyhow::{Context as _, ensure};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Where Debian keeps administrators' programs, which a user's PATH may lack.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs `ip` with these arguments.
///
/// # Errors
/// When it fails, with what it says.
pub fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .env("PATH", PATH)
        .args(arguments)
        .output()
        .context("failed to run ip")?;
    ensure!(
        output.status.success(),
        "ip {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Runs lines of `ip` inside a namespace, stopping at the first that fails.
///
/// # Errors
/// When one fails, with what `ip` says.
pub fn batch(netns: &str, lines: &[String]) -> anyhow::Result<()> {
    let mut child = Command::new("ip")
        .env("PATH", PATH)
        .args(["-netns", netns, "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run ip")?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(lines.join("\n").as_bytes())
            .context("failed to hand lines to ip")?;
    }
    let output = child.wait_with_output().context("failed to wait for ip")?;
    ensure!(
        output.status.success(),
        "ip in {netns} failed: {} (lines: {})",
        String::from_utf8_lossy(&output.stderr).trim(),
        lines.join("; ")
    );
    Ok(())
}
