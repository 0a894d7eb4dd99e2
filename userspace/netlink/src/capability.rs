//! Whether this process may change links at all, found out before anything is half done.

use crate::NetlinkError;
use std::fs;

/// Bits of `linux/capability.h`: changing links; entering the namespaces of tasks.
const NEEDED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Fails where a capability that is needed is not effective in the calling thread.
pub(crate) fn require() -> Result<(), NetlinkError> {
    // Without /proc nobody can tell; the kernel will.
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    match effective(&status).and_then(first_missing) {
        Some(capability) => Err(NetlinkError::CapabilityMissing { capability }),
        None => Ok(()),
    }
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn first_missing(effective: u64) -> Option<&'static str> {
    NEEDED
        .iter()
        .find(|(bit, _)| effective & (1 << bit) == 0)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_that_is_missing_is_named() {
        let of = |bits: &str| effective(&format!("Name:\tessaim\nCapEff:\t{bits}\n")).unwrap();
        assert_eq!(first_missing(of("000001ffffffffff")), None);
        assert_eq!(first_missing(of("0000000000000000")), Some("CAP_NET_ADMIN"));
        assert_eq!(first_missing(of("0000000000001000")), Some("CAP_SYS_ADMIN"));
    }
}
