//! What is to be proposed, made of units that go with each other.

use super::backoff::{Backoff, Key};
use essaim_objects::Timestamp;
use essaim_store::{Change, MAX_CHANGES, ObjectId, Store, Transaction, View, allocate};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Changes that are made together or not at all, completed.
type Completed = Vec<Change>;

/// Units that were tried one after the other on a copy of the store.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The store as it would be with all of them.
    ahead: Store,
    touched: BTreeSet<ObjectId>,
    units: VecDeque<Completed>,
}

impl Batch {
    pub(super) fn begin(view: View) -> Self {
        Self {
            ahead: view.into(),
            ..Self::default()
        }
    }

    /// Whether nothing is left to propose.
    pub(super) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Adds a unit, unless it is to wait, touches what an earlier one does, or does not apply.
    pub(super) fn add(&mut self, mut changes: Vec<Change>, backoff: &mut Backoff, now: Duration) {
        if changes.len() > MAX_CHANGES {
            // Old tasks of one copy: they can go one after the other.
            changes.sort_by_key(|change| matches!(change, Change::Remove(..)));
            changes.truncate(MAX_CHANGES);
        }
        let must_wait = changes
            .iter()
            .any(|change| self.touched.contains(&change.id()) || backoff.holds(Key::of(change), now));
        if must_wait || changes.is_empty() {
            return;
        }
        let keys = || changes.iter().map(Key::of).collect();
        let keys: Vec<Key> = keys();
        let mut transaction = Transaction { changes };
        let index = self.ahead.view().index() + 1;
        let is_applied = allocate(self.ahead.view(), &mut transaction).is_ok()
            && self
                .ahead
                .apply(index, &transaction, Timestamp::UNIX_EPOCH)
                .is_ok();
        if is_applied {
            self.touched.extend(transaction.changes.iter().map(Change::id));
            self.units.push_back(transaction.changes);
        } else {
            backoff.penalise(keys, now);
        }
    }

    /// The next transaction as the log has it, and what it touches: as many units as it holds, never a part of one.
    /// A unit that is too large alone has no bytes.
    pub(super) fn pop(&mut self) -> Option<(Option<Vec<u8>>, Vec<Key>)> {
        let mut units = Vec::new();
        let mut count = 0;
        while let Some(next) = self.units.front()
            && (units.is_empty() || count + next.len() <= MAX_CHANGES)
        {
            count += next.len();
            units.extend(self.units.pop_front());
        }
        loop {
            let changes: Completed = units.iter().flatten().cloned().collect();
            let keys: Vec<Key> = changes.iter().map(Key::of).collect();
            let command = Transaction { changes }.encode().ok();
            match units.len() {
                0 => return None,
                1 => return Some((command, keys)),
                _ if command.is_some() => return Some((command, keys)),
                many => {
                    for unit in units.drain(many / 2..).rev() {
                        self.units.push_front(unit);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
