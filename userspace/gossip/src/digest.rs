//! Hashes over what a node knows, by which two nodes find where they differ without sending it.
//!
//! Owners fall into 64 leaves by a hash of their name. A leaf is the exclusive or of a hash of each of its entries, so a
//! change costs two operations and the order does not count. Leaves are folded into as many groups as the cluster's
//! size asks for before they are sent.

use crate::epoch::{Epoch, Version};
use essaim_model::{NodeName, stable_id};

/// How many leaves there are: one for each bit of a mask.
const LEAVES: u32 = u64::BITS;
/// How many owners a group should have: what differs is then sent for that many.
const GROUP: usize = 16;

/// The hash of an owner's name, which is its leaf too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnerHash(u64);

impl OwnerHash {
    pub(crate) fn of(owner: &NodeName) -> Self {
        Self(mix(stable_id(owner.as_str())))
    }

    fn leaf(self) -> usize {
        // The top six bits.
        usize::try_from(self.0 >> 58).unwrap_or_default()
    }

    /// Whether its leaf is in the mask.
    pub(crate) fn is_in(self, leaves: u64) -> bool {
        leaves & (1 << self.leaf()) != 0
    }

    /// How far behind another it is on a ring of all hashes.
    pub(crate) fn distance_from(self, other: Self) -> u64 {
        self.0.wrapping_sub(other.0)
    }

    /// The hash of an owner's entry.
    pub(crate) fn entry(self, epoch: Epoch, version: Version) -> u64 {
        mix(mix(self.0 ^ epoch.number()).wrapping_add(version.number()))
    }
}

/// All leaves of one kind of knowledge.
#[derive(Clone, Debug)]
pub(crate) struct Leaves([u64; LEAVES as usize]);

impl Default for Leaves {
    fn default() -> Self {
        Self([0; LEAVES as usize])
    }
}

impl Leaves {
    /// Adds an entry's hash, or takes it away.
    pub(crate) fn toggle(&mut self, owner: OwnerHash, entry: u64) {
        if let Some(leaf) = self.0.get_mut(owner.leaf()) {
            *leaf ^= entry;
        }
    }

    /// The leaves folded into groups, for a cluster of that many members.
    pub(crate) fn hashes(&self, members: usize) -> Vec<u32> {
        let groups = members.div_ceil(GROUP).next_power_of_two().min(self.0.len());
        self.folded(groups)
    }

    /// The leaves, as a mask, of the groups that differ from another node's hashes (a power of two, at most 64).
    pub(crate) fn differing(&self, hashes: &[u32]) -> u64 {
        let width = LEAVES
            .checked_div(u32::try_from(hashes.len()).unwrap_or(LEAVES))
            .unwrap_or(LEAVES);
        let ours = self.folded(hashes.len());
        let mut mask = 0;
        for (group, _) in (0_u32..)
            .zip(ours.iter().zip(hashes))
            .filter(|(_, (ours, theirs))| ours != theirs)
        {
            let low = u64::MAX.checked_shr(LEAVES - width).unwrap_or_default();
            mask |= low.checked_shl(group * width).unwrap_or_default();
        }
        mask
    }

    fn folded(&self, groups: usize) -> Vec<u32> {
        let width = self.0.len().checked_div(groups).unwrap_or(self.0.len()).max(1);
        let fold = |leaves: &[u64]| {
            let hash = leaves.iter().fold(0, |hash, leaf| hash ^ leaf);
            #[expect(clippy::cast_possible_truncation, reason = "the upper half is folded in")]
            let hash = (hash ^ (hash >> 32)) as u32;
            hash
        };
        self.0.chunks(width).map(fold).collect()
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood, 2014).
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(entries: &[(&str, u64)]) -> Leaves {
        let mut leaves = Leaves::default();
        for (name, version) in entries {
            let owner = OwnerHash::of(&NodeName::new(name).unwrap());
            leaves.toggle(
                owner,
                owner.entry(Epoch::from_number(1), Version::from_number(*version)),
            );
        }
        leaves
    }

    #[test]
    fn equal_knowledge_has_equal_hashes_in_any_order() {
        let one = leaves(&[("a", 1), ("b", 2), ("c", 3)]);
        let other = leaves(&[("c", 3), ("a", 1), ("b", 2)]);
        for members in [1, 16, 17, 1_000] {
            assert_eq!(one.differing(&other.hashes(members)), 0);
        }
    }

    #[test]
    fn what_differs_is_in_the_mask_whatever_the_number_of_groups() {
        let one = leaves(&[("a", 1), ("b", 2), ("c", 3)]);
        let other = leaves(&[("a", 1), ("b", 9), ("c", 3)]);
        let changed = OwnerHash::of(&NodeName::new("b").unwrap());
        for (members, groups) in [(1, 1), (16, 1), (17, 2), (100, 8), (1_000, 64), (5_000, 64)] {
            let hashes = other.hashes(members);
            assert_eq!(hashes.len(), groups);
            let mask = one.differing(&hashes);
            assert!(changed.is_in(mask), "{members}");
            assert_eq!(mask.count_ones() as usize, 64 / groups);
        }
    }
}
