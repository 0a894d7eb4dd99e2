//! The facts that this node keeps: of every member about itself, and about tasks on networks it takes part in.
//!
//! Each owner has one stream for itself and one for each network it takes part in, and one count of versions for all of
//! them. A stream is sent as deltas: all that is newer than one version up to another. Since a node only takes a delta
//! that starts where its knowledge ends, its head says all it knows, and comparing heads finds all it lacks.
//!
//! That no old fact comes back rests on four rules. A delta counts only
//! 1. in its owner's newest epoch that this node has heard of,
//! 2. where it reaches beyond the head,
//! 3. for a network that the owner's own stream, in that epoch, says it takes part in, and only if it reaches the version
//!    at which it said so (leaving a network and coming back starts a stream that old deltas do not reach),
//! 4. where this node dropped the stream itself for want of interest: if it reaches what was known then.

mod own;
mod stream;

pub(crate) use own::{OwnFacts, networks_of};
pub(crate) use stream::{Excerpt, Stream};

use crate::digest::{Leaves, OwnerHash};
use crate::epoch::{Epoch, Version};
use crate::fact::{Fact, FactKey, Scope};
use crate::wire::{Delta, Head};
use essaim_model::{NetworkName, NodeName};
use std::collections::BTreeMap;
use std::time::Instant;

/// All streams that this node keeps.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    scopes: BTreeMap<Scope, ScopeStreams>,
    /// Heads of streams that were dropped because this node left the network.
    dropped: BTreeMap<(Scope, NodeName), (Epoch, Version)>,
}

#[derive(Debug, Default)]
struct ScopeStreams {
    by_owner: BTreeMap<NodeName, Stream>,
    leaves: Leaves,
}

/// What came of a delta that was taken in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// Where the stream's head was, in this epoch.
    pub(crate) before: Version,
    /// The facts that changed, those of dropped streams included.
    pub(crate) changed: Vec<FactKey>,
}

/// Why a delta was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotMerged {
    /// All of it is known, or no longer true.
    Old,
    /// This node does not keep facts of the network.
    NoInterest,
    /// It starts beyond what is known.
    Gap,
    /// Its owner is not known to take part in the network.
    Early,
}

impl Facts {
    /// Starts to keep facts of this scope.
    pub(crate) fn keep(&mut self, scope: Scope) {
        self.scopes.entry(scope).or_default();
    }

    pub(crate) fn keeps(&self, scope: &Scope) -> bool {
        self.scopes.contains_key(scope)
    }

    /// Stops to keep facts of this scope; the owners it kept facts of.
    pub(crate) fn stop_keeping(&mut self, scope: &Scope) -> Vec<(NodeName, Stream)> {
        let Some(streams) = self.scopes.remove(scope) else {
            return Vec::new();
        };
        let dropped: Vec<_> = streams.by_owner.into_iter().collect();
        for (owner, stream) in &dropped {
            let key = (scope.clone(), owner.clone());
            self.dropped.insert(key, (stream.epoch(), stream.head()));
        }
        dropped
    }

    /// Forgets all that this owner said.
    pub(crate) fn forget_owner(&mut self, owner: &NodeName) {
        for scope in self.scopes.values_mut() {
            scope.remove(owner);
        }
        self.dropped.retain(|(_, dropped), _| dropped != owner);
    }

    pub(crate) fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    pub(crate) fn stream(&self, scope: &Scope, owner: &NodeName) -> Option<&Stream> {
        self.scopes.get(scope)?.by_owner.get(owner)
    }

    /// The streams of this owner.
    pub(crate) fn streams_of(&self, owner: &NodeName) -> impl Iterator<Item = (&Scope, &Stream)> {
        let scopes = self.scopes.iter();
        scopes.filter_map(move |(scope, streams)| Some((scope, streams.by_owner.get(owner)?)))
    }

    /// The hashes of a scope's heads.
    pub(crate) fn leaves(&self, scope: &Scope) -> Option<&Leaves> {
        Some(&self.scopes.get(scope)?.leaves)
    }

    /// The streams of a scope whose owners are in these leaves.
    pub(crate) fn streams_in(
        &self,
        scope: &Scope,
        leaves: u64,
    ) -> impl Iterator<Item = (&NodeName, &Stream)> {
        let streams = self
            .scopes
            .get(scope)
            .into_iter()
            .flat_map(|scope| &scope.by_owner);
        streams.filter(move |(owner, _)| OwnerHash::of(owner).is_in(leaves))
    }

    /// The heads of a scope's streams whose owners are in these leaves.
    pub(crate) fn heads_in(&self, scope: &Scope, leaves: u64) -> Vec<Head> {
        let head = |(owner, stream): (&NodeName, &Stream)| Head {
            owner: owner.clone(),
            epoch: stream.epoch(),
            version: stream.head(),
        };
        self.streams_in(scope, leaves).map(head).collect()
    }

    /// How far the stream is known in this epoch.
    pub(crate) fn head(&self, scope: &Scope, owner: &NodeName, epoch: Epoch) -> Version {
        let stream = self.stream(scope, owner).filter(|stream| stream.epoch() == epoch);
        stream.map_or(Version::ZERO, Stream::head)
    }

    /// Whether the owner is known to take part in the network; `None` where nothing is known of it at all.
    pub(crate) fn takes_part(&self, owner: &NodeName, network: &NetworkName) -> Option<bool> {
        let own = self.stream(&Scope::Node, owner)?;
        Some(participation(own, network).is_some())
    }

    /// Whether a member keeps facts of this scope, as far as is known; one that has not said counts as if.
    pub(crate) fn may_keep(&self, node: &NodeName, scope: &Scope) -> bool {
        match scope {
            Scope::Node => true,
            Scope::Network(network) => self.takes_part(node, network).unwrap_or(true),
        }
    }

    /// Starts a stream, or starts it anew.
    pub(crate) fn start(&mut self, scope: Scope, owner: &NodeName, stream: Stream) {
        self.scopes.entry(scope).or_default().replace(owner, stream);
    }

    /// Drops one stream.
    pub(crate) fn drop_stream(&mut self, scope: &Scope, owner: &NodeName) -> Option<Stream> {
        self.scopes.get_mut(scope)?.remove(owner)
    }

    /// Writes a fact of this node's own; a later version than all before.
    pub(crate) fn write(
        &mut self,
        scope: &Scope,
        owner: &NodeName,
        version: Version,
        fact: Fact,
        now: Instant,
    ) {
        if let Some(streams) = self.scopes.get_mut(scope) {
            streams.change(owner, |stream| stream.write(version, fact, now));
        }
    }

    /// Takes in a delta of an owner whose newest known epoch is `newest`.
    pub(crate) fn merge(&mut self, delta: Delta, newest: Epoch, now: Instant) -> Result<Merged, NotMerged> {
        let streams = self.scopes.get(&delta.scope).ok_or(NotMerged::NoInterest)?;
        let known = streams.by_owner.get(&delta.owner);
        let state = known.map_or((Epoch::UNHEARD, Version::ZERO), |known| {
            (known.epoch(), known.head())
        });
        if delta.epoch < newest || delta.epoch < state.0 || (delta.epoch, delta.to) <= state {
            return Err(NotMerged::Old);
        }
        let is_fresh = known.is_none() || state.0 < delta.epoch;
        let before = if is_fresh { Version::ZERO } else { state.1 };
        if let Scope::Network(network) = &delta.scope {
            let own = self.stream(&Scope::Node, &delta.owner);
            let own = own
                .filter(|own| own.epoch() == delta.epoch)
                .ok_or(NotMerged::Early)?;
            let since = participation(own, network).ok_or(NotMerged::Early)?;
            if delta.to < since {
                return Err(NotMerged::Old);
            }
        }
        // The first part of a stream is for those who know nothing of it.
        let is_out_of_place = |from| from > before || from == Version::ZERO && before != Version::ZERO;
        if delta.from.is_some_and(is_out_of_place) {
            return Err(NotMerged::Gap);
        }
        let key = (delta.scope.clone(), delta.owner.clone());
        if let Some((epoch, version)) = self.dropped.get(&key) {
            if (delta.epoch, delta.to) < (*epoch, *version) {
                return Err(NotMerged::Old);
            }
            self.dropped.remove(&key);
        }
        let (scope, owner) = key;
        let is_own_stream = scope == Scope::Node;
        let streams = self.scopes.entry(scope).or_default();
        let mut changed = Vec::new();
        if is_fresh {
            let earlier = streams.replace(&owner, Stream::new(delta.epoch, Version::ZERO));
            changed.extend(earlier.iter().flat_map(Stream::keys).cloned());
        }
        streams.change(&owner, |stream| changed.extend(stream.merge(delta, now)));
        if is_own_stream {
            changed.extend(self.drop_earlier_stays(&owner));
        }
        Ok(Merged { before, changed })
    }

    /// Drops the owner's streams of networks that it has left, or left and come back to; what was in them.
    fn drop_earlier_stays(&mut self, owner: &NodeName) -> Vec<FactKey> {
        let Some(own) = self.stream(&Scope::Node, owner) else {
            return Vec::new();
        };
        let is_over = |(scope, stream): &(&Scope, &Stream)| match scope {
            Scope::Node => false,
            Scope::Network(network) => match participation(own, network) {
                None => true,
                // What an earlier run said stands until this one has spoken.
                Some(since) => stream.epoch() == own.epoch() && stream.head() < since,
            },
        };
        let over: Vec<Scope> = self
            .streams_of(owner)
            .filter(is_over)
            .map(|(scope, _)| scope.clone())
            .collect();
        let dropped: Vec<Stream> = over
            .iter()
            .filter_map(|scope| self.drop_stream(scope, owner))
            .collect();
        dropped.iter().flat_map(Stream::keys).cloned().collect()
    }

    /// Forgets what was taken back before that moment.
    pub(crate) fn forget_removals(&mut self, before: Instant) {
        let scopes = self.scopes.values_mut();
        for stream in scopes.flat_map(|scope| scope.by_owner.values_mut()) {
            stream.forget_removals(before);
        }
    }
}

/// Since which version the owner of this stream takes part in the network.
fn participation(own: &Stream, network: &NetworkName) -> Option<Version> {
    let record = own.record(&FactKey::Interest(network.clone()))?;
    (!record.fact.is_removal()).then_some(record.version)
}

impl ScopeStreams {
    fn change(&mut self, owner: &NodeName, change: impl FnOnce(&mut Stream)) {
        let Some(stream) = self.by_owner.get_mut(owner) else {
            return;
        };
        let hash = OwnerHash::of(owner);
        self.leaves
            .toggle(hash, hash.entry(stream.epoch(), stream.head()));
        change(stream);
        self.leaves
            .toggle(hash, hash.entry(stream.epoch(), stream.head()));
    }

    fn replace(&mut self, owner: &NodeName, stream: Stream) -> Option<Stream> {
        let before = self.remove(owner);
        let hash = OwnerHash::of(owner);
        self.leaves
            .toggle(hash, hash.entry(stream.epoch(), stream.head()));
        self.by_owner.insert(owner.clone(), stream);
        before
    }

    fn remove(&mut self, owner: &NodeName) -> Option<Stream> {
        let stream = self.by_owner.remove(owner)?;
        let hash = OwnerHash::of(owner);
        self.leaves
            .toggle(hash, hash.entry(stream.epoch(), stream.head()));
        Some(stream)
    }
}

#[cfg(test)]
mod tests;
