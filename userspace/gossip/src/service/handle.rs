//! What the rest of the node holds of a running service.

use super::command::Command;
use crate::{Counters, Epoch, Event, KeyRing, OwnTask, TooMuch, View, ViewVersion};
use essaim_ipsec::Said;
use essaim_model::{NetworkName, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// The service has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gossip has ended")]
pub struct Stopped;

/// Why something was not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// It was too much; what was said before stands.
    #[error("failed to say so much by gossip")]
    TooMuch(#[source] TooMuch),
    /// The service has ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A handle to a running service; cheap to clone. What is said through one handle is taken in order.
#[derive(Clone, Debug)]
pub struct GossipHandle {
    commands: mpsc::Sender<Command>,
    view: watch::Receiver<Arc<View>>,
    epoch: watch::Receiver<Epoch>,
    counters: watch::Receiver<Counters>,
    events: broadcast::WeakSender<Event>,
}

impl GossipHandle {
    pub(super) fn new(
        commands: mpsc::Sender<Command>,
        view: &watch::Sender<Arc<View>>,
        epoch: &watch::Sender<Epoch>,
        counters: &watch::Sender<Counters>,
        events: broadcast::WeakSender<Event>,
    ) -> Self {
        Self {
            commands,
            view: view.subscribe(),
            epoch: epoch.subscribe(),
            counters: counters.subscribe(),
            events,
        }
    }

    /// Says who the members are; see [`crate::Gossip::set_peers`]. Tasks and interests should be said before.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_peers(&self, peers: BTreeMap<NodeName, SocketAddr>) -> Result<(), Stopped> {
        self.send(Command::Peers(peers)).await
    }

    /// Says which networks this node takes part in; see [`crate::Gossip::set_interests`].
    ///
    /// # Errors
    /// There are too many, or the service has ended.
    pub async fn set_interests(&self, networks: BTreeSet<NetworkName>) -> Result<(), SayError> {
        self.say(|answer| Command::Interests(networks, answer)).await
    }

    /// Says which tasks this node has; see [`crate::Gossip::set_tasks`].
    ///
    /// # Errors
    /// There are too many, or the service has ended.
    pub async fn set_tasks(&self, tasks: BTreeMap<TaskId, OwnTask>) -> Result<(), SayError> {
        self.say(|answer| Command::Tasks(tasks, answer)).await
    }

    /// Says where this node's VTEP is.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_vtep(&self, vtep: Option<IpAddr>) -> Result<(), Stopped> {
        self.send(Command::Vtep(vtep)).await
    }

    /// Says which revision of the catalog this node has applied.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_catalog_applied(&self, revision: u64) -> Result<(), Stopped> {
        self.send(Command::CatalogApplied(revision)).await
    }

    /// Says which keys of encrypted networks this node holds.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_ipsec(&self, said: Said) -> Result<(), Stopped> {
        self.send(Command::Ipsec(said)).await
    }

    /// Says that the data plane has all that the view of this version says; see [`crate::Gossip::applied`].
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_applied(&self, version: ViewVersion) -> Result<(), Stopped> {
        self.send(Command::Applied(version)).await
    }

    /// Replaces the keys.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn set_keys(&self, keys: KeyRing) -> Result<(), Stopped> {
        self.send(Command::Keys(keys)).await
    }

    /// Waits until every reachable member that keeps facts of the task's networks has applied this node's last word on
    /// it, for at most `within`. Returns those that had not by then.
    ///
    /// # Errors
    /// The service has ended.
    pub async fn wait_acks(&self, task: TaskId, within: Duration) -> Result<BTreeSet<NodeName>, Stopped> {
        let (answer, pending) = oneshot::channel();
        self.send(Command::WaitAcks { task, within, answer }).await?;
        pending.await.or(Err(Stopped))
    }

    /// What the node knows, now and as it changes.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// Every change from now on. A receiver that falls behind is told how many it missed.
    ///
    /// # Errors
    /// The service has ended.
    pub fn events(&self) -> Result<broadcast::Receiver<Event>, Stopped> {
        self.events
            .upgrade()
            .map(|events| events.subscribe())
            .ok_or(Stopped)
    }

    /// This run's epoch, to be kept and handed to the next run; it changes where another run is found to have had a
    /// greater one.
    pub fn epoch(&self) -> watch::Receiver<Epoch> {
        self.epoch.clone()
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        *self.counters.borrow()
    }

    async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.or(Err(Stopped))
    }

    async fn say(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), TooMuch>>) -> Command,
    ) -> Result<(), SayError> {
        let (answer, said) = oneshot::channel();
        self.send(command(answer)).await?;
        said.await.or(Err(Stopped))?.map_err(SayError::TooMuch)
    }
}
