//! The nodes' sessions with the leader: who is there, what each is to run, and what it reports.
//!
//! Sans-IO: the shell hands in what nodes send and what the store did, and carries out the [`Action`]s.

mod assignment;
mod heartbeat;
mod protocol;

use crate::{Change, Cluster, Event, Now, Unit, observe};
use assignment::Assigned;
use essaim_objects::{Node, NodeId, NodeState, Task, TaskId, TaskState, TaskStatus};
use essaim_protocol::SessionId;
use heartbeat::{DOWN_UNTIL_ORPHANED, GRACE, NEW_LEADER_GRACE, Registrations, with_jitter};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub use protocol::{Action, Closed, DispatchError, Message, Registration};

/// What nodes report is committed at once, and what comes meanwhile after so long, or once there is so much. Swarm waits
/// 100 ms each time, which is most of what a client would wait for a new task.
const REPORT_DELAY: Duration = Duration::from_millis(20);
/// See [`REPORT_DELAY`].
const MAX_REPORTS: usize = 10_000;
/// A node is told of a change at once, and of what changes meanwhile after so long.
const ASSIGNMENT_DELAY: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Session {
    node: NodeId,
    expires: Duration,
    assigned: Assigned,
    /// When what changed is sent.
    due: Option<Duration>,
    /// When something was sent last.
    sent: Option<Duration>,
    /// Whether the node is not any more as it was told.
    is_node_news: bool,
}

impl Session {
    /// Something changed for the node.
    fn touch(&mut self, now: Duration) {
        let earliest = self.sent.map_or(now, |sent| now.max(sent + ASSIGNMENT_DELAY));
        self.due.get_or_insert(earliest);
    }
}

/// What should become of a node's status; done once the store has it so.
#[derive(Clone, Debug, PartialEq)]
struct Wish {
    state: NodeState,
    message: Option<String>,
    registration: Option<Registration>,
}

/// The leader's dispatcher.
#[derive(Debug)]
pub struct Dispatcher {
    sessions: BTreeMap<SessionId, Session>,
    by_node: BTreeMap<NodeId, SessionId>,
    registrations: Registrations,
    /// Nodes without a session that are not down yet, and when they are.
    unknown: BTreeMap<NodeId, Duration>,
    /// Nodes that are down, and when their tasks are given up.
    down: BTreeMap<NodeId, Duration>,
    wishes: BTreeMap<NodeId, Wish>,
    reports: BTreeMap<TaskId, TaskStatus>,
    reports_due: Option<Duration>,
    /// When reports were committed last.
    reported: Option<Duration>,
    is_committing: bool,
    actions: VecDeque<Action>,
}

impl Dispatcher {
    /// That of a new leader: no node has a session yet, and those that had one get twice the usual time to come.
    pub fn new<C: Cluster>(cluster: &C, now: Now) -> Self {
        let grace = period(cluster) * GRACE * NEW_LEADER_GRACE;
        let mut dispatcher = Self {
            sessions: BTreeMap::new(),
            by_node: BTreeMap::new(),
            registrations: Registrations::default(),
            unknown: BTreeMap::new(),
            down: BTreeMap::new(),
            wishes: BTreeMap::new(),
            reports: BTreeMap::new(),
            reports_due: None,
            reported: None,
            is_committing: false,
            actions: VecDeque::new(),
        };
        for node in cluster.nodes() {
            if node.status.state == NodeState::Down {
                let left = now.left_of(DOWN_UNTIL_ORPHANED, node.updated_at);
                dispatcher.down.insert(node.id, now.monotonic + left);
            } else {
                dispatcher.unknown.insert(node.id, now.monotonic + grace);
                let message = "Node moved to \"unknown\" state due to leadership change in cluster";
                dispatcher.wish(node.id, NodeState::Unknown, message);
            }
        }
        dispatcher
    }

    fn wish(&mut self, node: NodeId, state: NodeState, message: &str) {
        let message = (!message.is_empty()).then(|| message.to_owned());
        let wish = Wish {
            state,
            message,
            registration: None,
        };
        self.wishes.insert(node, wish);
    }

    /// Begins a node's session; an earlier one ends. `random` draws the session's identity.
    ///
    /// # Errors
    /// The node is no member, or comes too often.
    pub fn register<C: Cluster>(
        &mut self,
        registration: Registration,
        cluster: &C,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) -> Result<SessionId, DispatchError> {
        let id = registration.node;
        let node = cluster.node(id).ok_or(DispatchError::UnknownNode { node: id })?;
        self.registrations
            .add(id, now.monotonic)
            .map_err(|found| DispatchError::TooMany { node: id, found })?;
        self.end_session_of(id, Closed::Replaced);
        let session = SessionId(random());
        let heartbeat = with_jitter(period(cluster), random());
        let begun = Session {
            node: id,
            expires: now.monotonic + heartbeat * GRACE,
            assigned: Assigned::default(),
            due: Some(now.monotonic),
            sent: None,
            is_node_news: false,
        };
        self.sessions.insert(session, begun);
        self.by_node.insert(id, session);
        self.unknown.remove(&id);
        self.down.remove(&id);
        let wish = Wish {
            state: NodeState::Ready,
            message: None,
            registration: Some(registration),
        };
        self.wishes.insert(id, wish);
        let message = Message::Session {
            node: node.clone(),
            heartbeat,
        };
        self.actions.push_back(Action::Send { session, message });
        Ok(session)
    }

    fn end_session_of(&mut self, node: NodeId, why: Closed) {
        if let Some(session) = self.by_node.remove(&node) {
            self.sessions.remove(&session);
            self.actions.push_back(Action::CloseSession { session, why });
        }
    }

    fn session(&mut self, id: SessionId) -> Result<&mut Session, DispatchError> {
        self.sessions.get_mut(&id).ok_or(DispatchError::NoSession)
    }

    /// Notes a heartbeat; says when the next is due.
    ///
    /// # Errors
    /// The session has ended.
    pub fn heartbeat<C: Cluster>(
        &mut self,
        session: SessionId,
        cluster: &C,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) -> Result<Duration, DispatchError> {
        let heartbeat = with_jitter(period(cluster), random());
        self.session(session)?.expires = now.monotonic + heartbeat * GRACE;
        Ok(heartbeat)
    }

    /// Notes what a node reports of its tasks; all of it or, if one is not its own, nothing. Tasks that are gone from
    /// the store are passed over.
    ///
    /// # Errors
    /// The session has ended, or a task is another node's.
    pub fn report<C: Cluster>(
        &mut self,
        session: SessionId,
        reports: Vec<(TaskId, TaskStatus)>,
        cluster: &C,
        now: Now,
    ) -> Result<(), DispatchError> {
        let node = self.session(session)?.node;
        let is_other = |id: &TaskId| cluster.task(*id).is_some_and(|task| task.node_id != Some(node));
        if let Some((task, _)) = reports.iter().find(|(id, _)| is_other(id)) {
            return Err(DispatchError::NotItsTask { task: *task, node });
        }
        for (id, status) in reports {
            if cluster.task(id).is_none() {
                continue;
            }
            let known = self.reports.get(&id);
            // Reports may overtake one another; what is observed never goes back.
            if known.is_none_or(|known| known.state <= status.state) {
                self.reports.insert(id, status);
            }
        }
        if !self.reports.is_empty() {
            let due = if self.reports.len() >= MAX_REPORTS {
                now.monotonic
            } else {
                let since = self.reported.map(|reported| reported + REPORT_DELAY);
                since.map_or(now.monotonic, |since| since.max(now.monotonic))
            };
            self.reports_due = Some(self.reports_due.map_or(due, |earlier| earlier.min(due)));
        }
        Ok(())
    }

    /// Sends a node all its assignments again: what it has is not what the next message builds on.
    ///
    /// # Errors
    /// The session has ended.
    pub fn resync(&mut self, session: SessionId, now: Now) -> Result<(), DispatchError> {
        let session = self.session(session)?;
        session.assigned.forget();
        session.due = Some(now.monotonic);
        Ok(())
    }

    /// Notes that a node's connection ended; it has until its heartbeat would be missed to come back.
    pub fn disconnected(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_node.remove(&session.node);
            self.unknown.insert(session.node, session.expires);
            self.wish(
                session.node,
                NodeState::Disconnected,
                "node is currently trying to find new manager",
            );
        }
    }

    /// Notes what happened in the store.
    pub fn handle_event(&mut self, event: &Event, now: Now) {
        match event {
            Event::Node(None, Some(node)) => {
                if !self.by_node.contains_key(&node.id) && node.status.state != NodeState::Down {
                    let at = now.monotonic + Duration::from_secs(5) * GRACE;
                    self.unknown.entry(node.id).or_insert(at);
                }
            }
            Event::Node(Some(node), None) => self.forget(node.id),
            Event::Node(Some(old), Some(new)) => {
                let of = |node: &Node| (node.spec.clone(), node.certificate_role);
                let session = self.by_node.get(&new.id).and_then(|id| self.sessions.get_mut(id));
                if let Some(session) = session.filter(|_| of(old) != of(new)) {
                    session.is_node_news = true;
                    session.touch(now.monotonic);
                }
            }
            Event::Service(..) | Event::Node(None, None) => {}
            Event::Task(old, new) => {
                let nodes = old.iter().chain(new).filter_map(|task| task.node_id);
                for node in nodes.collect::<BTreeSet<_>>() {
                    let session = self.by_node.get(&node).and_then(|id| self.sessions.get_mut(id));
                    if let Some(session) = session {
                        session.touch(now.monotonic);
                    }
                }
            }
        }
    }

    /// A node is no member any more.
    fn forget(&mut self, node: NodeId) {
        self.end_session_of(node, Closed::NodeRemoved);
        self.unknown.remove(&node);
        self.down.remove(&node);
        self.wishes.remove(&node);
        self.registrations.forget(node);
    }

    /// Notes that the store may have changed in any way: all nodes are looked at anew.
    pub fn refresh<C: Cluster>(&mut self, cluster: &C, now: Now) {
        let known = self
            .by_node
            .keys()
            .chain(self.unknown.keys())
            .chain(self.down.keys());
        let gone: Vec<_> = known
            .copied()
            .filter(|node| cluster.node(*node).is_none())
            .collect();
        for node in gone {
            self.forget(node);
        }
        for node in cluster.nodes() {
            if !self.by_node.contains_key(&node.id) && node.status.state != NodeState::Down {
                let at = now.monotonic + period(cluster) * GRACE;
                self.unknown.entry(node.id).or_insert(at);
            }
        }
        for session in self.sessions.values_mut() {
            session.is_node_news = true;
            session.touch(now.monotonic);
        }
    }

    /// The node of a session that has not ended.
    pub fn node_of(&self, session: SessionId) -> Option<NodeId> {
        self.sessions.get(&session).map(|session| session.node)
    }

    /// Notes that what was to be committed has been tried; what is not in the store is tried again.
    pub fn committed(&mut self) {
        self.is_committing = false;
    }

    /// When `poll` has something to do that nothing else tells.
    pub fn next_timeout(&self) -> Option<Duration> {
        if !self.actions.is_empty() {
            return Some(Duration::ZERO);
        }
        let sessions = self.sessions.values();
        let sessions = sessions
            .flat_map(|session| [Some(session.expires), session.due])
            .flatten();
        let unknown = self.unknown.values().copied();
        let down = self.down.values().copied().filter(|_| !self.is_committing);
        let reports = self.reports_due.filter(|_| !self.is_committing);
        let wishes = (!self.wishes.is_empty() && !self.is_committing).then_some(Duration::ZERO);
        sessions
            .chain(unknown)
            .chain(down)
            .chain(reports)
            .chain(wishes)
            .min()
    }

    /// What is to be done now.
    pub fn poll<C: Cluster>(&mut self, cluster: &C, now: Now) -> Vec<Action> {
        self.expire(now);
        let due = self
            .sessions
            .iter_mut()
            .filter(|(_, session)| session.due.is_some_and(|due| due <= now.monotonic));
        for (id, session) in due {
            session.due = None;
            if std::mem::take(&mut session.is_node_news)
                && let Some(node) = cluster.node(session.node)
            {
                let message = Message::Session {
                    node: node.clone(),
                    heartbeat: period(cluster),
                };
                self.actions.push_back(Action::Send {
                    session: *id,
                    message,
                });
            }
            if let Some(assignments) = session.assigned.next(session.node, cluster) {
                let message = Message::Assignments(assignments);
                self.actions.push_back(Action::Send {
                    session: *id,
                    message,
                });
                session.sent = Some(now.monotonic);
            }
        }
        if !self.is_committing {
            let units = self.commit(cluster, now);
            if !units.is_empty() {
                self.is_committing = true;
                self.actions.push_back(Action::Commit(units));
            }
        }
        self.actions.drain(..).collect()
    }

    /// Nodes that were not heard of in time are down.
    fn expire(&mut self, now: Now) {
        let expired = self
            .sessions
            .values()
            .filter(|session| session.expires <= now.monotonic);
        for node in expired.map(|session| session.node).collect::<Vec<_>>() {
            self.end_session_of(node, Closed::HeartbeatMissed);
            self.move_down(node, "heartbeat failure", now);
        }
        let lost = self
            .unknown
            .extract_if(.., |_, at| *at <= now.monotonic)
            .map(|(node, _)| node);
        for node in lost.collect::<Vec<_>>() {
            self.move_down(node, "heartbeat failure for node in \"unknown\" state", now);
        }
    }

    fn move_down(&mut self, node: NodeId, message: &str, now: Now) {
        self.down.insert(node, now.monotonic + DOWN_UNTIL_ORPHANED);
        self.wish(node, NodeState::Down, message);
    }

    /// All that is not in the store as it should be.
    fn commit<C: Cluster>(&mut self, cluster: &C, now: Now) -> Vec<Unit> {
        let mut units: Vec<Unit> = Vec::new();
        self.wishes.retain(|id, wish| {
            let changed = cluster.node(*id).and_then(|node| wish.applied(node));
            let is_open = changed.is_some();
            units.extend(changed.map(|node| vec![Change::UpdateNode(Arc::new(node))]));
            is_open
        });
        let mut changed = BTreeSet::new();
        if self.reports_due.is_some_and(|due| due <= now.monotonic) {
            self.reports.retain(|id, report| {
                let next = cluster
                    .task(*id)
                    .and_then(|task| Some((task, observe(task, report)?)));
                let is_open = next.is_some();
                if let Some((task, status)) = next {
                    let mut task = Task::clone(task);
                    task.status = status;
                    if task.status.state == TaskState::Running {
                        task.running_since.get_or_insert(now.wall);
                    } else if task.status.state.is_over() && task.running_since.is_some() {
                        task.running_until.get_or_insert(now.wall);
                    }
                    changed.insert(*id);
                    units.push(vec![Change::UpdateTask(Arc::new(task))]);
                }
                is_open
            });
            self.reports_due = (!self.reports.is_empty()).then(|| now.monotonic + REPORT_DELAY);
            self.reported = Some(now.monotonic);
        }
        let orphaned = self
            .down
            .iter()
            .filter(|(_, at)| **at <= now.monotonic)
            .map(|(node, _)| *node);
        for node in orphaned.collect::<Vec<_>>() {
            let tasks = cluster
                .tasks_on_node(node)
                .filter(|task| crate::state::holds_resources(task));
            let tasks = tasks.filter(|task| !changed.contains(&task.id));
            let before = units.len();
            for task in tasks {
                let mut task = Task::clone(task);
                task.status.state = TaskState::Orphaned;
                task.status.timestamp = Some(now.wall);
                task.status.message = Some("node was down for too long".to_owned());
                units.push(vec![Change::UpdateTask(Arc::new(task))]);
            }
            if units.len() == before {
                self.down.remove(&node);
            }
        }
        units
    }
}

impl Wish {
    /// The node as it should be, where it is not.
    fn applied(&self, node: &Node) -> Option<Node> {
        let mut next = node.clone();
        next.status.state = self.state;
        next.status.message.clone_from(&self.message);
        if let Some(registration) = &self.registration {
            next.description = Some(registration.description.clone());
            if registration.addr.is_some() {
                next.status.addr.clone_from(&registration.addr);
            }
            let data_path = registration
                .data_path_addr
                .as_ref()
                .or(registration.addr.as_ref());
            if data_path.is_some() {
                next.status.data_path_addr = data_path.cloned();
            }
        }
        (next != *node).then_some(next)
    }
}

/// From one heartbeat to the next.
fn period<C: Cluster>(cluster: &C) -> Duration {
    cluster.spec().map_or(Duration::from_secs(5), |spec| {
        spec.heartbeat_period().to_duration()
    })
}
