//! What failed lately is not tried again at once.

use essaim_objects::{NodeId, ServiceId};
use essaim_store::{Change, Object, ObjectId};
use std::collections::BTreeMap;
use std::time::Duration;

/// The first wait; doubled with each failure …
const FIRST: Duration = Duration::from_millis(20);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(5);

/// What a change is about. A task that was not made gets another identity when it is tried again, so it is known by its
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Object(ObjectId),
    Copy(ServiceId, Option<u64>, Option<NodeId>),
}

impl Key {
    pub(super) fn of(change: &Change) -> Self {
        if let Change::Create(Object::Task(task)) = change
            && let Some(service) = task.service_id
        {
            return Self::Copy(service, task.slot, task.node_id.filter(|_| task.slot.is_none()));
        }
        Self::Object(change.id())
    }
}

#[derive(Clone, Copy, Debug)]
struct Penalty {
    until: Duration,
    next: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Backoff(BTreeMap<Key, Penalty>);

impl Backoff {
    /// Whether it is to wait.
    pub(super) fn holds(&self, key: Key, now: Duration) -> bool {
        self.0.get(&key).is_some_and(|penalty| now < penalty.until)
    }

    /// Notes a failure of what touches all these.
    pub(super) fn penalise(&mut self, keys: Vec<Key>, now: Duration) {
        // One that did not fail again for long begins anew.
        self.0.retain(|_, penalty| now < penalty.until + LONGEST);
        for key in keys {
            let penalty = self.0.entry(key).or_insert(Penalty {
                until: now,
                next: FIRST,
            });
            penalty.until = now + penalty.next;
            penalty.next = (penalty.next * 2).min(LONGEST);
        }
    }

    /// Notes a success.
    pub(super) fn forgive(&mut self, keys: &[Key]) {
        if !self.0.is_empty() {
            for key in keys {
                self.0.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_again_and_again_waits_longer_up_to_a_bound() {
        let key = Key::Copy(ServiceId::MIN, Some(1), None);
        let mut backoff = Backoff::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..10 {
            backoff.penalise(vec![key], now);
            let begun = now;
            while backoff.holds(key, now) {
                now += Duration::from_millis(10);
            }
            waits.push(now.saturating_sub(begun).as_millis());
        }
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_000, 5_000]);
        backoff.forgive(&[key]);
        backoff.penalise(vec![key], now);
        assert!(!backoff.holds(key, now + FIRST), "a success forgives all");
        now += FIRST + LONGEST + LONGEST;
        backoff.penalise(vec![], now);
        assert!(backoff.0.is_empty(), "what is long past is forgotten");
    }
}
