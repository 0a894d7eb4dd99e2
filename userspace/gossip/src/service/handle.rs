//! What the rest of the node holds of a running service.

use crate::{Counters, Epoch, Event, KeyRing, OwnTask, View, ViewVersion};
use essaim_model::{NetworkName, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};

/// The service has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gossip has ended")]
pub struct Stopped;

/// A handle to a running service; cheap to clone. What is said through one handle is taken in order.
#[derive(Clone, Debug)]
pub struct GossipHandle {
    view: watch::Receiver<Arc<View>>,
    events: broadcast::Sender<Event>,
}

impl GossipHandle {
    /// Says who the members are; see [`crate::Gossip::set_peers`].
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_peers(&self, peers: BTreeMap<NodeName, SocketAddr>) -> Result<(), Stopped> {
        todo!()
    }

    /// Says which networks this node takes part in; see [`crate::Gossip::set_interests`].
    ///
    /// # Errors
    /// The service has ended. Too many networks are left out, with a warning.
    pub async fn set_interests(&self, networks: BTreeSet<NetworkName>) -> Result<(), Stopped> {
        todo!()
    }

    /// Says which tasks this node has; see [`crate::Gossip::set_tasks`].
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_tasks(&self, tasks: BTreeMap<TaskId, OwnTask>) -> Result<(), Stopped> {
        todo!()
    }

    /// Says where this node's VTEP is.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_vtep(&self, vtep: Option<IpAddr>) -> Result<(), Stopped> {
        todo!()
    }

    /// Says which revision of the catalog this node has applied.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_catalog_applied(&self, revision: u64) -> Result<(), Stopped> {
        todo!()
    }

    /// Says that the data plane has all that the view of this version says; see [`crate::Gossip::applied`].
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_applied(&self, version: ViewVersion) -> Result<(), Stopped> {
        todo!()
    }

    /// Replaces the keys.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_keys(&self, keys: KeyRing) -> Result<(), Stopped> {
        todo!()
    }

    /// Waits until every reachable member that keeps facts of the task's networks has applied this node's last word on
    /// it, for at most `within`. Returns those that had not by then.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn wait_acks(&self, task: TaskId, within: Duration) -> Result<BTreeSet<NodeName>, Stopped> {
        todo!()
    }

    /// What the node knows, now and as it changes.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Every change from now on. A receiver that falls behind is told how many it missed.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// This run's epoch, to be kept and handed to the next run; it changes where another run is found to have had a
    /// greater one.
    pub fn epoch(&self) -> watch::Receiver<Epoch> {
        todo!()
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
