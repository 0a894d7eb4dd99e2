//! How often nodes are heard of, and how often they may begin anew.

use essaim_objects::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A node is down after so many periods without a heartbeat.
pub(crate) const GRACE: u32 = 3;
/// Nodes get so many times as long to find a new leader.
pub(crate) const NEW_LEADER_GRACE: u32 = 2;
/// The tasks of a node that was down for so long are given up.
pub(crate) const DOWN_UNTIL_ORPHANED: Duration = Duration::from_hours(24);

/// A node may begin so many sessions …
const MAX_REGISTRATIONS: usize = 3;
/// … within this.
const REGISTRATION_WINDOW: Duration = Duration::from_secs(8);

/// A period up to a tenth longer or shorter, so that nodes do not keep step.
pub(crate) fn with_jitter(period: Duration, random: u128) -> Duration {
    let span = period / 5;
    let nanos = span.as_nanos();
    let part = if nanos == 0 { 0 } else { random % nanos };
    period.saturating_sub(span / 2) + Duration::from_nanos(u64::try_from(part).unwrap_or_default())
}

/// When nodes began their sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registrations(BTreeMap<NodeId, VecDeque<Duration>>);

impl Registrations {
    /// Notes one.
    ///
    /// # Errors
    /// How many there were lately, this one included, where that is too many; it does not count then.
    pub(crate) fn add(&mut self, node: NodeId, now: Duration) -> Result<(), usize> {
        let times = self.0.entry(node).or_default();
        while times
            .front()
            .is_some_and(|first| *first + REGISTRATION_WINDOW <= now)
        {
            times.pop_front();
        }
        if times.len() >= MAX_REGISTRATIONS {
            return Err(times.len() + 1);
        }
        times.push_back(now);
        Ok(())
    }

    pub(crate) fn forget(&mut self, node: NodeId) {
        self.0.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_are_a_tenth_apart_at_most() {
        let five = Duration::from_secs(5);
        for random in [0, 1, 999_999_999, 1_000_000_000, u128::MAX, 123_456_789_012] {
            let period = with_jitter(five, random);
            assert!(
                period >= Duration::from_millis(4_500) && period < Duration::from_millis(5_500),
                "{period:?}"
            );
        }
        assert_ne!(with_jitter(five, 0), with_jitter(five, 1));
        assert_eq!(with_jitter(Duration::ZERO, 7), Duration::ZERO);
    }

    #[test]
    fn a_fourth_session_within_eight_seconds_is_refused() {
        let mut registrations = Registrations::default();
        let node = NodeId::MIN;
        for (at, is_let_in) in [
            (0, true),
            (1, true),
            (2, true),
            (3, false),
            (7, false),
            (8, true),
            (8, false),
            (9, true),
        ] {
            let result = registrations.add(node, Duration::from_secs(at));
            assert_eq!(result, if is_let_in { Ok(()) } else { Err(4) }, "at {at} s");
        }
        assert_eq!(registrations.add(NodeId::MAX, Duration::from_secs(9)), Ok(()));
        registrations.forget(node);
        assert_eq!(registrations.add(node, Duration::from_secs(9)), Ok(()));
    }
}
