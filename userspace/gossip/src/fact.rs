//! What an owner can say, and in which of its streams.

use crate::epoch::Version;
use essaim_ipsec::{Generation, Salt};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use std::net::IpAddr;

/// The part of its owner's facts that a stream carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// About the owner itself: for every member.
    Node,
    /// About its tasks on this network: for those that take part in it.
    Network(NetworkName),
}

/// Something that an owner says, or takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// Where its VTEP is.
    Vtep(Option<IpAddr>),
    /// The catalog revision it has applied.
    CatalogApplied(u64),
    /// Its salt for the keys of encrypted networks, and the generations that it holds.
    Ipsec {
        salt: Salt,
        held: Option<(Generation, Generation)>,
    },
    /// With which salts, a peer's and its own, it holds the associations by which it hears the peer; `None` takes it back.
    Hears {
        peer: NodeName,
        salts: Option<(Salt, Salt)>,
    },
    /// Whether it takes part in a network.
    Interest { network: NetworkName, takes_part: bool },
    /// How far one of its tasks is; `None` takes it back.
    Task { task: TaskId, state: Option<TaskState> },
}

/// What a fact is about: a later fact of the same key replaces it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FactKey {
    Vtep,
    CatalogApplied,
    Ipsec,
    Hears(NodeName),
    Interest(NetworkName),
    Task(TaskId),
}

impl Fact {
    pub(crate) fn key(&self) -> FactKey {
        match self {
            Self::Vtep(_) => FactKey::Vtep,
            Self::CatalogApplied(_) => FactKey::CatalogApplied,
            Self::Ipsec { .. } => FactKey::Ipsec,
            Self::Hears { peer, .. } => FactKey::Hears(peer.clone()),
            Self::Interest { network, .. } => FactKey::Interest(network.clone()),
            Self::Task { task, .. } => FactKey::Task(task.clone()),
        }
    }

    /// Whether it only takes an earlier one back, so that it need not be kept for long.
    pub(crate) const fn is_removal(&self) -> bool {
        match self {
            Self::Vtep(_) | Self::CatalogApplied(_) | Self::Ipsec { .. } => false,
            Self::Hears { salts, .. } => salts.is_none(),
            Self::Interest { takes_part, .. } => !*takes_part,
            Self::Task { state, .. } => state.is_none(),
        }
    }

    /// Whether it can be in a stream of this scope.
    pub(crate) const fn belongs_to(&self, scope: &Scope) -> bool {
        match (self, scope) {
            (Self::Task { .. }, Scope::Network(_)) => true,
            (Self::Task { .. }, Scope::Node) => false,
            (
                Self::Vtep(_)
                | Self::CatalogApplied(_)
                | Self::Ipsec { .. }
                | Self::Hears { .. }
                | Self::Interest { .. },
                scope,
            ) => matches!(scope, Scope::Node),
        }
    }
}

/// A fact with its place in the owner's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) version: Version,
    pub(crate) fact: Fact,
}
