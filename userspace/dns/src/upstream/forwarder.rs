//! Equal questions at the same time become one.

use super::exchange::{Asked, Patience, exchange};
use super::{Servers, Stored};
use crate::cache::{CacheKey, Known};
use crate::server::Shared;
use crate::wire::{Query, flags};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;

/// A question for upstream servers.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    key: CacheKey,
    servers: Arc<Servers>,
    asked: Asked,
}

impl Ask {
    pub(crate) fn new(query: &Query<'_>, servers: &Arc<Servers>) -> Self {
        let dnssec_ok = query.edns.is_some_and(|edns| edns.dnssec_ok);
        Self {
            key: CacheKey::new(&query.question, query.flags, dnssec_ok, servers.number),
            servers: servers.clone(),
            asked: Asked {
                name: query.question.name.as_bytes().into(),
                kind: query.question.kind,
                checking_disabled: query.flags & flags::CHECKING_DISABLED != 0,
                dnssec_ok,
            },
        }
    }
}

/// An answer or denial; nothing where all servers failed.
pub(crate) type Outcome = Option<Arc<Stored>>;

/// The questions that are under way, each with who waits for it.
#[derive(Debug)]
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    patience: Patience,
    waiting: Mutex<HashMap<CacheKey, Vec<oneshot::Sender<Outcome>>>>,
}

impl Forwarder {
    pub(crate) fn new(shared: Arc<Shared>, patience: Patience) -> Self {
        Self {
            shared,
            patience,
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<CacheKey, Vec<oneshot::Sender<Outcome>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, key: &CacheKey) -> Option<Outcome> {
        let mut cache = self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match cache.get(key, Instant::now())? {
            // It came while the question was on its way here.
            Known::Answer(stored, _) => Some(stored),
            Known::Failure => None,
        })
    }

    /// Asks, or waits for the same question of somebody else. The caller may be dropped; the question goes on.
    pub(crate) async fn resolve(self: &Arc<Self>, ask: Ask) -> Outcome {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if let Some(others) = waiting.get_mut(&ask.key) {
                others.push(sender);
            } else {
                if let Some(known) = self.known(&ask.key) {
                    return known;
                }
                waiting.insert(ask.key.clone(), vec![sender]);
                drop(tokio::spawn(self.clone().lead(ask)));
            }
        }
        receiver.await.ok().flatten()
    }

    /// Asks for everybody who waits.
    async fn lead(self: Arc<Self>, ask: Ask) {
        self.shared.counters.exchanges.add(1);
        let outcome = exchange(&ask.servers, &ask.asked, self.patience)
            .await
            .map(Arc::new);
        let now = Instant::now();
        if outcome.is_none() {
            self.shared.counters.exchanges_failed.add(1);
        }
        if ask.servers.engine.is_none() {
            let mut cache = self.shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(stored) = &outcome {
                cache.insert(&ask.key, stored.clone(), now);
            } else {
                cache.insert_failure(&ask.key, now);
            }
        }
        // After the cache knows: whoever comes now finds it there.
        let waiting = self.waiting().remove(&ask.key).unwrap_or_default();
        for waiter in waiting {
            // One that does not wait any more needs no answer.
            let _ = waiter.send(outcome.clone());
        }
    }
}
