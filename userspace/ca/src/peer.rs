use crate::{CertificateError, ClusterId, NodeId, Role, Timestamp};

/// Who is at the other end of a link, by a certificate that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node_id: NodeId,
    /// What it may do.
    pub role: Role,
    /// Its cluster, which is this node's own.
    pub cluster_id: ClusterId,
    /// When its certificate ends: a link that is still open then is to be closed, so that the node shows another.
    pub expires: Timestamp,
}

impl Peer {
    /// Lets only managers through; workers are managers' clients, and managers may do what workers may.
    ///
    /// # Errors
    /// [`Refusal::Role`].
    pub fn require(&self, role: Role) -> Result<(), Refusal> {
        if self.role < role {
            return Err(Refusal::Role {
                node_id: self.node_id.clone(),
                found: self.role,
                expected: role,
            });
        }
        Ok(())
    }
}

/// Why a peer is refused. For this side's log: the peer itself only learns that its certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The call is for members, and the peer showed no certificate.
    #[error("the peer has shown no certificate, expected that of a {0}")]
    NoCertificate(Role),
    /// What was shown is no certificate, or its subject is not that of a node.
    #[error("the peer's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// None of the trusted roots has issued it: it is of another cluster, or of a root that is no longer trusted.
    #[error("the peer's certificate {subject} is not from a trusted root, expected one of {trusted}")]
    Authority {
        /// The subject that it claims.
        subject: String,
        /// The digests of the roots that are trusted.
        trusted: String,
    },
    /// The root that issued it is trusted, and not valid now. Where it has expired, the cluster's root has to be replaced,
    /// and the nodes have to join anew.
    #[error(
        "the root of the peer's certificate {subject} is not valid at {now}; it has expired, or the clock is wrong"
    )]
    RootNotValid {
        /// The subject that it claims.
        subject: String,
        /// This node's time.
        now: Timestamp,
    },
    /// It has expired.
    #[error("the certificate {subject} expired at {not_after}, it is now {now}; the node has to renew it")]
    Expired {
        /// The subject that it claims.
        subject: String,
        /// Its end.
        not_after: Timestamp,
        /// This node's time.
        now: Timestamp,
    },
    /// It is not valid yet: one of the two clocks is wrong.
    #[error(
        "the certificate {subject} is valid from {not_before}, it is now {now}; compare the nodes' clocks"
    )]
    NotYetValid {
        /// The subject that it claims.
        subject: String,
        /// Its beginning.
        not_before: Timestamp,
        /// This node's time.
        now: Timestamp,
    },
    /// The chain does not hold for another reason, such as the purposes that it allows.
    #[error("the certificate {subject} does not hold: {reason}")]
    Chain {
        /// The subject that it claims.
        subject: String,
        /// What the verifier says.
        reason: String,
    },
    /// The node belongs to another cluster under the same root.
    #[error("node {node_id} belongs to cluster {found}, expected {expected}")]
    Cluster {
        /// The node.
        node_id: NodeId,
        /// Its cluster.
        found: ClusterId,
        /// This node's cluster.
        expected: ClusterId,
    },
    /// The node's role does not allow it.
    #[error("node {node_id} is a {found}, expected a {expected}")]
    Role {
        /// The node.
        node_id: NodeId,
        /// Its role.
        found: Role,
        /// The role that is needed.
        expected: Role,
    },
    /// Another node answered than was called.
    #[error("node {found} answered, expected {expected}")]
    OtherNode {
        /// Who answered.
        found: NodeId,
        /// Who was called.
        expected: String,
    },
}
