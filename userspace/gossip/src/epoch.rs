//! What orders the words of one node: the epoch of its run, and the version within it.

use std::fmt;

/// One run of a node. A later run has a greater epoch, so that nothing said by an earlier one counts any more.
///
/// The number is the wall clock in milliseconds at the start, or one more than the last epoch that was used where
/// the clock went back. 0 stands for a node that was never heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a node that was never heard of; every real one is greater.
    pub const UNHEARD: Self = Self(0);

    /// The epoch of a run that starts now: greater than `last_used`, whatever the clock says.
    pub fn starting(wall_clock_ms: u64, last_used: Self) -> Self {
        Self(wall_clock_ms.max(last_used.next().0))
    }

    /// An epoch that was read back.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number, for keeping.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Whether the node was ever heard of.
    pub fn is_heard(self) -> bool {
        self != Self::UNHEARD
    }

    /// The least epoch above this one.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The order of a node's facts within one epoch: a single count of the owner's for all it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// Before the first fact.
    pub const ZERO: Self = Self(0);

    pub(crate) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a node had to contradict a suspicion (SWIM, section 4.2); counts within one epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u32);

impl Incarnation {
    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_grows_even_when_the_clock_goes_back() {
        let first = Epoch::starting(1_000, Epoch::UNHEARD);
        assert_eq!(first.number(), 1_000);
        assert_eq!(Epoch::starting(10, first).number(), 1_001);
        assert_eq!(Epoch::starting(0, Epoch::UNHEARD).number(), 1);
    }
}
