//! The nodes, and their post to the managers and back.

use crate::agent::Agent;
use crate::world::World;
use essaim_objects::{NodeId, TaskId, TaskStatus};
use essaim_orchestrator::{Message, Registration};
use essaim_protocol::{Assignments, SessionId};
use rand::RngExt;

/// A node, and the manager that it speaks to.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) agent: Agent,
    pub(crate) manager: usize,
}

pub(crate) enum Letter {
    Assignments(SessionId, Assignments),
    Register,
    Heartbeat(SessionId),
    Reports(SessionId, Vec<(TaskId, TaskStatus)>),
}

impl World {
    /// Sends a letter between a node and a manager.
    fn mail(&mut self, node: NodeId, manager: usize, letter: Letter) {
        if !self.is_calm && self.rng.random_range(0..40) == 0 {
            self.lose(manager, &letter);
            return;
        }
        let longest = if self.is_calm || self.rng.random_range(0..20) != 0 {
            40
        } else {
            6_000
        };
        let at = self.now + self.rng.random_range(1..longest);
        self.post(at, crate::world::Due::Letter(node, manager, letter));
    }

    /// The stream of a session breaks where a message cannot be delivered.
    fn lose(&mut self, manager: usize, letter: &Letter) {
        if let Letter::Assignments(session, _) = letter
            && let Some(reign) = &mut self.managers.all[manager].reign
        {
            reign.core.disconnected(*session);
        }
    }

    /// Nodes do what is due.
    pub(crate) fn run_nodes(&mut self) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            if self.dark.contains(&id) {
                continue;
            }
            let Some(machine) = self.machines.get_mut(&id) else {
                continue;
            };
            let agent = &mut machine.agent;
            let manager = machine.manager;
            let mut letters = Vec::new();
            let reports = agent.run(self.now, self.is_calm, &mut self.rng);
            if let Some(session) = agent.session.filter(|_| !reports.is_empty()) {
                letters.push(Letter::Reports(session, reports));
            }
            if agent.speaks_at <= self.now {
                if agent.wants_all {
                    // What it has is not what the next message builds on: it begins anew.
                    agent.wants_all = false;
                    agent.session = None;
                }
                match agent.session {
                    None => {
                        agent.speaks_at = self.now + self.rng.random_range(2_700..4_000);
                        letters.push(Letter::Register);
                    }
                    Some(session) => {
                        agent.speaks_at = self.now + 4_500;
                        letters.push(Letter::Heartbeat(session));
                        letters.push(Letter::Reports(session, agent.all()));
                    }
                }
            }
            for letter in letters {
                self.mail(id, manager, letter);
            }
        }
    }

    /// A letter arrives.
    pub(crate) fn deliver(&mut self, node: NodeId, manager: usize, letter: Letter) {
        if self.cut.contains(&node) || self.dark.contains(&node) {
            self.lose(manager, &letter);
            return;
        }
        let now = self.managers.time(manager, self.now);
        let mut random = self.bits();
        let Some(machine) = self.machines.get_mut(&node) else {
            return;
        };
        let agent = &mut machine.agent;
        let reign = self.managers.all[manager].reign.as_mut();
        let (session, answer) = match (letter, reign) {
            (Letter::Assignments(session, message), _) => {
                if agent.session == Some(session) {
                    agent.take(message, self.now);
                    if agent.wants_all {
                        agent.speaks_at = self.now;
                    }
                }
                return;
            }
            (Letter::Register, Some(reign)) => {
                let registration = Registration {
                    node,
                    description: crate::make::node(1, &serde_json::json!({})).description.unwrap(),
                    addr: Some("192.0.2.1".to_owned()),
                    data_path_addr: None,
                };
                if let Ok(session) = reign.core.register(registration, now, &mut random) {
                    machine.manager = manager;
                    agent.session = Some(session);
                    (agent.number, agent.seen, agent.wants_all) = (None, 0, false);
                    agent.speaks_at = self.now + 100;
                }
                return;
            }
            (Letter::Register, None) => {
                // It is told who else may lead.
                machine.manager = self.rng.random_range(0..self.managers.all.len());
                agent.speaks_at = self.now + 150;
                return;
            }
            (Letter::Heartbeat(session) | Letter::Reports(session, _), None) => (session, Err(())),
            (Letter::Heartbeat(session), Some(reign)) => {
                let answer = reign.core.heartbeat(node, session, now, &mut random);
                (session, answer.map(drop).map_err(drop))
            }
            (Letter::Reports(session, reports), Some(reign)) => {
                let answer = reign.core.report(node, session, reports, now);
                (session, answer.map_err(drop))
            }
        };
        if answer.is_err() && agent.session == Some(session) {
            agent.session = None;
            agent.speaks_at = self.now + 200;
        }
    }

    /// A manager sends a message to the node of a session.
    pub(crate) fn send(&mut self, manager: usize, session: SessionId, message: Message) {
        let mut machines = self.machines.iter();
        let found = machines.find(|(_, machine)| machine.agent.session == Some(session));
        if let (Some((node, _)), Message::Assignments(message)) = (found, message) {
            self.mail(*node, manager, Letter::Assignments(session, message));
        }
    }

    /// A manager's sessions end: it leads no more.
    pub(crate) fn end_sessions(&mut self, manager: usize) {
        for machine in self
            .machines
            .values_mut()
            .filter(|machine| machine.manager == manager)
        {
            machine.agent.session = None;
            machine.agent.speaks_at = machine.agent.speaks_at.min(self.now + 100);
        }
    }
}
