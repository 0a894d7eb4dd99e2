//! One owner's facts of one scope, in the owner's order.

use crate::epoch::{Epoch, Version};
use crate::fact::{Fact, FactKey, Record, Scope};
use crate::wire::{Delta, DeltaWriter};
use essaim_model::NodeName;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// What this node holds of a stream: all of it up to the head.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    epoch: Epoch,
    /// All facts up to here are known.
    head: Version,
    /// What was taken back up to here is no longer remembered, so whoever knows less needs a snapshot.
    floor: Version,
    records: BTreeMap<FactKey, Record>,
    order: BTreeMap<Version, FactKey>,
    /// The removals among the records, oldest first.
    removals: VecDeque<(Instant, Version)>,
}

/// What can be sent of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Excerpt {
    /// Nothing is newer.
    Nothing,
    /// This much.
    Delta(Delta),
    /// What there is does not fit.
    TooLarge,
}

impl Stream {
    /// An empty stream that starts at this version.
    pub(crate) fn new(epoch: Epoch, start: Version) -> Self {
        Self {
            epoch,
            head: start,
            floor: start,
            records: BTreeMap::new(),
            order: BTreeMap::new(),
            removals: VecDeque::new(),
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn head(&self) -> Version {
        self.head
    }

    pub(crate) fn record(&self, key: &FactKey) -> Option<&Record> {
        self.records.get(key)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &FactKey> {
        self.records.keys()
    }

    /// The last version before this one: who knows that much lacks nothing before it.
    pub(crate) fn before(&self, version: Version) -> Version {
        let last = self.order.range(..version).next_back();
        last.map_or(self.floor, |(version, _)| *version)
    }

    /// Adds a fact that is newer than all before.
    pub(crate) fn write(&mut self, version: Version, fact: Fact, now: Instant) {
        debug_assert!(version > self.head, "an owner's versions only grow");
        self.head = version;
        self.put(Record { version, fact }, now);
    }

    /// Takes a delta in, of the same epoch and for what this stream knows; the keys that changed.
    pub(super) fn merge(&mut self, delta: Delta, now: Instant) -> Vec<FactKey> {
        let mut changed = Vec::new();
        if delta.from.is_none() {
            let stays: Vec<FactKey> = delta.records.iter().map(|record| record.fact.key()).collect();
            changed.extend(self.records.keys().filter(|key| !stays.contains(key)).cloned());
            self.records.retain(|key, _| stays.contains(key));
            self.order.retain(|_, key| stays.contains(key));
            self.removals.clear();
            self.floor = delta.to;
        }
        let known = self.head;
        for record in delta.records.into_iter().filter(|record| record.version > known) {
            changed.push(record.fact.key());
            self.put(record, now);
        }
        self.head = self.head.max(delta.to);
        changed
    }

    fn put(&mut self, record: Record, now: Instant) {
        if record.fact.is_removal() {
            self.removals.push_back((now, record.version));
        }
        let key = record.fact.key();
        self.order.insert(record.version, key.clone());
        if let Some(before) = self.records.insert(key, record) {
            self.order.remove(&before.version);
        }
    }

    /// Forgets what was taken back before that moment.
    pub(super) fn forget_removals(&mut self, before: Instant) {
        while let Some((_, version)) = self.removals.pop_front_if(|(at, _)| *at <= before) {
            // It may have been replaced by a later fact.
            if let Some(key) = self.order.remove(&version) {
                self.records.remove(&key);
                self.floor = self.floor.max(version);
            }
        }
    }

    /// What is newer than `from`, for a datagram or frame with that much room. Whoever knows nothing of the stream's
    /// epoch is at [`Version::ZERO`].
    pub(crate) fn excerpt(&self, owner: &NodeName, scope: &Scope, from: Version, room: usize) -> Excerpt {
        if from >= self.head {
            return Excerpt::Nothing;
        }
        // Whoever knows nothing gets all that stands, too: it holds for anyone, however much they learn meanwhile.
        let is_snapshot = from == Version::ZERO || from < self.floor;
        let empty = Delta {
            owner: owner.clone(),
            scope: scope.clone(),
            epoch: self.epoch,
            from: (!is_snapshot).then_some(from),
            to: self.head,
            records: Vec::new(),
        };
        let Some(mut writer) = DeltaWriter::new(empty, room) else {
            return Excerpt::TooLarge;
        };
        let first = if is_snapshot { Version::ZERO } else { from };
        let newer = self
            .order
            .range(first.next()..)
            .filter_map(|(_, key)| self.records.get(key));
        for record in newer {
            if !writer.push(record) {
                // A part cannot say what is no more, which only those need not be told who know nothing.
                let can_be_cut = !is_snapshot || from == Version::ZERO;
                let cut = if can_be_cut { writer.cut() } else { None };
                let cut = cut.map(|part| Delta {
                    from: Some(from),
                    ..part
                });
                return cut.map_or(Excerpt::TooLarge, Excerpt::Delta);
            }
        }
        Excerpt::Delta(writer.whole())
    }
}
