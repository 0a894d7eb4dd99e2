//! A manager: the store replicated by Raft, over the managers' port.
//!
//! | part | is |
//! |---|---|
//! | [`Replica`] | this manager's copy of the store, and the one way to change it anywhere |
//! | [`catalog_of`], [`catalog_after`] | what the nodes' data planes are to hold, out of the store, and out of what they were to hold before |
//! | [`authority`] | who belongs to the cluster and in which role: certificates, tokens, members |
//! | [`Notice`] | what the log does to the store, for whoever has to act on it |
//! | [`Leader`] | what the manager that leads decides, on the store; pure |
//! | [`Leadership`] | the shell of it: the log, the clock, the nodes' sessions, the logs of tasks |
//!
//! **Reading** is from the copy, which may be a little behind; [`Replica::read`] waits until it holds everything that was
//! committed anywhere before the call. **Writing** is a function from what is there to a transaction
//! ([`Replica::update`]): the allocator completes it, Raft puts it into the log, every copy applies it alike. Where
//! another change came between, the function is asked again. A manager that does not lead hands the transaction to the
//! leader and returns when its own copy holds it, so a client reads what it wrote wherever it asks.
//!
//! Links are mutual TLS (`essaim-rpc`), and only managers may send what is of Raft. The log and the snapshots are
//! sealed with the manager's data keys.
#![forbid(unsafe_code)]

mod attachments;
pub mod authority;
mod catalog;
mod leader;
mod links;
mod logs;
mod machine;
mod replica;
mod seal;
mod sessions;
#[cfg(test)]
mod tests;

pub use catalog::{Touched, catalog_after, catalog_of, catalog_since, handover_netns_of, netns_of};
pub use leader::{Effect, Leader, Outcome, ProposalId};
pub use logs::{LogFailure, LogLines};
pub use machine::{Notice, Past, StoreMachine};
pub use replica::{NoLeader, OpenError, Parts, Replica, UpdateError};
pub use sessions::{CatalogOf, Leadership};
