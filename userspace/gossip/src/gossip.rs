//! The core: everything a node does in gossip, without a socket, a clock or a source of randomness.

mod exchange;
mod publish;
mod receive;
mod send;

use crate::acks::{GivenAcks, OwnAcks};
use crate::fact::Scope;
use crate::facts::{Facts, OwnFacts, networks_of};
use crate::membership::Membership;
use crate::push::Push;
use crate::seal::{Carrier, Sealer};
use crate::{Action, Config, Counters, Epoch, Event, KeyRing, View, ViewVersion};
use essaim_ipsec::Said;
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
/// [`Gossip::handle_timeout`] when [`Gossip::poll_timeout`] has come. Say tasks and interests before peers: what an
/// earlier run of this node said then stands until this run has spoken, on every other node.
pub struct Gossip {
    name: NodeName,
    config: Config,
    random: StdRng,
    sealer: Sealer,
    membership: Membership,
    facts: Facts,
    own: OwnFacts,
    push: Push,
    given_acks: GivenAcks,
    own_acks: OwnAcks,
    view: Arc<View>,
    counters: Counters,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    next_digest: Instant,
    next_forgetting: Instant,
    last_exchange: Option<Instant>,
}

impl Gossip {
    /// The most tasks of a node.
    pub const MAX_TASKS: usize = 4_096;
    /// The most networks of a node, those of its tasks and `ingress` included.
    pub const MAX_NETWORKS: usize = 1_024;
    /// The most events that wait to be polled; the oldest are dropped. The view misses nothing.
    pub const MAX_EVENTS: usize = 4_096;

    /// A node without peers, tasks or interests.
    pub fn new(start: Start, now: Instant) -> Self {
        let Start {
            name,
            last_epoch,
            wall_clock_ms,
            seed,
            keys,
            mut config,
        } = start;
        config.max_datagram = config.max_datagram.max(Config::MIN_DATAGRAM);
        let epoch = Epoch::starting(wall_clock_ms, last_epoch);
        let mut random = StdRng::from_seed(seed);
        let mut facts = Facts::default();
        facts.keep(Scope::Node);
        let mut gossip = Self {
            sealer: Sealer::new(name.clone(), keys, &mut random),
            membership: Membership::new(name.clone(), epoch, config, &mut random, now),
            own: OwnFacts::new(name.clone(), epoch),
            facts,
            push: Push::default(),
            given_acks: GivenAcks::default(),
            own_acks: OwnAcks::default(),
            view: Arc::default(),
            counters: Counters::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            next_digest: now,
            next_forgetting: now + config.removal_memory,
            last_exchange: None,
            name,
            config,
            random,
        };
        gossip.publish_self();
        gossip.say(now);
        gossip
    }

    /// This node.
    pub fn name(&self) -> &NodeName {
        &self.name
    }

    /// This run's epoch; to be kept, and handed to the next run.
    pub fn epoch(&self) -> Epoch {
        self.own.epoch()
    }

    /// Says who the members are (this node may be among them or not); what others said is forgotten.
    pub fn set_peers(&mut self, peers: &BTreeMap<NodeName, SocketAddr>, now: Instant) {
        let was_alone = self.membership.size() == 1;
        let (come, gone) = self.membership.set_peers(peers);
        for node in &gone {
            self.forget_node(node);
        }
        self.publish_members(peers, &come, &gone);
        if come.is_empty() {
            return;
        }
        self.push.add_claim(&self.name, &self.config, now);
        for scope in self.facts.scopes() {
            self.push
                .add_stream(scope, &self.name, crate::Version::ZERO, &self.config, now);
        }
        if was_alone {
            self.exchange_with_anyone(now);
        }
    }

    /// Says which networks this node takes part in, besides `ingress` and those of its own tasks.
    ///
    /// # Errors
    /// There are too many.
    pub fn set_interests(&mut self, networks: BTreeSet<NetworkName>, now: Instant) -> Result<(), TooMuch> {
        Self::check_networks(&networks_of(&networks, &self.own.tasks))?;
        self.own.interests = networks;
        self.say(now);
        Ok(())
    }

    /// Says which tasks this node has. A task that is no longer among them is no longer spoken of, so one that has
    /// ended should stay, as gone, for as long as the catalog has it.
    ///
    /// # Errors
    /// There are too many of them, or of their networks.
    pub fn set_tasks(&mut self, tasks: BTreeMap<TaskId, OwnTask>, now: Instant) -> Result<(), TooMuch> {
        if tasks.len() > Self::MAX_TASKS {
            return Err(TooMuch::Tasks {
                found: tasks.len(),
                most: Self::MAX_TASKS,
            });
        }
        Self::check_networks(&networks_of(&self.own.interests, &tasks))?;
        self.own.tasks = tasks;
        self.say(now);
        Ok(())
    }

    fn check_networks(networks: &BTreeSet<NetworkName>) -> Result<(), TooMuch> {
        if networks.len() > Self::MAX_NETWORKS {
            return Err(TooMuch::Networks {
                found: networks.len(),
                most: Self::MAX_NETWORKS,
            });
        }
        Ok(())
    }

    /// Says at which underlay address this node has its VTEP.
    pub fn set_vtep(&mut self, vtep: Option<IpAddr>, now: Instant) {
        self.own.vtep = vtep;
        self.say(now);
    }

    /// Says which revision of the catalog this node has applied.
    pub fn set_catalog_applied(&mut self, revision: u64, now: Instant) {
        self.own.catalog_applied = Some(revision);
        self.say(now);
    }

    /// Says which keys of encrypted networks this node holds.
    pub fn set_ipsec(&mut self, said: Said, now: Instant) {
        self.own.ipsec = Some(said);
        self.say(now);
    }

    /// Replaces the keys, from the next datagram on.
    pub fn set_keys(&mut self, keys: KeyRing) {
        self.sealer.set_keys(keys);
    }

    /// Says that this node's data plane has all that the view of this version says.
    pub fn applied(&mut self, version: ViewVersion) {
        let version = version.min(self.view.version);
        for ack in self.own_acks.applied(version) {
            self.send_ack(ack);
        }
    }

    /// Asks the members for acknowledgements of this node's last word on a task, and asks again until all have
    /// given theirs or the deadline has passed.
    pub fn request_acks(&mut self, task: &TaskId, deadline: Instant, now: Instant) {
        self.given_acks.request(task.clone(), deadline, now);
    }

    /// The reachable members that keep facts of the task's networks and have not applied this node's last word on it,
    /// as far as this node knows. Empty for a task that this node does not speak of.
    pub fn pending_acks(&self, task: &TaskId) -> BTreeSet<NodeName> {
        let Some((version, scopes)) = self.own.last_word(&self.facts, task) else {
            return BTreeSet::new();
        };
        let lacks = |node: &NodeName, epoch| {
            let mut scopes = scopes.iter().filter(|scope| self.facts.may_keep(node, scope));
            scopes.any(|scope| !self.given_acks.has(node, epoch, scope, version))
        };
        let heard = self
            .membership
            .reachable()
            .filter(|(_, claim)| claim.epoch.is_heard());
        heard
            .filter(|(node, claim)| lacks(node, claim.epoch))
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.membership.poll_timeout().is_some_and(|due| due <= now) {
            self.membership.handle_timeout(&mut self.random, now);
            self.follow_membership(Carrier::Datagram, now);
        }
        if self.given_acks.due().is_some_and(|due| due <= now) {
            self.ask_for_acks(now);
        }
        if self.next_digest <= now {
            self.next_digest = now + self.config.digest_interval;
            self.compare_with_anyone();
        }
        if self.push.due().is_some_and(|due| due <= now) {
            self.push_news(now);
        }
        if self.next_forgetting <= now {
            self.next_forgetting = now + self.config.removal_memory / 2;
            if let Some(before) = now.checked_sub(self.config.removal_memory) {
                self.facts.forget_removals(before);
            }
        }
    }

    /// When [`Gossip::handle_timeout`] is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let always = [self.next_digest, self.next_forgetting];
        let sometimes = [
            self.membership.poll_timeout(),
            self.given_acks.due(),
            self.push.due(),
        ];
        always.into_iter().chain(sometimes.into_iter().flatten()).min()
    }

    /// The next effect.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next change.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What this node knows; cheap.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// Counts since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Brings this node's streams to what the caller said, and tells the others.
    fn say(&mut self, now: Instant) {
        let networks: BTreeSet<Scope> = self.own.networks().into_iter().map(Scope::Network).collect();
        let left: Vec<Scope> = self
            .facts
            .scopes()
            .filter(|scope| **scope != Scope::Node && !networks.contains(scope))
            .cloned()
            .collect();
        let joined: Vec<Scope> = networks
            .iter()
            .filter(|scope| !self.facts.keeps(scope))
            .cloned()
            .collect();
        for scope in &joined {
            self.facts.keep(scope.clone());
        }
        for written in self.own.write_to(&mut self.facts, now) {
            if self.facts.stream(&written.scope, &self.name).is_some() {
                self.push
                    .add_stream(&written.scope, &self.name, written.before, &self.config, now);
            } else {
                self.push.remove_stream(&written.scope, &self.name);
            }
            self.publish_facts(&self.name.clone(), &written.changed);
        }
        for scope in &left {
            self.stop_keeping(scope);
        }
        for scope in &joined {
            self.catch_up(scope);
        }
    }

    fn stop_keeping(&mut self, scope: &Scope) {
        for (owner, stream) in self.facts.stop_keeping(scope) {
            self.push.remove_stream(scope, &owner);
            self.own_acks.forget(scope, &owner);
            let keys: Vec<_> = stream.keys().cloned().collect();
            self.publish_facts(&owner, &keys);
        }
    }

    /// Takes a later epoch than another run of this node has, and says everything again.
    fn renew(&mut self, other: Epoch, now: Instant) {
        let epoch = other.next();
        self.own.renew(epoch, &mut self.facts);
        self.membership.renew(epoch);
        self.given_acks.forget_all();
        self.push.remove_node(&self.name);
        self.push.add_claim(&self.name, &self.config, now);
        self.publish_self();
        self.say(now);
        self.publish_event(Event::EpochRenewed { epoch });
    }

    fn forget_node(&mut self, node: &NodeName) {
        self.facts.forget_owner(node);
        self.push.remove_node(node);
        self.given_acks.forget_node(node);
        self.own_acks.forget_owner(node);
    }
}
