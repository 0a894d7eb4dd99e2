use crate::{Certificate, CertificateError, ClusterId, Peer, Refusal, Role, RootDigest, Timestamp};
use rustls::pki_types::{CertificateDer, TrustAnchor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

#[cfg(test)]
mod tests;

/// Most certificates in a bundle or a chain: two roots and a cross-signed one between them, and room.
pub(crate) const MAX_CERTIFICATES: usize = 8;

/// The roots that a node trusts: one, or while the root is rotated two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustBundle {
    /// Never empty.
    roots: BTreeSet<Certificate>,
}

/// Which end of the link the peer is: a certificate has to be made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer connected.
    Client,
    /// The peer was connected to.
    Server,
}

/// What a peer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// The end of the link that it is on.
    pub end: End,
    /// The cluster; `None` for a node that joins, which knows its root only.
    pub cluster_id: Option<&'a ClusterId>,
    /// The least that it has to be.
    pub role: Role,
}

impl TrustBundle {
    /// Trusts this one root.
    pub fn of(root: Certificate) -> Self {
        Self { roots: [root].into() }
    }

    /// Reads the roots in the PEM text.
    ///
    /// # Errors
    /// There is none, there are too many, or one is damaged, not signed by itself, or no use to the verifier.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let roots = Certificate::all_from_pem(text)?;
        if roots.len() > MAX_CERTIFICATES {
            return Err(CertificateError::Count {
                found: roots.len(),
                expected: "at most 8",
            });
        }
        for root in &roots {
            if anchor_from_trusted_cert(root.der()).is_err() {
                return Err(CertificateError::Damaged("not usable as a root"));
            }
            // The verifier takes a root as it is; damage to it would show only when other nodes trust another.
            if !root.with_x509(|x509| x509.verify_signature(None).is_ok())? {
                return Err(CertificateError::Damaged("a root that is not signed by itself"));
            }
        }
        Ok(Self {
            roots: roots.into_iter().collect(),
        })
    }

    /// The roots in PEM, one after the other.
    pub fn to_pem(&self) -> String {
        self.roots.iter().map(Certificate::to_pem).collect()
    }

    /// The roots, in an order of their own.
    pub fn roots(&self) -> impl Iterator<Item = &Certificate> {
        self.roots.iter()
    }

    /// Whether this root is among them.
    pub fn trusts(&self, root: &Certificate) -> bool {
        self.roots.contains(root)
    }

    /// The roots of both.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self {
            roots: self.roots.union(&other.roots).cloned().collect(),
        }
    }

    /// Verifies the chain that a peer shows, its own certificate first, and says who it is.
    ///
    /// Certificates are valid in the second of their end, and no longer in the one after.
    ///
    /// # Errors
    /// What is wrong with it; see [`Refusal`].
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
        expected: &Expected<'_>,
    ) -> Result<Peer, Refusal> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(Refusal::NoCertificate(expected.role));
        };
        if chain.len() > MAX_CERTIFICATES {
            let count = CertificateError::Count {
                found: chain.len(),
                expected: "at most 8",
            };
            return Err(Refusal::Certificate(count));
        }
        let certificate = Certificate::from_der(leaf)?;
        self.verify_chain(&certificate, intermediates, now, expected.end)?;
        let subject = certificate.subject()?;
        if let Some(cluster) = expected.cluster_id
            && *cluster != subject.cluster_id
        {
            return Err(Refusal::Cluster {
                node_id: subject.node_id,
                found: subject.cluster_id,
                expected: cluster.clone(),
            });
        }
        let peer = Peer {
            node_id: subject.node_id,
            role: subject.role,
            cluster_id: subject.cluster_id,
            expires: certificate.not_after(),
        };
        peer.require(expected.role)?;
        Ok(peer)
    }

    fn verify_chain(
        &self,
        leaf: &Certificate,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
        end: End,
    ) -> Result<(), Refusal> {
        let error = match chain_holds(&self.anchors(Some(now)), leaf, intermediates, now, end) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let subject = leaf.subject_text();
        Err(match error {
            webpki::Error::CertExpired { not_after, .. } => Refusal::Expired {
                subject,
                not_after: not_after.into(),
                now,
            },
            webpki::Error::CertNotValidYet { not_before, .. } => Refusal::NotYetValid {
                subject,
                not_before: not_before.into(),
                now,
            },
            // Every Swarm root has the same name, so that of another cluster shows by the signature only.
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                if chain_holds(&self.anchors(None), leaf, intermediates, now, end).is_ok() {
                    Refusal::RootNotValid { subject, now }
                } else {
                    let digests: Vec<_> = self
                        .roots
                        .iter()
                        .map(|root| RootDigest::of(root).to_string())
                        .collect();
                    Refusal::Authority {
                        subject,
                        trusted: digests.join(", "),
                    }
                }
            }
            webpki::Error::BadDer | webpki::Error::TrailingData(_) => {
                Refusal::Certificate(CertificateError::Damaged("not usable by the verifier"))
            }
            other => Refusal::Chain {
                subject,
                reason: other.to_string(),
            },
        })
    }

    /// The roots for the verifier, which does not look at their validity itself.
    fn anchors(&self, valid_at: Option<Timestamp>) -> Vec<TrustAnchor<'_>> {
        self.roots
            .iter()
            .filter(|root| valid_at.is_none_or(|now| (root.not_before()..=root.not_after()).contains(&now)))
            .filter_map(|root| anchor_from_trusted_cert(root.der()).ok())
            .collect()
    }
}

fn chain_holds(
    anchors: &[TrustAnchor<'_>],
    leaf: &Certificate,
    intermediates: &[CertificateDer<'_>],
    now: Timestamp,
    end: End,
) -> Result<(), webpki::Error> {
    let usage = match end {
        End::Client => KeyUsage::client_auth(),
        End::Server => KeyUsage::server_auth(),
    };
    EndEntityCert::try_from(leaf.der())?
        .verify_for_usage(
            ALL_VERIFICATION_ALGS,
            anchors,
            intermediates,
            now.to_pki(),
            usage,
            None,
            None,
        )
        .map(|_path| ())
}

impl TryFrom<String> for TrustBundle {
    type Error = CertificateError;

    fn try_from(text: String) -> Result<Self, CertificateError> {
        Self::from_pem(&text)
    }
}

impl From<TrustBundle> for String {
    fn from(bundle: TrustBundle) -> Self {
        bundle.to_pem()
    }
}
