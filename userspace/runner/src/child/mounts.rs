//! What a task's spec mounts, and the files below `/etc`.

use super::SetupError;
use super::root::{Kind, Places, tmpfs};
use crate::sys::{DetachedMount, set_mount_at};
use crate::{Mount, MountSource, Propagation};
use nix::mount::MsFlags;
use std::fs;
use std::path::{Path, PathBuf};

/// What is mounted from the node: taken while its root can still be seen.
pub(super) struct Sources {
    /// In the order of the mounts; none for a tmpfs.
    mounts: Vec<Option<(DetachedMount, Kind)>>,
    etc: Vec<(DetachedMount, PathBuf)>,
}

impl Sources {
    pub(super) fn open(mounts: &[Mount], etc: Vec<(PathBuf, PathBuf)>) -> Result<Self, SetupError> {
        let open = |mount: &Mount| match &mount.source {
            MountSource::Tmpfs { .. } => Ok(None),
            MountSource::Bind {
                path,
                non_recursive,
                propagation,
            } => {
                let propagation = match propagation {
                    Propagation::Private => libc::MS_PRIVATE,
                    Propagation::Slave => libc::MS_SLAVE,
                    // As it is on the node.
                    Propagation::Shared => 0,
                };
                take(path, !non_recursive, mount.read_only, propagation).map(Some)
            }
        };
        let mounts = mounts.iter().map(open).collect::<Result<_, _>>()?;
        let open = |(source, target): (PathBuf, PathBuf)| match take(&source, false, false, libc::MS_PRIVATE)?
        {
            (mount, Kind::File) => Ok((mount, target)),
            (_, Kind::Directory) => {
                let source = source.display();
                Err(SetupError::new(format!(
                    "{source} is a directory, expected a file"
                )))
            }
        };
        let etc = etc.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { mounts, etc })
    }
}

fn take(
    path: &Path,
    recursive: bool,
    read_only: bool,
    propagation: u64,
) -> Result<(DetachedMount, Kind), SetupError> {
    let failed = || format!("mount {}", path.display());
    let metadata = fs::metadata(path).map_err(SetupError::io(failed()))?;
    let mount = DetachedMount::bind(path, recursive).map_err(SetupError::io(failed()))?;
    let mut attributes = libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    mount
        .set(attributes, propagation, recursive)
        .map_err(SetupError::io(failed()))?;
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else {
        Kind::File
    };
    Ok((mount, kind))
}

/// Mounts all of it: the files below `/etc` first, then what lies higher before what lies below it.
pub(super) fn mount_all(
    mut places: Places,
    mounts: &[Mount],
    sources: Sources,
) -> Result<Places, SetupError> {
    for (source, target) in sources.etc {
        places.make(&target, Kind::File)?;
        source
            .attach(&target)
            .map_err(SetupError::io(format_args!("mount {}", target.display())))?;
    }
    let mut all: Vec<_> = mounts.iter().zip(sources.mounts).collect();
    all.sort_by_key(|(mount, _)| mount.target.components().count());
    for (mount, source) in all {
        let target = &mount.target;
        if let Some((source, kind)) = source {
            places.make(target, kind)?;
            source
                .attach(target)
                .map_err(SetupError::io(format_args!("mount {}", target.display())))?;
        } else if let MountSource::Tmpfs { size, mode } = &mount.source {
            places.make(target, Kind::Directory)?;
            let mut options = format!("mode={:o}", mode.unwrap_or(0o1777));
            if let Some(size) = size {
                options = format!("{options},size={size}");
            }
            tmpfs(target, MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, &options)?;
            places.add_own(target)?;
            if mount.read_only {
                set_mount_at(target, libc::MOUNT_ATTR_RDONLY, 0, false)
                    .map_err(SetupError::io(format_args!("close {}", target.display())))?;
            }
        }
    }
    Ok(places)
}
