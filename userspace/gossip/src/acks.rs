//! Who has applied what: asked for by owners, said by those that keep their facts.

use crate::epoch::{Epoch, Version};
use crate::fact::Scope;
use crate::view::ViewVersion;
use essaim_model::{NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// What members have told this node they applied of its own streams.
#[derive(Debug, Default)]
pub(crate) struct GivenAcks {
    by_node: BTreeMap<NodeName, Given>,
    /// The tasks whose last word is to be acknowledged, until then.
    requests: BTreeMap<TaskId, Instant>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Given {
    /// The run that said it: a later one may have less.
    epoch: Epoch,
    applied: BTreeMap<Scope, Version>,
}

impl GivenAcks {
    /// Notes what the member says it has applied.
    pub(crate) fn give(&mut self, by: &NodeName, epoch: Epoch, scope: Scope, version: Version) {
        let given = self.by_node.entry(by.clone()).or_insert_with(|| Given::of(epoch));
        if given.epoch < epoch {
            *given = Given::of(epoch);
        }
        if given.epoch == epoch {
            let applied = given.applied.entry(scope).or_default();
            *applied = version.max(*applied);
        }
    }

    /// Whether this run of the member has applied that much.
    pub(crate) fn has(&self, node: &NodeName, epoch: Epoch, scope: &Scope, version: Version) -> bool {
        let given = self.by_node.get(node).filter(|given| given.epoch == epoch);
        let applied = given.and_then(|given| given.applied.get(scope));
        applied.is_some_and(|applied| *applied >= version)
    }

    /// Forgets what a member said of a network that it left or came back to.
    pub(crate) fn forget(&mut self, node: &NodeName, scope: &Scope) {
        if let Some(given) = self.by_node.get_mut(node) {
            given.applied.remove(scope);
        }
    }

    /// Forgets what was said by a node that is no longer a member.
    pub(crate) fn forget_node(&mut self, node: &NodeName) {
        self.by_node.remove(node);
    }

    /// Forgets all, because this node's streams start anew.
    pub(crate) fn forget_all(&mut self) {
        self.by_node.clear();
    }

    /// Asks for acknowledgement of the last word on a task.
    pub(crate) fn request(&mut self, task: TaskId, deadline: Instant, now: Instant) {
        self.requests.insert(task, deadline);
        self.due = Some(now);
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The tasks to be asked about now, without those whose deadline has passed.
    pub(crate) fn current(&mut self, now: Instant) -> Vec<TaskId> {
        self.requests.retain(|_, deadline| *deadline > now);
        self.requests.keys().cloned().collect()
    }

    /// Notes that all have acknowledged.
    pub(crate) fn fulfilled(&mut self, task: &TaskId) {
        self.requests.remove(task);
    }

    /// Says when to ask again.
    pub(crate) fn asked(&mut self, again: Instant) {
        self.due = (!self.requests.is_empty()).then_some(again);
    }
}

impl Given {
    const fn of(epoch: Epoch) -> Self {
        Self {
            epoch,
            applied: BTreeMap::new(),
        }
    }
}

/// What this node has applied of the streams of others, and who asked.
#[derive(Debug, Default)]
pub(crate) struct OwnAcks {
    marks: BTreeMap<(Scope, NodeName), Mark>,
    unapplied: BTreeSet<(Scope, NodeName)>,
    applied: ViewVersion,
}

/// How far a stream has been applied.
#[derive(Debug)]
struct Mark {
    epoch: Epoch,
    applied: Version,
    /// The head, and the view that has it first.
    latest: (ViewVersion, Version),
    /// An earlier head that is applied with that view: a stream in constant change is so acknowledged too.
    waiting: (ViewVersion, Version),
    /// How far the owner asked.
    wanted: Option<Version>,
}

/// An acknowledgement that an owner waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) owner: NodeName,
    pub(crate) scope: Scope,
    pub(crate) epoch: Epoch,
    pub(crate) version: Version,
}

impl OwnAcks {
    /// Notes that a stream has got that far with this view.
    pub(crate) fn advanced(
        &mut self,
        scope: &Scope,
        owner: &NodeName,
        epoch: Epoch,
        head: Version,
        view: ViewVersion,
    ) {
        let key = (scope.clone(), owner.clone());
        let state = (view, head);
        match self.marks.get_mut(&key) {
            Some(mark) if mark.epoch == epoch => {
                if mark.applied == mark.latest.1 {
                    mark.waiting = state;
                }
                mark.latest = state;
            }
            Some(_) | None => {
                let mark = Mark {
                    epoch,
                    applied: Version::ZERO,
                    latest: state,
                    waiting: state,
                    wanted: None,
                };
                self.marks.insert(key.clone(), mark);
            }
        }
        self.unapplied.insert(key);
    }

    /// Notes that this view has been applied; the acknowledgements that are due.
    pub(crate) fn applied(&mut self, view: ViewVersion) -> Vec<Ack> {
        self.applied = self.applied.max(view);
        let unapplied = std::mem::take(&mut self.unapplied);
        let mut acks = Vec::new();
        for key in unapplied {
            let Some(mark) = self.marks.get_mut(&key) else {
                continue;
            };
            mark.apply(self.applied);
            acks.extend(mark.ack_if_wanted(&key));
            if mark.applied != mark.latest.1 {
                self.unapplied.insert(key);
            }
        }
        acks
    }

    /// Notes that the owner asks; the acknowledgement, where it can be given.
    pub(crate) fn wanted(
        &mut self,
        scope: &Scope,
        owner: &NodeName,
        epoch: Epoch,
        version: Version,
    ) -> Option<Ack> {
        let key = (scope.clone(), owner.clone());
        let mark = self.marks.get_mut(&key).filter(|mark| mark.epoch == epoch)?;
        mark.wanted = Some(mark.wanted.map_or(version, |wanted| wanted.max(version)));
        mark.ack_if_wanted(&key)
    }

    /// Forgets a stream that is no longer kept.
    pub(crate) fn forget(&mut self, scope: &Scope, owner: &NodeName) {
        let key = (scope.clone(), owner.clone());
        self.marks.remove(&key);
        self.unapplied.remove(&key);
    }

    /// Forgets the streams of an owner.
    pub(crate) fn forget_owner(&mut self, owner: &NodeName) {
        self.marks.retain(|(_, of), _| of != owner);
        self.unapplied.retain(|(_, of)| of != owner);
    }
}

impl Mark {
    fn apply(&mut self, view: ViewVersion) {
        if self.latest.0 <= view {
            self.applied = self.latest.1;
        } else if self.waiting.0 <= view {
            self.applied = self.waiting.1;
            self.waiting = self.latest;
        }
    }

    fn ack_if_wanted(&mut self, (scope, owner): &(Scope, NodeName)) -> Option<Ack> {
        self.wanted.take_if(|wanted| *wanted <= self.applied)?;
        Some(Ack {
            owner: owner.clone(),
            scope: scope.clone(),
            epoch: self.epoch,
            version: self.applied,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> NodeName {
        NodeName::new("o").unwrap()
    }

    const fn version(number: u64) -> Version {
        Version::from_number(number)
    }

    fn advanced(acks: &mut OwnAcks, head: u64, view: u64) {
        acks.advanced(
            &Scope::Node,
            &owner(),
            Epoch::from_number(1),
            version(head),
            ViewVersion(view),
        );
    }

    fn wanted(acks: &mut OwnAcks, head: u64) -> Option<Version> {
        let ack = acks.wanted(&Scope::Node, &owner(), Epoch::from_number(1), version(head));
        ack.map(|ack| ack.version)
    }

    #[test]
    fn nothing_is_acknowledged_before_its_view_is_applied() {
        let mut acks = OwnAcks::default();
        advanced(&mut acks, 5, 10);
        assert_eq!(wanted(&mut acks, 5), None);
        assert_eq!(acks.applied(ViewVersion(9)), []);
        let given = acks.applied(ViewVersion(10));
        assert_eq!(given[0].version, version(5));
        assert_eq!(acks.applied(ViewVersion(11)), []);
        assert_eq!(wanted(&mut acks, 5), Some(version(5)));
    }

    #[test]
    fn a_stream_in_constant_change_is_acknowledged_too() {
        let mut acks = OwnAcks::default();
        advanced(&mut acks, 1, 1);
        assert_eq!(wanted(&mut acks, 1), None);
        for round in 2..9 {
            advanced(&mut acks, round, round);
            let given = acks.applied(ViewVersion(round - 1));
            if round == 2 {
                assert_eq!(given[0].version, version(1));
            }
        }
        assert!(wanted(&mut acks, 6).is_some_and(|applied| applied >= version(6)));
    }

    #[test]
    fn what_an_earlier_run_of_the_owner_asked_is_not_answered() {
        let mut acks = OwnAcks::default();
        advanced(&mut acks, 5, 1);
        acks.applied(ViewVersion(1));
        acks.advanced(
            &Scope::Node,
            &owner(),
            Epoch::from_number(2),
            version(1),
            ViewVersion(2),
        );
        assert_eq!(wanted(&mut acks, 5), None);
    }

    #[test]
    fn a_later_run_of_a_member_has_acknowledged_nothing() {
        let mut given = GivenAcks::default();
        let node = NodeName::new("n").unwrap();
        let (first, second) = (Epoch::from_number(1), Epoch::from_number(2));
        given.give(&node, first, Scope::Node, version(7));
        assert!(given.has(&node, first, &Scope::Node, version(7)));
        assert!(!given.has(&node, first, &Scope::Node, version(8)));
        assert!(!given.has(&node, second, &Scope::Node, version(7)));
        given.give(&node, second, Scope::Node, version(1));
        given.give(&node, first, Scope::Node, version(9));
        assert!(!given.has(&node, second, &Scope::Node, version(7)));
    }
}
