//! The network namespaces that the runner makes, under names in `/run/netns` as `ip netns` keeps them.

use crate::sys;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{FsType, statfs};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the names are.
const NAMES: &str = "/run/netns";
/// `NSFS_MAGIC` of linux/magic.h.
const NSFS: FsType = FsType(0x6e73_6673);

/// Why a network namespace was not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The kernel refused; an empty file of the name may be left.
    #[error("failed to {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file of the name.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> NetnsError {
    move |source| NetnsError::Io {
        doing,
        path: path.to_owned(),
        source: source.into(),
    }
}

/// The file of a name.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(NAMES).join(name)
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

/// Makes a namespace with its loopback interface up; one that is there already is kept.
pub(crate) fn create(name: &str) -> Result<(), NetnsError> {
    let path = path(name);
    if is_namespace(&path) {
        return Ok(());
    }
    fs::create_dir_all(NAMES).map_err(failed("make the directory of", &path))?;
    // A file without a namespace on it is left where a start was cut short.
    let open = fs::OpenOptions::new().create(true).append(true).open(&path);
    open.map_err(failed("make", &path))?;
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        sys::loopback_up()?;
        let own = Path::new("/proc/thread-self/ns/net");
        mount(Some(own), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
    };
    // The namespace is a thread's, and ends with it unless its name holds it.
    let result = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("essaim-netns".to_owned());
        let thread = thread.spawn_scoped(scope, make)?;
        let joined = thread.join().unwrap_or(Err(Errno::EFAULT));
        joined.map_err(io::Error::from)
    });
    result.map_err(failed("make the network namespace", &path))
}

/// Gives a namespace that somebody else has made a name in `/run/netns`; another one that has this name loses it.
///
/// # Errors
/// [`NetnsError`]; the name may be gone.
pub fn hold(name: &str, namespace: &Path) -> Result<(), NetnsError> {
    let path = path(name);
    let is_same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    let wanted = fs::metadata(namespace).map_err(failed("look at", namespace))?;
    if is_namespace(&path) && fs::metadata(&path).is_ok_and(|held| is_same(held, wanted)) {
        return Ok(());
    }
    remove(name)?;
    fs::create_dir_all(NAMES).map_err(failed("make the directory of", &path))?;
    fs::write(&path, "").map_err(failed("make", &path))?;
    mount(
        Some(namespace),
        &path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(failed("name the network namespace", &path))
}

/// Removes a namespace's name; one that is absent is no error.
///
/// # Errors
/// [`NetnsError`]; it may be tried again.
pub fn remove(name: &str) -> Result<(), NetnsError> {
    let path = path(name);
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            // There may be one above another, where two made it at once.
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(failed("unmount", &path)(errno)),
        }
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        _ => Ok(()),
    }
}
