//! What nodes and managers say to each other on the managers' port: the methods' names and their messages. Pure.
//!
//! A node opens one [`method::SESSION`] with the leader, whose answer goes on for as long as both live: what the node is
//! to run ([`Assignments`]), the catalog of its data plane ([`CatalogUpdate`]), whom else to ask, and what logs to send. All
//! else it says in calls of its own: heartbeats, reports, logs. A message of a session may be longer than what goes at
//! once: [`parts`] and [`Assembly`].
//!
//! Messages are JSON ([`encode`], [`decode`]): members that a version does not know are passed over, so nodes of
//! neighbouring versions understand each other. Secrets are in them in clear; links are mutual TLS.
#![forbid(unsafe_code)]

mod assignment;
mod attachments;
mod cni;
mod logs;
mod membership;
mod parts;
mod session;

pub use assignment::{Assignment, AssignmentId, Assignments, Basis};
pub use attachments::{
    AttachedContainer, Attachments, AttachmentsHeld, ContainerInterface, ContainerNetwork,
    DEFAULT_ROUTE_OPTION, DRIVER, FindNetwork, INTERFACE_OPTION, NETWORK_OPTION, Place, RefusedContainer,
};
pub use cni::{
    CniAdd, CniAttachment, CniCheck, CniFault, CniGc, CniInterface, CniRefusal, CniStatus, cni_path,
};
pub use logs::{
    LogBatch, LogEnd, LogMessage, LogPosition, LogSelector, LogSource, LogSubscription, LogSubscriptionId,
    Stream,
};
pub use membership::{
    CertificateInstalled, IssueRequest, IssuedCertificate, JoinRaft, Leave, OnBehalf, RenewRequest,
    RootCertificate,
};
pub use parts::{Assembly, LONGEST, PART, PartError, parts};
pub use session::{
    CatalogUpdate, DataKey, GossipKey, Heartbeat, HeartbeatReply, ManagerAddress, Report, SessionId,
    SessionRequest, TaskReport, ToNode,
};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The methods of the managers' port that nodes call, beside those of the managers among themselves.
pub mod method {
    /// Begins a session: [`SessionRequest`](crate::SessionRequest), answered by a stream of [`ToNode`](crate::ToNode).
    /// Only the leader has sessions.
    pub const SESSION: &str = "Session";
    /// [`Heartbeat`](crate::Heartbeat), answered by [`HeartbeatReply`](crate::HeartbeatReply).
    pub const HEARTBEAT: &str = "Heartbeat";
    /// [`Report`](crate::Report): how the node's tasks are; answered by nothing.
    pub const REPORT: &str = "Report";
    /// [`LogBatch`](crate::LogBatch): what tasks have said; answered by nothing.
    pub const LOGS: &str = "Logs";
    /// [`FindNetwork`](crate::FindNetwork), answered by the network, or by `null`.
    pub const FIND_NETWORK: &str = "FindNetwork";
    /// [`Attachments`](crate::Attachments), answered by [`AttachmentsHeld`](crate::AttachmentsHeld).
    pub const ATTACHMENTS: &str = "Attachments";
    /// Nothing, answered by [`RootCertificate`](crate::RootCertificate). Anybody may ask.
    pub const ROOT_CERTIFICATE: &str = "RootCertificate";
    /// [`IssueRequest`](crate::IssueRequest), answered by [`IssuedCertificate`](crate::IssuedCertificate). Anybody with
    /// a token may ask.
    pub const ISSUE_CERTIFICATE: &str = "IssueCertificate";
    /// [`RenewRequest`](crate::RenewRequest), answered by [`IssuedCertificate`](crate::IssuedCertificate).
    pub const RENEW_CERTIFICATE: &str = "RenewCertificate";
    /// An `ExpiredRenewal` of `essaim-ca`, answered by [`IssuedCertificate`](crate::IssuedCertificate). Anybody may
    /// ask: the message proves who does.
    pub const RENEW_EXPIRED: &str = "RenewExpired";
    /// [`CertificateInstalled`](crate::CertificateInstalled); answered by nothing.
    pub const CERTIFICATE_INSTALLED: &str = "CertificateInstalled";
    /// [`JoinRaft`](crate::JoinRaft); answered by nothing, once the manager is a member.
    pub const JOIN_RAFT: &str = "JoinRaft";
    /// [`OnBehalf`](crate::OnBehalf) of it, from one manager to the leader.
    pub const JOIN_RAFT_ON_BEHALF: &str = "JoinRaftOnBehalf";
    /// [`Leave`](crate::Leave); answered by nothing, once the node is a member of the consensus no more.
    pub const LEAVE: &str = "Leave";
    /// [`OnBehalf`](crate::OnBehalf) of it, from one manager to the leader.
    pub const LEAVE_ON_BEHALF: &str = "LeaveOnBehalf";
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a message of {length} bytes cannot be read as {what}")]
pub struct Malformed {
    /// What it should be.
    pub what: &'static str,
    /// Its length in bytes.
    pub length: usize,
    /// Where it is none.
    pub source: serde_json::Error,
}

/// A message as bytes.
pub fn encode(message: &impl Serialize) -> Bytes {
    // Fails for maps whose keys are no strings only, and no message has one.
    serde_json::to_vec(message).unwrap_or_default().into()
}

/// The message that the bytes are.
///
/// # Errors
/// They are none.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(bytes).map_err(|source| Malformed {
        what: std::any::type_name::<T>().rsplit("::").next().unwrap_or_default(),
        length: bytes.len(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::{Data, NodeId, SecretId, TaskId};
    use std::fmt::Debug;

    #[track_caller]
    fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(message: &T) {
        assert_eq!(decode::<T>(&encode(message)).ok().as_ref(), Some(message));
    }

    #[test]
    fn messages_survive_the_wire() {
        let session = SessionId(u128::MAX - 7);
        survives(&Heartbeat { session });
        survives(&ToNode::Assignments(Assignments {
            basis: Basis::Number(3),
            number: 4,
            changed: Vec::new(),
            removed: vec![
                AssignmentId::Secret(SecretId::from_bits(1)),
                AssignmentId::Task(TaskId::from_bits(2)),
            ],
        }));
        survives(&ToNode::GossipKeys(vec![GossipKey {
            key: Data::from(vec![7; 32]),
        }]));
        survives(&ToNode::DataKeys(vec![DataKey {
            generation: u64::MAX,
            key: Data::from(vec![7; 32]),
        }]));
        survives(&ToNode::Managers(vec![ManagerAddress {
            node: NodeId::from_bits(1),
            address: "192.0.2.1:2377".to_owned(),
        }]));
        survives(&ToNode::Catalog(CatalogUpdate {
            revision: 9,
            basis: Some(8),
            text: "revision = 9\n".to_owned(),
        }));
    }

    #[test]
    fn members_of_a_later_version_are_passed_over() {
        let later = br#"{"session": "00000000000000000000000000000005", "mood": "good"}"#;
        let expected = Heartbeat {
            session: SessionId(5),
        };
        assert_eq!(decode::<Heartbeat>(later).ok(), Some(expected));
    }

    #[test]
    fn what_is_no_message_is_told_by_its_kind_and_shows_nothing_of_it() {
        let secret = b"{\"session\": \"hunter2\"}";
        let error = decode::<Heartbeat>(secret).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a message of 22 bytes cannot be read as Heartbeat"
        );
        let keys = ToNode::GossipKeys(vec![GossipKey {
            key: Data::from(b"hunter2".to_vec()),
        }]);
        assert!(!format!("{keys:?}").contains("hunter2") && !format!("{keys:?}").contains("104, 117"));
        let keys = ToNode::DataKeys(vec![DataKey {
            generation: 1,
            key: Data::from(b"hunter2".to_vec()),
        }]);
        assert!(!format!("{keys:?}").contains("hunter2") && !format!("{keys:?}").contains("104, 117"));
    }
}
