use crate::bundle::{End, Expected, MAX_CERTIFICATES, TrustBundle};
use crate::{Certificate, CertificateError, Issued, NodeId, Peer, PrivateKey, Refusal, Role, Timestamp};
use rustls::pki_types::CertificateDer;

#[cfg(test)]
mod tests;

/// Why a certificate, a key and roots do not make an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate cannot be used.
    #[error("the node's certificate cannot be used")]
    Certificate(#[from] CertificateError),
    /// The certificate is for another key; the node's own files were mixed up, or what was issued is another node's.
    #[error("the node's key does not belong to its certificate {subject}")]
    KeyMismatch {
        /// The certificate's subject.
        subject: String,
    },
    /// The node would not accept its own certificate.
    #[error("the node's own certificate does not hold under the roots that it trusts")]
    Untrusted(#[source] Refusal),
    /// It is the identity of another node; a node keeps its identity as long as it is in the cluster.
    #[error("the identity is that of node {found}, expected {expected}")]
    OtherNode {
        /// The node that it is for.
        found: NodeId,
        /// This node.
        expected: NodeId,
    },
}

/// What a node shows of itself, and whom it trusts: its private key, its certificate chain and the roots.
///
/// The parts fit, which [`Identity::new`] checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    key: PrivateKey,
    certificate: Certificate,
    /// What was cross-signed, while the root is rotated.
    intermediates: Vec<Certificate>,
    trust: TrustBundle,
    peer: Peer,
}

impl Identity {
    /// Puts the parts together; the node's own certificate is the first of the chain.
    ///
    /// A certificate that has expired makes an identity all the same: the node needs it to ask for the next one, and
    /// everybody else refuses it.
    ///
    /// # Errors
    /// The parts do not fit; see [`IdentityError`].
    pub fn new(key: PrivateKey, chain: Vec<Certificate>, trust: TrustBundle) -> Result<Self, IdentityError> {
        if chain.len() > MAX_CERTIFICATES {
            let error = CertificateError::Count {
                found: chain.len(),
                expected: "at most 8",
            };
            return Err(error.into());
        }
        let mut chain = chain.into_iter();
        let Some(certificate) = chain.next() else {
            return Err(CertificateError::Count {
                found: 0,
                expected: "at least one",
            }
            .into());
        };
        if key.public_key() != certificate.public_key() {
            return Err(IdentityError::KeyMismatch {
                subject: certificate.subject_text(),
            });
        }
        let intermediates: Vec<_> = chain.collect();
        let peer = own_peer(&certificate, &intermediates, &trust)?;
        Ok(Self {
            key,
            certificate,
            intermediates,
            trust,
            peer,
        })
    }

    /// The identity from what the managers issued for this key.
    ///
    /// # Errors
    /// See [`Identity::new`].
    pub fn from_issued(key: PrivateKey, issued: Issued) -> Result<Self, IdentityError> {
        Self::new(key, issued.chain, issued.trust)
    }

    /// The same with other roots to trust.
    ///
    /// # Errors
    /// The node's own certificate would not be accepted under them.
    pub fn with_trust(&self, trust: TrustBundle) -> Result<Self, IdentityError> {
        let peer = own_peer(&self.certificate, &self.intermediates, &trust)?;
        Ok(Self {
            trust,
            peer,
            ..self.clone()
        })
    }

    /// Who the node is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The node's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The certificates that it shows, its own first.
    pub fn chain(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate).chain(&self.intermediates)
    }

    /// The roots that it trusts.
    pub fn trust(&self) -> &TrustBundle {
        &self.trust
    }

    /// The private key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The certificate of the authority that issued the node's own: a root, or the cross-signed one that stands for it.
    pub fn issuer(&self) -> Option<&Certificate> {
        let name = self.certificate.issuer_name();
        let holds = |issuer: &&Certificate| {
            let anchor = TrustBundle::of((*issuer).clone());
            issuer.subject_name() == name && own_peer(&self.certificate, &[], &anchor).is_ok()
        };
        self.intermediates.iter().chain(self.trust.roots()).find(holds)
    }

    pub(crate) fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        self.chain()
            .map(|certificate| certificate.der().clone())
            .collect()
    }
}

/// Verifies the node's own certificate at the moment of its issue, so that neither its age nor a wrong clock matters.
fn own_peer(
    certificate: &Certificate,
    intermediates: &[Certificate],
    trust: &TrustBundle,
) -> Result<Peer, IdentityError> {
    let chain: Vec<_> = std::iter::once(certificate)
        .chain(intermediates)
        .map(|certificate| certificate.der().clone())
        .collect();
    let expected = Expected {
        end: End::Client,
        cluster_id: None,
        role: Role::Worker,
    };
    trust
        .verify(&chain, moment_of(certificate), &expected)
        .map_err(IdentityError::Untrusted)
}

/// A moment in which the certificate and what it was issued by are valid: that of its issue.
fn moment_of(certificate: &Certificate) -> Timestamp {
    certificate
        .not_before()
        .after(crate::life::BACKDATE)
        .min(certificate.not_after())
}
