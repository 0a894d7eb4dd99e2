//! What nodes say to each other.

use crate::claim::Statement;
use crate::epoch::{Epoch, Incarnation, Version};
use crate::fact::{Record, Scope};
use essaim_model::NodeName;

/// All of one datagram or frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The sender's: with its epoch, in the seal's header, its claim to be alive.
    pub(crate) incarnation: Incarnation,
    pub(crate) parts: Vec<Part>,
}

/// One statement or question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Answer me with this number.
    Ping { number: u64 },
    /// The answer, of the one that was asked or through the one that was to ask.
    Ack { number: u64 },
    /// Ask this member for me, and answer with this number if it answers.
    ProbeFor { number: u64, target: NodeName },
    /// News of members.
    Claims(Vec<Statement>),
    /// All I know of the members in these leaves; tell me where you know better.
    Census { leaves: u64, statements: Vec<Statement> },
    /// News of an owner's facts.
    Delta(Delta),
    /// What I know in short: one hash for each of a power of two of groups of owners.
    Digest { subject: Subject, hashes: Vec<u32> },
    /// How far I know the streams of the owners in these leaves: send me what I lack, and ask for what you lack.
    Heads {
        scope: Scope,
        leaves: u64,
        heads: Vec<Head>,
    },
    /// Send me these streams, from there on.
    Pull { scope: Scope, heads: Vec<Head> },
    /// Tell me, the owner, when you have applied this much of my stream.
    Confirm {
        scope: Scope,
        epoch: Epoch,
        version: Version,
    },
    /// I have applied this much of your stream.
    Applied {
        scope: Scope,
        epoch: Epoch,
        version: Version,
    },
}

/// What a digest is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// The claims about members.
    Members,
    /// The heads of the streams of this scope.
    Facts(Scope),
}

/// How far an owner's stream is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) owner: NodeName,
    pub(crate) epoch: Epoch,
    pub(crate) version: Version,
}

/// The records of a stream that are no newer than `to`, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) owner: NodeName,
    pub(crate) scope: Scope,
    pub(crate) epoch: Epoch,
    /// All that are newer than this one, and with [`Version::ZERO`] the first part of a stream; `None` where it is all that stands, and what is not named is no more.
    pub(crate) from: Option<Version>,
    pub(crate) to: Version,
    pub(crate) records: Vec<Record>,
}

/// The numbers that stand for parts; append only.
pub(super) mod tag {
    pub(crate) const PING: u8 = 1;
    pub(crate) const ACK: u8 = 2;
    pub(crate) const PROBE_FOR: u8 = 3;
    pub(crate) const CLAIMS: u8 = 4;
    pub(crate) const CENSUS: u8 = 5;
    pub(crate) const DELTA: u8 = 6;
    pub(crate) const DIGEST: u8 = 7;
    pub(crate) const HEADS: u8 = 8;
    pub(crate) const PULL: u8 = 9;
    pub(crate) const CONFIRM: u8 = 10;
    pub(crate) const APPLIED: u8 = 11;
    pub(crate) const SNAPSHOT: u8 = 12;
}

/// The numbers that stand for facts; append only.
pub(super) mod fact_tag {
    pub(crate) const NO_VTEP: u8 = 1;
    pub(crate) const VTEP_V4: u8 = 2;
    pub(crate) const VTEP_V6: u8 = 3;
    pub(crate) const CATALOG_APPLIED: u8 = 4;
    pub(crate) const INTEREST: u8 = 5;
    pub(crate) const NO_INTEREST: u8 = 6;
    pub(crate) const NO_TASK: u8 = 7;
    pub(crate) const TASK_STARTING: u8 = 8;
    pub(crate) const TASK_READY: u8 = 9;
    pub(crate) const TASK_DRAINING: u8 = 10;
    pub(crate) const TASK_GONE: u8 = 11;
    pub(crate) const IPSEC: u8 = 12;
    pub(crate) const NO_IPSEC: u8 = 13;
    pub(crate) const HEARS: u8 = 14;
    pub(crate) const HEARS_NOT: u8 = 15;
}

/// The numbers that stand for scopes and subjects; append only.
pub(super) mod scope_tag {
    pub(crate) const NODE: u8 = 0;
    pub(crate) const NETWORK: u8 = 1;
    pub(crate) const MEMBERS: u8 = 2;
}

/// The most hashes of a digest.
pub(crate) const MAX_HASHES: usize = 64;
