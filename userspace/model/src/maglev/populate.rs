use crate::ids::mix;

/// A member's walk through the slots: every slot once, in an order drawn from its identity.
struct Permutation {
    slot: u32,
    skip: u32,
}

impl Permutation {
    fn of(id: u64, size: u32) -> Self {
        // Two independent draws; the table's size is a prime, so that any skip reaches every slot.
        let offset = mix(id ^ 0x9e37_79b9_7f4a_7c15);
        let skip = mix(id ^ 0xd1b5_4a32_d192_ed03);
        let below = |word: u64, bound: u32| u32::try_from(word % u64::from(bound)).unwrap_or(0);
        Self {
            slot: below(offset, size),
            skip: below(skip, size - 1) + 1,
        }
    }

    fn advance(&mut self, size: u32) {
        self.slot += self.skip;
        if self.slot >= size {
            self.slot -= size;
        }
    }
}

/// Gives every slot an owner: the members take turns, each taking the first free slot of its own permutation.
///
/// `size` is a prime. The result holds, for each slot, an index into `ids`.
pub(super) fn populate(ids: &[u64], size: u32) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let mut owners = vec![FREE; size as usize];
    let mut walks: Vec<Permutation> = ids.iter().map(|id| Permutation::of(*id, size)).collect();
    let mut free = size;
    while free > 0 && !walks.is_empty() {
        for (member, walk) in (0_u16..).zip(&mut walks) {
            // Ends: a walk meets every slot, and one is free.
            loop {
                let owner = owners.get_mut(walk.slot as usize);
                walk.advance(size);
                if let Some(owner) = owner.filter(|owner| **owner == FREE) {
                    *owner = member;
                    break;
                }
            }
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
    owners
}

/// The slots of a table of `other` slots that hold some hash of this slot of a table of `size` slots, and how many.
pub(super) fn overlaps(slot: usize, size: usize, other: usize) -> impl Iterator<Item = (usize, u64)> {
    // In tables of one size the slots are the same: the usual case, and then with little arithmetic.
    let same = size == other;
    let (from, to) = if same {
        (0, 0)
    } else {
        (first_hash(slot, size), first_hash(slot + 1, size))
    };
    let scaled = |hash: u64| usize::try_from((hash * other as u64) >> 32).unwrap_or(0);
    let slots = if same {
        slot..slot + 1
    } else {
        scaled(from)..scaled(to - 1) + 1
    };
    slots.map(move |theirs| {
        if same {
            return (theirs, (1 << 32) / size as u64);
        }
        (
            theirs,
            first_hash(theirs + 1, other).min(to) - first_hash(theirs, other).max(from),
        )
    })
}

/// The first of the hashes of a slot.
const fn first_hash(slot: usize, size: usize) -> u64 {
    ((slot as u64) << 32).div_ceil(size as u64)
}
