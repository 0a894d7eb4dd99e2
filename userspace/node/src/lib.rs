//! A node of the cluster: from `init` or `join` to `leave`, as a worker or a manager.
//!
//! | part | is |
//! |---|---|
//! | [`Node`] | the state machine: inactive, pending, active, locked, error |
//! | [`Local`] | what it is now, to be read or watched |
//! | [`NodeOptions`], [`ManagerParts`] | where it lives, and what else a manager runs |
//! | [`Told`] | what the managers tell the node in its session |
//!
//! **The directory** holds `node.json` (what the node is, and what it is about to become), `certificates/` (of
//! `essaim-ca`: [`IdentityStore`](essaim_ca::IdentityStore)) and on a manager `raft/` (the log and the snapshots, sealed).
//! `node.json` is replaced as a whole. It says what is under way before anything else is written, and what is done after
//! all else is: a node that is killed at any step of `init`, `join` or `leave` is in no cluster when it comes back, and
//! one that is killed while its role changes has the old or the new role.
//!
//! **The role** is that of the certificate. A node that is told of another role, or of other roots, renews its certificate;
//! with a manager's it opens its copy of the store, serves the managers' port and joins the consensus, and with a
//! worker's it closes all of that and removes the log. Nothing else of the node is touched.
//!
//! **Keys.** A manager's log is sealed with its data keys, which lie in the key file. While autolock is on that file is
//! encrypted, and a node that starts is [`LocalState::Locked`] until [`Node::unlock`].
#![forbid(unsafe_code)]

mod address;
mod enter;
mod error;
mod force;
mod keeper;
mod leave;
mod local;
mod manager;
mod member;
mod node;
mod options;
mod record;
#[cfg(test)]
mod tests;

pub use address::{AddressError, Interface};
pub use error::{NodeError, TokenProblem};
pub use essaim_manager::authority::Rotate;
pub use local::{Local, LocalState, Told};
pub use node::Node;
pub use options::{ManagerParts, NoParts, NodeOptions, OpenDisk, Stop};
pub use record::RecordError;
