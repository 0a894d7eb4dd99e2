use crate::bundle::TrustBundle;
use crate::{Certificate, ClusterId, Identity, IdentityError, NodeId, Peer, Refusal, Role};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, OtherError, RootCertStore, ServerConfig, SignatureScheme};
use std::sync::{Arc, PoisonError, RwLock};
use verifiers::{ClientVerifier, ServerVerifier, Trust};

#[cfg(test)]
mod tests;
mod verifiers;

/// Why no configuration can be made for links, or an identity not be put in place of another; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The identity does not fit.
    #[error("the identity cannot be used for links")]
    Identity(#[from] IdentityError),
    /// The TLS library refuses.
    #[error("the TLS library refuses")]
    Tls(#[from] rustls::Error),
    /// A name of a server that cannot be called by it.
    #[error("node {0} cannot be called by its name")]
    Name(NodeId),
}

/// The node's identity as its links use it, which can be replaced while they are up.
///
/// Every handshake uses what is there when it begins: its certificate, and the roots that it trusts. Links that are up
/// stay up. So the configurations of [`server_config`] and [`client_config`] are made once.
#[derive(Debug)]
pub struct LiveIdentity {
    provider: Arc<CryptoProvider>,
    now: RwLock<Arc<InUse>>,
}

#[derive(Debug)]
struct InUse {
    identity: Identity,
    certified: Arc<CertifiedKey>,
}

impl InUse {
    fn new(identity: Identity, provider: &CryptoProvider) -> Result<Arc<Self>, LinkError> {
        let unreadable = |_| rustls::Error::General("the node's key cannot be used for TLS".into());
        let key = identity.key().for_tls().map_err(unreadable)?;
        let certified = CertifiedKey::from_der(identity.chain_der(), key, provider)?;
        Ok(Arc::new(Self {
            identity,
            certified: Arc::new(certified),
        }))
    }
}

impl LiveIdentity {
    /// Puts an identity to use.
    ///
    /// # Errors
    /// The TLS library cannot use it.
    pub fn new(identity: Identity) -> Result<Arc<Self>, LinkError> {
        let provider = provider();
        Ok(Arc::new(Self {
            now: RwLock::new(InUse::new(identity, &provider)?),
            provider,
        }))
    }

    /// The identity in use.
    pub fn current(&self) -> Identity {
        self.in_use().identity.clone()
    }

    /// Puts a renewed identity, or one with other roots to trust, in the place of the one in use.
    ///
    /// # Errors
    /// It is another node's or another cluster's, or the TLS library cannot use it.
    pub fn replace(&self, identity: Identity) -> Result<(), LinkError> {
        let old = self.in_use();
        let (found, expected) = (identity.peer(), old.identity.peer());
        if found.node_id != expected.node_id {
            let (found, expected) = (found.node_id.clone(), expected.node_id.clone());
            return Err(IdentityError::OtherNode { found, expected }.into());
        }
        if found.cluster_id != expected.cluster_id {
            let refusal = Refusal::Cluster {
                node_id: found.node_id.clone(),
                found: found.cluster_id.clone(),
                expected: expected.cluster_id.clone(),
            };
            return Err(IdentityError::Untrusted(refusal).into());
        }
        let new = InUse::new(identity, &self.provider)?;
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn in_use(&self) -> Arc<InUse> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for LiveIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use().certified.clone())
    }
}

impl ResolvesClientCert for LiveIdentity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.in_use().certified.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whom a server lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Members, and clients without a certificate: nodes that join, or renew one that has expired. What they may call is
    /// for the caller to decide, by what [`peer_of`] says.
    MembersAndJoining,
    /// Members whose role is this at least.
    Members(Role),
}

/// Whom a client calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Any manager of the cluster.
    AnyManager,
    /// This manager and no other.
    Node(NodeId),
}

impl Callee {
    /// The server name for [`rustls::ClientConnection::new`].
    ///
    /// # Errors
    /// The node's id cannot be a DNS name: it has digits only.
    pub fn server_name(&self) -> Result<ServerName<'static>, LinkError> {
        match self {
            // A constant of the right form, so that this cannot fail.
            Self::AnyManager => ServerName::try_from(Role::Manager.unit())
                .map_err(|_| rustls::Error::General("no server name".into()).into()),
            Self::Node(node) => match ServerName::try_from(node.to_string()) {
                Ok(name) => Ok(name),
                Err(_) => Err(LinkError::Name(node.clone())),
            },
        }
    }
}

/// The TLS configuration of a server: mutual TLS 1.3.
///
/// Older versions are left out because every node runs this program, so that nothing would use them but an attacker;
/// and 1.3 alone encrypts the client's certificate. Nothing is resumed: a session that is resumed would skip the
/// verification, and outlive the certificate and the roots that it was made with.
///
/// # Errors
/// The TLS library refuses.
pub fn server_config(
    live: &Arc<LiveIdentity>,
    admit: Admit,
    time: Arc<dyn TimeProvider>,
) -> Result<ServerConfig, LinkError> {
    let verifier = Arc::new(ClientVerifier {
        live: live.clone(),
        admit,
        by: live.provider.signature_verification_algorithms,
    });
    let mut config = ServerConfig::builder_with_details(live.provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(live.clone());
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The TLS configuration of a member as a client: mutual TLS 1.3, towards managers of its own cluster.
///
/// # Errors
/// The TLS library refuses.
pub fn client_config(
    live: &Arc<LiveIdentity>,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, LinkError> {
    let config = client_builder(&live.provider, Trust::Live(live.clone()), time)?
        .with_client_cert_resolver(live.clone());
    Ok(not_resumed(config))
}

/// The TLS configuration towards a certificate authority elsewhere, which is no node: mutual TLS 1.3, the server's
/// certificate valid for its host's name and of one of these roots.
///
/// # Errors
/// The TLS library refuses.
pub fn external_client_config(
    live: &Arc<LiveIdentity>,
    trust: &TrustBundle,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, LinkError> {
    let mut roots = RootCertStore::empty();
    for root in trust.roots() {
        roots.add(root.der().clone())?;
    }
    let config = ClientConfig::builder_with_details(live.provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_cert_resolver(live.clone());
    Ok(not_resumed(config))
}

/// The TLS configuration of a client without a certificate that trusts these roots: a node that joins, once it has
/// checked the root by its token ([`crate::JoinToken::check_root`]), or one whose certificate has expired, which knows
/// its cluster.
///
/// # Errors
/// The TLS library refuses.
pub fn joining_client_config(
    trust: TrustBundle,
    cluster_id: Option<ClusterId>,
    time: Arc<dyn TimeProvider>,
) -> Result<ClientConfig, LinkError> {
    let config = client_builder(&provider(), Trust::Fixed(trust, cluster_id), time)?.with_no_client_auth();
    Ok(not_resumed(config))
}

/// The TLS configuration to fetch the root with, and for nothing else: it accepts every server. What comes over it is
/// to be checked by [`crate::JoinToken::check_root`], and no token may go over it.
///
/// # Errors
/// The TLS library refuses.
pub fn root_fetch_client_config(time: Arc<dyn TimeProvider>) -> Result<ClientConfig, LinkError> {
    let config = client_builder(&provider(), Trust::Anybody, time)?.with_no_client_auth();
    Ok(not_resumed(config))
}

/// Who is at the other end of a link whose handshake is done; `None` for a client without a certificate.
///
/// # Errors
/// The certificate's subject is not that of a node, which the handshake has ruled out.
pub fn peer_of(link: &CommonState) -> Result<Option<Peer>, Refusal> {
    let Some(leaf) = link.peer_certificates().and_then(<[_]>::first) else {
        return Ok(None);
    };
    let certificate = Certificate::from_der(leaf)?;
    let subject = certificate.subject()?;
    Ok(Some(Peer {
        node_id: subject.node_id,
        role: subject.role,
        cluster_id: subject.cluster_id,
        expires: certificate.not_after(),
    }))
}

/// Why this side refused the peer, where that is what ended the handshake.
pub fn refusal_of(error: &rustls::Error) -> Option<&Refusal> {
    match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(refusal))) => {
            refusal.downcast_ref()
        }
        _ => None,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
    trust: Trust,
    time: Arc<dyn TimeProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, LinkError> {
    let verifier = Arc::new(ServerVerifier {
        trust,
        by: provider.signature_verification_algorithms,
    });
    Ok(ClientConfig::builder_with_details(provider.clone(), time)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier))
}

fn not_resumed(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}
