//! What the data plane asks of the kernel and of the process's rights, checked before anything is changed.

use crate::{DatapathError, syscall};
use nix::sys::statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs};
use std::path::Path;

/// The oldest kernel that is supported.
const OLDEST: (u32, u32) = (6, 1);
const OLDEST_TEXT: &str = "6.1";

/// Capabilities that are needed, as capabilities(7) numbers them, and what includes them.
const CAPABILITIES: [(&str, u32, Option<u32>); 3] = [
    ("CAP_BPF", 39, Some(SYS_ADMIN)),
    // Helpers and pointer arithmetic of the programs.
    ("CAP_PERFMON", 38, Some(SYS_ADMIN)),
    ("CAP_NET_ADMIN", 12, None),
];
const SYS_ADMIN: u32 = 21;

/// Checks kernel and rights.
///
/// # Errors
/// Names what is missing and what to do about it.
pub(crate) fn check() -> Result<(), DatapathError> {
    let name = nix::sys::utsname::uname().map_err(|error| syscall("read", "uname")(error.into()))?;
    check_release(&name.release().to_string_lossy())?;
    let status =
        std::fs::read_to_string("/proc/self/status").map_err(syscall("read", "/proc/self/status"))?;
    check_capabilities(&status)
}

fn check_release(release: &str) -> Result<(), DatapathError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    let version = (
        numbers.next().and_then(Result::ok),
        numbers.next().and_then(Result::ok),
    );
    match version {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => Err(DatapathError::KernelTooOld {
            found: release.to_owned(),
            oldest: OLDEST_TEXT,
        }),
        // What cannot be told is tried: the kernel says itself what it lacks.
        _ => Ok(()),
    }
}

fn check_capabilities(status: &str) -> Result<(), DatapathError> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Ok(());
    };
    let has = |bit: u32| effective & 1 << bit != 0;
    match CAPABILITIES
        .into_iter()
        .find(|(_, bit, wider)| !has(*bit) && !wider.is_some_and(has))
    {
        Some((capability, _, _)) => Err(DatapathError::MissingCapability { capability }),
        None => Ok(()),
    }
}

/// Checks that a folder, or the nearest one above it that exists, is on a BPF file system.
///
/// # Errors
/// Says how to mount one.
pub(crate) fn check_bpffs(folder: &Path) -> Result<(), DatapathError> {
    let existing = folder.ancestors().find(|folder| folder.exists());
    match existing.map(|folder| is_on(folder, BPF_FS_MAGIC)) {
        Some(true) => Ok(()),
        Some(false) | None => Err(DatapathError::BpfFsMissing {
            path: folder.to_owned(),
        }),
    }
}

/// Checks that a folder is a cgroup of version 2.
///
/// # Errors
/// Says how to mount one.
pub(crate) fn check_cgroup(folder: &Path) -> Result<(), DatapathError> {
    if is_on(folder, CGROUP2_SUPER_MAGIC) {
        Ok(())
    } else {
        Err(DatapathError::NotCgroup2 {
            path: folder.to_owned(),
        })
    }
}

fn is_on(folder: &Path, kind: FsType) -> bool {
    statfs(folder).is_ok_and(|found| found.filesystem_type() == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_by_name() {
        for old in ["5.15.0-91-generic", "6.0.19", "4.19"] {
            let error = check_release(old).unwrap_err().to_string();
            assert!(error.contains(old) && error.contains("6.1"), "{error}");
        }
        for good in ["6.1.0-18-amd64", "6.18.44-fc-v669", "7.0", "strange"] {
            check_release(good).unwrap();
        }
    }

    #[test]
    fn a_missing_capability_is_named() {
        let missing = |mask: u64| match check_capabilities(&format!("Name:\tx\nCapEff:\t{mask:016x}\n")) {
            Err(DatapathError::MissingCapability { capability }) => Some(capability),
            Ok(()) | Err(_) => None,
        };
        assert_eq!(missing(0), Some("CAP_BPF"));
        assert_eq!(missing(1 << 39), Some("CAP_PERFMON"));
        assert_eq!(missing(1 << 39 | 1 << 38), Some("CAP_NET_ADMIN"));
        assert_eq!(missing(1 << 21), Some("CAP_NET_ADMIN"));
        assert_eq!(missing(1 << 21 | 1 << 12), None);
        assert_eq!(missing(1 << 39 | 1 << 38 | 1 << 12), None);
    }

    #[test]
    fn a_folder_elsewhere_is_refused_with_the_remedy() {
        let error = check_bpffs(Path::new("/proc/nothing/here"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
        let error = check_cgroup(Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains("cgroup2"), "{error}");
    }
}
