//! The keys that the managers hand out.

use std::collections::BTreeMap;
use std::fmt;
use zeroize::Zeroizing;

/// The length of a key of the ring, in bytes.
pub const RING_KEY_LENGTH: usize = 32;
/// How many generations a ring holds at most: half as many as the last bits of an SPI tell apart.
pub const MAX_GENERATIONS: usize = 8;

/// Counts the keys of a cluster; a later one has a greater number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key that all nodes share, and nothing is encrypted with: others are derived from it. Never shown.
#[derive(Clone)]
pub struct RingKey(Zeroizing<[u8; RING_KEY_LENGTH]>);

impl RingKey {
    /// A key of these bytes, which should be random.
    pub fn new(bytes: [u8; RING_KEY_LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, to be kept where nobody else reads them.
    pub fn bytes(&self) -> &[u8; RING_KEY_LENGTH] {
        &self.0
    }
}

impl PartialEq for RingKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&*self.0, &*other.0).is_ok()
    }
}

impl Eq for RingKey {}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RingKey(..)")
    }
}

/// The newest generations of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring(BTreeMap<Generation, RingKey>);

impl Ring {
    /// A ring of these keys; of more than [`MAX_GENERATIONS`] the newest.
    pub fn new(keys: impl IntoIterator<Item = (Generation, RingKey)>) -> Self {
        let mut keys: BTreeMap<_, _> = keys.into_iter().collect();
        while keys.len() > MAX_GENERATIONS {
            keys.pop_first();
        }
        Self(keys)
    }

    /// Its keys, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Generation, &RingKey)> {
        self.0.iter().map(|(generation, key)| (*generation, key))
    }

    /// The oldest and the newest generation; none where there is no key.
    pub fn span(&self) -> Option<(Generation, Generation)> {
        let (oldest, _) = self.0.first_key_value()?;
        let (newest, _) = self.0.last_key_value()?;
        Some((*oldest, *newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_keeps_the_newest_and_shows_none() {
        let key = |number: u8| (Generation(number.into()), RingKey::new([number; RING_KEY_LENGTH]));
        let ring = Ring::new((1..=20).map(key));
        assert_eq!(ring.span(), Some((Generation(13), Generation(20))));
        assert_eq!(ring.iter().count(), MAX_GENERATIONS);
        assert_eq!(Ring::default().span(), None);
        assert!(!format!("{ring:?}").contains("20, 20"), "{ring:?}");
    }
}
