//! `/proc`, `/sys`, `/dev` and `/run`: what the kernel shows, in the task's own namespaces.

use super::SetupError;
use super::root::{Kind, Places, tmpfs};
use crate::Root;
use crate::cgroup::Hierarchies;
use crate::sys::{DetachedMount, set_mount_at};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

/// What could be used to harm the node, or to see more of it than a task is to; Docker's `MaskedPaths`.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What may be read only; Docker's `ReadonlyPaths`.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// The devices that every task has: name, major and minor number.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Mounts all of them.
pub(super) fn mount_all(
    mut places: Places,
    root: &Root,
    cgroups: &Hierarchies,
) -> Result<Places, SetupError> {
    let closed = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in ["/proc", "/sys", "/dev"] {
        places.make(Path::new(path), Kind::Directory)?;
    }
    kernel("proc", "/proc", closed, None)?;
    kernel("sysfs", "/sys", closed | MsFlags::MS_RDONLY, None)?;
    mount_cgroups(cgroups);
    mount_dev(closed)?;
    places.add_own("/dev")?;
    places.add_own("/dev/shm")?;
    if *root == Root::Host {
        places.make(Path::new("/run"), Kind::Directory)?;
        tmpfs(Path::new("/run"), MsFlags::MS_NODEV, "mode=755")?;
        places.add_own("/run")?;
        // Debian's `/var/lock` leads there.
        places.make(Path::new("/run/lock"), Kind::Directory)?;
        fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777))
            .map_err(SetupError::io("open /run/lock"))?;
    }
    Ok(places)
}

fn kernel(kind: &str, target: &str, flags: MsFlags, options: Option<&str>) -> Result<(), SetupError> {
    mount(Some(kind), target, Some(kind), flags, options)
        .map_err(SetupError::io(format_args!("mount {kind} on {target}")))
}

/// The task's own control groups, to be read only. They are for programs that size themselves by their limits; where one
/// cannot be mounted, the task goes without.
fn mount_cgroups(found: &Hierarchies) {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let at = Path::new("/sys/fs/cgroup");
    if found.legacy.is_empty() {
        let _ = mount(
            Some("cgroup2"),
            at,
            Some("cgroup2"),
            flags | MsFlags::MS_RDONLY,
            None::<&str>,
        );
        return;
    }
    if tmpfs(at, MsFlags::MS_NODEV, "mode=755,size=64k").is_err() {
        return;
    }
    for (_, controllers) in found.legacy_mounts() {
        let names: Vec<&str> = controllers.iter().map(|controller| controller.name()).collect();
        let names = names.join(",");
        let target = at.join(&names);
        let _ = fs::create_dir(&target);
        let _ = mount(
            Some("cgroup"),
            &target,
            Some("cgroup"),
            flags | MsFlags::MS_RDONLY,
            Some(names.as_str()),
        );
    }
    if found.unified.is_some() {
        let target = at.join("unified");
        let _ = fs::create_dir(&target);
        let _ = mount(
            Some("cgroup2"),
            &target,
            Some("cgroup2"),
            flags | MsFlags::MS_RDONLY,
            None::<&str>,
        );
    }
    let _ = set_mount_at(at, libc::MOUNT_ATTR_RDONLY, 0, false);
}

fn mount_dev(closed: MsFlags) -> Result<(), SetupError> {
    let dev = Path::new("/dev");
    tmpfs(dev, MsFlags::MS_NOEXEC, "mode=755,size=65536k")?;
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        mknod(
            &path,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(major, minor),
        )
        .map_err(SetupError::io(format_args!("make the device {}", path.display())))?;
    }
    for (target, name) in LINKS {
        let path = dev.join(name);
        symlink(target, &path).map_err(SetupError::io(format_args!("link {}", path.display())))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        let path = dev.join(name);
        fs::create_dir(&path).map_err(SetupError::io(format_args!("make {}", path.display())))?;
    }
    let exec = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    kernel(
        "devpts",
        "/dev/pts",
        exec,
        Some("newinstance,ptmxmode=0666,mode=0620,gid=5"),
    )?;
    kernel("tmpfs", "/dev/shm", closed, Some("mode=1777,size=65536k"))?;
    kernel("mqueue", "/dev/mqueue", closed, None)
}

/// Takes from the task what is the node's of `/proc` and `/sys`; after the last write there.
pub(super) fn protect() -> Result<(), SetupError> {
    for path in READ_ONLY.map(Path::new) {
        if path.exists() {
            let failed = || format!("protect {}", path.display());
            let tree = DetachedMount::bind(path, true).map_err(SetupError::io(failed()))?;
            tree.set(libc::MOUNT_ATTR_RDONLY, 0, true)
                .map_err(SetupError::io(failed()))?;
            tree.attach(path).map_err(SetupError::io(failed()))?;
        }
    }
    for path in MASKED.map(Path::new) {
        if path.is_dir() {
            tmpfs(path, MsFlags::MS_RDONLY | MsFlags::MS_NODEV, "mode=755,size=4k")?;
        } else if path.exists() {
            let failed = || format!("hide {}", path.display());
            let null = DetachedMount::bind(Path::new("/dev/null"), false);
            null.and_then(|null| null.attach(path))
                .map_err(SetupError::io(failed()))?;
        }
    }
    Ok(())
}

/// Gives a path to a user.
pub(super) fn give(path: &Path, uid: u32, gid: u32, mode: u32) -> Result<(), SetupError> {
    let failed = || format!("give {} to its owner", path.display());
    chown(path, Some(uid), Some(gid)).map_err(SetupError::io(failed()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(SetupError::io(failed()))
}
