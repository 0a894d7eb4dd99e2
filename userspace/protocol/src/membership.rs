//! How a node comes into the cluster, gets its certificates, and leaves.

use essaim_objects::{Availability, NodeId, Sensitive, TlsInfo};
use serde::{Deserialize, Serialize};

/// The cluster's root certificate. The link that it comes over is not authenticated: the join token is what it is checked by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootCertificate {
    /// PEM.
    pub certificate: String,
}

/// A node that joins asks for its first certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueRequest {
    /// The join token, which says the role. Not shown by `Debug`.
    pub token: Sensitive,
    /// The certificate request, in PEM.
    pub request: String,
    /// Whether it takes tasks; active where nothing is said.
    pub availability: Option<Availability>,
}

/// A node asks for its next certificate. Who it is, is in the one that it has; the role, in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The certificate request, in PEM.
    pub request: String,
}

/// A certificate, for a node to take over together with the roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedCertificate {
    /// The node's certificate and what it shows with it, in PEM.
    pub chain: String,
    /// The roots to trust, in PEM.
    pub trust: String,
    /// The store's version that both are of: what is older than what a node has, it does not take over.
    pub version: u64,
}

/// A manager that is not yet a member of the consensus asks to be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRaft {
    /// Its number in the consensus.
    pub raft_id: u64,
    /// Where it is called, `ADDRESS:PORT`.
    pub address: String,
}

/// A manager hands on to the leader what a node has called it for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf<T> {
    /// The node.
    pub node: NodeId,
    /// What it has called for.
    pub call: T,
}

/// A node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Whether a manager leaves though the others may lose their quorum.
    pub force: bool,
}

/// A node has taken over a certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateInstalled {
    /// Its issuer and the roots that the node trusts.
    pub tls_info: TlsInfo,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decode, encode};

    #[test]
    fn messages_survive_the_wire_and_show_no_token() {
        let request = IssueRequest {
            token: Sensitive("SWMTKN-1-secret".to_owned()),
            request: "request".to_owned(),
            availability: Some(Availability::Drain),
        };
        assert_eq!(
            decode::<IssueRequest>(&encode(&request)).ok(),
            Some(request.clone())
        );
        assert!(!format!("{request:?}").contains("SWMTKN"));
        let join = OnBehalf {
            node: NodeId::from_bits(7),
            call: JoinRaft {
                raft_id: u64::MAX,
                address: "[2001:db8::1]:2377".to_owned(),
            },
        };
        assert_eq!(decode::<OnBehalf<JoinRaft>>(&encode(&join)).ok(), Some(join));
    }
}
