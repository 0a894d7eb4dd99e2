//! Which backend a flow's hash belongs to: Maglev tables (Eisenbud et al., NSDI 2016, section 3.4) that remember
//! the earlier owners of their slots.

mod populate;
#[cfg(test)]
mod tests;

use crate::BackendKey;
use populate::{overlaps, populate};
use std::collections::BTreeMap;

/// How many earlier owners a slot remembers.
const EARLIER: usize = essaim_abi::EARLIER_OWNERS as usize;

/// The sizes that tables have: the largest prime below 1500, 3000, 6000 and so on.
///
/// Few, because a slot means the same hashes only in tables of one size. Their steps lie between the usual numbers of
/// backends (14 and 15, 29 and 30, ...), so that growing from 5 to 10, or replacing 10 one by one, starting before
/// stopping, stays with one size.
pub const TABLE_SIZES: [u32; 14] = [
    1499, 2999, 5987, 11_987, 23_993, 47_981, 95_989, 191_999, 383_987, 767_957, 1_535_987, 3_071_993,
    6_143_999, 12_287_999,
];

/// The size of the table of this many backends: the smallest listed prime that is at least 100 times their number.
pub fn table_size(backends: usize) -> u32 {
    let [smallest, .., largest] = TABLE_SIZES;
    if backends == 0 {
        return smallest;
    }
    let wanted = backends.saturating_mul(100);
    TABLE_SIZES
        .into_iter()
        .find(|size| *size as usize >= wanted)
        .unwrap_or(largest)
}

/// Who may own slots, now and before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The backends that take new flows.
    pub active: Vec<BackendKey>,
    /// Those that keep their flows and get no new ones.
    pub draining: Vec<BackendKey>,
    /// Earlier sets of active backends, newest first; those that are neither active nor draining now are named so
    /// that the tables of their time can be told.
    pub generations: Vec<Vec<BackendKey>>,
}

/// A lookup table from slots to backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaglevTable {
    /// The backends that own a slot, or owned one and are alive, in the order of their identities.
    pub members: Vec<BackendKey>,
    /// The owner of each slot: its index in `members` plus 1; 0 where only earlier owners are alive. Empty where
    /// nobody is.
    pub owners: Vec<u16>,
    /// The earlier owners of each slot that are alive, newest first, 0 where there are fewer (where there are more, those that owned it longest); `None` where no slot
    /// has any.
    pub earlier: Option<Vec<[u16; EARLIER]>>,
}

impl MaglevTable {
    /// The table of a membership: the same for the same sets, in whatever order they are given.
    pub fn new(membership: &Membership) -> Self {
        TableBuilder::default().build(membership)
    }

    /// The slot of a flow's hash: the hash as a fraction of 2^32, scaled to the table.
    ///
    /// Not the remainder: so a slot is a range of hashes, and when a service outgrows its table, a slot of the new
    /// one still knows whose flows it holds.
    pub fn slot(&self, hash: u32) -> usize {
        let scaled = u64::from(hash) * self.owners.len() as u64;
        usize::try_from(scaled >> 32).unwrap_or(0)
    }

    /// The backend with this number, as it stands in `owners` and `earlier`; none for 0.
    pub fn member(&self, number: u16) -> Option<&BackendKey> {
        usize::from(number)
            .checked_sub(1)
            .and_then(|index| self.members.get(index))
    }

    /// The owner of a flow's slot, then its earlier owners, newest first.
    pub fn candidates(&self, hash: u32) -> impl Iterator<Item = &BackendKey> {
        let slot = self.slot(hash);
        let earlier = self
            .earlier
            .as_ref()
            .and_then(|earlier| earlier.get(slot))
            .copied()
            .unwrap_or_default();
        let numbers = self.owners.get(slot).copied().into_iter().chain(earlier);
        numbers.filter_map(|number| self.member(number))
    }
}

/// Builds tables and keeps those of each set of members, because a service's groups often share them.
#[derive(Debug, Default)]
pub(crate) struct TableBuilder {
    /// By the members' identities in ascending order: for each slot, the index of its owner.
    owners: BTreeMap<Vec<u64>, Vec<u16>>,
}

impl TableBuilder {
    pub(crate) fn build(&mut self, membership: &Membership) -> MaglevTable {
        let (ids, members) = alive(membership);
        if members.is_empty() {
            return MaglevTable::default();
        }
        let current = sorted_ids(&membership.active);
        let size = table_size(current.len());
        let number = |id: &u64| {
            ids.binary_search(id)
                .map_or(0, |index| u16::try_from(index + 1).unwrap_or(0))
        };
        let mut owners = vec![0_u16; size as usize];
        if !current.is_empty() {
            let numbers: Vec<u16> = current.iter().map(number).collect();
            for (owner, index) in owners.iter_mut().zip(self.owners_of(&current)) {
                *owner = numbers.get(usize::from(*index)).copied().unwrap_or(0);
            }
        }
        let earlier = self.earlier(&membership.generations, current, &owners, number);
        MaglevTable {
            members,
            owners,
            earlier,
        }
    }

    /// The earlier owners of each slot, by the tables of the generations' own times.
    fn earlier(
        &mut self,
        generations: &[Vec<BackendKey>],
        current: Vec<u64>,
        owners: &[u16],
        number: impl Fn(&u64) -> u16,
    ) -> Option<Vec<[u16; EARLIER]>> {
        let mut seen = vec![current];
        let mut numbers: Vec<Vec<u16>> = Vec::new();
        for generation in generations {
            let generation = sorted_ids(generation);
            let alive: Vec<u16> = generation.iter().map(&number).collect();
            if !seen.contains(&generation) && alive.iter().any(|number| *number != 0) {
                self.owners_of(&generation);
                numbers.push(alive);
                seen.push(generation);
            }
        }
        let past = seen
            .iter()
            .skip(1)
            .filter_map(|generation| self.owners.get(generation));
        // As numbers of today's members.
        let past = past.zip(&numbers).map(|(table, numbers)| {
            let number = |member: &u16| numbers.get(usize::from(*member)).copied().unwrap_or(0);
            table.iter().map(number).collect()
        });
        let past: Vec<Vec<u16>> = past.collect();
        let mut claims = Claims::default();
        let mut any = false;
        let slots = owners.iter().enumerate().map(|(slot, owner)| {
            for numbers in &past {
                for (index, hashes) in overlaps(slot, owners.len(), numbers.len()) {
                    let number = numbers.get(index).copied().unwrap_or(0);
                    if number != 0 && number != *owner {
                        claims.add(number, hashes);
                    }
                }
            }
            let earlier = claims.take();
            any |= earlier != [0; EARLIER];
            earlier
        });
        let slots: Vec<[u16; EARLIER]> = slots.collect();
        any.then_some(slots)
    }

    fn owners_of(&mut self, ids: &[u64]) -> &[u16] {
        // Not the entry interface: it would want the key by value for every lookup.
        if !self.owners.contains_key(ids) {
            self.owners
                .insert(ids.to_vec(), populate(ids, table_size(ids.len())));
        }
        self.owners.get(ids).map_or(&[], Vec::as_slice)
    }
}

/// Who owned hashes of one slot before, newest first, and how many, added up over the generations.
#[derive(Default)]
struct Claims(Vec<(u16, u64)>);

impl Claims {
    fn add(&mut self, number: u16, hashes: u64) {
        match self.0.iter_mut().find(|claim| claim.0 == number) {
            Some(claim) => claim.1 += hashes,
            None => self.0.push((number, hashes)),
        }
    }

    /// The claims that have room, newest first. Where there are more, those give way that owned the fewest hashes, and
    /// so have the fewest flows; among equals the newer, which a change under way made and will soon forget, but never
    /// the newest of all.
    fn take(&mut self) -> [u16; EARLIER] {
        while self.0.len() > EARLIER {
            let least = self.0.iter().enumerate().skip(1).min_by_key(|(_, claim)| claim.1);
            let least = least.map_or(0, |(index, _)| index);
            self.0.remove(least);
        }
        let mut taken = [0; EARLIER];
        for (place, (number, _)) in taken.iter_mut().zip(self.0.drain(..)) {
            *place = number;
        }
        taken
    }
}

/// Those that may get a packet, by ascending identity.
fn alive(membership: &Membership) -> (Vec<u64>, Vec<BackendKey>) {
    let alive = membership.active.iter().chain(&membership.draining);
    let mut alive: Vec<(u64, &BackendKey)> = alive.map(|key| (key.id(), key)).collect();
    alive.sort_unstable();
    alive.dedup();
    // The tables count members in 16 bits.
    alive.truncate(usize::from(u16::MAX));
    alive.into_iter().map(|(id, key)| (id, key.clone())).unzip()
}

fn sorted_ids(members: &[BackendKey]) -> Vec<u64> {
    let mut ids: Vec<u64> = members.iter().map(BackendKey::id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(usize::from(u16::MAX));
    ids
}
