//! The core: everything a node does in gossip, without a socket, a clock or a source of randomness.

use crate::{Action, Config, Counters, DropReason, Epoch, Event, KeyRing, View, ViewVersion};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What a run of a node starts with.
#[derive(Clone, Debug)]
pub struct Start {
    /// This node.
    pub name: NodeName,
    /// The last epoch that this node is known to have used; [`Epoch::UNHEARD`] where none was kept.
    pub last_epoch: Epoch,
    /// The wall clock, in milliseconds since 1970.
    pub wall_clock_ms: u64,
    /// 32 random bytes of the operating system's: nonces and the choice of peers come from them.
    pub seed: [u8; 32],
    /// The keys.
    pub keys: KeyRing,
    /// The pace.
    pub config: Config,
}

/// A task of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnTask {
    /// How far it is.
    pub state: TaskState,
    /// The networks it is on. Those that keep facts of them are told; `ingress` belongs here where the task takes
    /// traffic of published ports, since every node keeps facts of that network.
    pub networks: BTreeSet<NetworkName>,
}

/// More than a node may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too many tasks; nothing was changed.
    #[error("{found} tasks, expected at most {most}")]
    Tasks {
        /// How many.
        found: usize,
        /// The most.
        most: usize,
    },
    /// Too many networks; nothing was changed.
    #[error("{found} networks, expected at most {most}")]
    Networks {
        /// How many.
        found: usize,
        /// The most.
        most: usize,
    },
}

/// A node's gossip.
///
/// After every call, take what [`Gossip::poll_action`] and [`Gossip::poll_event`] have, and call
/// [`Gossip::handle_timeout`] when [`Gossip::poll_timeout`] has come.
pub struct Gossip {
    _todo: (),
}

impl Gossip {
    /// The most tasks of a node.
    pub const MAX_TASKS: usize = 4_096;
    /// The most networks of a node, those of its tasks and `ingress` included.
    pub const MAX_NETWORKS: usize = 1_024;

    /// A node without peers, tasks or interests.
    pub fn new(start: Start, now: Instant) -> Self {
        todo!()
    }

    /// This node.
    pub fn name(&self) -> &NodeName {
        todo!()
    }

    /// This run's epoch; to be kept, and handed to the next run.
    pub fn epoch(&self) -> Epoch {
        todo!()
    }

    /// Says who the members are (this node may be among them or not); facts of others are forgotten.
    pub fn set_peers(&mut self, peers: BTreeMap<NodeName, SocketAddr>, now: Instant) {
        todo!()
    }

    /// Says which networks this node takes part in, besides `ingress` and those of its own tasks.
    ///
    /// # Errors
    /// There are too many.
    pub fn set_interests(&mut self, networks: BTreeSet<NetworkName>, now: Instant) -> Result<(), TooMuch> {
        todo!()
    }

    /// Says which tasks this node has. A task that is no longer among them is no longer spoken of, so one that has
    /// ended should stay, as gone, for as long as the catalog has it.
    ///
    /// # Errors
    /// There are too many of them, or of their networks.
    pub fn set_tasks(&mut self, tasks: BTreeMap<TaskId, OwnTask>, now: Instant) -> Result<(), TooMuch> {
        todo!()
    }

    /// Says at which underlay address this node has its VTEP.
    pub fn set_vtep(&mut self, vtep: Option<IpAddr>, now: Instant) {
        todo!()
    }

    /// Says which revision of the catalog this node has applied.
    pub fn set_catalog_applied(&mut self, revision: u64, now: Instant) {
        todo!()
    }

    /// Replaces the keys, from the next datagram on.
    pub fn set_keys(&mut self, keys: KeyRing) {
        todo!()
    }

    /// Says that this node's data plane has all that the view of this version says.
    pub fn applied(&mut self, version: ViewVersion, now: Instant) {
        todo!()
    }

    /// Asks the members for acknowledgements of this node's last word on a task, and asks again until all have
    /// given theirs or the deadline has passed.
    pub fn request_acks(&mut self, task: &TaskId, deadline: Instant, now: Instant) {
        todo!()
    }

    /// The reachable members that keep facts of the task's networks and have not applied this node's last word on it,
    /// as far as this node knows. Empty for a task that this node does not speak of.
    pub fn pending_acks(&self, task: &TaskId) -> BTreeSet<NodeName> {
        todo!()
    }

    /// Takes in a datagram.
    ///
    /// # Errors
    /// It was dropped, and counted.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
        todo!()
    }

    /// Takes in a frame of an exchange, and returns the one to answer with, if any.
    ///
    /// # Errors
    /// It was dropped, and counted; the exchange is over.
    pub fn handle_frame(&mut self, frame: &[u8], now: Instant) -> Result<Option<Vec<u8>>, DropReason> {
        todo!()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// When [`Gossip::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// The next effect.
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }

    /// The next change.
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    /// What this node knows; cheap.
    pub fn view(&self) -> Arc<View> {
        todo!()
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
