//! Why a transaction does not apply.

use crate::{Holding, Kind, MAX_CHANGES, ObjectId};
use essaim_objects::{NetworkId, TaskId, TaskState, Version};
use ipnet::IpNet;
use std::net::IpAddr;

/// Why a transaction does not apply; in every case none of it is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// The log is read out of order: a bug.
    #[error("log index {found} comes after {last}, expected a greater one")]
    Index {
        /// The index.
        found: u64,
        /// That of the last transaction that was applied.
        last: u64,
    },
    /// Too many changes.
    #[error("transaction has {found} changes, expected at most {MAX_CHANGES}: split it")]
    TooMany {
        /// How many.
        found: usize,
    },
    /// An object is changed more than once.
    #[error("{object} is changed twice in one transaction, expected once")]
    Twice {
        /// The object.
        object: ObjectId,
    },
    /// The object changed since it was read. The text is Docker's, which clients look for.
    #[error("update out of sequence: {object} is at version {found}, expected {expected}; read it again")]
    OutOfSequence {
        /// The object.
        object: ObjectId,
        /// Its version.
        found: Version,
        /// The version that it was read at.
        expected: Version,
    },
    /// There is such an object already.
    #[error("{object} exists already")]
    Exists {
        /// The object.
        object: ObjectId,
    },
    /// There is no such object.
    #[error("{object} not found")]
    NotFound {
        /// The object.
        object: ObjectId,
    },
    /// Another object of the kind has the name. The text is Docker's, which clients look for.
    #[error("name conflicts with an existing object: {kind} {name} is {by}")]
    NameTaken {
        /// The kind.
        kind: Kind,
        /// The name.
        name: String,
        /// What has it.
        by: ObjectId,
    },
    /// It has no name.
    #[error("{object} has no name, expected one")]
    NoName {
        /// The object.
        object: ObjectId,
    },
    /// It refers to something that is not there.
    #[error("{object} refers to {to}, which does not exist")]
    Missing {
        /// The object.
        object: ObjectId,
        /// What it refers to.
        to: String,
    },
    /// It is still used.
    #[error("{object} is in use by {by}")]
    InUse {
        /// The object.
        object: ObjectId,
        /// One that uses it.
        by: ObjectId,
    },
    /// Another object holds what this one wants.
    #[error("{object} cannot have {what}: {by} has it")]
    Taken {
        /// The object.
        object: ObjectId,
        /// What it wants.
        what: Holding,
        /// Who has it.
        by: ObjectId,
    },
    /// Its subnet and another network's share addresses.
    #[error("subnet {subnet} of {object} overlaps {other} of network {by}")]
    Overlap {
        /// The object.
        object: ObjectId,
        /// Its subnet.
        subnet: IpNet,
        /// The other subnet.
        other: IpNet,
        /// Whose it is.
        by: NetworkId,
    },
    /// It has an address that its network's subnets do not hold, or that none may have.
    #[error("{object} has {address}, which is no host's address in a subnet of network {network}")]
    Stray {
        /// The object.
        object: ObjectId,
        /// The address.
        address: IpAddr,
        /// The network.
        network: NetworkId,
    },
    /// A task's observed state would go back.
    #[error("task {task} is {from}, expected no earlier state than that; found {to}")]
    WentBack {
        /// The task.
        task: TaskId,
        /// Its state.
        from: TaskState,
        /// The state it would get.
        to: TaskState,
    },
}
