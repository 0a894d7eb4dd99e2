//! Identities that stay the same across nodes, restarts and builds.

/// FNV-1a over the bytes, then the finaliser of `MurmurHash3`: FNV alone leaves the high bits of short, similar
/// strings alike, and the Maglev permutations are drawn from all of them.
pub(crate) struct StableHasher(u64);

impl StableHasher {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    pub(crate) const fn new() -> Self {
        Self(Self::OFFSET)
    }

    pub(crate) fn write(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(Self::PRIME);
        }
        self
    }

    /// The identity; never 0, which stands for "unused" in the maps.
    pub(crate) fn finish(self) -> u64 {
        mix(self.0).max(1)
    }
}

/// Spreads every bit of the input over every bit of the output (a bijection).
pub(crate) const fn mix(mut word: u64) -> u64 {
    word ^= word >> 33;
    word = word.wrapping_mul(0xff51_afd7_ed55_8ccd);
    word ^= word >> 33;
    word = word.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

/// The identity of what this text names: the same on every node and after every restart, never 0.
pub fn stable_id(text: &str) -> u64 {
    StableHasher::new().write(text).finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_identity_never_changes() {
        assert_eq!(stable_id("web@ingress"), stable_id("web@ingress"));
        // Written down: another value would move every flow of a running cluster at an upgrade.
        assert_eq!(stable_id(""), mix(StableHasher::OFFSET));
        assert_eq!(stable_id("web@ingress"), 0xd91b_eb76_9b8c_8613);
    }

    #[test]
    fn similar_names_have_unlike_identities() {
        let ids: BTreeSet<u64> = (0..10_000).map(|n| stable_id(&format!("web.{n}@app"))).collect();
        assert_eq!(ids.len(), 10_000);
        let high: BTreeSet<u64> = ids.iter().map(|id| id >> 48).collect();
        assert!(high.len() > 8_000, "{}", high.len());
    }
}
