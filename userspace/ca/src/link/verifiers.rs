use super::{Admit, LiveIdentity};
use crate::bundle::{End, Expected, TrustBundle};
use crate::{ClusterId, Refusal, Role, Timestamp};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme};
use std::sync::Arc;

/// A server's view of clients.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) live: Arc<LiveIdentity>,
    pub(super) admit: Admit,
    pub(super) by: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.admit != Admit::MembersAndJoining
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Every node has one certificate, so there is nothing to choose by.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let in_use = self.live.in_use();
        let role = match self.admit {
            Admit::MembersAndJoining => Role::Worker,
            Admit::Members(role) => role,
        };
        let cluster = &in_use.identity.peer().cluster_id;
        let expected = Expected {
            end: End::Client,
            cluster_id: Some(cluster),
            role,
        };
        let chain = chain_of(leaf, intermediates);
        in_use
            .identity
            .trust()
            .verify(&chain, Timestamp::from(now), &expected)
            .map_err(refused)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.by)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by.supported_schemes()
    }
}

/// Which servers a client accepts.
#[derive(Debug)]
pub(super) enum Trust {
    /// Those of its own cluster, by what it trusts now.
    Live(Arc<LiveIdentity>),
    /// Those under these roots, in this cluster where it is known.
    Fixed(TrustBundle, Option<ClusterId>),
    /// Every one.
    Anybody,
}

/// A client's view of servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) trust: Trust,
    pub(super) by: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    fn check(
        trust: &TrustBundle,
        cluster_id: Option<&ClusterId>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let expected = Expected {
            end: End::Server,
            cluster_id,
            role: Role::Manager,
        };
        let peer = trust.verify(chain, Timestamp::from(now), &expected)?;
        let called = name.to_str();
        if *called != *Role::Manager.unit() && *called != *peer.node_id.as_str() {
            return Err(Refusal::OtherNode {
                found: peer.node_id,
                expected: called.into_owned(),
            });
        }
        Ok(())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = chain_of(leaf, intermediates);
        match &self.trust {
            Trust::Live(live) => {
                let in_use = live.in_use();
                let (trust, cluster) = (in_use.identity.trust(), &in_use.identity.peer().cluster_id);
                Self::check(trust, Some(cluster), &chain, name, now)
            }
            Trust::Fixed(trust, cluster) => Self::check(trust, cluster.as_ref(), &chain, name, now),
            Trust::Anybody => Ok(()),
        }
        .map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.by)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by.supported_schemes()
    }
}

fn refused(refusal: Refusal) -> rustls::Error {
    rustls::Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(Arc::new(refusal))))
}

fn chain_of<'a>(leaf: &CertificateDer<'a>, intermediates: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(intermediates).cloned().collect()
}
