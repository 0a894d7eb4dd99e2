//! What a manager decides while it leads: the deciding parts on the store, one batch of changes at a time. Sans-IO.
//!
//! A [`Leader`] is told what the store did, what nodes say, and how its proposals fared; it answers with [`Effect`]s.
//! It keeps next to nothing beside the store, so a new leader begins from a view, and one that fell behind goes on from
//! one.
//!
//! **A batch** holds what all parts want at a moment. Each unit is completed by the allocator and tried on a copy of the
//! store that holds the units before it, so one that does not apply never spoils another, and no object is in two. What
//! was left out, or failed, is decided again when the batch is through. Its transactions are proposed several at a time,
//! since they touch different objects and hold different addresses.
//!
//! **A proposal of unknown fate** may still be committed, and what it makes must not be made again. So nothing more is
//! decided until a transaction without changes, proposed after it, is committed: then all before it in the log is
//! decided.

mod backoff;
mod batch;

use backoff::{Backoff, Key};
use batch::Batch;
use essaim_objects::{NodeId, TaskId, TaskState, TaskStatus};
use essaim_orchestrator::{
    Action, Closed, DispatchError, Dispatcher, Message, Now, Orchestrator, Registration, Scheduler, Unit,
};
use essaim_protocol::SessionId;
use essaim_store::{Event, MAX_CHANGES, Object, Transaction, View, overdue};
use std::collections::BTreeMap;
use std::time::Duration;

/// So many transactions are proposed before the first is decided. Too few and each waits for the disk alone; too many
/// and what a deposed leader asked for in vain costs the others time.
const IN_FLIGHT: usize = 16;
/// What became free is gathered for so long before it is handed to what waited.
const OVERDUE_DELAY: Duration = Duration::from_millis(100);
/// After nothing could be proposed, or the log did not take it, nothing is tried for so long; doubled each time …
const REST: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A proposal of this leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProposalId(u64);

/// How a proposal fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and the leader has been told its events.
    Applied,
    /// It is in the log and does not go with what is there; nothing of it is done.
    Conflict,
    /// It is not in the log and never will be.
    NotTried,
    /// It may be in the log, or come into it.
    Unknown,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Put this into the log if this manager still leads, after the proposals before it, and say how it fared
    /// ([`Leader::handle_outcome`]).
    Propose {
        /// Which proposal.
        id: ProposalId,
        /// The transaction, as the log has it.
        command: Vec<u8>,
    },
    /// Send this to the node of a session.
    Send {
        /// The session.
        session: SessionId,
        /// The message.
        message: Message,
    },
    /// End a session.
    Close {
        /// The session.
        session: SessionId,
        /// Why.
        why: Closed,
    },
}

/// A proposal that is not decided yet.
#[derive(Debug)]
enum Proposal {
    /// Part of the batch; what it touches.
    Batch(Vec<Key>),
    /// Settles those before it.
    Fence,
}

/// A manager's deciding parts, from the moment that it leads.
#[derive(Debug)]
pub struct Leader {
    view: View,
    orchestrator: Orchestrator,
    scheduler: Scheduler,
    dispatcher: Dispatcher,
    /// What the dispatcher asked to be committed and no batch has taken.
    of_dispatcher: Vec<Unit>,
    /// Whether the dispatcher waits to hear of a commit.
    is_dispatcher_waiting: bool,
    overdue_at: Option<Duration>,
    batch: Batch,
    in_flight: BTreeMap<ProposalId, Proposal>,
    is_unsettled: bool,
    backoff: Backoff,
    rest: Duration,
    rest_until: Duration,
    proposals: u64,
}

impl Leader {
    /// That of a new term; `view` holds everything that was committed before it.
    pub fn new(view: View, now: Now) -> Self {
        Self {
            orchestrator: Orchestrator::new(&view),
            scheduler: Scheduler::new(now),
            dispatcher: Dispatcher::new(&view, now),
            of_dispatcher: Vec::new(),
            is_dispatcher_waiting: false,
            overdue_at: Some(now.monotonic),
            batch: Batch::default(),
            in_flight: BTreeMap::new(),
            is_unsettled: false,
            backoff: Backoff::default(),
            rest: REST,
            rest_until: Duration::ZERO,
            proposals: 0,
            view,
        }
    }

    /// What it decides from.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Notes what happened in the store; `view` holds it, and perhaps more that is yet to be told.
    pub fn handle_events(&mut self, events: &[Event], view: View, now: Now) {
        self.view = view;
        for event in events {
            if frees(event) {
                self.overdue_at.get_or_insert(now.monotonic + OVERDUE_DELAY);
            }
            if let Some(event) = essaim_orchestrator::Event::of(event) {
                self.orchestrator.handle_event(&event, &self.view);
                self.scheduler.handle_event(&event, now);
                self.dispatcher.handle_event(&event, now);
            }
        }
    }

    /// Notes that much may have happened that was not told, as after a snapshot: everything is looked at. Sessions and
    /// proposals go on.
    pub fn handle_restored(&mut self, view: View, now: Now) {
        self.orchestrator = Orchestrator::new(&view);
        self.scheduler = Scheduler::new(now);
        self.dispatcher.refresh(&view, now);
        self.overdue_at = Some(now.monotonic);
        self.view = view;
    }

    /// Notes how a proposal fared.
    pub fn handle_outcome(&mut self, id: ProposalId, outcome: Outcome, now: Now) {
        let Some(proposal) = self.in_flight.remove(&id) else {
            return;
        };
        match (outcome, proposal) {
            (Outcome::Applied, Proposal::Batch(keys)) => {
                self.backoff.forgive(&keys);
                self.rest = REST;
            }
            (Outcome::Conflict, Proposal::Batch(keys)) => self.backoff.penalise(keys, now.monotonic),
            // It is in the log, and so all before it is decided.
            (Outcome::Applied | Outcome::Conflict, Proposal::Fence) => self.is_unsettled = false,
            (Outcome::NotTried, _) => self.give_up(now),
            (Outcome::Unknown, _) => {
                self.is_unsettled = true;
                self.give_up(now);
            }
        }
    }

    /// The rest of the batch is decided again, later.
    fn give_up(&mut self, now: Now) {
        self.batch = Batch::default();
        self.take_rest(now);
    }

    fn take_rest(&mut self, now: Now) {
        self.rest_until = now.monotonic + self.rest;
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.batch.is_empty()
    }

    /// Lets the dispatcher ask anew, once what it asked for was tried.
    fn end_batch(&mut self) {
        if self.is_idle() && !self.is_unsettled && self.of_dispatcher.is_empty() && self.is_dispatcher_waiting
        {
            self.is_dispatcher_waiting = false;
            self.dispatcher.committed();
        }
    }

    /// Begins a node's session; see [`Dispatcher::register`].
    ///
    /// # Errors
    /// The node is no member, or comes too often.
    pub fn register(
        &mut self,
        registration: Registration,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) -> Result<SessionId, DispatchError> {
        self.dispatcher.register(registration, &self.view, now, random)
    }

    /// Notes a heartbeat of a node; says when the next is due.
    ///
    /// # Errors
    /// The session has ended, or is another node's.
    pub fn heartbeat(
        &mut self,
        node: NodeId,
        session: SessionId,
        now: Now,
        random: &mut dyn FnMut() -> u128,
    ) -> Result<Duration, DispatchError> {
        self.check_owner(node, session)?;
        self.dispatcher.heartbeat(session, &self.view, now, random)
    }

    /// Notes what a node reports of its tasks.
    ///
    /// # Errors
    /// The session has ended or is another node's, or a task is another node's; nothing of it counts then.
    pub fn report(
        &mut self,
        node: NodeId,
        session: SessionId,
        reports: Vec<(TaskId, TaskStatus)>,
        now: Now,
    ) -> Result<(), DispatchError> {
        self.check_owner(node, session)?;
        self.dispatcher.report(session, reports, &self.view, now)
    }

    fn check_owner(&self, node: NodeId, session: SessionId) -> Result<(), DispatchError> {
        if self.dispatcher.node_of(session) == Some(node) {
            Ok(())
        } else {
            Err(DispatchError::NoSession)
        }
    }

    /// Notes that a session's connection ended.
    pub fn disconnected(&mut self, session: SessionId) {
        self.dispatcher.disconnected(session);
    }

    /// When [`poll`](Self::poll) has something to do that no input tells.
    pub fn next_timeout(&self) -> Option<Duration> {
        let can_propose = !self.batch.is_empty() && self.in_flight.len() < IN_FLIGHT;
        let decides = if self.is_idle() {
            let asked = self.is_dispatcher_waiting || self.is_unsettled;
            let parts = [
                asked.then_some(Duration::ZERO),
                self.orchestrator.next_timeout(),
                self.scheduler.next_timeout(),
                self.overdue_at,
            ];
            parts
                .into_iter()
                .flatten()
                .min()
                .map(|at| at.max(self.rest_until))
        } else {
            can_propose.then_some(Duration::ZERO)
        };
        [decides, self.dispatcher.next_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is to be done now. `random` gives the bits of new tasks' identities.
    pub fn poll(&mut self, now: Now, random: &mut dyn FnMut() -> u128) -> Vec<Effect> {
        if self.rest_until <= now.monotonic {
            self.end_batch();
        }
        let mut effects = Vec::new();
        for action in self.dispatcher.poll(&self.view, now) {
            match action {
                Action::Send { session, message } => effects.push(Effect::Send { session, message }),
                Action::CloseSession { session, why } => effects.push(Effect::Close { session, why }),
                Action::Commit(units) => {
                    self.of_dispatcher = units;
                    self.is_dispatcher_waiting = true;
                }
            }
        }
        if self.is_idle() && self.rest_until <= now.monotonic {
            if self.is_unsettled {
                // An empty one has bytes.
                let command = Transaction::new().encode().unwrap_or_default();
                effects.push(self.propose(command, Proposal::Fence));
            } else {
                self.decide(now, random);
            }
        }
        while self.in_flight.len() < IN_FLIGHT && !self.is_unsettled {
            let Some((command, keys)) = self.batch.pop() else {
                break;
            };
            match command {
                Some(command) => effects.push(self.propose(command, Proposal::Batch(keys))),
                None => self.backoff.penalise(keys, now.monotonic),
            }
        }
        effects
    }

    fn propose(&mut self, command: Vec<u8>, proposal: Proposal) -> Effect {
        self.proposals += 1;
        let id = ProposalId(self.proposals);
        self.in_flight.insert(id, proposal);
        Effect::Propose { id, command }
    }

    /// Fills the next batch.
    fn decide(&mut self, now: Now, random: &mut dyn FnMut() -> u128) {
        let view = self.view.clone();
        let mut batch = Batch::begin(view.clone());
        let mut add = |unit: Vec<essaim_store::Change>| batch.add(unit, &mut self.backoff, now.monotonic);
        let mut is_any = false;
        if self.overdue_at.is_some_and(|at| at <= now.monotonic) {
            let found = overdue(&view);
            // A transaction holds only so much: there may be more.
            self.overdue_at = (found.changes.len() == MAX_CHANGES).then_some(now.monotonic);
            for change in found.changes {
                is_any = true;
                add(vec![change]);
            }
        }
        let of_dispatcher = std::mem::take(&mut self.of_dispatcher);
        let of_orchestrator = self.orchestrator.poll(&view, now, random);
        let of_scheduler = self.scheduler.poll(&view, now);
        for unit in of_dispatcher
            .into_iter()
            .chain(of_orchestrator)
            .chain(of_scheduler)
        {
            is_any = true;
            add(unit.into_iter().map(Into::into).collect());
        }
        self.batch = batch;
        if is_any && self.batch.is_empty() {
            self.rest_until = now.monotonic + REST;
        }
    }
}

/// Whether what happened may let something have what it waited for.
fn frees(event: &Event) -> bool {
    match event {
        Event::Removed(Object::Task(_) | Object::Service(_) | Object::Node(_) | Object::Network(_))
        | Event::Created(Object::Network(_))
        | Event::Updated {
            new: Object::Network(_) | Object::Service(_),
            ..
        } => true,
        Event::Updated {
            old: Object::Task(old),
            new: Object::Task(new),
        } => {
            let is_over = |state: TaskState| state.is_over();
            !is_over(old.status.state) && is_over(new.status.state)
        }
        Event::Updated { .. } | Event::Created(_) | Event::Removed(_) => false,
    }
}
