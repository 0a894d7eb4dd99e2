//! Network namespaces by name, as `ip netns` keeps them.

use crate::ip;
use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::path::PathBuf;

/// Where the names are.
const NAMES: &str = "/run/netns";

/// The file of a namespace.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(NAMES).join(name)
}

/// Makes a namespace with its loopback interface up.
///
/// # Errors
/// When the name is taken, or `ip` fails.
pub fn create(name: &str) -> anyhow::Result<()> {
    ip::run(&["netns", "add", name])?;
    ip::batch(name, &["link set lo up".to_owned()])
}

/// Deletes a namespace's name; the namespace ends with the last process in it. One that is absent is no error.
///
/// # Errors
/// When `ip` fails.
pub fn delete(name: &str) -> anyhow::Result<()> {
    match ip::run(&["netns", "del", name]) {
        // Somebody else may be deleting it, too.
        Err(error) if path(name).exists() => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The names that begin so.
///
/// # Errors
/// When the names cannot be read.
pub fn names(prefix: &str) -> anyhow::Result<Vec<String>> {
    let entries = match std::fs::read_dir(NAMES) {
        Ok(entries) => entries,
        // No namespace was ever made here.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context("failed to list the network namespaces"),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// Runs a function inside a namespace, on a thread of its own.
///
/// # Errors
/// When the namespace cannot be entered, and those of the function.
pub fn inside<T: Send>(name: &str, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let file = File::open(path(name)).with_context(|| format!("no network namespace {name}"))?;
    let enter = || {
        setns(&file, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("failed to enter network namespace {name}"))?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(enter).join())
        .map_err(|_| anyhow!("the work inside network namespace {name} panicked"))?
}

/// Whether a namespace has an interface of this name.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn has_interface(name: &str, interface: &str) -> anyhow::Result<bool> {
    inside(name, || Ok(nix::net::if_::if_nametoindex(interface).is_ok()))
}
