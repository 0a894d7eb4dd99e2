use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The names of capabilities(7) by number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a task has where nothing else is said, as in Docker (`oci/caps/defaults.go`).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A capability, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Capability {
    /// Every one that there is.
    All,
    /// The one of this number.
    One(u8),
}

/// Text that names no capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no capability, expected a name such as NET_ADMIN or CAP_NET_ADMIN, or ALL")]
pub struct CapabilityError {
    /// The text.
    pub found: String,
}

impl Capability {
    fn bits(self) -> u64 {
        match self {
            Self::All => u64::MAX,
            Self::One(number) => 1u64.checked_shl(number.into()).unwrap_or_default(),
        }
    }
}

/// As Docker reads it: in any case, with or without `CAP_`.
impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == "ALL" {
            return Ok(Self::All);
        }
        let number = NAMES.iter().position(|known| *known == name);
        number
            .and_then(|number| u8::try_from(number).ok())
            .map(Self::One)
            .ok_or_else(|| CapabilityError {
                found: text.to_owned(),
            })
    }
}

impl TryFrom<String> for Capability {
    type Error = CapabilityError;

    fn try_from(text: String) -> Result<Self, CapabilityError> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.to_string()
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("ALL"),
            Self::One(number) => match NAMES.get(usize::from(*number)) {
                Some(name) => write!(f, "CAP_{name}"),
                None => write!(f, "{number}"),
            },
        }
    }
}

/// The capabilities that a task may ever have, a bit each: Docker's default set, with these added and dropped.
///
/// As in Docker, `ALL` among those to drop leaves only those that are added by name, and `ALL` among those to add leaves
/// out those that are dropped by name.
pub(crate) fn bounding_set(add: &[Capability], drop: &[Capability]) -> u64 {
    let named = |list: &[Capability]| {
        list.iter()
            .filter(|capability| **capability != Capability::All)
            .fold(0, |bits, capability| bits | capability.bits())
    };
    let defaults = DEFAULT.iter().filter_map(|name| name.parse::<Capability>().ok());
    let start = if add.contains(&Capability::All) {
        u64::MAX
    } else if drop.contains(&Capability::All) {
        0
    } else {
        defaults.fold(0, |bits, capability| bits | capability.bits())
    };
    if drop.contains(&Capability::All) && !add.contains(&Capability::All) {
        named(add)
    } else {
        (start & !named(drop)) | named(add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(names: &[&str]) -> Vec<Capability> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// `CapBnd` of a container of Docker 28 without options.
    const DOCKER: u64 = 0xa804_25fb;

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(bounding_set(&[], &[]), DOCKER);
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_in_docker() {
        let net_admin = 1 << 12;
        let chown = 1;
        for (add, drop, expected) in [
            (&["NET_ADMIN"][..], &[][..], DOCKER | net_admin),
            (&[], &["CHOWN"], DOCKER & !chown),
            (&[], &["ALL"], 0),
            (&["CHOWN"], &["ALL"], chown),
            (&["ALL"], &[], u64::MAX),
            (&["ALL"], &["CHOWN"], !chown),
            (&["ALL", "CHOWN"], &["ALL"], u64::MAX),
            (&["NET_ADMIN"], &["CHOWN"], (DOCKER | net_admin) & !chown),
        ] {
            assert_eq!(
                bounding_set(&caps(add), &caps(drop)),
                expected,
                "{add:?} {drop:?}"
            );
        }
    }

    #[test]
    fn a_capability_reads_back_as_it_is_written() {
        for number in 0..41 {
            let capability = Capability::One(number);
            assert_eq!(capability.to_string().parse(), Ok(capability));
        }
        for (text, number) in [
            ("net_admin", 12),
            ("CAP_CHOWN", 0),
            ("cap_checkpoint_restore", 40),
        ] {
            assert_eq!(text.parse(), Ok(Capability::One(number)), "{text}");
        }
        for text in ["", "CAP_", "NET", "CAP_CAP_CHOWN", "CAP_ALL", " CHOWN"] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }
}
