//! What the caller is shown: the view, and the events of its changes.

use super::Gossip;
use crate::claim::Claim;
use crate::fact::{Fact, FactKey, Scope};
use crate::facts::Stream;
use crate::membership::Change;
use crate::view::MemberView;
use crate::{Event, MemberState, TaskFact, View};
use essaim_ipsec::Said;
use essaim_model::{NetworkName, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

impl Gossip {
    pub(super) fn publish_event(&mut self, event: Event) {
        if self.events.len() == Self::MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The view, to be changed: its version has grown.
    fn next_view(&mut self) -> &mut View {
        let view = Arc::make_mut(&mut self.view);
        view.version = view.version.next();
        view
    }

    /// Shows this node's own claim.
    pub(super) fn publish_self(&mut self) {
        let (name, claim) = (self.name.clone(), self.membership.own_claim());
        let members = &mut self.next_view().members;
        let member = members
            .entry(name)
            .or_insert_with(|| Arc::new(MemberView::unheard(None)));
        let member = Arc::make_mut(member);
        member.epoch = claim.epoch;
        member.incarnation = claim.incarnation;
    }

    pub(super) fn publish_members(
        &mut self,
        peers: &BTreeMap<NodeName, SocketAddr>,
        come: &[NodeName],
        gone: &[NodeName],
    ) {
        let own = self.name.clone();
        let view = self.next_view();
        for node in gone {
            view.members.remove(node);
        }
        for node in come {
            view.members
                .insert(node.clone(), Arc::new(MemberView::unheard(None)));
        }
        for (node, address) in peers.iter().filter(|(node, _)| **node != own) {
            if let Some(member) = view.members.get_mut(node) {
                Arc::make_mut(member).address = Some(*address);
            }
        }
        for node in gone {
            self.publish_event(Event::MemberLeft { node: node.clone() });
        }
    }

    pub(super) fn publish_change(&mut self, change: &Change) {
        let Change { about, before, after } = change;
        let Claim {
            epoch,
            incarnation,
            state,
        } = *after;
        self.next_view();
        if let Some(member) = self.member(about) {
            member.epoch = epoch;
            member.incarnation = incarnation;
            member.state = state;
        }
        let node = about.clone();
        let is_another = before.state != state;
        match state {
            MemberState::Alive if is_another || before.epoch != epoch => {
                self.publish_event(Event::MemberUp { node, epoch });
            }
            MemberState::Suspect => self.publish_event(Event::MemberSuspect { node }),
            MemberState::Down if is_another => self.publish_event(Event::MemberDown { node }),
            MemberState::Alive | MemberState::Down => {}
        }
    }

    /// Shows what an owner's streams now say of these keys.
    pub(super) fn publish_facts(&mut self, owner: &NodeName, keys: &[FactKey]) {
        let keys: BTreeSet<&FactKey> = keys.iter().collect();
        // Even where nothing is to be seen of it: a head is acknowledged with the view that has it.
        self.next_view();
        for key in keys {
            match key {
                FactKey::Task(task) => self.publish_task(owner, task),
                FactKey::Interest(network) => self.publish_interest(owner, network),
                FactKey::Vtep | FactKey::CatalogApplied => self.publish_own_fact(owner, key),
                FactKey::Ipsec | FactKey::Hears(_) => self.publish_ipsec(owner),
            }
        }
    }

    fn member(&mut self, node: &NodeName) -> Option<&mut MemberView> {
        Arc::make_mut(&mut self.view)
            .members
            .get_mut(node)
            .map(Arc::make_mut)
    }

    fn publish_own_fact(&mut self, owner: &NodeName, key: &FactKey) {
        let stream = self.facts.stream(&Scope::Node, owner);
        let fact = stream
            .and_then(|stream| stream.record(key))
            .map(|record| record.fact.clone());
        let Some(member) = self.member(owner) else { return };
        match fact {
            Some(Fact::Vtep(vtep)) => member.vtep = vtep,
            Some(Fact::CatalogApplied(revision)) => {
                let before = member.catalog_applied.replace(revision);
                if before != Some(revision) {
                    let node = owner.clone();
                    self.publish_event(Event::CatalogApplied { node, revision });
                }
            }
            // Its new run has not said; the earlier word is all there is.
            None
            | Some(Fact::Ipsec { .. } | Fact::Hears { .. } | Fact::Interest { .. } | Fact::Task { .. }) => {}
        }
    }

    /// Shows which keys of encrypted networks an owner holds, as of its present run.
    fn publish_ipsec(&mut self, owner: &NodeName) {
        let mut said: Option<Said> = None;
        let mut heard = Vec::new();
        let stream = self.facts.stream(&Scope::Node, owner);
        for record in stream.into_iter().flat_map(Stream::records) {
            match &record.fact {
                Fact::Ipsec { salt, held } => {
                    said = Some(Said {
                        salt: *salt,
                        held: *held,
                        heard: BTreeMap::new(),
                    });
                }
                Fact::Hears {
                    peer,
                    salts: Some((theirs, own)),
                } => heard.push((peer.clone(), *theirs, *own)),
                Fact::Hears { salts: None, .. }
                | Fact::Vtep(_)
                | Fact::CatalogApplied(_)
                | Fact::Interest { .. }
                | Fact::Task { .. } => {}
            }
        }
        if let Some(said) = &mut said {
            // What was said with an earlier salt counts no more.
            let with_this = heard.into_iter().filter(|(_, _, own)| *own == said.salt);
            said.heard = with_this.map(|(peer, theirs, _)| (peer, theirs)).collect();
        }
        if let Some(member) = self.member(owner) {
            member.ipsec = said;
        }
    }

    fn publish_interest(&mut self, owner: &NodeName, network: &NetworkName) {
        let takes_part = self.facts.takes_part(owner, network).unwrap_or(false);
        let Some(member) = self.member(owner) else { return };
        if takes_part {
            member.interests.insert(network.clone());
        } else {
            member.interests.remove(network);
        }
    }

    fn publish_task(&mut self, owner: &NodeName, task: &TaskId) {
        let mut fact = self.task_fact(owner, task);
        let Some(member) = self.member(owner) else { return };
        if let (Some(shown), Some(fact)) = (member.tasks.get(task), &mut fact)
            && (fact.epoch, fact.version) < (shown.epoch, shown.version)
        {
            // This node left the network on which it heard the later word before it heard it on the others.
            let networks = std::mem::take(&mut fact.networks);
            *fact = TaskFact {
                networks,
                ..shown.clone()
            };
        }
        let state = fact.as_ref().map(|fact| fact.state);
        let before = match fact {
            Some(fact) => member.tasks.insert(task.clone(), fact),
            None => member.tasks.remove(task),
        };
        if before.map(|before| before.state) != state {
            self.publish_event(Event::TaskChanged {
                node: owner.clone(),
                task: task.clone(),
                state,
            });
        }
    }

    /// The owner's last word on a task, of all its streams that this node keeps.
    fn task_fact(&self, owner: &NodeName, task: &TaskId) -> Option<TaskFact> {
        let key = FactKey::Task(task.clone());
        let said = |(scope, stream): (&Scope, &Stream)| {
            let record = stream.record(&key)?;
            let network = match scope {
                Scope::Network(network) => network.clone(),
                Scope::Node => return None,
            };
            match record.fact {
                Fact::Task { state, .. } => Some((stream.epoch(), record.version, state, network)),
                Fact::Vtep(_)
                | Fact::CatalogApplied(_)
                | Fact::Ipsec { .. }
                | Fact::Hears { .. }
                | Fact::Interest { .. } => None,
            }
        };
        let said: Vec<_> = self.facts.streams_of(owner).filter_map(said).collect();
        let standing = said
            .iter()
            .filter_map(|(epoch, version, state, _)| Some((*epoch, *version, (*state)?)));
        let (epoch, version, state) = standing.max_by_key(|(epoch, version, _)| (*epoch, *version))?;
        let on = said.into_iter().filter(|(_, _, state, _)| state.is_some());
        Some(TaskFact {
            state,
            version,
            epoch,
            networks: on.map(|(_, _, _, network)| network).collect(),
        })
    }
}
