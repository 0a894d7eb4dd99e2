use essaim_objects::Timestamp;
use essaim_raft::{SnapshotView, StateMachine};
use essaim_rpc::chain;
use essaim_store::{Event, Store, Transaction, View};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// How many notices a reader may be behind before it has to look at everything anew.
const NOTICES: usize = 4096;

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
    notices: broadcast::Sender<Notice>,
}

impl StoreMachine {
    /// An empty store, with what tells of it.
    pub(crate) fn new() -> (Self, watch::Receiver<Applied>, broadcast::Sender<Notice>) {
        let (applied, readers) = watch::channel(Applied::default());
        let (notices, _) = broadcast::channel(NOTICES);
        let machine = Self {
            store: Store::new(),
            applied,
            notices: notices.clone(),
        };
        (machine, readers, notices)
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
                let events = events.into();
                // Nobody may be listening.
                let _ = self.notices.send(Notice::Changed { index, events });
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
        let _ = self.notices.send(Notice::Restored);
        Ok(())
    }
}
