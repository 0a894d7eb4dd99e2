use crate::bundle::{End, Expected, MAX_CERTIFICATES, TrustBundle};
use crate::csr::{CertificateRequest, RequestError};
use crate::life::RENEWAL_GRACE;
use crate::{Certificate, CertificateError, ClusterId, Identity, KeyError, Peer, Refusal, Role, Timestamp};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// What is signed begins with this, so that the signature serves for nothing else.
const CONTEXT: &[u8] = b"essaim: renewal of a certificate that has expired, version 1\0";

/// A request for a new certificate by a node whose own has expired while it was off.
///
/// No link accepts an expired certificate, this one neither: the node connects without one, as a node that joins does,
/// verifies the manager by the roots that it has, and sends this. It carries the expired chain, the request for the next
/// certificate, and a signature over the request by the expired certificate's key. So the grace cannot be used for
/// anything but a renewal, whatever the code behind the link forgets to check. To replay it gains nobody anything: the
/// certificate that comes of it is for the key in the request, which only the node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiredRenewal {
    /// The expired certificate, and what else the node used to show with it (DER).
    chain: Vec<Vec<u8>>,
    /// The request for the next certificate (DER).
    request: Vec<u8>,
    /// ECDSA with SHA-256 (ASN.1) by the expired certificate's key.
    signature: Vec<u8>,
}

/// Why a renewal is refused; nothing was issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenewalRefusal {
    /// The expired certificate does not hold, or its grace is over: the node has to join anew.
    #[error("the certificate to be renewed is not accepted")]
    Certificate(#[from] Refusal),
    /// The request is no request.
    #[error("the request for the next certificate is not accepted")]
    Request(#[from] RequestError),
    /// Whoever sent it does not have the expired certificate's key.
    #[error("the renewal for node {node} is not signed with its key")]
    Signature {
        /// The node that it claims.
        node: String,
    },
}

impl ExpiredRenewal {
    /// Makes the request on the node.
    ///
    /// # Errors
    /// The crypto library refuses to sign.
    pub fn new(expired: &Identity, request: &CertificateRequest) -> Result<Self, KeyError> {
        Ok(Self {
            chain: expired
                .chain()
                .map(|certificate| certificate.der().to_vec())
                .collect(),
            request: request.der().to_vec(),
            signature: expired.key().sign(&signed_text(request.der()))?,
        })
    }

    /// Checks the request on the manager: the chain holds but for its end, which is at most seven days ago, and the
    /// signature is by its key. One that is still valid is accepted too.
    ///
    /// The caller still has to look in the store whether the node is in the cluster, and takes its role from there.
    ///
    /// # Errors
    /// See [`RenewalRefusal`].
    pub fn verify(
        &self,
        trust: &TrustBundle,
        cluster_id: &ClusterId,
        now: Timestamp,
    ) -> Result<(Peer, CertificateRequest), RenewalRefusal> {
        if self.chain.len() > MAX_CERTIFICATES {
            let count = CertificateError::Count {
                found: self.chain.len(),
                expected: "at most 8",
            };
            return Err(Refusal::from(count).into());
        }
        let chain: Vec<_> = self
            .chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let Some(leaf) = chain.first() else {
            return Err(Refusal::NoCertificate(Role::Worker).into());
        };
        let end = Certificate::from_der(leaf).map_err(Refusal::from)?.not_after();
        // Within the grace the chain is verified as of its end; past it, as of now, which refuses it as expired.
        let moment = if now > end && now.since(end) <= RENEWAL_GRACE {
            end
        } else {
            now
        };
        let expected = Expected {
            end: End::Client,
            cluster_id: Some(cluster_id),
            role: Role::Worker,
        };
        let peer = trust.verify(&chain, moment, &expected)?;
        let by: &dyn SignatureVerificationAlgorithm = webpki::aws_lc_rs::ECDSA_P256_SHA256;
        let signed = webpki::EndEntityCert::try_from(leaf)
            .and_then(|leaf| leaf.verify_signature(by, &signed_text(&self.request), &self.signature));
        if signed.is_err() {
            return Err(RenewalRefusal::Signature {
                node: peer.node_id.to_string(),
            });
        }
        Ok((peer, CertificateRequest::from_der(&self.request)?))
    }
}

fn signed_text(request: &[u8]) -> Vec<u8> {
    [CONTEXT, digest(&SHA256, request).as_ref()].concat()
}
