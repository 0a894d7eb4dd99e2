//! The cluster's own certificate authority: node certificates, join tokens, root rotation, key encryption.
//!
//! The core has no clock, randomness or disk of its own: time comes in as a [`Timestamp`], random bytes as an
//! [`Entropy`], and what has to be kept goes out as values. The shell is thin: [`DiskDirectory`] and [`SystemEntropy`].
//!
//! ```
//! use essaim_ca::{
//!     CertificateRequest, ClusterId, Identity, NodeId, NodeLife, PrivateKey, Role, RootCa, Subject, SystemEntropy,
//!     Timestamp,
//! };
//!
//! let (now, entropy) = (Timestamp::from_unix(1_795_897_980), &mut SystemEntropy);
//! // On the first manager: an authority, which goes into the replicated store.
//! let ca = RootCa::create(now, entropy)?;
//! let cluster_id = ClusterId::random(entropy)?;
//! let token = ca.token(Role::Worker).reveal();
//!
//! // On a node that joins: the root is checked by the token, and a key made that never leaves the node.
//! let root = token.parse::<essaim_ca::JoinToken>()?.check_root(&ca.root().to_pem())?;
//! let key = PrivateKey::generate(entropy)?;
//! let request = CertificateRequest::new(&key)?.to_pem();
//!
//! // On a manager: the token says the role.
//! let role = ca.role_of(&token.parse()?)?;
//! let subject = Subject { cluster_id, role, node_id: NodeId::random(entropy)? };
//! let request = CertificateRequest::from_pem(&request)?;
//! let issued = ca.issue(&request, &subject, NodeLife::default(), now, entropy)?;
//!
//! // On the node again.
//! let identity = Identity::from_issued(key, issued)?;
//! assert!(identity.trust().trusts(&root));
//! assert_eq!(identity.peer().role, Role::Worker);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How the parts fit
//! | part | is | where |
//! |---|---|---|
//! | [`RootCa`] | the root, the join tokens, the rotation of the root: plain data with transitions | the managers' replicated store |
//! | [`Identity`] | a node's key, certificate chain and roots, which fit each other | every node |
//! | [`LiveIdentity`] | the identity that links use, replaced while they are up | every node, in memory |
//! | [`server_config`], [`client_config`] | mutual TLS 1.3; afterwards [`peer_of`] says who is there, or [`refusal_of`] why not | every link |
//! | [`TrustBundle::verify`] | the one place where a certificate is accepted or refused | |
//! | [`ExpiredRenewal`] | how a node that was off too long renews, without any link accepting its certificate | |
//! | [`IdentityStore`] | the node's directory, which survives a crash at any step | every node's disk |
//! | [`DataKeys`], [`Sealer`] | the keys of the log and snapshots, and what encrypts records with them | a manager's disk |
//! | [`UnlockKey`] | what a manager's keys are encrypted with while autolock is on | the operator, and the store |
//!
//! # Swarm's forms
//! Names, lives, token and unlock key formats are those of Docker Swarm, checked against a swarm of dockerd 20.10. A
//! join token carries the SHA-256 of the root's *PEM text*, so [`Certificate::to_pem`] writes it byte for byte as Swarm
//! does. The files of the identity directory are this project's own.
//!
//! # The one crypto provider
//! Everything is aws-lc-rs: rustls' provider is passed to each configuration, never installed for the process, and rcgen,
//! webpki and the parser's signature checks are built on the same. Certificates are written by rcgen, and read by webpki
//! (who verifies) and x509-parser (who is named).
#![forbid(unsafe_code)]

mod aead;
mod base36;
mod bundle;
mod certificate;
mod csr;
mod directory;
mod entropy;
mod identity;
mod ids;
mod key;
mod key_file;
mod life;
mod link;
mod peer;
mod renewal;
mod root;
mod rotation;
mod seal;
mod store;
#[cfg(test)]
mod testing;
mod time;
mod token;
mod unlock;

pub use bundle::{End, Expected, TrustBundle};
pub use certificate::{Certificate, CertificateError, Subject};
pub use csr::{CertificateRequest, RequestError};
pub use directory::{Directory, DiskDirectory, FoundFile};
pub use entropy::{Entropy, EntropyError, SystemEntropy};
pub use identity::{Identity, IdentityError};
pub use ids::{ClusterId, IdError, NodeId, Role};
pub use key::{KeyError, PrivateKey};
pub use key_file::KeyFileError;
pub use life::{
    BACKDATE, LEAST_ROOT_LIFE, LifeError, NodeLife, RENEWAL_GRACE, ROOT_LIFE, RenewalBackoff, renewal_moment,
};
pub use link::{
    Admit, Callee, LinkError, LiveIdentity, client_config, external_client_config, joining_client_config,
    peer_of, refusal_of, root_fetch_client_config, server_config,
};
pub use peer::{Peer, Refusal};
pub use renewal::{ExpiredRenewal, RenewalRefusal};
pub use root::{Root, RootError};
pub use rotation::{
    DesiredRoot, FinishError, ForeignError, Issued, RootCa, RotateError, RotateOutcome, Rotation, TlsInfo,
};
pub use seal::{DataKeys, OpenError, Sealer, TooLong};
pub use store::{CERTIFICATE_FILE, Found, IdentityStore, KEY_FILE, StoreError, TRUST_FILE};
pub use time::Timestamp;
pub use token::{JoinToken, JoinTokens, RootDigest, TokenError, TokenFormatError};
pub use unlock::{UnlockKey, UnlockKeyError};
