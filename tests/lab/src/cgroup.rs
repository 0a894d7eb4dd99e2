//! Control groups of version 2, which hold every process of a lab: socket programs attach to them, and what is in one
//! can be ended without looking for it.

use crate::wait::eventually;
use anyhow::{Context as _, ensure};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to end the processes of a group.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Where version 2 is mounted.
///
/// # Errors
/// When it is not.
pub(crate) fn mount_point() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").context("failed to read /proc/mounts")?;
    mount_point_in(&mounts)
        .context("no cgroup v2 hierarchy is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified")
}

fn mount_point_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// Where the hierarchies of version 1 are mounted, in which runners limit tasks where version 2 lacks the controller.
pub(crate) fn others() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup").then(|| PathBuf::from(point))
    });
    points.collect()
}

/// A group's name: its path from the root of the hierarchy.
///
/// # Errors
/// When it is not in the hierarchy of version 2.
pub(crate) fn name(group: &Path) -> anyhow::Result<PathBuf> {
    let inside = group
        .strip_prefix(mount_point()?)
        .with_context(|| format!("{} is no control group", group.display()))?;
    Ok(Path::new("/").join(inside))
}

/// The folders of a group of version 2 and of those that have its name in the hierarchies of version 1; itself first.
///
/// # Errors
/// As [`name`].
pub(crate) fn everywhere(group: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let name = name(group)?;
    let inside = name.strip_prefix("/")?;
    let others = others().into_iter().map(|hierarchy| hierarchy.join(inside));
    Ok(std::iter::once(group.to_owned()).chain(others).collect())
}

/// Kills every process in a group and below it, and waits until they are gone. An absent group is no error.
///
/// # Errors
/// When the kernel does not end them in time.
pub(crate) fn kill(group: &Path) -> anyhow::Result<()> {
    let killed = if_present(fs::write(group.join("cgroup.kill"), "1"));
    if killed
        .with_context(|| format!("failed to kill {}", group.display()))?
        .is_none()
    {
        return Ok(());
    }
    eventually(
        END_DEADLINE,
        &format!("processes of {} have ended", group.display()),
        || {
            let events = if_present(fs::read_to_string(group.join("cgroup.events")))?.unwrap_or_default();
            ensure!(
                !events.lines().any(|line| line == "populated 1"),
                "still populated"
            );
            Ok(())
        },
    )
}

/// Removes a group and those below it. An absent group is no error.
///
/// # Errors
/// When one holds a process.
pub(crate) fn remove(group: &Path) -> anyhow::Result<()> {
    let list =
        if_present(fs::read_dir(group)).with_context(|| format!("failed to list {}", group.display()))?;
    for entry in list.into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path())?;
        }
    }
    let removed = if_present(fs::remove_dir(group));
    removed
        .map(drop)
        .with_context(|| format!("failed to remove the group {}", group.display()))
}

/// Nothing where there is no such file: somebody else may be removing the group, too.
fn if_present<T>(result: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV) => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_among_the_mounts() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(
            mount_point_in(mounts),
            Some(PathBuf::from("/sys/fs/cgroup/unified"))
        );
        assert_eq!(mount_point_in("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"), None);
    }
}
