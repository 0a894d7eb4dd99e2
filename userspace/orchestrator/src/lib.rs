//! What the leader decides: which tasks there are, which node each gets, how updates go, and what nodes are told. Pure.
//!
//! | part | decides |
//! |---|---|
//! | [`Orchestrator`] | the tasks of every service: scale, nodes that go, restarts, updates, jobs, eviction, history |
//! | [`Scheduler`] | the node of every task that waits for one, or the reason why it waits |
//! | [`Dispatcher`] | which nodes are there, what each is to run, and what becomes of its reports |
//! | [`role_step`], [`may_leave`] | whether a node's role may change without the managers losing their quorum |
//! | [`may_become`], [`may_desire`], [`observe`] | how tasks' states may change |
//!
//! All are told of [`Event`]s, read the store through [`Cluster`] and answer with [`Change`]s in units that belong
//! together. Time ([`Now`]) and random bits come in as arguments; when to be called next is asked of `next_timeout`.
//! They keep next to nothing beside the store: what they find undone when they are asked again, they decide again. So a
//! commit may fail, and a leader may change, at any moment.
//!
//! Where Swarm is known to do worse, this differs: ports that every node answers belong to the service, so changing
//! them replaces no task; restart attempts are counted from the store, so a new leader does not forget them; a global
//! service with ports of its nodes is updated stop-first, as start-first could never end.
#![forbid(unsafe_code)]

mod cluster;
mod dispatcher;
mod orchestrator;
mod ports;
mod role;
mod scheduler;
mod state;
mod store;

pub use cluster::{Change, Cluster, Event, Now, Unit, pack};
pub use dispatcher::{Action, Closed, DispatchError, Dispatcher, Message, Registration};
pub use orchestrator::Orchestrator;
pub use role::{Member, RoleError, RoleStep, may_leave, role_step};
pub use scheduler::Scheduler;
pub use state::{Actor, may_become, may_desire, observe};
