//! What must hold before an agent starts, each failure with its remedy.

use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The oldest kernel that has everything the programs need.
pub const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// What stands in the way of an agent; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The process may not do what an agent does.
    #[error("missing {missing}; run essaim as root, or grant these capabilities")]
    Capabilities {
        /// The capabilities, by name.
        missing: String,
    },
    /// The kernel is too old.
    #[error("kernel {found} is older than {}.{}, the oldest that essaim supports; boot a newer one", OLDEST_KERNEL.0, OLDEST_KERNEL.1)]
    Kernel {
        /// Its release.
        found: String,
    },
    /// The folder for pins is not in bpffs.
    #[error(
        "{path} is not on a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf) or name another folder with --bpf-root"
    )]
    NoBpfFs {
        /// The folder, or its nearest parent that exists.
        path: PathBuf,
    },
    /// The cgroup is none of version 2.
    #[error("{path} is not a cgroup of version 2; name one with --cgroup (mounted here: {mounted})")]
    NotCgroup2 {
        /// The folder.
        path: PathBuf,
        /// Where cgroup2 is mounted.
        mounted: String,
    },
    /// There is no cgroup of version 2.
    #[error(
        "no cgroup2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup/unified) or name it with --cgroup"
    )]
    NoCgroup2,
    /// An uplink does not exist.
    #[error("uplink {uplink} does not exist in this network namespace; interfaces here: {found}")]
    NoUplink {
        /// The interface.
        uplink: String,
        /// Those that exist.
        found: String,
    },
    /// Uplinks were named twice, or too many, or none.
    #[error("expected 1 to 4 different uplinks, found {found:?}; name them with --uplink")]
    Uplinks {
        /// What was named.
        found: Vec<String>,
    },
    /// The system did not say.
    #[error("failed to read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Checks the privileges of this process.
///
/// # Errors
/// [`StartupError::Capabilities`], [`StartupError::Read`].
pub fn check_capabilities() -> Result<(), StartupError> {
    let missing = missing_capabilities(&read(Path::new("/proc/self/status"))?);
    if missing.is_empty() {
        Ok(())
    } else {
        Err(StartupError::Capabilities {
            missing: missing.join(", "),
        })
    }
}

/// The needed capabilities that a `/proc/PID/status` does not show as effective.
fn missing_capabilities(status: &str) -> Vec<&'static str> {
    // Numbers of linux/capability.h. CAP_SYS_ADMIN: entering the tasks' namespaces.
    const NEEDED: [(u32, &str); 5] = [
        (12, "CAP_NET_ADMIN"),
        (13, "CAP_NET_RAW"),
        (21, "CAP_SYS_ADMIN"),
        (38, "CAP_PERFMON"),
        (39, "CAP_BPF"),
    ];
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    NEEDED
        .into_iter()
        .filter(|(bit, _)| effective >> bit & 1 == 0)
        .map(|(_, name)| name)
        .collect()
}

/// Checks the version of the running kernel.
///
/// # Errors
/// [`StartupError::Kernel`], [`StartupError::Read`].
pub fn check_kernel() -> Result<(), StartupError> {
    let release = read(Path::new("/proc/sys/kernel/osrelease"))?;
    let found = release.trim();
    if kernel_version(found).is_some_and(|version| version >= OLDEST_KERNEL) {
        Ok(())
    } else {
        Err(StartupError::Kernel {
            found: found.to_owned(),
        })
    }
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Checks that pins can be made under `root`, which need not exist.
///
/// # Errors
/// [`StartupError::NoBpfFs`].
pub fn check_bpffs(root: &Path) -> Result<(), StartupError> {
    let existing = root
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"));
    if is_on(existing, BPF_FS_MAGIC) {
        Ok(())
    } else {
        Err(StartupError::NoBpfFs {
            path: root.to_owned(),
        })
    }
}

/// Checks that `path` is a cgroup of version 2.
///
/// # Errors
/// [`StartupError::NotCgroup2`].
pub fn check_cgroup(path: &Path) -> Result<(), StartupError> {
    if is_on(path, CGROUP2_SUPER_MAGIC) {
        return Ok(());
    }
    let mounted = cgroup2_mount().map_or("nowhere".to_owned(), |path| path.display().to_string());
    Err(StartupError::NotCgroup2 {
        path: path.to_owned(),
        mounted,
    })
}

fn is_on(path: &Path, kind: FsType) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == kind)
}

/// Where cgroup2 is mounted.
///
/// # Errors
/// [`StartupError::NoCgroup2`], [`StartupError::Read`].
pub fn cgroup2_mount() -> Result<PathBuf, StartupError> {
    let mounts = read(Path::new("/proc/self/mounts"))?;
    cgroup2_in(&mounts)
        .map(PathBuf::from)
        .ok_or(StartupError::NoCgroup2)
}

fn cgroup2_in(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (place, kind) = (fields.nth(1)?, fields.next()?);
        (kind == "cgroup2").then_some(place)
    })
}

/// Checks that the uplinks exist here.
///
/// # Errors
/// [`StartupError::Uplinks`], [`StartupError::NoUplink`].
pub fn check_uplinks(uplinks: &[String]) -> Result<(), StartupError> {
    let distinct: std::collections::BTreeSet<&String> = uplinks.iter().collect();
    if uplinks.is_empty() || uplinks.len() > 4 || distinct.len() != uplinks.len() {
        return Err(StartupError::Uplinks {
            found: uplinks.to_vec(),
        });
    }
    for uplink in uplinks {
        if nix::net::if_::if_nametoindex(uplink.as_str()).is_err() {
            return Err(StartupError::NoUplink {
                uplink: uplink.clone(),
                found: interfaces(),
            });
        }
    }
    Ok(())
}

fn interfaces() -> String {
    let names = nix::net::if_::if_nameindex().map(|interfaces| {
        let names = interfaces
            .iter()
            .map(|interface| interface.name().to_string_lossy().into_owned());
        names.collect::<Vec<String>>().join(", ")
    });
    names.unwrap_or_default()
}

fn read(path: &Path) -> Result<String, StartupError> {
    fs::read_to_string(path).map_err(|source| StartupError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(
            missing_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            Vec::<&str>::new()
        );
        assert_eq!(
            missing_capabilities("CapEff:\t0000003fffffffff\n"),
            ["CAP_PERFMON", "CAP_BPF"]
        );
        assert_eq!(
            missing_capabilities(""),
            [
                "CAP_NET_ADMIN",
                "CAP_NET_RAW",
                "CAP_SYS_ADMIN",
                "CAP_PERFMON",
                "CAP_BPF"
            ]
        );
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("6.1.0-13-cloud-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.15"), Some((5, 15)));
        assert!(kernel_version("6.18.1").unwrap() > OLDEST_KERNEL && (5, 15) < OLDEST_KERNEL);
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn the_cgroup2_mount_is_found_among_others() {
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_in(hybrid), Some("/sys/fs/cgroup/unified"));
        assert_eq!(cgroup2_in("cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n"), None);
    }

    #[test]
    fn a_folder_elsewhere_is_no_bpffs_and_no_cgroup() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_bpffs(&folder.path().join("not/there"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("not/there") && error.contains("mount -t bpf"),
            "{error}"
        );
        let error = check_cgroup(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--cgroup"), "{error}");
    }

    #[test]
    fn uplinks_must_exist_and_differ() {
        check_uplinks(&["lo".into()]).unwrap();
        let error = check_uplinks(&["lo".into(), "wan9".into()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("wan9") && error.contains("interfaces here:") && error.contains("lo"),
            "{error}"
        );
        assert!(matches!(
            check_uplinks(&["lo".into(), "lo".into()]),
            Err(StartupError::Uplinks { .. })
        ));
        assert!(matches!(check_uplinks(&[]), Err(StartupError::Uplinks { .. })));
    }
}
