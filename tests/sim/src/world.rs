//! The cluster, its clock, and what is on its way.

mod run;
mod verdict;

use run::Occurrence;

use crate::check::Record;
use crate::network::Network;
use crate::node::{Disk, SimNode};
use essaim_gossip::{
    Caretaker, Config, Counters, Epoch, Event, Gossip, Key, KeyRing, OwnTask, View, ViewVersion,
};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a world starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Drives everything.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// The pace of gossip.
    pub config: Config,
    /// The network.
    pub network: Network,
    /// Which nodes' invariants are checked: every so-manieth.
    pub check_one_in: usize,
}

impl Setup {
    /// So many nodes at the default pace on a quiet network, all of them checked.
    pub fn new(seed: u64, nodes: usize) -> Self {
        Self {
            seed,
            nodes,
            config: Config::default(),
            network: Network::quiet(),
            check_one_in: 1,
        }
    }

    /// The same on another network.
    #[must_use]
    pub fn on(self, network: Network) -> Self {
        Self { network, ..self }
    }
}

/// A simulated cluster.
pub struct World {
    setup: Setup,
    epoch: Instant,
    now: Duration,
    random: StdRng,
    queue: BTreeMap<(Duration, u64), Occurrence>,
    sequence: u64,
    pub(crate) nodes: Vec<SimNode>,
    members: Vec<NodeName>,
    record: Record,
    events: VecDeque<(Duration, usize, Event)>,
    /// Since when no node has started and no path has changed.
    undisturbed_since: Duration,
    watched_tasks: Vec<(usize, TaskId)>,
    past: Counters,
}

impl World {
    /// A cluster whose nodes all start within the first 100 ms.
    pub fn new(setup: Setup) -> Self {
        let mut random = StdRng::seed_from_u64(setup.seed);
        let keys = key(1);
        let nodes = (0..setup.nodes).map(|number| SimNode {
            name: node(number),
            core: None,
            run: 0,
            kept_epoch: Epoch::UNHEARD,
            wall_clock_ms: 1_800_000_000_000 + random.random_range(0..2_000),
            tasks: BTreeMap::new(),
            interests: BTreeSet::new(),
            keys: keys.clone(),
            wake: None,
            applying: ViewVersion::default(),
            said: None,
            caretaker: None,
            checks: crate::check::Checks::default(),
        });
        let nodes: Vec<SimNode> = nodes.collect();
        let mut world = Self {
            epoch: Instant::now(),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            sequence: 0,
            members: (0..setup.nodes).map(node).collect(),
            record: Record::default(),
            events: VecDeque::new(),
            undisturbed_since: Duration::ZERO,
            watched_tasks: Vec::new(),
            past: Counters::default(),
            nodes,
            random,
            setup,
        };
        for number in 0..world.nodes.len() {
            let pause = Duration::from_millis(100).mul_f64(world.random.random());
            let run = world.nodes[number].run;
            world.schedule(pause, Occurrence::Wake { node: number, run });
        }
        world
    }

    /// The time since the start.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// How many nodes there are.
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The source of all that is random.
    pub const fn random(&mut self) -> &mut StdRng {
        &mut self.random
    }

    /// The network, to be changed.
    pub const fn network(&mut self) -> &mut Network {
        &mut self.setup.network
    }

    /// What a node knows; nothing while it is down.
    pub fn view(&self, node: usize) -> Arc<View> {
        let core = self.nodes[node].core.as_ref();
        core.map_or_else(Arc::default, Gossip::view)
    }

    /// Whether the node runs.
    pub fn is_running(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    /// The epoch of a running node.
    pub fn epoch_of(&self, node: usize) -> Option<Epoch> {
        self.nodes[node].core.as_ref().map(Gossip::epoch)
    }

    /// Takes the events so far, with the time and the node that saw each.
    pub fn take_events(&mut self) -> Vec<(Duration, usize, Event)> {
        self.events.drain(..).collect()
    }

    /// Counts of all runs of all nodes.
    pub fn counters(&self) -> Vec<Counters> {
        let running = self.nodes.iter().filter_map(|node| node.core.as_ref());
        running.map(Gossip::counters).chain([self.past]).collect()
    }

    /// Bytes sent by all nodes, datagrams and frames, without the headers of UDP, TCP and IP.
    pub fn bytes_sent(&self) -> u64 {
        let counters = self.counters();
        counters
            .iter()
            .map(|counters| counters.datagram_bytes_sent + counters.frame_bytes_sent)
            .sum()
    }

    /// The tasks of a node.
    pub fn tasks(&self, node: usize) -> &BTreeMap<TaskId, OwnTask> {
        &self.nodes[node].tasks
    }

    /// Says which tasks a node has.
    ///
    /// # Panics
    /// They are too many.
    pub fn set_tasks(&mut self, node: usize, tasks: BTreeMap<TaskId, OwnTask>) {
        self.nodes[node].tasks.clone_from(&tasks);
        self.with_core(node, |core, now| assert_eq!(core.set_tasks(tasks, now), Ok(())));
    }

    /// Adds a task to a node, or says anew how far it is.
    pub fn set_task(&mut self, node: usize, task: TaskId, state: TaskState, networks: &[NetworkName]) {
        let own = OwnTask {
            state,
            networks: networks.iter().cloned().collect(),
        };
        let mut tasks = self.nodes[node].tasks.clone();
        tasks.insert(task, own);
        self.set_tasks(node, tasks);
    }

    /// Takes a task off a node.
    pub fn remove_task(&mut self, node: usize, task: &TaskId) {
        let mut tasks = self.nodes[node].tasks.clone();
        tasks.remove(task);
        self.set_tasks(node, tasks);
    }

    /// Says which networks a node takes part in.
    ///
    /// # Panics
    /// They are too many.
    pub fn set_interests(&mut self, node: usize, networks: &[NetworkName]) {
        let networks: BTreeSet<NetworkName> = networks.iter().cloned().collect();
        self.nodes[node].interests.clone_from(&networks);
        self.with_core(node, |core, now| {
            assert_eq!(core.set_interests(networks, now), Ok(()));
        });
    }

    /// Says which catalog revision a node has applied.
    pub fn set_catalog_applied(&mut self, node: usize, revision: u64) {
        self.with_core(node, |core, now| core.set_catalog_applied(revision, now));
    }

    /// Changes a node's keys.
    pub fn set_keys(&mut self, node: usize, keys: KeyRing) {
        self.nodes[node].keys = keys.clone();
        self.with_core(node, |core, _| core.set_keys(keys));
    }

    /// Makes a node wait for acknowledgements of its last word on a task.
    pub fn request_acks(&mut self, node: usize, task: &TaskId, within: Duration) {
        self.watched_tasks.push((node, task.clone()));
        self.with_core(node, |core, now| core.request_acks(task, now + within, now));
    }

    /// Who has not acknowledged yet.
    pub fn pending_acks(&self, node: usize, task: &TaskId) -> BTreeSet<NodeName> {
        let core = self.nodes[node].core.as_ref();
        core.map_or_else(BTreeSet::new, |core| core.pending_acks(task))
    }

    /// Hands bytes of any origin to a node.
    pub fn inject(&mut self, node: usize, datagram: Vec<u8>) {
        let run = self.nodes[node].run;
        self.schedule(
            Duration::ZERO,
            Occurrence::Datagram {
                from: node,
                to: node,
                run,
                datagram,
            },
        );
    }

    /// Stops a node at once.
    pub fn crash(&mut self, node: usize) {
        let stopped = &mut self.nodes[node];
        if let Some(core) = stopped.core.take() {
            let counters = core.counters();
            self.past.datagram_bytes_sent += counters.datagram_bytes_sent;
            self.past.frame_bytes_sent += counters.frame_bytes_sent;
        }
        stopped.run += 1;
        stopped.wake = None;
        stopped.caretaker = None;
        self.watched_tasks.retain(|(owner, _)| *owner != node);
    }

    /// Stops a node's gossip at once, and has a caretaker answer for it until it starts again or crashes.
    pub fn leave(&mut self, node: usize) {
        let Some(epoch) = self.epoch_of(node) else { return };
        self.crash(node);
        let mut seed = [0; 32];
        self.random.fill(&mut seed[..]);
        let left = &mut self.nodes[node];
        left.caretaker = Some(Caretaker::new(left.name.clone(), epoch, left.keys.clone(), seed));
    }

    /// Starts a node again, with the tasks and interests it has now, its clock moved by so many milliseconds.
    pub fn restart(&mut self, node: usize, disk: Disk, clock_jump_ms: i64) {
        self.crash(node);
        self.disturb();
        let started = &mut self.nodes[node];
        started.wall_clock_ms = started.wall_clock_ms.saturating_add_signed(clock_jump_ms);
        if disk == Disk::Lost {
            started.kept_epoch = Epoch::UNHEARD;
        }
        self.start(node);
    }

    /// Cuts these nodes off from all others.
    pub fn cut_off(&mut self, nodes: &[usize]) {
        let rest: Vec<usize> = (0..self.size()).filter(|node| !nodes.contains(node)).collect();
        let pairs = nodes
            .iter()
            .flat_map(|one| rest.iter().map(|other| (*one.min(other), *one.max(other))));
        self.setup.network.cut.extend(pairs);
        self.disturb();
    }

    /// Lets all nodes reach each other again.
    pub fn heal(&mut self) {
        self.setup.network.cut.clear();
        self.disturb();
    }

    fn disturb(&mut self) {
        self.undisturbed_since = self.now;
    }
}

/// The name of the node of this number.
pub fn node(number: usize) -> NodeName {
    name(&format!("n{number}"), NodeName::new)
}

/// A network's name.
pub fn network(text: &str) -> NetworkName {
    name(text, NetworkName::new)
}

/// A task's identity.
pub fn task(text: &str) -> TaskId {
    name(text, TaskId::new)
}

fn name<T, E: std::fmt::Display>(text: &str, new: impl FnOnce(&str) -> Result<T, E>) -> T {
    new(text).unwrap_or_else(|error| panic!("{error}"))
}

/// A ring of one key.
fn key(byte: u8) -> KeyRing {
    KeyRing::new(Key::new([byte; essaim_gossip::KEY_LENGTH]))
}

fn address(number: usize) -> SocketAddr {
    let [.., high, low] = number.to_be_bytes();
    SocketAddr::from(([10, 0, high, low], 7_946))
}
