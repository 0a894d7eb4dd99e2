use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (xorshift64*, Vigna 2016): the same seed gives the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Seeded with this number; no seed gives a generator that is stuck.
    pub const fn new(seed: u64) -> Self {
        // Neighbouring seeds are spread; 0 is the only state that stays.
        let state = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self {
            state: if state == 0 { 1 } else { state },
        }
    }

    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.number() >> 16) % bound).unwrap_or_default()
    }

    /// One of these; none where there are none.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let [.., last, _] = self.number().to_le_bytes();
        last
    }
}

/// The seed of a run: `ESSAIM_SEED`, which repeats one, or else the clock.
///
/// # Errors
/// `ESSAIM_SEED` is no number.
pub fn seed() -> Result<u64, std::num::ParseIntError> {
    if let Ok(text) = std::env::var("ESSAIM_SEED") {
        return text.parse();
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(since.as_secs() << 20 ^ u64::from(since.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_repeats_its_numbers_and_another_gives_others() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [random.number(), random.number(), random.number()]
        };
        assert_eq!(numbers(7), numbers(7));
        let all: BTreeSet<[u64; 3]> = (0..1000).map(numbers).collect();
        assert_eq!(all.len(), 1000);
    }

    #[test]
    fn every_number_below_the_bound_comes_up() {
        let mut random = Random::new(1);
        let seen: BTreeSet<usize> = (0..1000).map(|_| random.below(7)).collect();
        assert_eq!(seen, (0..7).collect());
        assert_eq!(random.below(0), 0);
    }
}
