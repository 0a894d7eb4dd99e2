//! Dense indices for things with stable identities.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

/// How long a packet may still be on its way with an index, or a table's offset, that it read before it was freed.
pub(crate) const IN_FLIGHT: Duration = Duration::from_millis(100);

/// Indices from 1 below a capacity, each given to one identity at a time.
///
/// A freed index keeps its identity, and is given back to it, until its quarantine is over and another takes it.
#[derive(Clone, Debug)]
pub(crate) struct Indices<K> {
    capacity: u32,
    quarantine: Duration,
    by_key: BTreeMap<K, u32>,
    slots: BTreeMap<u32, Slot<K>>,
    /// Below `next`, never in use or out of quarantine.
    free: BTreeSet<u32>,
    quarantined: VecDeque<(Instant, u32)>,
    next: u32,
}

#[derive(Clone, Debug)]
struct Slot<K> {
    key: Option<K>,
    generation: u32,
    in_use: bool,
}

/// An index as it was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) index: u32,
    /// Counts the identities that the index was given to.
    pub(crate) generation: u32,
    /// Whether the identity did not have it before.
    pub(crate) new: bool,
}

impl<K: Ord + Clone> Indices<K> {
    /// No index given out.
    pub(crate) fn new(capacity: u32, quarantine: Duration) -> Self {
        Self {
            capacity,
            quarantine: quarantine.max(IN_FLIGHT),
            by_key: BTreeMap::new(),
            slots: BTreeMap::new(),
            free: BTreeSet::new(),
            quarantined: VecDeque::new(),
            next: 1,
        }
    }

    /// Takes over what a map holds: an index that `key` had, or had last.
    pub(crate) fn restore(&mut self, index: u32, key: Option<K>, generation: u32) {
        while self.next <= index {
            self.free.insert(self.next);
            self.next += 1;
        }
        let in_use = key.is_some();
        if let Some(key) = &key {
            self.free.remove(&index);
            self.by_key.insert(key.clone(), index);
        }
        self.slots.insert(
            index,
            Slot {
                key,
                generation,
                in_use,
            },
        );
    }

    /// The index of an identity, if it has one.
    pub(crate) fn index_of(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Gives an index to an identity: the one it has, or had last, else the lowest; `None` where none is left.
    pub(crate) fn assign(&mut self, key: &K, now: Instant) -> Option<Assigned> {
        if let Some(index) = self.index_of(key)
            && let Some(slot) = self.slots.get_mut(&index)
        {
            slot.in_use = true;
            self.free.remove(&index);
            return Some(Assigned {
                index,
                generation: slot.generation,
                new: false,
            });
        }
        self.collect(now);
        let index = self
            .free
            .pop_first()
            .or_else(|| self.fresh())
            .or_else(|| self.oldest(now))?;
        let slot = self.slots.entry(index).or_insert(Slot {
            key: None,
            generation: 0,
            in_use: false,
        });
        if let Some(last) = slot.key.replace(key.clone()) {
            self.by_key.remove(&last);
        }
        // 0 would be the generation of a zeroed entry.
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.in_use = true;
        self.by_key.insert(key.clone(), index);
        Some(Assigned {
            index,
            generation: slot.generation,
            new: true,
        })
    }

    /// Frees the index of an identity, and returns it; it goes into quarantine.
    pub(crate) fn release(&mut self, key: &K, now: Instant) -> Option<u32> {
        let index = self.index_of(key)?;
        let slot = self.slots.get_mut(&index).filter(|slot| slot.in_use)?;
        slot.in_use = false;
        self.quarantined.push_back((now, index));
        Some(index)
    }

    fn fresh(&mut self) -> Option<u32> {
        let index = self.next;
        (index < self.capacity).then(|| self.next += 1)?;
        Some(index)
    }

    /// Ends the quarantines that are over.
    fn collect(&mut self, now: Instant) {
        while let Some((since, index)) = self.quarantined.front().copied() {
            if now.saturating_duration_since(since) < self.quarantine {
                return;
            }
            self.quarantined.pop_front();
            self.reclaim(index);
        }
    }

    /// Cuts a quarantine short where there is no other index left, but never below what packets need.
    fn oldest(&mut self, now: Instant) -> Option<u32> {
        while let Some((since, index)) = self.quarantined.front().copied() {
            if now.saturating_duration_since(since) < IN_FLIGHT {
                return None;
            }
            self.quarantined.pop_front();
            self.reclaim(index);
            if self.free.remove(&index) {
                return Some(index);
            }
        }
        None
    }

    fn reclaim(&mut self, index: u32) {
        // Its identity may have come back meanwhile; it may stand in the queue twice then.
        if self.slots.get(&index).is_some_and(|slot| !slot.in_use)
            && !self.quarantined.iter().any(|(_, other)| *other == index)
        {
            self.free.insert(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn an_identity_keeps_its_index() {
        let now = Instant::now();
        let mut indices = Indices::new(10, LONG);
        assert_eq!(
            indices.assign(&"a", now),
            Some(Assigned {
                index: 1,
                generation: 1,
                new: true
            })
        );
        assert_eq!(
            indices.assign(&"b", now),
            Some(Assigned {
                index: 2,
                generation: 1,
                new: true
            })
        );
        assert_eq!(
            indices.assign(&"a", now),
            Some(Assigned {
                index: 1,
                generation: 1,
                new: false
            })
        );
        indices.release(&"a", now);
        assert_eq!(
            indices.assign(&"a", now),
            Some(Assigned {
                index: 1,
                generation: 1,
                new: false
            })
        );
    }

    #[test]
    fn another_identity_gets_another_generation_and_only_after_the_quarantine() {
        let now = Instant::now();
        let mut indices = Indices::new(10, LONG);
        indices.assign(&"a", now);
        indices.release(&"a", now);
        assert_eq!(
            indices.assign(&"b", now + LONG / 2).map(|given| given.index),
            Some(2)
        );
        let later = indices.assign(&"c", now + LONG);
        assert_eq!(
            later,
            Some(Assigned {
                index: 1,
                generation: 2,
                new: true
            })
        );
        assert_eq!(indices.index_of(&"a"), None);
    }

    #[test]
    fn need_cuts_a_quarantine_short_but_not_to_nothing() {
        let now = Instant::now();
        let mut indices = Indices::new(2, LONG);
        indices.assign(&"a", now);
        assert_eq!(indices.assign(&"b", now), None);
        indices.release(&"a", now);
        assert_eq!(indices.assign(&"b", now + IN_FLIGHT / 2), None);
        assert_eq!(
            indices
                .assign(&"b", now + IN_FLIGHT)
                .map(|given| given.generation),
            Some(2)
        );
    }

    proptest! {
        #[test]
        fn no_index_has_two_owners_and_a_restored_allocator_agrees(
            steps in proptest::collection::vec((0_u8..12, any::<bool>(), 0_u64..40), 1..120)
        ) {
            let mut now = Instant::now();
            let mut indices = Indices::new(9, Duration::from_millis(300));
            let mut model = BTreeMap::<u8, (u32, u32)>::new();
            for (key, add, millis) in steps {
                now += Duration::from_millis(millis * 10);
                if add {
                    if let Some(given) = indices.assign(&key, now) {
                        prop_assert!(given.index > 0 && given.index < 9);
                        prop_assert!(model.iter().all(|(other, (index, _))| *other == key || *index != given.index));
                        if let Some(known) = model.insert(key, (given.index, given.generation)) {
                            prop_assert_eq!(known, (given.index, given.generation));
                        }
                    } else {
                        prop_assert!(!model.contains_key(&key));
                    }
                } else {
                    prop_assert_eq!(indices.release(&key, now), model.remove(&key).map(|(index, _)| index));
                }
            }
            let mut restored = Indices::new(9, LONG);
            for (key, (index, generation)) in &model {
                restored.restore(*index, Some(*key), *generation);
            }
            for (key, (index, generation)) in &model {
                let given = Assigned { index: *index, generation: *generation, new: false };
                prop_assert_eq!(restored.assign(key, now), Some(given));
            }
        }
    }
}
