//! What a node knows: the members and the facts each of them owns.

use crate::epoch::{Epoch, Incarnation, Version};
use essaim_ipsec::Said;
use essaim_model::{Catalog, Liveness, NetworkName, NodeName, NodeState, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Counts the changes of a [`View`]; within one run it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewVersion(pub(crate) u64);

impl ViewVersion {
    /// The number.
    pub const fn number(self) -> u64 {
        self.0
    }

    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Whether a member is there, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It answers, or was never asked.
    Alive,
    /// It did not answer and may still contradict; it counts as up.
    Suspect,
    /// It did not contradict in time.
    Down,
}

/// All that a node knows at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Grows with every change of what follows.
    pub version: ViewVersion,
    /// The members, this node included.
    pub members: BTreeMap<NodeName, Arc<MemberView>>,
}

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Where it receives gossip; `None` for this node itself.
    pub address: Option<SocketAddr>,
    /// Whether it is there.
    pub state: MemberState,
    /// Its run; [`Epoch::UNHEARD`] until it was heard of.
    pub epoch: Epoch,
    /// How often it had to contradict a suspicion.
    pub incarnation: Incarnation,
    /// The catalog revision it has applied.
    pub catalog_applied: Option<u64>,
    /// What it says of the keys of encrypted networks.
    pub ipsec: Option<Said>,
    /// The underlay address it sends and receives VXLAN at.
    pub vtep: Option<IpAddr>,
    /// The networks it keeps facts of.
    pub interests: BTreeSet<NetworkName>,
    /// Its tasks on the networks that this node keeps facts of.
    pub tasks: BTreeMap<TaskId, TaskFact>,
}

impl MemberView {
    pub(crate) const fn unheard(address: Option<SocketAddr>) -> Self {
        Self {
            address,
            state: MemberState::Alive,
            epoch: Epoch::UNHEARD,
            incarnation: Incarnation::from_number(0),
            catalog_applied: None,
            ipsec: None,
            vtep: None,
            interests: BTreeSet::new(),
            tasks: BTreeMap::new(),
        }
    }
}

/// What its owner says of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFact {
    /// How far it is.
    pub state: TaskState,
    /// When that was said, on the owner's count.
    pub version: Version,
    /// The run of the owner that said it.
    pub epoch: Epoch,
    /// Its networks, as far as this node keeps facts of them.
    pub networks: BTreeSet<NetworkName>,
}

impl View {
    /// What is known of a task that runs on that node.
    pub fn task(&self, node: &NodeName, task: &TaskId) -> Option<&TaskFact> {
        self.members.get(node)?.tasks.get(task)
    }

    /// What counts for the plan: members that are down are down, and a task is as far as the node that the catalog
    /// places it on says. Where a node was never heard of, the catalog speaks.
    pub fn liveness(&self, catalog: &Catalog) -> Liveness {
        let is_down = |node: &essaim_model::Node| match self.members.get(&node.name) {
            Some(member) if member.state == MemberState::Down => true,
            Some(member) if member.epoch.is_heard() => false,
            Some(_) | None => node.state == NodeState::Down,
        };
        let down = catalog.nodes.iter().filter(|node| is_down(node));
        let tasks = catalog.services.iter().flat_map(|service| &service.tasks);
        let reported = tasks.filter_map(|task| {
            let fact = self.task(&task.node, &task.id)?;
            Some((task.id.clone(), fact.state))
        });
        Liveness {
            nodes_down: down.map(|node| node.name.clone()).collect(),
            tasks: reported.collect(),
            ..Liveness::default()
        }
    }
}

/// A change of what a node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A member was heard of for the first time in this epoch, or has contradicted.
    MemberUp {
        /// The member.
        node: NodeName,
        /// Its run.
        epoch: Epoch,
    },
    /// A member does not answer.
    MemberSuspect {
        /// The member.
        node: NodeName,
    },
    /// A member did not contradict in time.
    MemberDown {
        /// The member.
        node: NodeName,
    },
    /// A node is no longer a member.
    MemberLeft {
        /// The node.
        node: NodeName,
    },
    /// A task's owner says how far it is.
    TaskChanged {
        /// The owner.
        node: NodeName,
        /// The task.
        task: TaskId,
        /// How far it is; `None` where the owner no longer speaks of it, or not to this node.
        state: Option<TaskState>,
    },
    /// A member has applied a revision of the catalog.
    CatalogApplied {
        /// The member.
        node: NodeName,
        /// The revision.
        revision: u64,
    },
    /// Another run of this node had a greater epoch (its disk was lost, or its clock went back), so this run took
    /// a new one, which should be kept.
    EpochRenewed {
        /// The new epoch.
        epoch: Epoch,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: MemberState, epoch: u64) -> View {
        let mut view = View::default();
        let member = MemberView {
            state,
            epoch: Epoch::from_number(epoch),
            ..MemberView::unheard(None)
        };
        view.members
            .insert(NodeName::new("n2").unwrap(), Arc::new(member));
        view
    }

    #[test]
    fn the_catalog_speaks_for_a_node_that_was_never_heard_of() {
        let mut catalog = Catalog::parse(essaim_model::example()).unwrap();
        let n2 = NodeName::new("n2").unwrap();
        catalog
            .nodes
            .iter_mut()
            .find(|node| node.name == n2)
            .unwrap()
            .state = NodeState::Down;
        for (state, epoch, down) in [
            (MemberState::Alive, 0, true),
            (MemberState::Alive, 7, false),
            (MemberState::Suspect, 7, false),
            (MemberState::Down, 7, true),
            (MemberState::Down, 0, true),
        ] {
            let liveness = view(state, epoch).liveness(&catalog);
            assert_eq!(liveness.nodes_down.contains(&n2), down, "{state:?} {epoch}");
        }
    }

    #[test]
    fn only_the_node_that_runs_a_task_speaks_for_it() {
        let catalog = Catalog::parse(essaim_model::example()).unwrap();
        let task = catalog
            .services
            .iter()
            .flat_map(|service| &service.tasks)
            .next()
            .unwrap();
        let fact = TaskFact {
            state: TaskState::Draining,
            version: Version::from_number(1),
            epoch: Epoch::from_number(1),
            networks: BTreeSet::new(),
        };
        for (owner, reported) in [
            (task.node.clone(), true),
            (NodeName::new("other").unwrap(), false),
        ] {
            let mut view = View::default();
            let mut member = MemberView::unheard(None);
            member.tasks.insert(task.id.clone(), fact.clone());
            view.members.insert(owner, Arc::new(member));
            assert_eq!(view.liveness(&catalog).tasks.contains_key(&task.id), reported);
        }
    }
}
