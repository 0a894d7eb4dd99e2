//! What this node says: its streams are brought to what the caller told it.

use super::{Facts, Stream};
use crate::epoch::{Epoch, Version};
use crate::fact::{Fact, FactKey, Scope};
use crate::gossip::OwnTask;
use essaim_ipsec::Said;
use essaim_model::{NetworkName, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

/// What the caller said about this node.
#[derive(Debug)]
pub(crate) struct OwnFacts {
    name: NodeName,
    epoch: Epoch,
    clock: Version,
    pub(crate) tasks: BTreeMap<TaskId, OwnTask>,
    pub(crate) interests: BTreeSet<NetworkName>,
    pub(crate) vtep: Option<IpAddr>,
    pub(crate) catalog_applied: Option<u64>,
    pub(crate) ipsec: Option<Said>,
}

/// A change of one of this node's own streams.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) scope: Scope,
    /// Where the stream's head was.
    pub(crate) before: Version,
    pub(crate) changed: Vec<FactKey>,
}

impl OwnFacts {
    pub(crate) fn new(name: NodeName, epoch: Epoch) -> Self {
        Self {
            name,
            epoch,
            clock: Version::ZERO,
            tasks: BTreeMap::new(),
            interests: BTreeSet::new(),
            vtep: None,
            catalog_applied: None,
            ipsec: None,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes a new epoch, in which everything is to be said again.
    pub(crate) fn renew(&mut self, epoch: Epoch, facts: &mut Facts) {
        debug_assert!(epoch > self.epoch, "epochs only grow");
        self.epoch = epoch;
        let scopes: Vec<Scope> = facts.scopes().cloned().collect();
        for scope in scopes {
            facts.drop_stream(&scope, &self.name);
        }
    }

    /// The networks this node takes part in: `ingress`, those it was told of, and those of its tasks.
    pub(crate) fn networks(&self) -> BTreeSet<NetworkName> {
        networks_of(&self.interests, &self.tasks)
    }

    /// The version of this node's last word on a task, and the networks where it was said.
    pub(crate) fn last_word(&self, facts: &Facts, task: &TaskId) -> Option<(Version, Vec<Scope>)> {
        let key = FactKey::Task(task.clone());
        let said: Vec<(Version, Scope)> = facts
            .streams_of(&self.name)
            .filter_map(|(scope, stream)| Some((stream.record(&key)?.version, scope.clone())))
            .collect();
        let version = said.iter().map(|(version, _)| *version).max()?;
        Some((version, said.into_iter().map(|(_, scope)| scope).collect()))
    }

    /// Brings this node's streams to what it has to say.
    pub(crate) fn write_to(&mut self, facts: &mut Facts, now: Instant) -> Vec<Written> {
        let mut journal = Journal::default();
        let networks = self.networks();
        self.write_node(facts, &networks, &mut journal, now);
        self.write_tasks(facts, &mut journal, now);
        journal.0
    }

    fn write_node(
        &mut self,
        facts: &mut Facts,
        networks: &BTreeSet<NetworkName>,
        journal: &mut Journal,
        now: Instant,
    ) {
        if facts.stream(&Scope::Node, &self.name).is_none() {
            facts.start(Scope::Node, &self.name, Stream::new(self.epoch, Version::ZERO));
        }
        let vtep = Some(Fact::Vtep(self.vtep));
        let catalog = self.catalog_applied.map(Fact::CatalogApplied);
        for fact in vtep.into_iter().chain(catalog) {
            self.write_if_news(facts, &Scope::Node, fact, journal, now);
        }
        for fact in self.ipsec_facts(facts) {
            self.write_if_news(facts, &Scope::Node, fact, journal, now);
        }
        let interest = |network: &NetworkName, takes_part| Fact::Interest {
            network: network.clone(),
            takes_part,
        };
        let left: Vec<NetworkName> = facts
            .stream(&Scope::Node, &self.name)
            .into_iter()
            .flat_map(Stream::records)
            .filter_map(|record| match &record.fact {
                Fact::Interest { network, takes_part } if *takes_part => Some(network.clone()),
                Fact::Interest { .. }
                | Fact::Vtep(_)
                | Fact::CatalogApplied(_)
                | Fact::Ipsec { .. }
                | Fact::Hears { .. }
                | Fact::Task { .. } => None,
            })
            .filter(|network| !networks.contains(network))
            .collect();
        for network in &left {
            self.write_if_news(facts, &Scope::Node, interest(network, false), journal, now);
            let scope = Scope::Network(network.clone());
            let dropped = facts.drop_stream(&scope, &self.name);
            let keys = dropped.iter().flat_map(Stream::keys).cloned();
            journal.note(&scope, self.clock, keys);
        }
        for network in networks {
            self.write_if_news(facts, &Scope::Node, interest(network, true), journal, now);
            let scope = Scope::Network(network.clone());
            if facts.stream(&scope, &self.name).is_none() {
                // It starts at the version that says so: what is older belongs to an earlier stay.
                journal.note(&scope, Version::ZERO, []);
                facts.start(scope, &self.name, Stream::new(self.epoch, self.clock));
            }
        }
    }

    /// What this node says of its part in IPsec, the peers that it no longer hears taken back.
    fn ipsec_facts(&self, facts: &Facts) -> Vec<Fact> {
        let Some(Said { salt, held, heard }) = &self.ipsec else {
            return Vec::new();
        };
        let stream = facts.stream(&Scope::Node, &self.name);
        let said = stream.into_iter().flat_map(Stream::records);
        let gone = said.filter_map(|record| match &record.fact {
            Fact::Hears { peer, salts: Some(_) } if !heard.contains_key(peer) => Some(Fact::Hears {
                peer: peer.clone(),
                salts: None,
            }),
            Fact::Hears { .. }
            | Fact::Vtep(_)
            | Fact::CatalogApplied(_)
            | Fact::Ipsec { .. }
            | Fact::Interest { .. }
            | Fact::Task { .. } => None,
        });
        let (salt, held) = (*salt, *held);
        let hears = heard.iter().map(|(peer, theirs)| Fact::Hears {
            peer: peer.clone(),
            salts: Some((*theirs, salt)),
        });
        [Fact::Ipsec { salt, held }]
            .into_iter()
            .chain(gone)
            .chain(hears)
            .collect()
    }

    fn write_tasks(&mut self, facts: &mut Facts, journal: &mut Journal, now: Instant) {
        let said: Vec<(Scope, TaskId)> = facts
            .streams_of(&self.name)
            .flat_map(|(scope, stream)| stream.records().map(move |record| (scope, &record.fact)))
            .filter_map(|(scope, fact)| match fact {
                Fact::Task { task, state: Some(_) } => Some((scope.clone(), task.clone())),
                Fact::Task { state: None, .. }
                | Fact::Vtep(_)
                | Fact::CatalogApplied(_)
                | Fact::Ipsec { .. }
                | Fact::Hears { .. }
                | Fact::Interest { .. } => None,
            })
            .collect();
        for (scope, task) in said {
            let stays = self.tasks.get(&task).is_some_and(|own| match &scope {
                Scope::Network(network) => own.networks.contains(network),
                Scope::Node => false,
            });
            if !stays {
                self.write_if_news(facts, &scope, Fact::Task { task, state: None }, journal, now);
            }
        }
        for (task, own) in std::mem::take(&mut self.tasks) {
            self.write_task(facts, &task, &own, journal, now);
            self.tasks.insert(task, own);
        }
    }

    /// Says the same of a task, under the same version, on all its networks.
    fn write_task(
        &mut self,
        facts: &mut Facts,
        task: &TaskId,
        own: &OwnTask,
        journal: &mut Journal,
        now: Instant,
    ) {
        let fact = Fact::Task {
            task: task.clone(),
            state: Some(own.state),
        };
        let scopes: Vec<Scope> = own.networks.iter().cloned().map(Scope::Network).collect();
        if !scopes.iter().any(|scope| self.is_news(facts, scope, &fact)) {
            return;
        }
        self.clock = self.clock.next();
        for scope in scopes {
            self.write(facts, &scope, fact.clone(), journal, now);
        }
    }

    fn write_if_news(
        &mut self,
        facts: &mut Facts,
        scope: &Scope,
        fact: Fact,
        journal: &mut Journal,
        now: Instant,
    ) {
        if self.is_news(facts, scope, &fact) {
            self.clock = self.clock.next();
            self.write(facts, scope, fact, journal, now);
        }
    }

    fn is_news(&self, facts: &Facts, scope: &Scope, fact: &Fact) -> bool {
        let stream = facts.stream(scope, &self.name);
        let said = stream.and_then(|stream| stream.record(&fact.key()));
        said.is_none_or(|said| said.fact != *fact)
    }

    /// Writes under the clock's version.
    fn write(&self, facts: &mut Facts, scope: &Scope, fact: Fact, journal: &mut Journal, now: Instant) {
        let before = facts.head(scope, &self.name, self.epoch);
        journal.note(scope, before, [fact.key()]);
        facts.write(scope, &self.name, self.clock, fact, now);
    }
}

/// The networks of a node with these interests and tasks.
pub(crate) fn networks_of(
    interests: &BTreeSet<NetworkName>,
    tasks: &BTreeMap<TaskId, OwnTask>,
) -> BTreeSet<NetworkName> {
    let of_tasks = tasks.values().flat_map(|task| &task.networks);
    let all = interests.iter().chain(of_tasks).cloned();
    all.chain([NetworkName::ingress()]).collect()
}

/// What has been written, by stream.
#[derive(Default)]
struct Journal(Vec<Written>);

impl Journal {
    fn note(&mut self, scope: &Scope, before: Version, keys: impl IntoIterator<Item = FactKey>) {
        match self.0.iter_mut().find(|written| written.scope == *scope) {
            Some(written) => written.changed.extend(keys),
            None => self.0.push(Written {
                scope: scope.clone(),
                before,
                changed: keys.into_iter().collect(),
            }),
        }
    }
}

/// A task, for tests.
#[cfg(test)]
pub(crate) fn own_task(state: essaim_model::TaskState, networks: &[&str]) -> OwnTask {
    OwnTask {
        state,
        networks: networks
            .iter()
            .map(|name| NetworkName::new(name).unwrap())
            .collect(),
    }
}
