//! Randomness for the order of answers. No secret depends on it; the ids of questions to upstream servers come from
//! the kernel.

/// `SplitMix64` (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub(crate) struct Shuffle(u64);

impl Shuffle {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        // Half of the word times the bound: a bias of one in billions.
        let scaled = u128::from(self.next()) * bound as u128;
        usize::try_from(scaled >> 64).unwrap_or(0)
    }

    /// Moves a random choice of `count` items, in random order, to the front (Fisher and Yates, as far as needed).
    pub(crate) fn choose<T>(&mut self, items: &mut [T], count: usize) {
        for place in 0..count.min(items.len().saturating_sub(1)) {
            let other = place + self.below(items.len() - place);
            items.swap(place, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_first_equally_often() {
        let mut shuffle = Shuffle::new(7);
        let mut first = [0_u32; 4];
        for _ in 0..4000 {
            let mut items = [0, 1, 2, 3];
            shuffle.choose(&mut items, 1);
            first[items[0]] += 1;
            let mut all = items;
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3]);
        }
        assert!(first.iter().all(|count| (880..1120).contains(count)), "{first:?}");
        shuffle.choose::<u8>(&mut [], 3);
    }
}
