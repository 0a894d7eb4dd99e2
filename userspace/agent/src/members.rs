//! This node's part in gossip.

use crate::monitor::Change;
use crate::state_dir::StateDir;
use crate::tasks::OwnTask;
use essaim_gossip::{
    Config, DropReason, Epoch, Event, GossipHandle, GossipService, KEY_LENGTH, Key, KeyRing, SayError,
    ServiceError, Sockets, Start, Stopped, View, ViewVersion,
};
use essaim_model::{Catalog, NodeName, TaskId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

/// Why there are no keys; those that were read before hold on.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file could not be read.
    #[error("failed to read the gossip keys {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not of the right form.
    #[error("{}: {problem}; make one with essaim keygen", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong. Keys are not shown.
        problem: String,
    },
}

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

/// Where the keys come from that the nodes share.
#[derive(Clone, Debug)]
pub enum Keys {
    /// A file, which is read again each time that something changes.
    File(PathBuf),
    /// The managers.
    Managers(watch::Receiver<KeyRing>),
}

impl Keys {
    fn read(&self) -> Result<KeyRing, KeysError> {
        match self {
            Self::File(path) => read_keys(path),
            Self::Managers(keys) => Ok(keys.borrow().clone()),
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
}

/// The file of keys, as TOML: 64 hexadecimal digits each.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    primary: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Reads the keys that all nodes share.
///
/// # Errors
/// [`KeysError`]; keys stand in none of its texts.
pub fn read_keys(path: &Path) -> Result<KeyRing, KeysError> {
    let text = fs::read_to_string(path).map_err(|source| KeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_keys(&text).map_err(|problem| KeysError::Form {
        path: path.to_owned(),
        problem,
    })
}

/// A file of one fresh key.
///
/// # Errors
/// The system has no randomness to give.
pub fn fresh_keys() -> io::Result<String> {
    let mut text = String::from(
        "# Keys of gossip, the same file on every node. To rotate, on all nodes before the next step each time:\n# add the new key as `next`, make it `primary` and the old one `previous`, remove the old one.\nprimary = \"",
    );
    for byte in random()? {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text + "\"\n")
}

fn parse_keys(text: &str) -> Result<KeyRing, String> {
    let file: KeyFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut ring = KeyRing::new(key("primary", &file.primary)?);
    if let Some(previous) = &file.previous {
        ring = ring.with_previous(key("previous", previous)?);
    }
    if let Some(next) = &file.next {
        ring = ring.with_next(key("next", next)?);
    }
    Ok(ring)
}

fn key(field: &str, digits: &str) -> Result<Key, String> {
    let expected = 2 * KEY_LENGTH;
    let wrong = || format!("{field} is not {expected} hexadecimal digits");
    if digits.len() != expected || !digits.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; KEY_LENGTH];
    for (byte, digits) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(Key::new(bytes))
}

fn random() -> io::Result<[u8; 32]> {
    use std::io::Read as _;
    let mut bytes = [0; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// What this node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    peers: BTreeMap<NodeName, SocketAddr>,
    tasks: BTreeMap<TaskId, OwnTask>,
    catalog_applied: u64,
    view_applied: Option<ViewVersion>,
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
    bound: SocketAddr,
    said: Said,
}

impl Members {
    /// Takes part from now on.
    pub(crate) fn start(
        node: &NodeName,
        catalog: &Catalog,
        options: &GossipOptions,
        state_dir: &StateDir,
    ) -> Result<Self, MembersError> {
        let GossipOptions { keys, pace } = options;
        let ring = keys.read()?;
        let bound = address_of(catalog, node)
            .unwrap_or(SocketAddr::from(([0, 0, 0, 0], catalog.cluster.gossip_port)));
        let sockets = Sockets::bind(bound)?;
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("start a runtime"))?;
        let (service, handle) = {
            let _inside = runtime.enter();
            GossipService::new(start, sockets)?
        };
        thread::Builder::new()
            .name("essaim-gossip".to_owned())
            .spawn(move || runtime.block_on(service.run()))
            .map_err(system("start a thread"))?;
        Ok(Self {
            view: handle.view(),
            epoch: handle.epoch(),
            kept_epoch: None,
            handle,
            keys: keys.clone(),
            ring,
            bound,
            said: Said::default(),
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
        let ring = self.keys.read()?;
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

fn address_of(catalog: &Catalog, node: &NodeName) -> Option<SocketAddr> {
    let found = catalog.nodes.iter().find(|found| found.name == *node)?;
    Some(SocketAddr::new(found.address, catalog.cluster.gossip_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_keys_are_read_and_differ() {
        let [one, other] = [(); 2].map(|()| fresh_keys().unwrap());
        assert_ne!(one, other);
        assert!(parse_keys(&one).unwrap() != parse_keys(&other).unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let good = "ab".repeat(32);
        for (text, problem) in [
            (String::new(), "primary"),
            (
                format!("primary = \"{}\"", &good[1..]),
                "primary is not 64 hexadecimal digits",
            ),
            (
                format!("primary = \"{good}\"\nnext = \"{}\"", good.replace('a', "g")),
                "next is not",
            ),
            (
                format!("primary = \"{good}\"\nother = \"{good}\""),
                "unknown field",
            ),
        ] {
            let error = parse_keys(&text).unwrap_err();
            assert!(error.contains(problem) && !error.contains("abab"), "{error}");
        }
    }
}
