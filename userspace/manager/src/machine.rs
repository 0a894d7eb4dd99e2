use essaim_objects::Timestamp;
use essaim_raft::{SnapshotView, StateMachine};
use essaim_rpc::chain;
use essaim_store::{Event, Object, Store, Transaction, View};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{broadcast, watch};

/// How many notices a reader may be behind before it has to look at everything anew.
const NOTICES: usize = 4096;

/// How many changes are kept for whoever asks what was: as many as Docker's engine keeps.
const PAST: usize = 256;

/// What this manager's copy of the store holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied {
    /// The last entry of the log that it has taken in, whether that changed something or not.
    pub(crate) index: u64,
    /// What is there. Cheap to keep.
    pub(crate) view: View,
}

/// What the log does to the store. Whoever is too slow for the notices (`RecvError::Lagged`) looks at the view anew.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A transaction was applied.
    Changed {
        /// Its index in the log.
        index: u64,
        /// What it did, in order.
        events: Arc<[Event]>,
    },
    /// A snapshot took the place of everything: look at the view anew.
    Restored,
}

/// A change that was, and when.
pub type Past = (Timestamp, Event);

/// Tells whoever listens what the log does, and keeps the last of it for whoever comes later. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Teller {
    notices: broadcast::Sender<Notice>,
    past: Arc<Mutex<VecDeque<Past>>>,
}

impl Teller {
    fn new() -> Self {
        Self {
            notices: broadcast::channel(NOTICES).0,
            past: Arc::default(),
        }
    }

    /// What the log does from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// What it did last, the oldest first, and does from then on.
    pub(crate) fn listen_with_past(&self) -> (Vec<Past>, broadcast::Receiver<Notice>) {
        let past = self.past();
        (past.iter().cloned().collect(), self.listen())
    }

    fn changed(&self, index: u64, time: Timestamp, events: Vec<Event>) {
        let events: Arc<[Event]> = events.into();
        // Tasks change all the time, and say so themselves.
        let kept = events.iter().filter(|event| match event.object() {
            Object::Cluster(_) | Object::Task(_) => false,
            Object::Node(_)
            | Object::Service(_)
            | Object::Network(_)
            | Object::Secret(_)
            | Object::Config(_) => true,
        });
        let mut past = self.past();
        past.extend(kept.map(|event| (time, event.clone())));
        let excess = past.len().saturating_sub(PAST);
        past.drain(..excess);
        // Nobody may be listening.
        let _ = self.notices.send(Notice::Changed { index, events });
    }

    fn restored(&self) {
        let _ = self.notices.send(Notice::Restored);
    }

    fn past(&self) -> MutexGuard<'_, VecDeque<Past>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a transaction fared, the same on every manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It is done.
    Applied,
    /// It does not go with what is there; nothing of it is done.
    Conflict(String),
}

/// The store as Raft's state machine.
pub struct StoreMachine {
    store: Store,
    applied: watch::Sender<Applied>,
    teller: Teller,
}

impl StoreMachine {
    /// An empty store, with what tells of it.
    pub(crate) fn new() -> (Self, watch::Receiver<Applied>, Teller) {
        let (applied, readers) = watch::channel(Applied::default());
        let teller = Teller::new();
        let machine = Self {
            store: Store::new(),
            applied,
            teller: teller.clone(),
        };
        (machine, readers, teller)
    }

    fn try_apply(&mut self, index: u64, time: Timestamp, command: &[u8]) -> Result<Vec<Event>, String> {
        let transaction = Transaction::decode(command).map_err(|error| chain(&error))?;
        let events = self.store.apply(index, &transaction, time);
        events.map_err(|conflict| conflict.to_string())
    }
}

impl StateMachine for StoreMachine {
    fn apply(&mut self, index: u64, at: essaim_raft::Timestamp, command: &[u8]) -> Vec<u8> {
        let millis = i64::try_from(at.millis()).unwrap_or(i64::MAX);
        // A clock past the year 9999 says nothing that an object could keep.
        let time = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX);
        let outcome = self.try_apply(index, time, command);
        let view = self.store.view().clone();
        self.applied.send_replace(Applied { index, view });
        let outcome = match outcome {
            Ok(events) => {
                self.teller.changed(index, time, events);
                Outcome::Applied
            }
            Err(why) => Outcome::Conflict(why),
        };
        // A text and a name: JSON has them all.
        serde_json::to_vec(&outcome).unwrap_or_default()
    }

    #[expect(
        clippy::expect_used,
        reason = "nothing that a view holds cannot be written; and if it were so, the log must not be dropped for it"
    )]
    fn snapshot(&self) -> SnapshotView {
        let view = self.store.view().clone();
        Box::new(move || view.encode().expect("a view can be written"))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.store = Store::decode(snapshot).map_err(|error| chain(&error))?;
        let view = self.store.view().clone();
        let index = view.index();
        self.applied.send_replace(Applied { index, view });
        self.teller.restored();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::{Network, NetworkId, NetworkSpec, Task, TaskId, TaskSpec};

    #[test]
    fn the_last_changes_of_all_but_tasks_are_kept() {
        let teller = Teller::new();
        let at = |second: u64| Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
        for number in 1..=300 {
            let network = Network::new(NetworkId::from_bits(number.into()), NetworkSpec::default());
            let task = Task::new(
                TaskId::from_bits(number.into()),
                None,
                Arc::new(TaskSpec::default()),
            );
            let events = vec![Event::Created(network.into()), Event::Created(task.into())];
            teller.changed(number, at(number), events);
        }
        let (past, mut next) = teller.listen_with_past();
        assert_eq!((past.len(), past[0].0, past[PAST - 1].0), (PAST, at(45), at(300)));
        assert!(
            past.iter()
                .all(|(_, event)| matches!(event.object(), Object::Network(_)))
        );
        // What comes later is told, and nothing twice.
        assert!(next.try_recv().is_err());
        teller.changed(301, at(301), Vec::new());
        assert!(matches!(next.try_recv(), Ok(Notice::Changed { index: 301, .. })));
    }
}
