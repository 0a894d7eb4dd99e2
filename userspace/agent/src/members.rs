//! This node's part in gossip.

use crate::holder::{Charge, GOSSIP_SOCKET, HolderClient, HolderError};
use crate::keys::{KeyFile, Keys, KeysError, random};
use crate::monitor::Change;
use crate::state_dir::StateDir;
use crate::tasks::OwnTask;
use essaim_gossip::{
    Config, DropReason, Epoch, Event, GossipHandle, GossipService, KeyRing, SayError, ServiceError, Sockets,
    Start, Stopped, View, ViewVersion,
};
use essaim_ipsec::Ring;
use essaim_model::{Catalog, NodeName, TaskId};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot, watch};

/// Why this node does not take part in gossip.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// There are no keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its sockets do not serve.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The system gave no thread, runtime or randomness.
    #[error("failed to {doing} for gossip")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The catalog moved this node elsewhere.
    #[error("gossip listens at {bound}, and the catalog has this node at {wanted}; restart the agent")]
    Moved {
        /// Where the sockets are.
        bound: SocketAddr,
        /// Where they should be.
        wanted: SocketAddr,
    },
    /// It does not take what this node has to say.
    #[error("the other nodes are not told of this one's tasks")]
    Say(#[from] SayError),
    /// The holder does not answer for this node while its agent is away.
    #[error("while its agent is away, the other nodes will soon take this one for dead")]
    Untended(#[from] HolderError),
    /// It has ended, which is a bug.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// How soon a node that does not answer is down. The same on every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// In under 3 s, and nobody who lives, even where one datagram in five is lost.
    #[default]
    Usual,
    /// In under 1 s, on a network that loses next to nothing, between machines that never stand still for half a second.
    Fast,
}

impl From<Pace> for Config {
    fn from(pace: Pace) -> Self {
        match pace {
            Pace::Usual => Self::default(),
            Pace::Fast => Self::fast(),
        }
    }
}

/// How a node takes part in gossip.
#[derive(Clone, Debug)]
pub struct GossipOptions {
    /// The keys that the nodes share.
    pub keys: Keys,
    /// How soon a node that does not answer is down.
    pub pace: Pace,
    /// How long the holder answers for this node while its agent is away.
    pub absence: Duration,
}

/// What this node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    peers: BTreeMap<NodeName, SocketAddr>,
    tasks: BTreeMap<TaskId, OwnTask>,
    catalog_applied: u64,
    view_applied: Option<ViewVersion>,
    ipsec: Option<essaim_ipsec::Said>,
}

/// Gossip, on a thread of its own: a round of the agent may take long, and who is silent meanwhile is taken for dead.
#[derive(Debug)]
pub(crate) struct Members {
    handle: GossipHandle,
    view: watch::Receiver<Arc<View>>,
    epoch: watch::Receiver<Epoch>,
    kept_epoch: Option<Epoch>,
    keys: Keys,
    ring: KeyRing,
    /// The keys of encrypted networks.
    data: Ring,
    bound: SocketAddr,
    said: Said,
    /// Lets gossip begin; none once it has.
    begin: Option<oneshot::Sender<()>>,
    /// The holder that answers for this node until gossip begins.
    holder: Option<HolderClient>,
    /// A copy of the socket, for the holder.
    socket: UdpSocket,
    absence: Duration,
}

impl Members {
    /// Takes part from the first [`Members::say`] on: until this run can say all that it knows, the holder goes on
    /// answering for the run before it.
    pub(crate) fn start(
        node: &NodeName,
        catalog: &Catalog,
        options: &GossipOptions,
        state_dir: &StateDir,
    ) -> Result<Self, MembersError> {
        let GossipOptions { keys, pace, absence } = options;
        let (ring, data) = keys.read()?;
        let bound = address_of(catalog, node)
            .unwrap_or(SocketAddr::from(([0, 0, 0, 0], catalog.cluster.gossip_port)));
        let mut holder = HolderClient::connect(&state_dir.holder_socket()).unwrap_or_else(|error| {
            tracing::warn!(error = crate::chain(&error), "gossip starts without the holder");
            None
        });
        let sockets = open_sockets(bound, holder.as_mut())?;
        let system = |doing| move |source| MembersError::System { doing, source };
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Start {
            name: node.clone(),
            last_epoch: Epoch::from_number(state_dir.epoch().unwrap_or_default()),
            wall_clock_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            seed: random().map_err(system("get randomness"))?,
            keys: ring.clone(),
            config: (*pace).into(),
        };
        let socket = sockets.copy_udp().map_err(system("copy a socket"))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("start a runtime"))?;
        let (service, handle) = {
            let _inside = runtime.enter();
            GossipService::new(start, sockets)?
        };
        let (begin, may_run) = oneshot::channel();
        let run = async {
            if may_run.await.is_ok() {
                service.run().await;
            }
        };
        thread::Builder::new()
            .name("essaim-gossip".to_owned())
            .spawn(move || runtime.block_on(run))
            .map_err(system("start a thread"))?;
        Ok(Self {
            view: handle.view(),
            epoch: handle.epoch(),
            kept_epoch: None,
            handle,
            keys: keys.clone(),
            ring,
            data,
            bound,
            said: Said::default(),
            begin: Some(begin),
            holder,
            socket,
            absence: *absence,
        })
    }

    /// Says who the members are and how far this node's tasks are, where that is news; keeps the epoch, and takes the
    /// keys as they are now.
    pub(crate) async fn say(
        &mut self,
        node: &NodeName,
        catalog: &Catalog,
        tasks: &BTreeMap<TaskId, OwnTask>,
        state_dir: &StateDir,
    ) -> Result<(), MembersError> {
        self.begin();
        let epoch = *self.epoch.borrow_and_update();
        if self.kept_epoch != Some(epoch) && state_dir.write_epoch(epoch.number()).is_ok() {
            self.kept_epoch = Some(epoch);
        }
        // Before the members: whoever hears of this node then hears of its tasks, too.
        if self.said.tasks != *tasks {
            let said = tasks.iter().map(|(task, own)| (task.clone(), own.into()));
            self.handle.set_tasks(said.collect()).await?;
            self.said.tasks.clone_from(tasks);
        }
        let port = catalog.cluster.gossip_port;
        let nodes = catalog.nodes.iter();
        let peers: BTreeMap<NodeName, SocketAddr> = nodes
            .map(|node| (node.name.clone(), SocketAddr::new(node.address, port)))
            .collect();
        if self.said.peers != peers {
            self.handle.set_peers(peers.clone()).await?;
            let vtep = address_of(catalog, node).map(|address| address.ip());
            self.handle.set_vtep(vtep).await?;
            self.said.peers = peers;
        }
        let (ring, data) = self.keys.read()?;
        self.data = data;
        if ring != self.ring {
            tracing::info!("gossip goes on under new keys");
            self.handle.set_keys(ring.clone()).await?;
            self.ring = ring;
        }
        match address_of(catalog, node) {
            Some(wanted) if wanted != self.bound => Err(MembersError::Moved {
                bound: self.bound,
                wanted,
            }),
            _ => Ok(()),
        }
    }

    /// From here on this run answers, and nobody else: of two that read one socket each would get half.
    fn begin(&mut self) {
        let Some(begin) = self.begin.take() else { return };
        if let Some(mut holder) = self.holder.take()
            && let Err(error) = holder.untend()
        {
            // A holder of an earlier build answers for nobody.
            tracing::info!(
                error = crate::chain(&error),
                "the holder does not stop answering gossip"
            );
        }
        // Where gossip has ended, what is said next tells.
        let _ = begin.send(());
    }

    /// Has the holder answer for this run once this process has ended.
    pub(crate) fn tend(
        &self,
        node: &NodeName,
        holder: Option<&mut HolderClient>,
    ) -> Result<(), MembersError> {
        let Some(holder) = holder.filter(|_| !self.absence.is_zero()) else {
            return Ok(());
        };
        let charge = Charge {
            node: node.clone(),
            epoch: self.epoch.borrow().number(),
            keys: KeyFile::from(&self.ring),
            limit_ms: u64::try_from(self.absence.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(holder.tend(&charge, self.socket.as_fd())?)
    }

    /// Says what the data plane has: this revision of the catalog, and all that the view of this version says.
    pub(crate) async fn applied(&mut self, revision: u64, version: ViewVersion) -> Result<(), MembersError> {
        if self.said.catalog_applied != revision {
            self.handle.set_catalog_applied(revision).await?;
            self.said.catalog_applied = revision;
        }
        if self.said.view_applied != Some(version) {
            self.handle.set_applied(version).await?;
            self.said.view_applied = Some(version);
        }
        Ok(())
    }

    /// Says which keys of encrypted networks this node holds, where that is news.
    pub(crate) async fn say_ipsec(&mut self, said: &essaim_ipsec::Said) -> Result<(), MembersError> {
        if self.said.ipsec.as_ref() != Some(said) {
            self.handle.set_ipsec(said.clone()).await?;
            self.said.ipsec = Some(said.clone());
        }
        Ok(())
    }

    /// The keys of encrypted networks.
    pub(crate) const fn data_keys(&self) -> &Ring {
        &self.data
    }

    /// What this node knows.
    pub(crate) fn view(&mut self) -> Arc<View> {
        Arc::clone(&self.view.borrow_and_update())
    }

    /// What is heard from now on.
    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription {
            view: self.handle.view(),
            events: self.handle.events().ok(),
        }
    }

    /// What was counted since the agent's start.
    pub(crate) fn counted(&self) -> BTreeMap<String, u64> {
        let counters = self.handle.counters();
        let traffic = [
            ("datagrams sent", counters.datagrams_sent),
            ("datagram bytes sent", counters.datagram_bytes_sent),
            ("datagrams received", counters.datagrams_received),
            ("datagram bytes received", counters.datagram_bytes_received),
            ("exchange bytes sent", counters.frame_bytes_sent),
            ("exchange bytes received", counters.frame_bytes_received),
            ("statements about strangers", counters.foreign_statements),
        ];
        let traffic = traffic.map(|(name, count)| (format!("gossip {name}"), count));
        let dropped = DropReason::ALL.map(|reason| {
            let name = format!("gossip dropped: {}", reason.label().replace('_', " "));
            (name, counters.dropped(reason))
        });
        traffic.into_iter().chain(dropped).collect()
    }

    /// For whoever waits for acknowledgements.
    pub(crate) fn handle(&self) -> GossipHandle {
        self.handle.clone()
    }
}

/// What a node hears, as it hears it.
#[derive(Debug)]
pub(crate) struct Subscription {
    view: watch::Receiver<Arc<View>>,
    /// None where gossip has ended.
    events: Option<broadcast::Receiver<Event>>,
}

/// Something was heard.
#[derive(Debug)]
pub(crate) enum News {
    /// This node knows more than before.
    View,
    /// What it knows more.
    Change(Change),
}

impl Subscription {
    /// Waits for the next news; for ever where gossip has ended. Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> News {
        loop {
            tokio::select! {
                biased;
                Ok(()) = self.view.changed() => return News::View,
                event = next_event(&mut self.events) => match event {
                    Ok(event) => if let Some(change) = Change::of(event) {
                        return News::Change(change);
                    },
                    Err(RecvError::Lagged(count)) => return News::Change(Change::Missed { count }),
                    Err(RecvError::Closed) => self.events = None,
                },
            }
        }
    }
}

async fn next_event(events: &mut Option<broadcast::Receiver<Event>>) -> Result<Event, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until the members that may send to a task have applied what was said of it last; returns those that had not
/// within the time. Without gossip nobody else was told.
pub(crate) async fn acknowledged(
    handle: Option<&GossipHandle>,
    task: &TaskId,
    within: Duration,
) -> BTreeSet<NodeName> {
    match handle {
        Some(handle) => handle.wait_acks(task.clone(), within).await.unwrap_or_default(),
        None => BTreeSet::new(),
    }
}

/// The sockets, the UDP one of them from the holder where it has kept it: what has come meanwhile is in it.
fn open_sockets(bound: SocketAddr, holder: Option<&mut HolderClient>) -> Result<Sockets, ServiceError> {
    let kept = holder.and_then(|holder| {
        let kept = holder.fetch(GOSSIP_SOCKET).ok().flatten().map(UdpSocket::from)?;
        if kept.local_addr().is_ok_and(|address| address == bound) {
            return Some(kept);
        }
        // It would be in the way of nobody, and be kept for ever.
        let _ = holder.forget(GOSSIP_SOCKET);
        None
    });
    let Some(udp) = kept else {
        return Sockets::bind(bound);
    };
    let bind_tcp = |source| ServiceError::BindTcp {
        address: bound,
        source,
    };
    Ok(Sockets::from_open(
        udp,
        TcpListener::bind(bound).map_err(bind_tcp)?,
    ))
}

fn address_of(catalog: &Catalog, node: &NodeName) -> Option<SocketAddr> {
    let found = catalog.nodes.iter().find(|found| found.name == *node)?;
    Some(SocketAddr::new(found.address, catalog.cluster.gossip_port))
}
