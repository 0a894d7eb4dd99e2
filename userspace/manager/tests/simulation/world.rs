//! The world: time, the post, the log, misfortune.

use crate::managers::{From, Managers, Pending, Reign};
use crate::nodes::{Letter, Machine};
use crate::operator::Operator;
use crate::{invariants, make};
use essaim_manager::{Effect, Leader, Outcome, ProposalId};
use essaim_objects::{Availability, NodeId};
use essaim_orchestrator::Event;
use essaim_store::Finding;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

/// So long all goes wrong, in milliseconds.
const SUFFERING: u64 = 150_000;
/// So long all may take to be well again.
const HEALING: u64 = 600_000;

/// What comes about at a moment.
pub(crate) enum Due {
    Letter(NodeId, usize, Letter),
    /// How a proposal fared.
    Outcome(usize, u64, ProposalId, Outcome),
    /// A manager that was elected has taken in everything before its term.
    Begin(usize, u64),
    /// A manager learns that it does not lead any more.
    Learn(usize, u64),
    Elect,
    Restart(usize),
}

pub(crate) struct World {
    pub(crate) rng: StdRng,
    /// Milliseconds.
    pub(crate) now: u64,
    pub(crate) managers: Managers,
    pub(crate) machines: BTreeMap<NodeId, Machine>,
    pub(crate) operator: Operator,
    /// Nodes without power.
    pub(crate) dark: BTreeSet<NodeId>,
    /// Nodes that no manager reaches.
    pub(crate) cut: BTreeSet<NodeId>,
    post: BTreeMap<(u64, u64), Due>,
    posted: u64,
    /// How slow the disks are: the most that an entry takes.
    commit_takes: u64,
    pub(crate) is_calm: bool,
    pub(crate) seen: BTreeSet<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = if rng.random() { 3 } else { 5 };
        let mut world = Self {
            rng,
            now: 0,
            managers: Managers::new(count),
            machines: BTreeMap::new(),
            operator: Operator::default(),
            dark: BTreeSet::new(),
            cut: BTreeSet::new(),
            post: BTreeMap::new(),
            posted: 0,
            commit_takes: 5,
            is_calm: false,
            seen: BTreeSet::new(),
        };
        world.elect();
        world.found();
        world
    }

    pub(crate) fn bits(&mut self) -> impl FnMut() -> u128 + use<> {
        let mut own = StdRng::seed_from_u64(self.rng.random());
        move || own.random()
    }

    pub(crate) fn saw(&mut self, what: impl Into<String>) {
        self.seen.insert(what.into());
    }

    pub(crate) fn post(&mut self, at: u64, what: Due) {
        self.posted += 1;
        self.post.insert((at, self.posted), what);
    }

    /// Lets all go wrong for a while.
    pub(crate) fn suffer(&mut self) {
        let mut next = 2_000;
        while self.now < SUFFERING {
            self.step(next);
            if self.now >= next {
                if self.rng.random_range(0..3) == 0 {
                    self.misfortune();
                } else {
                    self.operate();
                }
                next = self.now + self.rng.random_range(50..4_000);
            }
        }
    }

    /// Lets all go well, and waits until the cluster is what was asked for.
    pub(crate) fn heal(&mut self) {
        self.is_calm = true;
        self.cut.clear();
        self.dark.clear();
        self.commit_takes = 5;
        for number in 0..self.managers.all.len() {
            self.managers.all[number].lags_until = 0;
            if !self.managers.all[number].is_up {
                self.managers.restart(number, None);
            }
        }
        if self.managers.leader.is_none() {
            self.elect();
        }
        let until = self.now + HEALING;
        let (mut met_since, mut tidied) = (None, 0);
        while self.now < until {
            self.step(self.now + 1_000);
            let Some(leader) = self.managers.leader else {
                continue;
            };
            if tidied < 30 || self.is_untidy(leader) {
                // What an operator looks after takes more than one attempt where others come between.
                tidied += 1;
                self.tidy();
                continue;
            }
            match invariants::unmet(self.managers.view(leader)) {
                None => {
                    let since = *met_since.get_or_insert(self.now);
                    // What can never run comes and goes for ever, so nodes may be told of it just now.
                    if self.now > since + 20_000 && self.left_over(leader).is_none() {
                        return self.check_end(leader);
                    }
                }
                Some(_) => met_since = None,
            }
        }
        let view = self.managers.view(self.managers.leader.unwrap());
        for task in view.tasks() {
            println!(
                "{} of {:?} slot {:?} on {:?}: {} of {} {:?}",
                task.id,
                task.service_id,
                task.slot,
                task.node_id,
                task.status.state,
                task.desired_state,
                task.status.err,
            );
        }
        for node in view.nodes() {
            println!(
                "node {} {} {} {:?}, machine {}",
                node.id,
                node.status.state,
                node.spec.availability(),
                node.status.message,
                self.machines.contains_key(&node.id),
            );
        }
        for service in view.services() {
            println!("{service:?}");
        }
        let why = (
            invariants::unmet(view),
            self.left_over(self.managers.leader.unwrap()),
        );
        panic!("not what was asked for after {HEALING} ms: {why:?}");
    }

    /// Whether a node is without its machine, or takes no tasks.
    fn is_untidy(&self, leader: usize) -> bool {
        let mut nodes = self.managers.view(leader).nodes();
        nodes.any(|node| {
            !self.machines.contains_key(&node.id) || node.spec.availability() != Availability::Active
        })
    }

    fn check_end(&mut self, leader: usize) {
        invariants::check(self.managers.view(leader));
        self.managers.follow(self.now);
        let view = self.managers.view(leader);
        let mut findings = essaim_store::audit(view);
        // The history of a copy outlives its nodes.
        findings.retain(|finding| match finding {
            Finding::OfNoNode { task, .. } => !view.task(*task).unwrap().status.state.is_over(),
            _ => true,
        });
        assert_eq!(findings, [], "something is left over");
        for (number, manager) in self.managers.all.iter().enumerate() {
            assert!(
                manager.store.view() == view,
                "manager {number} holds something else"
            );
        }
        self.operator.check(view);
    }

    /// A task that a node has and should not.
    fn left_over(&self, leader: usize) -> Option<String> {
        let view = self.managers.view(leader);
        self.machines.iter().find_map(|(node, machine)| {
            let known: BTreeSet<_> = view.tasks_on_node(*node).map(|task| task.id).collect();
            let mut held = machine.agent.tasks.keys();
            let task = held.find(|task| !known.contains(task))?;
            Some(format!("node {node} has task {task}"))
        })
    }

    /// Goes on to the next moment at which anything happens, at most to `limit`.
    fn step(&mut self, limit: u64) {
        let cores = self
            .managers
            .all
            .iter()
            .filter_map(|manager| manager.reign.as_ref());
        // A part of a millisecond is one.
        let cores = cores.filter_map(|reign| reign.core.next_timeout());
        let cores = cores.map(|at| u64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap());
        let nodes = self.machines.iter().filter(|(id, _)| !self.dark.contains(id));
        let nodes = nodes.map(|(_, machine)| machine.agent.next());
        let commits = self.managers.pending.front().map(|pending| pending.due);
        let commits = commits.filter(|_| self.managers.has_majority() && self.managers.leader.is_some());
        let post = self.post.keys().next().map(|(at, _)| *at);
        let next = cores
            .chain(nodes)
            .chain(commits)
            .chain(post)
            .min()
            .unwrap_or(limit);
        self.now = next.clamp(self.now, limit);
        while let Some(entry) = self.post.first_entry()
            && entry.key().0 <= self.now
        {
            let due = entry.remove();
            self.come_about(due);
        }
        self.commit();
        self.managers.follow(self.now);
        self.run_nodes();
        self.run_cores();
    }

    fn come_about(&mut self, due: Due) {
        match due {
            Due::Letter(node, manager, letter) => self.deliver(node, manager, letter),
            Due::Outcome(manager, term, id, outcome) => {
                let now = self.managers.time(manager, self.now);
                if let Some(reign) = &mut self.managers.all[manager].reign
                    && reign.term == term
                {
                    reign.core.handle_outcome(id, outcome, now);
                }
            }
            Due::Begin(manager, term) => self.begin(manager, term),
            Due::Learn(manager, term) => {
                let reign = &mut self.managers.all[manager].reign;
                if reign.as_ref().is_some_and(|reign| reign.term == term) {
                    *reign = None;
                    self.end_sessions(manager);
                }
            }
            Due::Elect => self.elect(),
            Due::Restart(manager) => {
                if !self.managers.all[manager].is_up {
                    let others = self.managers.all.iter().enumerate();
                    let ups: Vec<_> = others
                        .filter(|(_, it)| it.is_up)
                        .map(|(other, _)| other)
                        .collect();
                    let at = self.rng.random_range(0..=ups.len());
                    if at < ups.len() {
                        self.saw("manager restored from a snapshot");
                    }
                    self.managers.restart(manager, ups.get(at).copied());
                }
            }
        }
    }

    /// Another manager leads, or the same one anew. What the last one had not agreed on with others is lost, from some
    /// entry on.
    fn elect(&mut self) {
        let before = self.managers.leader.take();
        if !self.managers.has_majority() {
            self.saw("without a majority");
            self.post(self.now + 1_000, Due::Elect);
            return;
        }
        let ups: Vec<_> = (0..self.managers.all.len())
            .filter(|it| self.managers.all[*it].is_up)
            .collect();
        let leader = ups[self.rng.random_range(0..ups.len())];
        if before == Some(leader) {
            self.saw("leader again");
        }
        self.managers.term += 1;
        let term = self.managers.term;
        let kept = self.rng.random_range(0..=self.managers.pending.len());
        for (at, pending) in std::mem::take(&mut self.managers.pending).into_iter().enumerate() {
            let is_kept = at < kept;
            if let From::Leader { manager, term, id } = pending.from {
                self.saw(format!(
                    "proposal unanswered and {}",
                    if is_kept { "committed" } else { "lost" }
                ));
                let at = self.now + self.rng.random_range(1..5_000);
                self.post(at, Due::Outcome(manager, term, id, Outcome::Unknown));
            }
            if is_kept {
                self.managers.commit(pending.command, pending.time);
            }
        }
        if let Some(before) = before.filter(|before| self.managers.all[*before].reign.is_some()) {
            let learns = if before == leader {
                0
            } else {
                self.rng.random_range(0..3_000)
            };
            if learns > 500 {
                self.saw("leader deposed unawares");
            }
            self.post(
                self.now + learns,
                Due::Learn(before, self.managers.all[before].reign.as_ref().unwrap().term),
            );
        }
        self.managers.leader = Some(leader);
        let begins = self.now + 1 + self.rng.random_range(0..500);
        self.post(begins, Due::Begin(leader, term));
    }

    fn begin(&mut self, manager: usize, term: u64) {
        if self.managers.leader != Some(manager) || self.managers.term != term {
            return;
        }
        while let Some(result) = self.managers.apply_next(manager) {
            drop(result);
        }
        let now = self.managers.time(manager, self.now);
        let core = Leader::new(self.managers.view(manager).clone(), now);
        self.managers.all[manager].reign = Some(Reign { term, core });
    }

    /// What the disks of a majority have is agreed on.
    fn commit(&mut self) {
        let Some(leader) = self.managers.leader else {
            return;
        };
        while self.managers.has_majority()
            && self
                .managers
                .pending
                .front()
                .is_some_and(|pending| pending.due <= self.now)
        {
            let Pending {
                command, time, from, ..
            } = self.managers.pending.pop_front().unwrap();
            self.managers.commit(command, time);
            // A leader takes in its own entries as they are agreed on; one that is new begins with a look at all.
            let mut outcome = None;
            while let Some(result) = self.managers.apply_next(leader) {
                outcome = Some(result);
            }
            let result = outcome.expect("the entry is there");
            self.note(result.as_ref().map(Vec::as_slice).unwrap_or_default());
            invariants::check_always(self.managers.view(leader));
            let now = self.managers.time(leader, self.now);
            let manager = &mut self.managers.all[leader];
            let view = manager.store.view().clone();
            if let (Some(reign), Ok(events)) = (&mut manager.reign, &result) {
                if self.rng.random_range(0..200) == 0 && !self.is_calm {
                    self.seen.insert("fell behind".to_owned());
                    reign.core.handle_restored(view, now);
                } else {
                    reign.core.handle_events(events, view, now);
                }
            }
            let is_applied = result.is_ok();
            match from {
                From::Leader { manager, term, id } => {
                    let outcome = if is_applied {
                        Outcome::Applied
                    } else {
                        Outcome::Conflict
                    };
                    if !is_applied {
                        self.saw("proposal conflicts");
                    }
                    self.come_about(Due::Outcome(manager, term, id, outcome));
                }
                From::Operator { write } => {
                    if !is_applied {
                        self.saw("operator conflicts");
                    }
                    self.operator.answered(write, is_applied);
                }
                From::Nobody => {}
            }
        }
    }

    fn note(&mut self, events: &[essaim_store::Event]) {
        for event in events.iter().filter_map(Event::of) {
            invariants::check_event(&event);
            match &event {
                Event::Node(_, Some(node)) => self.saw(format!("node {}", node.status.state)),
                Event::Node(_, None) => self.saw("node removed"),
                Event::Service(_, Some(service)) => {
                    let state = service.update_status.as_ref().and_then(|status| status.state);
                    self.seen.extend(state.map(|state| format!("update {state}")));
                }
                Event::Task(_, Some(task)) => {
                    self.saw(format!("task {}", task.status.state));
                    if task
                        .status
                        .err
                        .as_deref()
                        .is_some_and(|err| err.contains("addresses in"))
                    {
                        self.saw("no address left");
                    }
                }
                Event::Service(_, None) | Event::Task(_, None) => {}
            }
        }
        for event in events {
            if let essaim_store::Event::Removed(essaim_store::Object::Network(_)) = event {
                self.saw("network removed");
            }
        }
    }

    /// Those that lead, or believe to, decide what there is to decide at this moment.
    fn run_cores(&mut self) {
        for manager in 0..self.managers.all.len() {
            let mut rounds = 0;
            loop {
                let now = self.managers.time(manager, self.now);
                let mut random = self.bits();
                let Some(reign) = &mut self.managers.all[manager].reign else {
                    break;
                };
                let term = reign.term;
                let effects = reign.core.poll(now, &mut random);
                if effects.is_empty() {
                    break;
                }
                rounds += 1;
                assert!(rounds < 20, "a leader's core never comes to rest");
                for effect in effects {
                    match effect {
                        Effect::Propose { id, command } => self.propose(manager, term, id, command),
                        Effect::Send { session, message } => self.send(manager, session, message),
                        Effect::Close { session, .. } => {
                            let mut machines = self.machines.values_mut();
                            let of = machines.find(|machine| machine.agent.session == Some(session));
                            if let Some(machine) = of.filter(|_| self.rng.random()) {
                                machine.agent.session = None;
                                machine.agent.speaks_at = self.now + 500;
                            }
                        }
                    }
                }
            }
            // It would be called again and again without a reason.
            if let Some(reign) = &self.managers.all[manager].reign {
                let next = reign.core.next_timeout();
                let now = self.managers.time(manager, self.now).monotonic;
                assert!(
                    next.is_none_or(|next| next > now),
                    "a leader's core spins: {next:?} at {now:?}"
                );
            }
        }
    }

    fn propose(&mut self, manager: usize, term: u64, id: ProposalId, command: Vec<u8>) {
        if essaim_store::Transaction::decode(&command)
            .unwrap()
            .changes
            .is_empty()
        {
            self.saw("fence");
        }
        let soon = self.now + self.rng.random_range(1..50);
        let late = self.now + self.rng.random_range(100..5_000);
        if self.managers.leader != Some(manager) || self.managers.term != term {
            // Its log has no majority behind it.
            let (at, outcome) = if self.rng.random() {
                (soon, Outcome::NotTried)
            } else {
                (late, Outcome::Unknown)
            };
            self.post(at, Due::Outcome(manager, term, id, outcome));
            return;
        }
        let luck = if self.is_calm {
            100
        } else {
            self.rng.random_range(0..100)
        };
        let time = self.managers.time(manager, self.now).wall;
        let from = From::Leader { manager, term, id };
        match luck {
            0 => {
                self.saw("proposal not tried");
                self.post(soon, Due::Outcome(manager, term, id, Outcome::NotTried));
            }
            // The answer is lost, whether or not the proposal is.
            1 => self.post(late, Due::Outcome(manager, term, id, Outcome::Unknown)),
            2 => {
                self.saw("proposal unanswered and committed");
                self.post(late, Due::Outcome(manager, term, id, Outcome::Unknown));
                self.put(command, time, From::Nobody);
            }
            _ => self.put(command, time, from),
        }
    }

    /// Puts something into the leader's log.
    pub(crate) fn put(&mut self, command: Vec<u8>, time: essaim_objects::Timestamp, from: From) {
        let earliest = self.managers.pending.back().map_or(0, |last| last.due);
        let takes = self.rng.random_range(1..=self.commit_takes);
        self.managers.pending.push_back(Pending {
            due: (self.now + takes).max(earliest),
            command,
            time,
            from,
        });
    }

    fn any_machine(&mut self) -> NodeId {
        let at = self.rng.random_range(0..self.machines.len());
        *self.machines.keys().nth(at).unwrap()
    }

    fn misfortune(&mut self) {
        let node = self.any_machine();
        let manager = self.rng.random_range(0..self.managers.all.len());
        match self.rng.random_range(0..16) {
            0..3 => {
                if self.managers.leader.is_some() {
                    self.elect();
                }
            }
            3..5 => {
                if self.managers.all[manager].is_up {
                    self.crash(manager);
                }
            }
            5 => self.managers.all[manager].skew = self.rng.random_range(-5_000..5_000),
            6 => self.managers.all[manager].skew = self.rng.random_range(-4_000_000..4_000_000),
            7 => self.managers.all[manager].lags_until = self.now + self.rng.random_range(0..20_000),
            8 => self.commit_takes = [2, 10, 50, 400, 2_000][self.rng.random_range(0..5)],
            9 => drop(self.cut.insert(node)),
            10..12 => {
                self.dark.insert(node);
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.agent.crash();
                }
            }
            _ => {
                self.cut.pop_first();
                self.dark.pop_first();
            }
        }
    }

    /// A manager loses all but what others have.
    fn crash(&mut self, manager: usize) {
        self.saw("manager crashed");
        self.managers.all[manager].is_up = false;
        self.managers.all[manager].reign = None;
        self.end_sessions(manager);
        let back = self.now + self.rng.random_range(500..15_000);
        self.post(back, Due::Restart(manager));
        if self.managers.leader == Some(manager) {
            // Those who are left find out.
            self.elect_later();
        }
    }

    fn elect_later(&mut self) {
        self.managers.leader = None;
        let at = self.now + self.rng.random_range(1_000..3_000);
        self.post(at, Due::Elect);
    }

    /// A manager that is up, and what it holds: perhaps not the newest.
    pub(crate) fn any_view(&mut self) -> essaim_store::View {
        let number = self.rng.random_range(0..self.managers.all.len());
        let number = self
            .managers
            .leader
            .filter(|_| self.rng.random_range(0..4) > 0)
            .unwrap_or(number);
        self.managers.view(number).clone()
    }

    pub(crate) fn add_machine(&mut self, number: u128) -> NodeId {
        let id = make::node_id(number);
        self.machines.insert(id, Machine::default());
        id
    }
}
