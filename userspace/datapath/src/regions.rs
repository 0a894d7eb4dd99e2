//! Regions of [`essaim_abi::maps::TABLES`].

use crate::indices::IN_FLIGHT;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// Which parts of an array are taken: first fit, and a freed part rests until no packet can be reading it.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    /// Offset and length of the holes; no two touch.
    holes: BTreeMap<u32, u32>,
    resting: VecDeque<(Instant, u32, u32)>,
}

impl Regions {
    /// An array of `capacity` entries of which these parts (offset, length) are taken; parts may overlap.
    pub(crate) fn new(capacity: u32, taken: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut taken: Vec<(u32, u32)> = taken.into_iter().filter(|(_, len)| *len > 0).collect();
        taken.sort_unstable();
        let mut holes = BTreeMap::new();
        let mut end = 0;
        for (offset, len) in taken {
            if offset > end {
                holes.insert(end, offset.min(capacity) - end);
            }
            end = end.max(offset.saturating_add(len)).min(capacity);
        }
        if end < capacity {
            holes.insert(end, capacity - end);
        }
        Self {
            holes,
            resting: VecDeque::new(),
        }
    }

    /// Takes `len` entries and returns their offset; `None` where no hole is large enough.
    pub(crate) fn allocate(&mut self, len: u32, now: Instant) -> Option<u32> {
        if len == 0 {
            return Some(0);
        }
        self.collect(now);
        let (offset, hole) = self
            .holes
            .iter()
            .find(|(_, hole)| **hole >= len)
            .map(|(at, hole)| (*at, *hole))?;
        self.holes.remove(&offset);
        if hole > len {
            self.holes.insert(offset + len, hole - len);
        }
        Some(offset)
    }

    /// Gives `len` entries at `offset` back.
    pub(crate) fn free(&mut self, offset: u32, len: u32, now: Instant) {
        if len > 0 {
            self.resting.push_back((now, offset, len));
        }
    }

    /// Entries that are free or will be once they have rested.
    pub(crate) fn available(&self) -> u64 {
        self.holes
            .values()
            .chain(self.resting.iter().map(|(_, _, len)| len))
            .copied()
            .map(u64::from)
            .sum()
    }

    fn collect(&mut self, now: Instant) {
        while let Some((since, offset, len)) = self.resting.front().copied() {
            if now.saturating_duration_since(since) < IN_FLIGHT {
                return;
            }
            self.resting.pop_front();
            self.join(offset, len);
        }
    }

    fn join(&mut self, mut offset: u32, mut len: u32) {
        if let Some((before, hole)) = self
            .holes
            .range(..offset)
            .next_back()
            .map(|(at, hole)| (*at, *hole))
            && before + hole == offset
        {
            self.holes.remove(&before);
            (offset, len) = (before, hole + len);
        }
        if let Some(hole) = self.holes.remove(&(offset + len)) {
            len += hole;
        }
        self.holes.insert(offset, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn the_first_hole_that_fits_is_taken() {
        let now = Instant::now();
        let mut regions = Regions::new(100, [(10, 10), (15, 10), (90, 20)]);
        assert_eq!(regions.available(), 10 + 65);
        assert_eq!(regions.allocate(11, now), Some(25));
        assert_eq!(regions.allocate(10, now), Some(0));
        assert_eq!(regions.allocate(54, now), Some(36));
        assert_eq!(regions.allocate(1, now), None);
        assert_eq!(regions.allocate(0, now), Some(0));
    }

    #[test]
    fn a_freed_region_rests() {
        let now = Instant::now();
        let mut regions = Regions::new(10, []);
        assert_eq!(regions.allocate(10, now), Some(0));
        regions.free(0, 10, now);
        assert_eq!(regions.allocate(1, now + IN_FLIGHT / 2), None);
        assert_eq!(regions.allocate(10, now + IN_FLIGHT), Some(0));
    }

    proptest! {
        #[test]
        fn regions_never_overlap_and_none_is_lost(
            steps in proptest::collection::vec((1_u32..40, any::<prop::sample::Index>(), any::<bool>()), 1..200)
        ) {
            const CAPACITY: u32 = 300;
            let mut now = Instant::now();
            let mut regions = Regions::new(CAPACITY, []);
            let mut taken = Vec::<(u32, u32)>::new();
            for (len, which, add) in steps {
                now += Duration::from_millis(60);
                if add || taken.is_empty() {
                    if let Some(offset) = regions.allocate(len, now) {
                        prop_assert!(offset + len <= CAPACITY);
                        prop_assert!(taken.iter().all(|(at, size)| at + size <= offset || offset + len <= *at));
                        taken.push((offset, len));
                    }
                } else {
                    let (offset, len) = taken.swap_remove(which.index(taken.len()));
                    regions.free(offset, len, now);
                }
                let held: u32 = taken.iter().map(|(_, len)| len).sum();
                prop_assert_eq!(regions.available() + u64::from(held), u64::from(CAPACITY));
            }
            let restored = Regions::new(CAPACITY, taken.iter().copied());
            prop_assert_eq!(restored.available(), regions.available());
            for (offset, len) in taken.drain(..) {
                regions.free(offset, len, now);
            }
            prop_assert_eq!(regions.allocate(CAPACITY, now + IN_FLIGHT), Some(0));
        }
    }
}
