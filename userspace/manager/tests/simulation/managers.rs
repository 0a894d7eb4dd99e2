//! Managers behind a log that is agreed on: what is committed is never taken back, all else may be lost.

use essaim_manager::{Leader, ProposalId};
use essaim_objects::Timestamp;
use essaim_orchestrator::Now;
use essaim_store::{Event, Finding, Store, Transaction, View, audit};
use std::collections::VecDeque;
use std::time::Duration;

/// Who asked for an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum From {
    Leader {
        manager: usize,
        term: u64,
        id: ProposalId,
    },
    /// As the above, but nobody is left to be told, or the answer is lost.
    Nobody,
    Operator {
        write: u64,
    },
}

pub(crate) struct Entry {
    command: Vec<u8>,
    time: Timestamp,
    /// Whether it applied, once anybody has tried.
    is_applied: Option<bool>,
}

/// In the leader's log, and not agreed on yet.
pub(crate) struct Pending {
    pub(crate) due: u64,
    pub(crate) command: Vec<u8>,
    pub(crate) time: Timestamp,
    pub(crate) from: From,
}

/// A manager that leads, or believes to.
pub(crate) struct Reign {
    pub(crate) term: u64,
    pub(crate) core: Leader,
}

pub(crate) struct Manager {
    pub(crate) store: Store,
    /// How much of the log it has taken in.
    pub(crate) applied: usize,
    pub(crate) is_up: bool,
    /// Milliseconds that its wall clock is ahead.
    pub(crate) skew: i64,
    /// Until when it takes in nothing.
    pub(crate) lags_until: u64,
    pub(crate) reign: Option<Reign>,
}

pub(crate) struct Managers {
    pub(crate) all: Vec<Manager>,
    log: Vec<Entry>,
    pub(crate) pending: VecDeque<Pending>,
    pub(crate) term: u64,
    pub(crate) leader: Option<usize>,
}

impl Managers {
    pub(crate) fn new(count: usize) -> Self {
        let all = (0..count).map(|_| Manager {
            store: Store::new(),
            applied: 0,
            is_up: true,
            skew: 0,
            lags_until: 0,
            reign: None,
        });
        Self {
            all: all.collect(),
            log: Vec::new(),
            pending: VecDeque::new(),
            term: 0,
            leader: None,
        }
    }

    pub(crate) fn log_of_commands(&self) -> Vec<Vec<u8>> {
        self.log.iter().map(|entry| entry.command.clone()).collect()
    }

    pub(crate) fn has_majority(&self) -> bool {
        self.all.iter().filter(|manager| manager.is_up).count() * 2 > self.all.len()
    }

    pub(crate) fn view(&self, manager: usize) -> &View {
        self.all[manager].store.view()
    }

    pub(crate) fn time(&self, manager: usize, now: u64) -> Now {
        time(now, self.all[manager].skew)
    }

    /// Puts what is agreed on where nobody takes it away.
    pub(crate) fn commit(&mut self, command: Vec<u8>, time: Timestamp) {
        assert!(self.has_majority(), "committed without a majority");
        self.log.push(Entry {
            command,
            time,
            is_applied: None,
        });
    }

    /// A manager takes in the next entry; what it did, or nothing where it conflicts; `None` where there is none.
    pub(crate) fn apply_next(&mut self, manager: usize) -> Option<Result<Vec<Event>, String>> {
        let manager = &mut self.all[manager];
        let entry = self.log.get_mut(manager.applied)?;
        manager.applied += 1;
        let index = u64::try_from(manager.applied).unwrap();
        let transaction = Transaction::decode(&entry.command).unwrap();
        let result = manager.store.apply(index, &transaction, entry.time);
        let is_first = entry.is_applied.is_none();
        let is_applied = *entry.is_applied.get_or_insert(result.is_ok());
        assert_eq!(
            is_applied,
            result.is_ok(),
            "managers differ at entry {index}: {result:?}"
        );
        if is_first {
            let mut findings = audit(manager.store.view());
            // On their way out.
            findings.retain(|it| !matches!(it, Finding::OfNoService { .. } | Finding::OfNoNode { .. }));
            assert_eq!(findings, [], "after entry {index}");
        }
        Some(result.map_err(|conflict| conflict.to_string()))
    }

    /// Followers take in what they have heard of.
    pub(crate) fn follow(&mut self, now: u64) -> bool {
        let mut is_any = false;
        for number in 0..self.all.len() {
            let manager = &self.all[number];
            // Whoever believes to lead has heard of nothing.
            let hears = manager.is_up && manager.lags_until <= now && manager.reign.is_none();
            while hears && self.apply_next(number).is_some() {
                is_any = true;
            }
        }
        is_any
    }

    /// A manager comes back with nothing but what others have: all of the log, or a snapshot and the rest.
    pub(crate) fn restart(&mut self, number: usize, snapshot_of: Option<usize>) {
        let (store, applied) = match snapshot_of {
            Some(other) => {
                let other = &self.all[other];
                let bytes = other.store.view().encode().unwrap();
                (Store::decode(&bytes).unwrap(), other.applied)
            }
            None => (Store::new(), 0),
        };
        let manager = &mut self.all[number];
        (manager.store, manager.applied, manager.is_up) = (store, applied, true);
    }
}

pub(crate) fn time(now: u64, skew: i64) -> Now {
    let wall = 1_700_000_000_000 + i64::try_from(now).unwrap() + skew;
    Now {
        wall: Timestamp::from_millisecond(wall).unwrap(),
        monotonic: Duration::from_millis(now),
    }
}
