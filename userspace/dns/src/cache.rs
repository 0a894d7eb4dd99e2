//! What upstream servers said, for as long as they said it holds. Pure: the time comes in.

use crate::upstream::Stored;
use crate::wire::{MAX_NAME, Question, flags};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer is kept at most, whatever its TTL: an error upstream is then forgotten within the hour.
pub(crate) const LONGEST_ANSWER: Duration = Duration::from_hours(1);
/// How long a denial is kept at most (RFC 2308, 5, suggests one to three hours; a new name should not wait so long).
pub(crate) const LONGEST_DENIAL: Duration = Duration::from_mins(5);
/// How long a failure is kept (RFC 9520, 3.2: from 1 s to 5 min): long enough that a client's retries are not sent on.
pub(crate) const FAILURE: Duration = Duration::from_secs(2);
/// How much memory an entry takes beside its message and key, in bytes, by estimate.
const ENTRY_OVERHEAD: usize = 160;

/// What was asked, of whom.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    bytes: [u8; MAX_NAME + 7],
    length: usize,
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_bytes().escape_ascii().fmt(f)
    }
}

impl CacheKey {
    /// The key of a question, with the header's flags and DNSSEC's wish, to the servers with this number.
    pub(crate) fn new(question: &Question<'_>, header: u16, dnssec_ok: bool, servers: u32) -> Self {
        let [kind_high, kind_low] = question.kind.to_be_bytes();
        let checking = header & flags::CHECKING_DISABLED != 0;
        let options = u8::from(dnssec_ok) | u8::from(checking) << 1;
        let [a, b, c, d] = servers.to_be_bytes();
        let mut bytes = [0; MAX_NAME + 7];
        let mut length = 0;
        let name = question.name.as_bytes();
        let tail = [kind_high, kind_low, options, a, b, c, d];
        for (place, byte) in bytes.iter_mut().zip(name.iter().chain(&tail)) {
            *place = *byte;
            length += 1;
        }
        Self { bytes, length }
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// What is known about a question.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// An answer or denial, which came this many seconds ago.
    Answer(Arc<Stored>, u32),
    /// All servers failed a moment ago.
    Failure,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Nothing: all servers failed.
    answer: Option<Arc<Stored>>,
    since: Instant,
    until: Instant,
}

impl Entry {
    fn size(&self, key: &[u8]) -> usize {
        ENTRY_OVERHEAD + key.len() + self.answer.as_ref().map_or(0, |answer| answer.size())
    }

    fn known(&self, now: Instant) -> Known {
        let age = now.saturating_duration_since(self.since).as_secs();
        self.answer.as_ref().map_or(Known::Failure, |answer| {
            Known::Answer(answer.clone(), u32::try_from(age).unwrap_or(u32::MAX))
        })
    }
}

/// Answers of upstream servers, within a bound of memory.
///
/// Two generations: what is used lives in the young one; when that holds half of the bound it becomes the old one,
/// and the old one is forgotten. So what was not used for a while goes first, without a list to keep.
#[derive(Debug)]
pub(crate) struct Cache {
    young: HashMap<Box<[u8]>, Entry>,
    young_size: usize,
    old: HashMap<Box<[u8]>, Entry>,
    /// Half of the bound, in bytes.
    half: usize,
}

impl Cache {
    /// A cache of about this many bytes.
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            young: HashMap::new(),
            young_size: 0,
            old: HashMap::new(),
            half: bound / 2,
        }
    }

    /// What is known about the question now.
    pub(crate) fn get(&mut self, key: &CacheKey, now: Instant) -> Option<Known> {
        let bytes = key.as_bytes();
        match self.young.get(bytes) {
            Some(entry) if entry.until > now => return Some(entry.known(now)),
            Some(_) => {
                self.remove_young(bytes);
                return None;
            }
            None => {}
        }
        let (key, entry) = self.old.remove_entry(bytes)?;
        if entry.until <= now {
            return None;
        }
        let known = entry.known(now);
        self.put(key, entry);
        Some(known)
    }

    /// Remembers an answer or denial for as long as it may be; not at all where it has no time to live.
    pub(crate) fn insert(&mut self, key: &CacheKey, answer: Arc<Stored>, now: Instant) {
        let longest = if answer.is_denial() {
            LONGEST_DENIAL
        } else {
            LONGEST_ANSWER
        };
        let lifetime = Duration::from_secs(answer.ttl().into()).min(longest);
        if !lifetime.is_zero() {
            self.remember(key, Some(answer), now, lifetime);
        }
    }

    /// Remembers for a moment that all servers failed.
    pub(crate) fn insert_failure(&mut self, key: &CacheKey, now: Instant) {
        self.remember(key, None, now, FAILURE);
    }

    fn remember(&mut self, key: &CacheKey, answer: Option<Arc<Stored>>, now: Instant, lifetime: Duration) {
        let entry = Entry {
            answer,
            since: now,
            until: now + lifetime,
        };
        // What it takes the place of must not come to light again when it has run out.
        self.old.remove(key.as_bytes());
        self.remove_young(key.as_bytes());
        self.put(key.as_bytes().into(), entry);
    }

    fn remove_young(&mut self, key: &[u8]) {
        if let Some((key, entry)) = self.young.remove_entry(key) {
            self.young_size = self.young_size.saturating_sub(entry.size(&key));
        }
    }

    /// Adds an entry whose key is in neither generation.
    fn put(&mut self, key: Box<[u8]>, entry: Entry) {
        let size = entry.size(&key);
        if size > self.half {
            return;
        }
        if self.young_size + size > self.half {
            self.old = std::mem::take(&mut self.young);
            self.young_size = 0;
        }
        self.young_size += size;
        self.young.insert(key, entry);
    }

    /// How many questions something is kept about.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests;
