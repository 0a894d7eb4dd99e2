//! The simulated cluster.

use super::agent::Agent;
use super::invariants;
use crate::make;
use crate::memory::Memory;
use essaim_objects::{Availability, NodeId, Service, TaskId, TaskStatus, Timestamp, UpdateState};
use essaim_orchestrator::{
    Action, Dispatcher, Event, Message, Now, Orchestrator, Registration, Scheduler, Unit, pack,
};
use essaim_protocol::{Assignments, SessionId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const NODES: u128 = 5;
/// How long all goes wrong, in milliseconds.
const SUFFERING: u64 = 180_000;
/// How long the cluster may take to become what was asked for.
const HEALING: u64 = 900_000;

enum Letter {
    Assignments(NodeId, SessionId, Assignments),
    Register(NodeId),
    Heartbeat(NodeId, SessionId),
    Reports(NodeId, SessionId, Vec<(TaskId, TaskStatus)>),
    Resync(NodeId, SessionId),
}

struct Leader {
    orchestrator: Orchestrator,
    scheduler: Scheduler,
    dispatcher: Dispatcher,
    /// How far its clock is off, in milliseconds.
    skew: i64,
}

pub(crate) struct World {
    rng: StdRng,
    now: u64,
    pub(crate) store: Memory,
    leader: Leader,
    agents: BTreeMap<NodeId, Agent>,
    /// Nodes without power.
    dark: BTreeSet<NodeId>,
    /// Nodes that nothing reaches.
    cut: BTreeSet<NodeId>,
    post: BTreeMap<(u64, u64), Letter>,
    letters: u64,
    is_calm: bool,
    services: u128,
    /// What has happened, in words.
    pub(crate) seen: BTreeSet<String>,
}

fn leader(store: &Memory, now: u64, skew: i64) -> Leader {
    let now = time(now, skew);
    Leader {
        orchestrator: Orchestrator::new(store),
        scheduler: Scheduler::new(now),
        dispatcher: Dispatcher::new(store, now),
        skew,
    }
}

fn time(now: u64, skew: i64) -> Now {
    let wall = 1_700_000_000_000 + i64::try_from(now).unwrap() + skew;
    Now {
        wall: Timestamp::from_millisecond(wall).unwrap(),
        monotonic: Duration::from_millis(now),
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut store = Memory::default();
        for number in 1..=NODES {
            let zone = if number % 2 == 0 { "a" } else { "b" };
            let node = make::node(number, &json!({"Spec": {"Labels": {"zone": zone}}}));
            store.put_node(node, time(0, 0).wall);
        }
        let leader = leader(&store, 0, 0);
        let agents = store.nodes.keys().map(|id| (*id, Agent::default())).collect();
        Self {
            rng: StdRng::seed_from_u64(seed),
            now: 0,
            store,
            leader,
            agents,
            dark: BTreeSet::new(),
            cut: BTreeSet::new(),
            post: BTreeMap::new(),
            letters: 0,
            is_calm: false,
            services: 0,
            seen: BTreeSet::new(),
        }
    }

    fn time(&self) -> Now {
        time(self.now, self.leader.skew)
    }

    /// Lets all go wrong for a while.
    pub(crate) fn suffer(&mut self) {
        for _ in 0..3 {
            self.create_service();
        }
        let mut next = 2_000;
        while self.now < SUFFERING {
            self.step(next);
            if self.now >= next {
                self.misfortune();
                next = self.now + self.rng.random_range(100..8_000);
            }
        }
    }

    /// Lets all go well, and waits until the cluster is what was asked for.
    pub(crate) fn heal(&mut self) {
        self.is_calm = true;
        self.cut.clear();
        self.dark.clear();
        for id in self.store.nodes.keys().copied().collect::<Vec<_>>() {
            self.set_availability(id, Availability::Active);
        }
        for service in self.store.services.values().cloned().collect::<Vec<_>>() {
            // An operator looks after what waits for him.
            if service.update_status.as_ref().and_then(|it| it.state) == Some(UpdateState::RollbackPaused) {
                self.respecify(&service, "good");
            }
        }
        let until = self.now + HEALING;
        let mut met_since = None;
        while self.now < until {
            self.step(self.now + 1_000);
            match invariants::unmet(&self.store) {
                None => {
                    let since = *met_since.get_or_insert(self.now);
                    if self.now > since + 20_000 {
                        return;
                    }
                }
                Some(_) => met_since = None,
            }
        }
        let why = invariants::unmet(&self.store);
        for task in self.store.tasks.values() {
            println!(
                "{} {:?} slot {:?} on {:?}: {} of {} {:?} {:?}",
                task.id,
                task.service_id,
                task.slot,
                task.node_id,
                task.status.state,
                task.desired_state,
                task.status.err,
                task.spec.container.as_ref().and_then(|it| it.image.clone())
            );
        }
        for service in self.store.services.values() {
            println!("{service:?}");
        }
        panic!("not what was asked for after {HEALING} ms: {why:?}");
    }

    /// Goes on to the next moment at which anything happens, at most to `limit`.
    fn step(&mut self, limit: u64) {
        let leader = &self.leader;
        let timeouts = [
            leader.orchestrator.next_timeout(),
            leader.scheduler.next_timeout(),
            leader.dispatcher.next_timeout(),
        ];
        let timeouts = timeouts
            .into_iter()
            .flatten()
            .map(|at| u64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap());
        let agents = self
            .agents
            .iter()
            .filter(|(id, _)| !self.dark.contains(id))
            .map(|(_, agent)| agent.next());
        let post = self.post.keys().map(|(at, _)| *at).take(1);
        let next = timeouts.chain(agents).chain(post).min().unwrap_or(limit);
        self.now = next.clamp(self.now, limit.max(self.now));
        while let Some(entry) = self.post.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let letter = entry.remove();
            self.deliver(letter);
        }
        self.run_agents();
        self.run_leader();
        invariants::check(&self.store);
    }

    fn send(&mut self, letter: Letter) {
        if !self.is_calm && self.rng.random_range(0..30) == 0 {
            if let Letter::Assignments(_, session, _) = letter {
                self.leader.dispatcher.disconnected(session);
            }
            return;
        }
        let longest = if self.is_calm || self.rng.random_range(0..20) != 0 {
            60
        } else {
            6_000
        };
        let at = self.now + self.rng.random_range(1..longest);
        self.letters += 1;
        self.post.insert((at, self.letters), letter);
    }

    fn run_agents(&mut self) {
        for id in self.agents.keys().copied().collect::<Vec<_>>() {
            let Some(agent) = self.agents.get_mut(&id).filter(|_| !self.dark.contains(&id)) else {
                continue;
            };
            let mut letters = Vec::new();
            let reports = agent.run(self.now, self.is_calm, &mut self.rng);
            let session = agent.session;
            if let Some(session) = session.filter(|_| !reports.is_empty()) {
                letters.push(Letter::Reports(id, session, reports));
            }
            if agent.speaks_at <= self.now {
                match session {
                    None => {
                        agent.speaks_at = self.now + self.rng.random_range(2_700..8_000);
                        letters.push(Letter::Register(id));
                    }
                    Some(session) => {
                        agent.speaks_at = self.now + 4_500;
                        letters.push(Letter::Heartbeat(id, session));
                        letters.push(Letter::Reports(id, session, agent.all()));
                        if agent.wants_all {
                            letters.push(Letter::Resync(id, session));
                        }
                    }
                }
            }
            for letter in letters {
                self.send(letter);
            }
        }
    }

    fn deliver(&mut self, letter: Letter) {
        let now = self.time();
        let mut random = bits(&mut self.rng);
        let (Letter::Assignments(node, ..)
        | Letter::Register(node)
        | Letter::Heartbeat(node, _)
        | Letter::Reports(node, ..)
        | Letter::Resync(node, _)) = letter;
        let dispatcher = &mut self.leader.dispatcher;
        if self.cut.contains(&node) || self.dark.contains(&node) {
            // The stream of messages breaks where one cannot be delivered.
            if let Letter::Assignments(_, session, _) = letter {
                dispatcher.disconnected(session);
            }
            return;
        }
        let (node, session, answer) = match letter {
            Letter::Assignments(node, session, message) => {
                if let Some(agent) = self.agents.get_mut(&node)
                    && agent.session == Some(session)
                {
                    agent.take(message, self.now);
                }
                return;
            }
            Letter::Register(node) => {
                let description = self.store.nodes[&node].description.clone().unwrap();
                let registration = Registration {
                    node,
                    description,
                    addr: None,
                    data_path_addr: None,
                };
                let begun = dispatcher.register(registration, &self.store, now, &mut random);
                if let (Ok(session), Some(agent)) = (begun, self.agents.get_mut(&node)) {
                    agent.session = Some(session);
                    agent.number = None;
                    agent.seen = 0;
                    agent.speaks_at = self.now + 100;
                }
                return;
            }
            Letter::Heartbeat(node, session) => (
                node,
                session,
                dispatcher
                    .heartbeat(session, &self.store, now, &mut random)
                    .map(drop),
            ),
            Letter::Reports(node, session, reports) => (
                node,
                session,
                dispatcher.report(session, reports, &self.store, now),
            ),
            Letter::Resync(node, session) => (node, session, dispatcher.resync(session, now)),
        };
        if answer.is_err()
            && let Some(agent) = self.agents.get_mut(&node)
            && agent.session == Some(session)
        {
            agent.session = None;
            agent.speaks_at = self.now + 200;
        }
    }

    /// Lets the leader's parts decide until they find nothing more to do at this moment.
    fn run_leader(&mut self) {
        for round in 0.. {
            assert!(round < 100, "the leader's parts never come to rest");
            let now = self.time();
            let mut is_quiet = true;
            for action in self.leader.dispatcher.poll(&self.store, now) {
                is_quiet = false;
                match action {
                    Action::Send { session, message } => self.post_message(session, message),
                    Action::CloseSession { .. } => {}
                    Action::Commit(units) => {
                        self.commit(units);
                        self.leader.dispatcher.committed();
                    }
                }
            }
            let mut random = bits(&mut self.rng);
            let units = self.leader.orchestrator.poll(&self.store, now, &mut random);
            is_quiet &= units.is_empty();
            self.commit(units);
            let units = self.leader.scheduler.poll(&self.store, now);
            is_quiet &= units.is_empty();
            self.commit(units);
            if is_quiet {
                return;
            }
        }
    }

    fn post_message(&mut self, session: SessionId, message: Message) {
        let node = self
            .agents
            .iter()
            .find(|(_, agent)| agent.session == Some(session))
            .map(|(id, _)| *id);
        if let (Some(node), Message::Assignments(message)) = (node, message) {
            self.send(Letter::Assignments(node, session, message));
        }
    }

    fn commit(&mut self, units: Vec<Unit>) {
        for changes in pack(units, 200) {
            // Now and then the log does not take it.
            if !self.is_calm && self.rng.random_range(0..50) == 0 {
                continue;
            }
            let wall = self.time().wall;
            for event in self.store.apply(&changes, wall).unwrap_or_default() {
                self.tell(&event);
            }
        }
    }

    fn tell(&mut self, event: &Event) {
        invariants::check_event(event);
        self.note(event);
        let now = self.time();
        self.leader.orchestrator.handle_event(event, &self.store);
        self.leader.scheduler.handle_event(event, now);
        self.leader.dispatcher.handle_event(event, now);
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Node(_, Some(node)) => {
                self.seen.insert(format!("node {}", node.status.state));
            }
            Event::Service(_, Some(service)) => {
                let state = service.update_status.as_ref().and_then(|status| status.state);
                self.seen.extend(state.map(|state| format!("update {state}")));
            }
            Event::Task(_, Some(task)) => {
                self.seen.insert(format!("task {}", task.status.state));
                let why = task.status.err.as_deref().unwrap_or_default();
                for word in [
                    "insufficient resources",
                    "scheduling constraints",
                    "host-mode port",
                    "max replicas",
                ] {
                    if why.contains(word) {
                        self.seen.insert(format!("waits: {word}"));
                    }
                }
            }
            Event::Node(..) | Event::Service(..) | Event::Task(..) => {}
        }
    }

    fn any_node(&mut self) -> NodeId {
        make::node_id(self.rng.random_range(1..=NODES))
    }

    fn any_service(&mut self) -> Option<Arc<Service>> {
        let count = self.store.services.len();
        let at = self.rng.random_range(0..count.max(1));
        self.store.services.values().nth(at).cloned()
    }

    fn misfortune(&mut self) {
        let node = self.any_node();
        match self.rng.random_range(0..20) {
            0..2 => {
                let skew = self.rng.random_range(-4_000..4_000);
                self.leader = leader(&self.store, self.now, skew);
            }
            2 => {
                self.cut.insert(node);
            }
            3 => {
                self.dark.insert(node);
                if let Some(agent) = self.agents.get_mut(&node) {
                    agent.crash();
                }
            }
            4..8 => {
                self.cut.pop_first();
                self.dark.pop_first();
            }
            8 => self.set_availability(node, Availability::Drain),
            9 => self.set_availability(node, Availability::Pause),
            10..12 => self.set_availability(node, Availability::Active),
            12 => {
                let mut changed = essaim_objects::Node::clone(&self.store.nodes[&node]);
                let zone = if self.rng.random() { "a" } else { "b" };
                changed
                    .spec
                    .labels
                    .get_or_insert_default()
                    .insert("zone".to_owned(), zone.to_owned());
                self.put_node(changed);
            }
            13 => self.create_service(),
            14 => {
                if let Some(service) = self.any_service().filter(|_| self.store.services.len() > 2) {
                    let event = self.store.remove_service(service.id);
                    self.tell(&event);
                }
            }
            15..17 => {
                if let Some(service) = self.any_service() {
                    self.scale(&service);
                }
            }
            17 => {
                if let Some(service) = self.any_service() {
                    self.respecify(&service, "bad");
                }
            }
            _ => {
                if let Some(service) = self.any_service() {
                    self.respecify(&service, "good");
                }
            }
        }
    }

    fn set_availability(&mut self, node: NodeId, availability: Availability) {
        let mut changed = essaim_objects::Node::clone(&self.store.nodes[&node]);
        changed.spec.availability = Some(availability);
        self.put_node(changed);
    }

    fn put_node(&mut self, node: essaim_objects::Node) {
        let event = self.store.put_node(node, self.time().wall);
        self.tell(&event);
        self.run_leader();
    }

    fn put_service(&mut self, service: Service) {
        let event = self.store.put_service(service, self.time().wall);
        self.tell(&event);
        self.run_leader();
    }

    fn scale(&mut self, service: &Service) {
        let mut spec = essaim_objects::ServiceSpec::clone(&service.spec);
        let replicas = self.rng.random_range(0..8_u64);
        if let Some(replicated) = spec.mode.as_mut().and_then(|mode| mode.replicated.as_mut()) {
            replicated.replicas = Some(replicas);
            self.put_service(make::respecified(service, spec, self.store.index + 1));
        }
    }

    fn respecify(&mut self, service: &Service, image: &str) {
        let mut spec = essaim_objects::ServiceSpec::clone(&service.spec);
        let template = Arc::make_mut(&mut spec.task_template);
        let image = format!("{image}-{}", self.rng.random_range(0..1_000_u32));
        template.container.get_or_insert_default().image = Some(image);
        if self.rng.random_range(0..4) == 0 {
            let zone = if self.rng.random() {
                "node.labels.zone==a"
            } else {
                "node.labels.zone!=none"
            };
            template.placement.get_or_insert_default().constraints = Some(vec![zone.to_owned()]);
        }
        self.put_service(make::respecified(service, spec, self.store.index + 1));
    }

    fn create_service(&mut self) {
        self.services += 1;
        let number = self.services;
        let rng = &mut self.rng;
        let mode = match rng.random_range(0..8) {
            0..4 => json!({"Replicated": {"Replicas": rng.random_range(0..7_u64)}}),
            4..6 => json!({"Global": {}}),
            6 => {
                json!({"ReplicatedJob": {"MaxConcurrent": rng.random_range(1..4_u64), "TotalCompletions": 5}})
            }
            _ => json!({"GlobalJob": {}}),
        };
        let order = if rng.random() { "start-first" } else { "stop-first" };
        let condition = ["any", "any", "any", "on-failure", "none"][rng.random_range(0..5)];
        let policy = |action: &str, parallelism: u64, ratio: f64| {
            json!({"Parallelism": parallelism, "Order": order, "FailureAction": action, "Monitor": 5_000_000_000_i64,
                "Delay": 1_000_000_000_i64, "MaxFailureRatio": ratio})
        };
        let action = ["pause", "continue", "rollback"][rng.random_range(0..3)];
        let ratio = [0.0, 0.0, 0.3][rng.random_range(0..3)];
        let attempts = [0, 0, 0, 4][rng.random_range(0..4)];
        let mut spec = json!({
            "Name": format!("s{number}"),
            "TaskTemplate": {
                "ContainerSpec": {"Image": "good"},
                "RestartPolicy": {"Condition": condition, "Delay": 2_000_000_000_i64,
                    "MaxAttempts": attempts},
                "Placement": {},
            },
            "Mode": mode,
            "UpdateConfig": policy(action, rng.random_range(0..3), ratio),
            "RollbackConfig": policy("pause", rng.random_range(0..3), 0.0),
        });
        if rng.random_range(0..3) == 0 {
            let reserved = json!({"Resources": {"Reservations": {"NanoCPUs": 1_500_000_000_i64}}});
            make::merge(&mut spec["TaskTemplate"], &reserved);
        }
        if rng.random_range(0..4) == 0 {
            let port = 8000 + rng.random_range(0..2_u64);
            spec["EndpointSpec"] =
                json!({"Ports": [{"TargetPort": 80, "PublishedPort": port, "PublishMode": "host"}]});
        }
        if rng.random_range(0..4) == 0 {
            spec["TaskTemplate"]["Placement"]["MaxReplicas"] = json!(rng.random_range(1..3_u64));
        }
        let mut service = make::service(number, &spec);
        service.spec_version = Some(essaim_objects::Version {
            index: self.store.index + 1,
        });
        self.put_service(service);
    }
}

fn bits(rng: &mut StdRng) -> impl FnMut() -> u128 + use<> {
    let mut own = StdRng::seed_from_u64(rng.random());
    move || own.random()
}
