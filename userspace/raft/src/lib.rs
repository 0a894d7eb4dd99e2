#![forbid(unsafe_code)]
//! Raft among the managers: any state machine, replicated, with its log and snapshots sealed on disk.
//!
//! The protocol is openraft's. This crate gives it what it leaves open, and hides it: nothing of openraft is needed to
//! use a [`RaftHandle`].
//!
//! | part | does |
//! |---|---|
//! | [`RaftHandle`] | starts Raft, proposes, reads, changes the members, tells the status |
//! | [`StateMachine`] | what is replicated: pure, told the time |
//! | [`Disk`], [`StateDirectory`] | where the log and the snapshots lie |
//! | [`Seal`] | what encrypts and authenticates them; the manager's keys are behind it |
//! | [`Transport`] | carries opaque messages to the other managers |
//! | [`force_new_cluster`] | makes a cluster of one of a stopped manager's state |
//! | [`memory`] | a disk that loses what was not synced and a network that loses messages, for simulations |
//!
//! **The log** is one redb database. Each record is sealed, bound to its index. Whatever is queued when the disk is free
//! goes out in one commit with one sync, so many proposals share it. Opening the log verifies all of it.
//!
//! **Failure.** The first error of the log or of a snapshot stops Raft on this manager: nothing more is written or
//! acknowledged, [`RaftHandle::failure`] and [`Status::failure`] say why, and all that was acknowledged is on disk.
//!
//! **Time.** Elections go by the monotonic clock, see [`Settings`]. The wall clock only stamps proposals.

// The test support is shared with the integration tests, which know the crate by its name.
#[cfg(test)]
extern crate self as essaim_raft;

#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

mod disk;
mod error;
mod fault;
mod handle;
mod log;
mod machine;
pub mod memory;
mod metrics;
mod network;
mod quorum;
mod receive;
mod recovery;
mod runtime;
mod seal;
mod settings;
mod snapshot;
mod status;
mod transport;
mod tuning;
mod types;
mod wire;

pub use disk::{Disk, Job, NewFile, StateDirectory};
pub use error::StorageError;
pub use handle::{ChangeError, Committed, LeaderAddress, ProposeError, RaftHandle, StartError, Started};
pub use machine::{SnapshotView, StateMachine};
pub use metrics::{BUCKETS_US, Histogram};
pub use quorum::{QuorumLoss, may_leave};
pub use recovery::force_new_cluster;
pub use redb::StorageBackend;
pub use runtime::seed_this_thread;
pub use seal::{Seal, SealError};
pub use settings::{
    ELECTION, HEARTBEAT, LARGEST_PROPOSAL, LEASE, PROPOSAL_TIMEOUT, PROPOSALS_UNDER_WAY, REACHABLE_WITHIN,
    SEND_TIMEOUT, Settings,
};
pub use status::{MemberStatus, Metrics, Reachability, Role, Status};
pub use transport::{LARGEST_MESSAGE, Transport, TransportError};
pub use tuning::Tuning;
pub use types::{ClusterId, Member, NodeId, Timestamp};
