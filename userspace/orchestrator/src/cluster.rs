//! The seam to the store: what is read of the cluster, what happened to it, and what should change in it.

use essaim_objects::{
    ClusterSpec, Config, ConfigId, Network, NetworkId, Node, NodeId, Secret, SecretId, Service, ServiceId,
    Task, TaskId, TaskState, Version,
};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// The time, by both clocks: spans are measured by the one that never jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The leader's wall clock, for what is written in objects.
    pub wall: Timestamp,
    /// Time since any fixed moment of this process.
    pub monotonic: Duration,
}

impl Now {
    /// How much is left of a span that began at a time written in an object. The leader that wrote it may have had
    /// another clock, so never more than the whole span.
    pub fn left_of(self, span: Duration, since: Timestamp) -> Duration {
        let passed = self.wall.duration_since(since);
        let passed = Duration::try_from(passed).unwrap_or_default();
        span.saturating_sub(passed)
    }
}

/// What the deciding parts read of the store, at one index.
pub trait Cluster {
    /// A node.
    fn node(&self, id: NodeId) -> Option<&Arc<Node>>;
    /// All nodes, by identity.
    fn nodes(&self) -> impl Iterator<Item = &Arc<Node>>;
    /// A service.
    fn service(&self, id: ServiceId) -> Option<&Arc<Service>>;
    /// All services, by identity.
    fn services(&self) -> impl Iterator<Item = &Arc<Service>>;
    /// A task.
    fn task(&self, id: TaskId) -> Option<&Arc<Task>>;
    /// All tasks, by identity.
    fn tasks(&self) -> impl Iterator<Item = &Arc<Task>>;
    /// The tasks of a service, those that are over included.
    fn tasks_of_service(&self, id: ServiceId) -> impl Iterator<Item = &Arc<Task>>;
    /// The tasks that were placed on a node, those that are over included.
    fn tasks_on_node(&self, id: NodeId) -> impl Iterator<Item = &Arc<Task>>;
    /// The tasks whose observed state is this.
    fn tasks_in_state(&self, state: TaskState) -> impl Iterator<Item = &Arc<Task>>;
    /// A network.
    fn network(&self, id: NetworkId) -> Option<&Arc<Network>>;
    /// A secret.
    fn secret(&self, id: SecretId) -> Option<&Arc<Secret>>;
    /// A config.
    fn config(&self, id: ConfigId) -> Option<&Arc<Config>>;
    /// What the operator asks of the cluster; nothing before there is one.
    fn spec(&self) -> Option<&ClusterSpec>;
}

/// What happened to an object that the deciding parts watch: what it was and what it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A node was made (nothing before), changed, or went (nothing after).
    Node(Option<Arc<Node>>, Option<Arc<Node>>),
    /// A service was made, changed, or went.
    Service(Option<Arc<Service>>, Option<Arc<Service>>),
    /// A task was made, changed, or went.
    Task(Option<Arc<Task>>, Option<Arc<Task>>),
}

/// A change of one object. An update or removal names the version that was read: it is refused where the object has
/// changed since, and decided anew.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A task is made.
    CreateTask(Arc<Task>),
    /// A task becomes this; its `version` is the one that was read.
    UpdateTask(Arc<Task>),
    /// A task goes.
    RemoveTask(TaskId, Version),
    /// A service becomes this; its `version` is the one that was read.
    UpdateService(Arc<Service>),
    /// A node becomes this; its `version` is the one that was read.
    UpdateNode(Arc<Node>),
}

/// Changes that are made together or not at all.
pub type Unit = Vec<Change>;

/// Units packed into transactions of at most so many changes; a larger unit has one of its own.
pub fn pack(units: Vec<Unit>, most: usize) -> Vec<Unit> {
    let mut packed: Vec<Unit> = Vec::new();
    for unit in units {
        match packed.last_mut() {
            Some(last) if last.len() + unit.len() <= most => last.extend(unit),
            _ => packed.push(unit),
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_left_than_the_whole_span_whatever_the_clocks_say() {
        let wall = Timestamp::from_second(1_000).unwrap();
        let now = Now {
            wall,
            monotonic: Duration::ZERO,
        };
        let five = Duration::from_secs(5);
        for (since, left) in [(1_000, 5), (998, 3), (995, 0), (0, 0), (5_000, 5)] {
            let since = Timestamp::from_second(since).unwrap();
            assert_eq!(now.left_of(five, since), Duration::from_secs(left));
        }
    }

    #[test]
    fn units_are_never_split() {
        let change = || Change::RemoveTask(TaskId::MIN, Version::default());
        let units = [2, 2, 1, 7, 1].map(|count| (0..count).map(|_| change()).collect());
        let sizes: Vec<_> = pack(units.into(), 4).iter().map(Vec::len).collect();
        assert_eq!(sizes, [4, 1, 7, 1]);
    }
}
