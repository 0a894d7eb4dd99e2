//! The managers' replicated store: objects, allocations and their invariants, changed by transactions. Pure.
//!
//! Managers agree on a log of [`Transaction`]s, and each applies it to its own [`Store`]. Applying is generic and
//! stable: it checks versions, names, references and that nothing is held twice ([`Conflict`]), and knows nothing of
//! policy. Deciding is the leader's: it reads a [`View`], writes a transaction, lets [`allocate`] complete it
//! with addresses, ports and the like, and proposes it. If another came between, it finds a conflict and tries again.
//!
//! What is allotted stands in the objects themselves and nowhere else: a network's VNI, subnets and gateways, a service's
//! virtual addresses and ports, a task's and a node's addresses. What is held is derived from that
//! ([`Holding`]), so removing an object frees all that it held, and nothing can leak; [`audit`] checks it nevertheless.
//! The one thing beside the objects is where the last search for an address ended, so that a freed one is not handed
//! out again at once.
//!
//! Objects are shared and the tables persistent: a [`View`] costs a few reference counts, serves readers while the store
//! goes on, and is what a snapshot is written from.
#![forbid(unsafe_code)]

#[cfg(test)]
mod against_a_model;
mod allocate;
mod apply;
mod audit;
mod conflict;
mod encode;
mod holding;
mod object;
#[cfg(test)]
mod samples;
mod transaction;
mod view;

pub use allocate::{Allotted, NotAllocated, Why, allocate, mac, overdue, release};
pub use apply::{Event, Store};
pub use audit::{Finding, audit};
pub use conflict::Conflict;
pub use encode::{DecodeError, EncodeError, FORMAT};
pub use holding::Holding;
pub use object::{Kind, Object, ObjectId};
pub use transaction::{Change, MAX_CHANGES, MAX_TRANSACTION_SIZE, Transaction};
pub use view::View;
