//! The task's root directory, and where things may be mounted in it.

use super::SetupError;
use crate::Root;
use crate::sys::{DetachedMount, set_mount_at};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What the task has of its own in place of the node's.
const OWN: [&str; 4] = ["proc", "sys", "dev", "run"];
/// Symbolic links that are followed where a mount point is missing; the kernel's limit is 40.
const LINKS: u8 = 8;

/// Where mount points may be made: anywhere in a root directory of the task's own, else only in its memory.
#[derive(Debug)]
pub(super) struct Places {
    anywhere: bool,
    own_devices: Vec<u64>,
}

/// Whether a mount point is a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Puts the root together and enters it; what is mounted elsewhere is gone then.
pub(super) fn enter(
    root: &Root,
    read_only: bool,
    staging: &Path,
    hidden: &[PathBuf],
) -> Result<Places, SetupError> {
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, slave, None::<&str>)
        .map_err(SetupError::io("keep mounts from the node"))?;
    let mut attributes = libc::MOUNT_ATTR_NODEV;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    match root {
        Root::Host => build_from_host(staging, attributes)?,
        Root::Directory(path) => {
            let failed = || format!("mount the root directory {}", path.display());
            let tree = DetachedMount::bind(path, true).map_err(SetupError::io(failed()))?;
            tree.set(attributes, 0, true).map_err(SetupError::io(failed()))?;
            tree.attach(staging).map_err(SetupError::io(failed()))?;
        }
    }
    nix::unistd::chdir(staging).map_err(SetupError::io("enter the root directory"))?;
    // Puts the old root on top of the new one, from where it is taken away: pivot_root(2), notes.
    nix::unistd::pivot_root(".", ".").map_err(SetupError::io("change the root directory"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(SetupError::io("leave the node's root"))?;
    nix::unistd::chdir("/").map_err(SetupError::io("enter the root directory"))?;
    if read_only {
        // Mount points may still have to be made; it is closed again in the end.
        set_mount_at(Path::new("/"), 0, libc::MOUNT_ATTR_RDONLY, false)
            .map_err(SetupError::io("prepare the root directory"))?;
    }
    let mut places = Places {
        anywhere: matches!(root, Root::Directory(_)),
        own_devices: Vec::new(),
    };
    if *root == Root::Host {
        places.add_own("/")?;
        for path in hidden.iter().filter(|path| path.is_dir()) {
            tmpfs(path, MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "mode=700,size=4k")?;
        }
    }
    Ok(places)
}

/// A directory in memory with all that the node has in `/`, but what the task has of its own.
fn build_from_host(staging: &Path, attributes: u64) -> Result<(), SetupError> {
    let mut trees = Vec::new();
    let mut links = Vec::new();
    for entry in fs::read_dir("/").map_err(SetupError::io("list /"))? {
        let entry = entry.map_err(SetupError::io("list /"))?;
        let (name, path) = (entry.file_name(), entry.path());
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        let kind = entry
            .file_type()
            .map_err(SetupError::io(format_args!("look at {}", path.display())))?;
        if kind.is_symlink() {
            let target = fs::read_link(&path);
            links.push((
                name,
                target.map_err(SetupError::io(format_args!("read {}", path.display())))?,
            ));
            continue;
        }
        let failed = || format!("mount {}", path.display());
        let tree = DetachedMount::bind(&path, true).map_err(SetupError::io(failed()))?;
        tree.set(attributes, 0, true).map_err(SetupError::io(failed()))?;
        trees.push((name, kind.is_dir(), tree));
    }
    tmpfs(staging, MsFlags::MS_NODEV, "mode=755")?;
    for (name, is_directory, tree) in trees {
        let target = staging.join(name);
        let made = if is_directory {
            fs::create_dir(&target)
        } else {
            fs::write(&target, "")
        };
        made.map_err(SetupError::io(format_args!("make {}", target.display())))?;
        tree.attach(&target)
            .map_err(SetupError::io(format_args!("mount {}", target.display())))?;
    }
    for (name, target) in links {
        let link = staging.join(name);
        symlink(target, &link).map_err(SetupError::io(format_args!("link {}", link.display())))?;
    }
    Ok(())
}

/// Lets nobody write to the root directory any more.
pub(super) fn close() -> Result<(), SetupError> {
    set_mount_at(Path::new("/"), libc::MOUNT_ATTR_RDONLY, 0, false)
        .map_err(SetupError::io("close the root directory"))
}

/// Mounts memory.
pub(super) fn tmpfs(target: &Path, flags: MsFlags, options: &str) -> Result<(), SetupError> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        flags | MsFlags::MS_NOSUID,
        Some(options),
    )
    .map_err(SetupError::io(format_args!(
        "mount a tmpfs on {}",
        target.display()
    )))
}

impl Places {
    /// Lets mount points be made in the file system that holds this path.
    pub(super) fn add_own(&mut self, path: impl AsRef<Path>) -> Result<(), SetupError> {
        let path = path.as_ref();
        let metadata =
            fs::metadata(path).map_err(SetupError::io(format_args!("look at {}", path.display())))?;
        self.own_devices.push(metadata.dev());
        Ok(())
    }

    /// Makes sure that there is something to mount on.
    pub(super) fn make(&self, path: &Path, kind: Kind) -> Result<(), SetupError> {
        self.make_at(path, kind, LINKS)
    }

    fn make_at(&self, path: &Path, kind: Kind, links: u8) -> Result<(), SetupError> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() == (kind == Kind::Directory) => return Ok(()),
            Ok(_) => {
                let (found, expected) = match kind {
                    Kind::Directory => ("a file", "a directory"),
                    Kind::File => ("a directory", "a file"),
                };
                let path = path.display();
                return Err(SetupError::new(format!(
                    "mount point {path} is {found}, expected {expected}"
                )));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(SetupError::io(format_args!(
                    "look at mount point {}",
                    path.display()
                ))(error));
            }
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        if let (Ok(target), Some(left)) = (fs::read_link(path), links.checked_sub(1)) {
            return self.make_at(&parent.join(target), kind, left);
        }
        self.make_at(parent, Kind::Directory, links)?;
        let failed = || format!("make mount point {}", path.display());
        let device = fs::metadata(parent).map_err(SetupError::io(failed()))?.dev();
        if !self.anywhere && !self.own_devices.contains(&device) {
            let path = path.display();
            return Err(SetupError::new(format!(
                "mount point {path} does not exist on the node, whose directories a task does not change: make it, or \
                 mount below a directory that the task has of its own"
            )));
        }
        let made = match kind {
            Kind::Directory => fs::create_dir(path),
            Kind::File => fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(drop),
        };
        made.map_err(SetupError::io(failed()))?;
        // The mask lets everything through here.
        let bits = if kind == Kind::Directory { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(bits)).map_err(SetupError::io(failed()))
    }
}
