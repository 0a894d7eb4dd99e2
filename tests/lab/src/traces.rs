//! Every trace that a lab can leave on the machine, found by the lab's prefix, and how it is removed.

use crate::{cgroup, netns};
use anyhow::{Context as _, bail};
use nix::mount::{MntFlags, umount2};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where bpffs is.
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// Where the folders of labs are: only root can make something there under a name that is guessed.
const FILES: &str = "/run";

/// How the prefixes of labs begin that belong to one process.
const OWNED: &str = "esl";

/// The beginning of all names that one lab makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(String);

impl Prefix {
    /// A prefix that no other lab on the machine has: the process's number and a counter.
    pub fn unique() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(format!(
            "{OWNED}{}x{}",
            process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ))
    }

    /// A prefix that outlives the process.
    ///
    /// # Errors
    /// When it is not some lower-case letters, or looks like one that belongs to a process.
    pub fn lasting(name: &str) -> anyhow::Result<Self> {
        if name.is_empty() || name.len() > 12 || !name.bytes().all(|byte| byte.is_ascii_lowercase()) {
            bail!("{name:?} is no prefix of a lab: expected 1 to 12 lower-case letters");
        }
        Ok(Self(name.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a namespace.
    pub fn netns(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }

    /// The control group of the whole lab.
    pub(crate) fn cgroup(&self) -> anyhow::Result<PathBuf> {
        Ok(cgroup::mount_point()?.join(&self.0))
    }

    /// The folder of its pins.
    pub(crate) fn pins(&self) -> PathBuf {
        Path::new(BPFFS).join(&self.0)
    }

    /// The folder of its files.
    pub(crate) fn files(&self) -> PathBuf {
        Path::new(FILES).join(&self.0)
    }

    /// Whether anything on the machine bears this prefix.
    ///
    /// # Errors
    /// When the machine cannot be asked.
    pub fn left(&self) -> anyhow::Result<Vec<String>> {
        let mut left = netns::names(&self.netns(""))?;
        left.extend(self.placed());
        let folders = [self.cgroup()?, self.pins(), self.files()];
        left.extend(
            folders
                .iter()
                .filter(|path| path.exists())
                .map(|path| path.display().to_string()),
        );
        Ok(left)
    }

    /// Removes everything with this prefix: processes, namespaces, pins, groups, files.
    ///
    /// # Errors
    /// With all that could not be removed; the rest is.
    pub fn remove(&self) -> anyhow::Result<()> {
        let cgroup = self.cgroup()?;
        let mut errors = Vec::new();
        let mut keep =
            |result: anyhow::Result<()>| errors.extend(result.err().map(|error| format!("{error:#}")));
        keep(cgroup::kill(&cgroup));
        match netns::names(&self.netns("")) {
            Ok(names) => names.iter().for_each(|name| keep(netns::delete(name))),
            Err(error) => keep(Err(error)),
        }
        self.placed().iter().for_each(|name| keep(netns::delete(name)));
        keep(remove_folder(&self.pins()));
        keep(cgroup::remove(&cgroup));
        for hierarchy in cgroup::others() {
            keep(cgroup::remove(&hierarchy.join(&self.0)));
        }
        keep(unmount_below(&self.files()));
        keep(remove_folder(&self.files()));
        if errors.is_empty() {
            Ok(())
        } else {
            bail!("lab {} is not all gone: {}", self.0, errors.join("; "))
        }
    }

    /// The namespaces of the tasks that managers have placed, which bear no prefix: by what their runners keep of them.
    fn placed(&self) -> Vec<String> {
        let entries = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
        let kept = |node: std::fs::DirEntry| {
            let of = |runner: &str| entries(node.path().join("data").join(runner));
            of("tasks").chain(of("containers")).collect::<Vec<_>>()
        };
        let tasks = entries(self.files()).flat_map(kept);
        let names = tasks.filter_map(|task| Some(format!("es-{}", task.file_name().to_str()?)));
        let attached = entries(self.files()).flat_map(|node| attached(&node.path()));
        let names = names.chain(attached.map(|task| format!("ec-{task}")));
        names.filter(|name| netns::path(name).exists()).collect()
    }

    /// The process that this prefix belongs to.
    fn owner(&self) -> Option<u32> {
        let (pid, counter) = self.0.strip_prefix(OWNED)?.split_once('x')?;
        counter.parse::<u32>().ok()?;
        pid.parse().ok()
    }
}

/// The tasks of the containers of a node's own that are on networks.
fn attached(node: &Path) -> Vec<String> {
    let book = std::fs::read(node.join("data/attachments.json")).unwrap_or_default();
    let book: serde_json::Value = serde_json::from_slice(&book).unwrap_or_default();
    let leases = book.get("leases").and_then(serde_json::Value::as_object);
    let tasks = leases
        .into_iter()
        .flat_map(serde_json::Map::values)
        .filter_map(|lease| lease.pointer("/joined/task")?.as_str());
    tasks.map(str::to_owned).collect()
}

/// Takes down what is mounted in a folder, the last first.
fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("failed to read /proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let places: Vec<&str> = places
        .filter(|place| Path::new(place).starts_with(folder))
        .collect();
    for place in places.iter().rev() {
        umount2(*place, MntFlags::MNT_DETACH).with_context(|| format!("failed to unmount {place}"))?;
    }
    Ok(())
}

impl std::fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Removes what the labs of dead processes left. What another process removes at the same time is no error, and what
/// cannot be removed is only told: it is not this lab's.
pub fn remove_leftovers() {
    for prefix in leftovers() {
        eprintln!("lab {prefix} was left behind by a process that is gone: removing it");
        if let Err(error) = prefix.remove() {
            eprintln!("{error:#}");
        }
    }
}

fn leftovers() -> Vec<Prefix> {
    let mut names = netns::names(OWNED).unwrap_or_default();
    let cgroups = cgroup::mount_point().ok();
    let folders = [cgroups, Some(PathBuf::from(BPFFS)), Some(PathBuf::from(FILES))];
    for folder in folders.into_iter().flatten() {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        names.extend(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()));
    }
    let mut prefixes: Vec<_> = names
        .iter()
        .map(|name| Prefix(name.split('-').next().unwrap_or(name).to_owned()))
        .filter(|prefix| {
            prefix
                .owner()
                .is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists())
        })
        .collect();
    prefixes.sort();
    prefixes.dedup();
    prefixes
}

fn remove_folder(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_is_read_only_from_prefixes_of_a_process() {
        assert_eq!(Prefix::unique().owner(), Some(process::id()));
        for name in ["esldemo", "esl12", "eslx1", "esl12xy", "other"] {
            assert_eq!(Prefix(name.to_owned()).owner(), None, "{name}");
        }
    }

    #[test]
    fn unique_prefixes_differ() {
        assert_ne!(Prefix::unique(), Prefix::unique());
    }

    #[test]
    fn lasting_prefix_is_a_short_word() {
        assert_eq!(
            Prefix::lasting("essaimdemo").unwrap().netns("n1"),
            "essaimdemo-n1"
        );
        for name in ["", "a/b", "esl1x1", "abcdefghijklm"] {
            assert!(Prefix::lasting(name).is_err(), "{name}");
        }
    }
}
