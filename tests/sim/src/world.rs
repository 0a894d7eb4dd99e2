//! The cluster, its clock, and what is on its way.

use crate::check::{Record, difference};
use crate::network::Network;
use crate::node::{Disk, SimNode};
use essaim_gossip::{
    Action, Config, Counters, Epoch, Event, Gossip, Key, KeyRing, MemberState, OwnTask, Start, View,
    ViewVersion,
};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a simulated data plane takes to apply a view.
const APPLY_TIME: Duration = Duration::from_millis(4);

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

/// What happens at a moment.
enum Occurrence {
    Datagram {
        to: usize,
        run: u64,
        datagram: Vec<u8>,
    },
    Frame {
        from: usize,
        from_run: u64,
        to: usize,
        run: u64,
        frame: Vec<u8>,
    },
    Wake {
        node: usize,
        run: u64,
    },
    Applied {
        node: usize,
        run: u64,
        view: Arc<View>,
    },
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
    /// Since when all pairs of running nodes have been able to talk.
    undisturbed_since: Duration,
    watched_tasks: Vec<(usize, TaskId)>,
    past: Counters,
}

impl World {
    /// A cluster whose nodes all start within the first 100 ms.
    #[expect(clippy::disallowed_methods, reason = "only differences of instants count")]
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
    pub fn set_interests(&mut self, node: usize, networks: &[NetworkName]) {
        let networks: BTreeSet<NetworkName> = networks.iter().cloned().collect();
        self.nodes[node].interests.clone_from(&networks);
        self.with_core(node, |core, now| {
            assert_eq!(core.set_interests(networks, now), Ok(()))
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
        self.watched_tasks.retain(|(owner, _)| *owner != node);
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

    fn start(&mut self, number: usize) {
        let mut seed = [0; 32];
        self.random.fill(&mut seed[..]);
        let now = self.instant();
        let node = &mut self.nodes[number];
        let wall_clock_ms = node.wall_clock_ms + u64::try_from(self.now.as_millis()).unwrap_or_default();
        node.run += 1;
        node.checks = crate::check::Checks::default();
        node.applying = ViewVersion::default();
        node.said = None;
        node.core = Some(Gossip::new(
            Start {
                name: node.name.clone(),
                last_epoch: node.kept_epoch,
                wall_clock_ms,
                seed,
                keys: node.keys.clone(),
                config: self.setup.config,
            },
            now,
        ));
        let (tasks, interests) = (node.tasks.clone(), node.interests.clone());
        let peers: BTreeMap<NodeName, SocketAddr> = (0..self.nodes.len())
            .map(|number| (self::node(number), address(number)))
            .collect();
        self.with_core(number, |core, now| {
            assert_eq!(core.set_interests(interests, now), Ok(()));
            assert_eq!(core.set_tasks(tasks, now), Ok(()));
            core.set_peers(&peers, now);
        });
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds, which is tested after every step; how long it took, or `None` where it did not
    /// come to hold in time.
    pub fn run_until(&mut self, within: Duration, mut holds: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        let end = start + within;
        loop {
            if holds(self) {
                return Some(self.now - start);
            }
            if !self.step(end) {
                self.now = end;
                return None;
            }
        }
    }

    /// Lets time pass until every running node knows all that it should.
    ///
    /// # Panics
    /// It takes longer than that.
    pub fn converge(&mut self, within: Duration) -> Duration {
        let end = self.now + within;
        let start = self.now;
        while let Some(difference) = self.first_difference() {
            assert!(
                self.now < end,
                "seed {}: after {within:?}, {difference}",
                self.setup.seed
            );
            self.run_for(Duration::from_millis(5));
        }
        self.now - start
    }

    /// What a node does not know, or knows wrongly.
    pub fn first_difference(&self) -> Option<String> {
        let running = (0..self.size()).filter(|node| self.is_running(*node));
        running
            .flat_map(|observer| (0..self.size()).map(move |owner| (observer, owner)))
            .find_map(|(observer, owner)| {
                let view = self.view(observer);
                let networks = self.nodes[observer].networks();
                let owner = &self.nodes[owner];
                let found = difference(&view, &owner.name, owner.core.is_some(), &owner.tasks, &networks);
                found.map(|found| format!("on {}: {found}", self.nodes[observer].name))
            })
    }

    /// Takes the next step, if there is one before that time.
    fn step(&mut self, end: Duration) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            return false;
        };
        let ((at, _), occurrence) = entry.remove_entry();
        self.now = at;
        self.happen(occurrence);
        true
    }

    fn happen(&mut self, occurrence: Occurrence) {
        match occurrence {
            Occurrence::Datagram { to, run, datagram } => {
                if self.nodes[to].run == run {
                    self.with_core(to, |core, now| core.handle_datagram(&datagram, now).ok());
                }
            }
            Occurrence::Frame {
                from,
                from_run,
                to,
                run,
                frame,
            } => {
                if self.nodes[to].run == run && self.setup.network.connects(from, to) {
                    let answer =
                        self.with_core(to, |core, now| core.handle_frame(&frame, now).ok().flatten());
                    if let Some(frame) = answer.flatten() {
                        self.send_frame(to, run, from, from_run, frame);
                    }
                }
            }
            Occurrence::Wake { node, run } => {
                if run == 0 && self.nodes[node].run == 0 {
                    self.start(node);
                } else if self.nodes[node].run == run {
                    self.nodes[node].wake = None;
                    self.with_core(node, |core, now| {
                        if core.poll_timeout().is_some_and(|due| due <= now) {
                            core.handle_timeout(now);
                        }
                    });
                }
            }
            Occurrence::Applied { node, run, view } => {
                if self.nodes[node].run == run {
                    let version = view.version;
                    self.nodes[node].checks.applied = view;
                    self.with_core(node, |core, _| core.applied(version));
                }
            }
        }
    }

    /// Calls a running core, carries out what it asks for, and checks what must hold.
    fn with_core<T>(&mut self, number: usize, call: impl FnOnce(&mut Gossip, Instant) -> T) -> Option<T> {
        let now = self.instant();
        let node = &mut self.nodes[number];
        let core = node.core.as_mut()?;
        let result = call(core, now);
        let mut actions = Vec::new();
        while let Some(action) = core.poll_action() {
            actions.push(action);
        }
        while let Some(event) = core.poll_event() {
            self.events.push_back((self.now, number, event));
        }
        node.kept_epoch = core.epoch();
        let (view, due, run) = (core.view(), core.poll_timeout(), node.run);
        let own = view.members.get(&node.name);
        if own
            .zip(node.said.as_ref())
            .is_none_or(|(own, said)| !Arc::ptr_eq(own, said))
        {
            node.said = own.cloned();
            self.record.note(&node.name, &view);
        }
        self.carry_out(number, actions);
        self.arm(number, due);
        self.apply_later(number, run, &view);
        self.check(number, view);
        Some(result)
    }

    fn carry_out(&mut self, from: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, datagram } => {
                    let to = number_of(to);
                    if !self.setup.network.connects(from, to) {
                        continue;
                    }
                    let run = self.nodes[to].run;
                    for delay in self.setup.network.deliveries(&mut self.random) {
                        let datagram = datagram.clone();
                        self.schedule(delay, Occurrence::Datagram { to, run, datagram });
                    }
                }
                Action::Exchange { to, frame, .. } => {
                    let to = number_of(to);
                    let (from_run, run) = (self.nodes[from].run, self.nodes[to].run);
                    self.send_frame(from, from_run, to, run, frame);
                }
            }
        }
    }

    fn send_frame(&mut self, from: usize, from_run: u64, to: usize, run: u64, frame: Vec<u8>) {
        let delay = self.setup.network.stream_delay(&mut self.random);
        self.schedule(
            delay,
            Occurrence::Frame {
                from,
                from_run,
                to,
                run,
                frame,
            },
        );
    }

    fn arm(&mut self, number: usize, due: Option<Instant>) {
        let Some(due) = due else { return };
        let due = due.saturating_duration_since(self.epoch).max(self.now);
        let node = &mut self.nodes[number];
        if node.wake.is_none_or(|wake| due < wake) {
            node.wake = Some(due);
            let run = node.run;
            self.schedule(due - self.now, Occurrence::Wake { node: number, run });
        }
    }

    fn apply_later(&mut self, number: usize, run: u64, view: &Arc<View>) {
        let is_checked = number.is_multiple_of(self.setup.check_one_in);
        let node = &mut self.nodes[number];
        if is_checked && view.version > node.applying {
            node.applying = view.version;
            let view = Arc::clone(view);
            self.schedule(
                APPLY_TIME,
                Occurrence::Applied {
                    node: number,
                    run,
                    view,
                },
            );
        }
    }

    fn check(&mut self, number: usize, view: Arc<View>) {
        if !number.is_multiple_of(self.setup.check_one_in) {
            return;
        }
        let node = &mut self.nodes[number];
        if let Err(broken) = node.checks.step(view, &self.members, &self.record) {
            panic!(
                "seed {}, {:?}, on {}: {broken}",
                self.setup.seed, self.now, node.name
            );
        }
        for (owner, task) in &self.watched_tasks {
            if *owner == number {
                self.check_acks(*owner, task);
            }
        }
    }

    /// No node counts as having applied a word that its data plane does not have.
    fn check_acks(&self, owner: usize, task: &TaskId) {
        let (view, name) = (self.view(owner), &self.nodes[owner].name);
        let Some(fact) = view.task(name, task) else { return };
        let pending = self.pending_acks(owner, task);
        for (number, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != owner)
        {
            let member = view.members.get(&node.name);
            let is_counted = member.is_some_and(|member| {
                member.state != MemberState::Down
                    && Some(member.epoch) == self.epoch_of(number)
                    && fact
                        .networks
                        .iter()
                        .any(|network| member.interests.contains(network))
            });
            let takes_part = fact
                .networks
                .iter()
                .any(|network| node.networks().contains(network));
            let order = (fact.epoch, fact.version);
            assert!(
                !is_counted
                    || !takes_part
                    || pending.contains(&node.name)
                    || node.checks.has_applied(name, task, order),
                "seed {}, {:?}: {} counts as having applied {task}, and has not",
                self.setup.seed,
                self.now,
                node.name
            );
        }
    }

    /// The pairs of running nodes of which one is told that the other is down.
    pub fn told_down(&self) -> Vec<(usize, usize)> {
        let pairs =
            (0..self.size()).flat_map(|observer| (0..self.size()).map(move |other| (observer, other)));
        pairs
            .filter(|(observer, other)| {
                let name = &self.nodes[*other].name;
                let state = self.view(*observer).members.get(name).map(|member| member.state);
                self.is_running(*other) && state == Some(MemberState::Down)
            })
            .collect()
    }

    /// How long all running nodes have been able to talk, and none has started.
    pub fn undisturbed_for(&self) -> Duration {
        self.now - self.undisturbed_since
    }

    fn schedule(&mut self, delay: Duration, occurrence: Occurrence) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), occurrence);
    }

    fn instant(&self) -> Instant {
        self.epoch + self.now
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

fn number_of(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(address) => {
            let [_, _, high, low] = address.ip().octets();
            usize::from(u16::from_be_bytes([high, low]))
        }
        SocketAddr::V6(_) => unreachable!("simulated nodes have IPv4 addresses"),
    }
}
