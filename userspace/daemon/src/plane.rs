//! The node's data plane as its worker sees it: an agent on a thread of its own.

use crate::DaemonOptions;
use crate::kept::{self, KeptError};
use essaim_agent::{
    AgentHandle, AgentOptions, CleanOptions, GossipOptions, Keys, Source, StateDir, chain, clean, orders,
    require_esp, run_agent,
};
use essaim_gossip::KeyRing;
use essaim_ipsec::Ring;
use essaim_model::{AttachmentKey, Catalog, CatalogDelta, NetworkName, NodeName, TaskId as ModelTaskId};
use essaim_netlink::{attachment_link, handover_link};
use essaim_objects::{NodeId, Task, TaskId};
use essaim_plugin::Link;
use essaim_protocol::{CatalogUpdate, DataKey, GossipKey};
use essaim_worker::{AttachError, Dataplane, Word, WrongBasis};
use nix::net::if_::if_nametoindex;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

/// How long a task waits for its endpoints: its catalog is on its way.
const ATTACH: Duration = Duration::from_secs(20);
/// How long a task waits before that, on a node that has its data plane to load: a second on most machines.
const LOAD: Duration = Duration::from_mins(3);
/// How often a link is looked for.
const LOOK: Duration = Duration::from_millis(5);
/// How long a task that ends waits for the other nodes to send it nothing new.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the node waits for its agent to end.
const CLOSE: Duration = Duration::from_secs(5);
/// How long to wait before an agent that could not start is started again.
const AGAIN: Duration = Duration::from_secs(3);

/// The data plane. Clones are the same.
#[derive(Clone)]
pub(crate) struct Plane(Arc<Shared>);

struct Shared {
    options: Arc<DaemonOptions>,
    state: Mutex<State>,
    /// The agent that runs.
    agent: watch::Sender<Option<AgentHandle>>,
}

#[derive(Default)]
struct State {
    node: Option<NodeName>,
    catalog: Option<Arc<Catalog>>,
    keys: Option<watch::Sender<KeyRing>>,
    /// The keys of encrypted networks.
    data: watch::Sender<Ring>,
    thread: Option<Thread>,
    is_closed: bool,
    /// What was said of tasks, for agents that start later; of those that have ended, until an agent was told.
    words: BTreeMap<ModelTaskId, Said>,
}

/// The thread that runs agents, and what ends with it.
struct Thread {
    handle: thread::JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

#[derive(Clone, Copy)]
enum Said {
    Runs,
    Ended,
}

impl Plane {
    /// A data plane that has yet to start.
    pub(crate) fn open(options: Arc<DaemonOptions>) -> Result<Self, KeptError> {
        let path = no_names(&options.state_dir);
        std::fs::write(&path, "# this task is on no network: nobody answers it\n").map_err(|source| {
            KeptError::File {
                doing: "write",
                path,
                source,
            }
        })?;
        let keys = kept::read_keys(&kept::keys_file(&options.data_dir))?;
        let state = State {
            keys: keys.map(watch::Sender::new),
            data: watch::Sender::new(kept::read_data_keys(&kept::data_keys_file(&options.data_dir))?),
            ..State::default()
        };
        Ok(Self(Arc::new(Shared {
            options,
            state: Mutex::new(state),
            agent: watch::Sender::new(None),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node has this identity: what was applied last holds on, where it was this node's.
    pub(crate) fn begin(&self, node: NodeId) {
        // Its identity has only letters and digits.
        let Ok(name) = NodeName::new(node.as_str()) else {
            return;
        };
        let mut state = self.state();
        state.is_closed = false;
        if state.catalog.is_none() {
            let kept = self.0.options.state_dir.catalog().ok().flatten();
            let kept = kept.and_then(|(_, text)| Catalog::parse(&text).ok());
            state.catalog = kept.filter(|kept| has(kept, &name)).map(Arc::new);
        }
        state.node = Some(name);
        self.start(&mut state);
    }

    /// Starts the agent, where there is all that it needs.
    fn start(&self, state: &mut State) {
        let (Some(node), Some(catalog)) = (&state.node, &state.catalog) else {
            return;
        };
        if state.is_closed || state.thread.is_some() || !has(catalog, node) || state.keys.is_none() {
            return;
        }
        let (plane, node) = (self.clone(), node.clone());
        let thread = thread::Builder::new().name("essaim-agent".to_owned());
        let (lives, ended) = oneshot::channel();
        let keep = move || {
            let _lives: oneshot::Sender<()> = lives;
            plane.keep(&node);
        };
        match thread.spawn(keep) {
            Ok(handle) => state.thread = Some(Thread { handle, ended }),
            Err(error) => tracing::error!(%error, "the system gave no thread for the data plane"),
        }
    }

    /// Runs agents until the data plane is closed.
    fn keep(&self, node: &NodeName) {
        loop {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let ended = match runtime {
                Ok(runtime) => runtime.block_on(self.run(node)),
                Err(error) => Err(error.to_string()),
            };
            self.0.agent.send_replace(None);
            if let Err(why) = ended {
                tracing::error!(error = why, "the data plane is not looked after; tried again");
            }
            // At once where it was closed meanwhile.
            thread::park_timeout(AGAIN);
            if self.state().is_closed {
                return;
            }
        }
    }

    async fn run(&self, node: &NodeName) -> Result<(), String> {
        let options = &self.0.options;
        let (keys, data, orders) = {
            let mut state = self.state();
            let (Some(catalog), Some(keys)) = (state.catalog.clone(), &state.keys) else {
                return Ok(());
            };
            let keys = keys.subscribe();
            let (handle, orders) = orders(catalog);
            for (task, said) in &state.words {
                match said {
                    Said::Runs => handle.runs(task.clone()),
                    Said::Ended => handle.ended(task.clone()),
                }
            }
            state.words.retain(|_, said| matches!(said, Said::Runs));
            self.0.agent.send_replace(Some(handle));
            (keys, state.data.subscribe(), orders)
        };
        let agent = AgentOptions {
            node: node.clone(),
            uplinks: options.uplinks.clone(),
            bpf_root: options.bpf_root.clone(),
            cgroup: options.cgroup.clone(),
            state_dir: options.state_dir.clone(),
            holder: options.holder.clone(),
            gossip: Some(GossipOptions {
                keys: Keys::Managers { gossip: keys, data },
                pace: options.pace,
                absence: options.absence,
            }),
        };
        let ended = Box::pin(run_agent(agent, Source::Managers(orders))).await;
        ended.map_err(|error| chain(&error))
    }

    /// Ends the agent; the data plane works on. Not waited for is one that still loads its programs, which on a busy machine
    /// takes longer than a service manager waits: the next start takes up what there is.
    pub(crate) async fn close(&self) {
        if timeout(CLOSE, self.end()).await.is_err() {
            tracing::warn!("the data plane is still being loaded; the next start goes on from there");
        }
    }

    async fn end(&self) {
        let thread = {
            let mut state = self.state();
            state.is_closed = true;
            state.thread.take()
        };
        self.0.agent.send_replace(None);
        if let Some(thread) = thread {
            thread.handle.thread().unpark();
            // It ends with its agent, whose orders have ended. Its end is told by what it drops.
            let _ = thread.ended.await;
            if thread.handle.join().is_err() {
                tracing::error!("the data plane's thread has ended in a panic");
            }
        }
    }

    /// Ends the agent, and removes all that it made: the node is in no cluster any more.
    pub(crate) async fn remove(&self) {
        self.end().await;
        let node = {
            let mut state = self.state();
            (state.catalog, state.keys) = (None, None);
            state.data.send_replace(Ring::default());
            state.node.take()
        };
        let data_dir = &self.0.options.data_dir;
        for keys in [kept::keys_file(data_dir), kept::data_keys_file(data_dir)] {
            if let Err(error) = std::fs::remove_file(&keys)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::error!(%error, path = %keys.display(), "keys were not removed");
            }
        }
        let options = CleanOptions {
            node,
            bpf_root: Some(self.0.options.bpf_root.clone()),
        };
        let state_dir = self.0.options.state_dir.clone();
        let cleaned = tokio::task::spawn_blocking(move || clean(&state_dir, &options)).await;
        match cleaned {
            Ok(Ok(removed)) => tracing::info!(removed = removed.len(), "the data plane is gone"),
            Ok(Err(errors)) => errors.iter().for_each(|error| {
                tracing::error!(error = chain(error), "something of the data plane is left");
            }),
            Err(error) => tracing::error!(%error, "the data plane was not removed"),
        }
    }

    /// Waits until an agent runs.
    pub(crate) async fn has_agent(&self) {
        self.agent().await;
    }

    /// The agent that runs, once one does.
    async fn agent(&self) -> AgentHandle {
        let mut agents = self.0.agent.subscribe();
        loop {
            if let Some(agent) = agents.borrow_and_update().clone() {
                return agent;
            }
            if agents.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// An encrypted network that a task is on.
    fn encrypted_network(&self, task: &ModelTaskId) -> Option<NetworkName> {
        let catalog = self.state().catalog.clone()?;
        let mut tasks = catalog.services.iter().flat_map(|service| &service.tasks);
        let endpoints = &tasks.find(|known| known.id == *task)?.endpoints;
        let mut encrypted = catalog.networks.iter().filter(|network| network.encrypted);
        let found =
            encrypted.find(|network| endpoints.iter().any(|endpoint| endpoint.network == network.name));
        found.map(|network| network.name.clone())
    }

    /// Whether the kernel can encrypt, where a task's networks ask for it; else why not.
    async fn check_encryption(&self, task: &ModelTaskId) -> Result<(), String> {
        let Some(network) = self.encrypted_network(task) else {
            return Ok(());
        };
        let why = match tokio::task::spawn_blocking(require_esp).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => chain(&error),
            Err(error) => error.to_string(),
        };
        Err(format!("network {network} is encrypted: {why}"))
    }

    /// Waits until a container's end of a link lies ready for its engine, and the node's end works.
    pub(crate) async fn handed_over(&self, task: TaskId, address: IpAddr) -> Result<Link, String> {
        let Some(id) = named(task) else {
            return Err(format!("{task} is no name of a task"));
        };
        let found = async {
            loop {
                if let Some(link) = self.handover(&id, address)
                    && if_nametoindex(link.name.as_str()).is_ok()
                {
                    self.agent().await.attached(&id).await;
                    return link;
                }
                sleep(LOOK).await;
            }
        };
        let link = timeout(ATTACH, found).await.map_err(|_| {
            format!(
                "its link was not there within {} s; see essaim status and essaim verify on the node",
                ATTACH.as_secs()
            )
        })?;
        self.check_encryption(&id).await.map(|()| link)
    }

    /// Waits until a container's endpoint is in its namespace, works, and names are answered there.
    pub(crate) async fn occupied(&self, task: TaskId, address: IpAddr) -> Result<(), String> {
        let Some(id) = named(task) else {
            return Err(format!("{task} is no name of a task"));
        };
        let attached = async {
            let (key, revision) = loop {
                // In this order: the revision has the endpoint, where it is not a later one already.
                if let Some(key) = self.endpoint(&id, address)
                    && let Some(revision) = self.revision()
                {
                    break (key, revision);
                }
                sleep(LOOK).await;
            };
            self.agent().await.attached_to(&key, revision).await;
        };
        timeout(ATTACH, attached).await.map_err(|_| {
            format!(
                "its interface was not there within {} s; see essaim status and essaim verify on the node",
                ATTACH.as_secs()
            )
        })?;
        self.check_encryption(&id).await
    }

    /// The task's endpoint that has this address, as the catalog has it.
    fn endpoint(&self, task: &ModelTaskId, address: IpAddr) -> Option<AttachmentKey> {
        let catalog = self.state().catalog.clone()?;
        let mut tasks = catalog.services.iter().flat_map(|service| &service.tasks);
        let found = tasks.find(|found| found.id == *task)?;
        let mut endpoints = found.endpoints.iter();
        let endpoint = endpoints.find(|endpoint| endpoint.addresses.contains(&address))?;
        Some(AttachmentKey {
            task: task.clone(),
            network: endpoint.network.clone(),
        })
    }

    /// The node's end of the link of such an endpoint.
    pub(crate) fn node_link(&self, task: TaskId, address: IpAddr) -> Option<String> {
        let key = self.endpoint(&named(task)?, address)?;
        Some(attachment_link(self.state().node.as_ref()?, &key))
    }

    /// Waits until the node has no link of this name.
    pub(crate) async fn gone(&self, link: &str) {
        let gone = async {
            while if_nametoindex(link).is_ok() {
                sleep(LOOK).await;
            }
        };
        if timeout(DRAIN, gone).await.is_err() {
            tracing::warn!(link, "the link of a container that has left is there yet");
        }
    }

    /// The other end of it, for an engine to take.
    fn handover(&self, task: &ModelTaskId, address: IpAddr) -> Option<Link> {
        let key = self.endpoint(task, address)?;
        let state = self.state();
        let (catalog, node) = (state.catalog.as_ref()?, state.node.as_ref()?);
        let mut networks = catalog.networks.iter();
        Some(Link {
            name: handover_link(node, &key),
            is_internal: networks.any(|found| found.name == key.network && found.internal),
        })
    }

    fn with_agent(&self, act: impl FnOnce(&AgentHandle)) {
        if let Some(agent) = &*self.0.agent.borrow() {
            act(agent);
        }
    }
}

/// The `resolv.conf` of tasks without networks, which have no resolver.
fn no_names(state_dir: &StateDir) -> PathBuf {
    state_dir.path().join("resolv.conf")
}

fn has(catalog: &Catalog, node: &NodeName) -> bool {
    catalog.nodes.iter().any(|found| found.name == *node)
}

/// A task's identity, as the catalog writes it.
fn named(task: TaskId) -> Option<ModelTaskId> {
    // It has only letters and digits.
    ModelTaskId::new(task.as_str()).ok()
}

impl Dataplane for Plane {
    async fn attach(&self, task: &Task, netns: &Path) -> Result<(), AttachError> {
        let Some(id) = named(task.id) else {
            let reason = format!("{} is no name of a task", task.id);
            return Err(AttachError { reason });
        };
        let begun = async { self.agent().await.begun().await };
        let attached = async { self.agent().await.attached(&id).await };
        if timeout(LOAD, begun).await.is_err() {
            let reason = format!(
                "the node's data plane is not there yet, {} s after the task came; see essaim status on the node",
                LOAD.as_secs()
            );
            return Err(AttachError { reason });
        }
        if timeout(ATTACH, attached).await.is_err() {
            let held = self
                .revision()
                .map_or("no".to_owned(), |revision| revision.to_string());
            let reason = format!(
                "its endpoints were not in {} within {} s, while the data plane held revision {held} of the catalog; see \
                 essaim status and essaim verify on the node",
                netns.display(),
                ATTACH.as_secs()
            );
            return Err(AttachError { reason });
        }
        self.check_encryption(&id)
            .await
            .map_err(|reason| AttachError { reason })
    }

    fn resolv_conf(&self, task: TaskId) -> PathBuf {
        let state_dir = &self.0.options.state_dir;
        let catalog = self.state().catalog.clone();
        let tasks = catalog
            .iter()
            .flat_map(|catalog| &catalog.services)
            .flat_map(|service| &service.tasks);
        let is_alone =
            { tasks }.any(|known| known.id.as_str() == task.as_str() && known.endpoints.is_empty());
        match named(task) {
            Some(task) if !is_alone => state_dir.resolv_conf(&task),
            Some(_) | None => no_names(state_dir),
        }
    }

    fn tell(&self, task: TaskId, word: Word) {
        let Some(task) = named(task) else { return };
        let mut state = self.state();
        match word {
            Word::Running { .. } => {
                state.words.insert(task.clone(), Said::Runs);
                self.with_agent(|agent| agent.runs(task));
            }
            Word::Gone => {
                if self.0.agent.borrow().is_some() {
                    state.words.remove(&task);
                    self.with_agent(|agent| agent.ended(task));
                } else {
                    state.words.insert(task, Said::Ended);
                }
            }
            // It starts until it is said to run, and one that is unhealthy is drained next.
            Word::Starting | Word::Unhealthy => {}
        }
    }

    async fn drain(&self, task: TaskId) {
        let agent = self.0.agent.borrow().clone();
        // Without an agent no node learns of it.
        if let (Some(task), Some(agent)) = (named(task), agent) {
            agent.drain(task, DRAIN).await;
        }
    }

    fn catalog(&self, update: CatalogUpdate) -> Result<(), WrongBasis> {
        let mut state = self.state();
        let held = state.catalog.as_ref().map(|catalog| catalog.revision);
        let wrong = WrongBasis {
            basis: update.basis,
            held,
        };
        let next = match (&state.catalog, update.basis) {
            (_, None) => Catalog::parse(&update.text).map_err(|error| chain(&error)),
            (Some(base), Some(basis)) if base.revision == basis => CatalogDelta::parse(&update.text)
                .map_err(|error| chain(&error))
                .and_then(|delta| delta.apply(base).map_err(|error| chain(&error))),
            (_, Some(_)) => return Err(wrong),
        };
        match next {
            Ok(catalog) => {
                let catalog = Arc::new(catalog);
                state.catalog = Some(Arc::clone(&catalog));
                self.with_agent(|agent| agent.set_catalog(catalog));
                self.start(&mut state);
                Ok(())
            }
            Err(error) => {
                tracing::error!(
                    revision = update.revision,
                    error,
                    "the managers' catalog is not valid; the one before holds"
                );
                // Of a difference, what comes next does not build on what is held.
                if update.basis.is_some() {
                    Err(wrong)
                } else {
                    Ok(())
                }
            }
        }
    }

    fn gossip_keys(&self, keys: Vec<GossipKey>) {
        let Some(ring) = kept::ring(&keys) else {
            tracing::error!("the managers gave keys of gossip that are none; those before hold");
            return;
        };
        if let Err(error) = kept::write_keys(&kept::keys_file(&self.0.options.data_dir), &keys) {
            tracing::error!(
                error = chain(&error),
                "the keys of gossip are not kept: a restart needs the managers"
            );
        }
        let mut state = self.state();
        match &state.keys {
            Some(keys) => drop(keys.send_replace(ring)),
            None => state.keys = Some(watch::Sender::new(ring)),
        }
        self.start(&mut state);
    }

    fn data_keys(&self, keys: Vec<DataKey>) {
        let Some(ring) = kept::data_ring(&keys) else {
            tracing::error!("the managers gave keys of encrypted networks that are none; those before hold");
            return;
        };
        let path = kept::data_keys_file(&self.0.options.data_dir);
        if let Err(error) = kept::write_data_keys(&path, &keys) {
            tracing::error!(
                error = chain(&error),
                "the keys of encrypted networks are not kept: a restart needs the managers"
            );
        }
        self.state().data.send_replace(ring);
    }

    fn revision(&self) -> Option<u64> {
        self.state().catalog.as_ref().map(|catalog| catalog.revision)
    }
}
