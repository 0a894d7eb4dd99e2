//! Names of network namespaces in `/run/netns`, as `ip netns` keeps them.

use crate::netns::{NAMED_NETNS, netns_path};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, statfs};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS: FsType = FsType(0x6e73_6673);

/// Why a network namespace got no name, or kept it.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {}", path.display())]
pub struct NetnsNameError {
    /// What was tried; an empty file of the name may be left.
    pub doing: &'static str,
    /// The file of the name.
    pub path: PathBuf,
    /// The kernel's reason.
    pub source: io::Error,
}

impl NetnsNameError {
    /// What was tried with a file, and why it failed.
    pub fn new<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |source| Self {
            doing,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Whether a namespace has this file.
pub fn is_netns(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

/// Gives a namespace that somebody else has made a name in `/run/netns`; another one that has this name loses it.
///
/// # Errors
/// [`NetnsNameError`]; the name may be gone.
pub fn hold_netns(name: &str, namespace: &Path) -> Result<(), NetnsNameError> {
    let path = netns_path(name);
    let is_same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let wanted = fs::metadata(namespace).map_err(NetnsNameError::new("look at", namespace))?;
    if is_netns(&path) && fs::metadata(&path).is_ok_and(|held| is_same(held, wanted)) {
        return Ok(());
    }
    remove_netns(name)?;
    fs::create_dir_all(NAMED_NETNS).map_err(NetnsNameError::new("make the directory of", &path))?;
    fs::write(&path, "").map_err(NetnsNameError::new("make", &path))?;
    mount(
        Some(namespace),
        &path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(NetnsNameError::new("name the network namespace", &path))
}

/// Removes a namespace's name; one that is absent is no error.
///
/// # Errors
/// [`NetnsNameError`]; it may be tried again.
pub fn remove_netns(name: &str) -> Result<(), NetnsNameError> {
    let path = netns_path(name);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // There may be one above another, where two made it at once.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(NetnsNameError::new("unmount", &path)(errno)),
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(NetnsNameError::new("remove", &path)(error))
        }
        _ => Ok(()),
    }
}
