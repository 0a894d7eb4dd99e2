use crate::bundle::TrustBundle;
use crate::csr::CertificateRequest;
use crate::entropy::{Entropy, EntropyError};
use crate::life::NodeLife;
use crate::root::{Root, RootError};
use crate::{
    Certificate, Identity, JoinToken, JoinTokens, NodeId, Refusal, Role, Subject, Timestamp, TokenError,
};
use rcgen::PublicKeyData as _;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod every_node_can_talk;
#[cfg(test)]
mod tests;

/// The certificate authority of a cluster: its root, its join tokens, and the rotation of the root while there is one.
///
/// It is plain data for the replicated store, private keys included: the store's log and snapshots are encrypted at
/// rest, and no API answer may carry it. Changes are methods that leave it as it was where they fail.
///
/// # Rotation
/// At every moment every node trusts the *current* root, and every certificate leads to it: those of the next root by
/// way of the cross-signed one, which nodes show with their own. So nodes on every side of a rotation can talk.
///
/// 1. [`RootCa::rotate`] makes the next root and has the current one cross-sign it. From then on [`RootCa::issue`] issues
///    with the next, and [`RootCa::trust`] is both roots.
/// 2. Nodes take over the trust and renew; [`RootCa::pending`] says who has not.
/// 3. When there is nobody left, [`RootCa::finish`] makes the next root the current one, and makes new join tokens.
///
/// Another rotation during the first starts over from the current root, which everybody still trusts: what was issued
/// meanwhile leads to it too. To rotate to the current root itself calls the rotation off.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootCa {
    root: Root,
    tokens: JoinTokens,
    rotation: Option<Rotation>,
}

/// A rotation that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// The next root.
    next: Root,
    /// Its name and key, certified by the current root.
    cross_signed: Certificate,
}

impl Rotation {
    /// The certificate of the next root.
    pub fn next(&self) -> &Certificate {
        self.next.certificate()
    }

    /// The next root's name and key, certified by the current root.
    pub fn cross_signed(&self) -> &Certificate {
        &self.cross_signed
    }
}

/// What the next root is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredRoot {
    /// One that is made here.
    New,
    /// This one, which the operator gives; see [`Root::from_pem`] and [`Root::without_key`].
    Given(Box<Root>),
}

/// What became of [`RootCa::rotate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotateOutcome {
    /// A rotation began; one that was under way is replaced by it.
    Started,
    /// A rotation to this root is under way already; nothing changed, but that its key is here now where it was not.
    UnderWay,
    /// The root is the current one: the rotation that was under way is called off.
    CalledOff,
    /// The root is the current one, and no rotation was under way; nothing changed, but that its key is here now where it
    /// was not.
    Unchanged,
}

/// Why the root is not rotated; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RotateError {
    /// The next root cannot be made, or not be cross-signed.
    #[error("the next root cannot be used")]
    Root(#[from] RootError),
    /// It has the key of the current root, so the two could not be told apart.
    #[error("the next root has the same key as the current one, expected a new key")]
    SameKey,
    /// The current root's key is with an authority elsewhere, so that it signs no other root.
    #[error(
        "the key of the current root is with an authority elsewhere, expected it here to sign the next root; give it \
         with the current certificate first"
    )]
    KeyElsewhere,
    /// The current root has expired, so that nobody would accept what it signs.
    #[error("the current root expired at {not_after}; nodes have to join a new cluster")]
    CurrentExpired {
        /// Its end.
        not_after: Timestamp,
    },
}

/// Why a certificate that an authority elsewhere has issued is not taken; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// It is for another key than the request's.
    #[error("the certificate is for another key than the one requested")]
    Key,
    /// It is for another node, role or cluster.
    #[error("the certificate is for {found}, expected {expected}")]
    Subject {
        /// Whom it is for.
        found: String,
        /// Whom it was requested for.
        expected: String,
    },
    /// It is not valid for one of the names that nodes are called by.
    #[error("the certificate is not valid for the name {0}")]
    Name(String),
    /// It is not of the root that issues now, or would not be accepted for another reason.
    #[error("the certificate would not be accepted")]
    Refused(#[from] Refusal),
}

/// Why the rotation is not finished; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FinishError {
    /// There is none.
    #[error("no rotation of the root is under way")]
    NoRotation,
    /// Nodes have to renew first, or be removed from the cluster.
    #[error("{} nodes have no certificate of the next root yet", .0.len())]
    Pending(BTreeSet<NodeId>),
    /// There are no random bytes for the new tokens.
    #[error("no new join tokens can be made")]
    Entropy(#[from] EntropyError),
}

/// What a node reports of its certificate: `TLSInfo` of Swarm's API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsInfo {
    /// The roots that it trusts.
    pub trust: TrustBundle,
    /// The name of its certificate's issuer, in DER.
    pub issuer_subject: Vec<u8>,
    /// The issuer's public key (`SubjectPublicKeyInfo`, DER).
    pub issuer_public_key: Vec<u8>,
    /// What it shows besides its own certificate; not in Swarm's API. It tells in which rotation that was issued: a root
    /// may come back as the next one, and what nodes reported the first time is no longer so.
    pub intermediates: Vec<Certificate>,
}

impl TlsInfo {
    /// Of this identity; `None` where its issuer is neither in its chain nor among the roots that it trusts, which
    /// [`Identity::new`] rules out.
    pub fn of(identity: &Identity) -> Option<Self> {
        let issuer = identity.issuer()?;
        Some(Self {
            trust: identity.trust().clone(),
            issuer_subject: issuer.subject_name().to_vec(),
            issuer_public_key: issuer.public_key().to_vec(),
            intermediates: identity.chain().skip(1).cloned().collect(),
        })
    }
}

/// What a node gets: its chain, and the roots to trust from now on. It has to take over both together.
///
/// A node takes over chains and roots in the order of the store's versions, and nothing that is older than what it has:
/// roots from before a rotation that has finished would cut it off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    /// The node's certificate, and while a rotation is under way the cross-signed one.
    pub chain: Vec<Certificate>,
    /// The roots to trust.
    pub trust: TrustBundle,
}

impl RootCa {
    /// A new authority, with a root that is made here.
    ///
    /// # Errors
    /// There is no randomness, or the clock is beyond what a certificate can say.
    pub fn create(now: Timestamp, entropy: &mut dyn Entropy) -> Result<Self, RootError> {
        Self::with_root(Root::create(now, entropy)?, entropy)
    }

    /// A new authority with this root.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn with_root(root: Root, entropy: &mut dyn Entropy) -> Result<Self, RootError> {
        Ok(Self {
            tokens: JoinTokens::generate(root.digest(), entropy)?,
            root,
            rotation: None,
        })
    }

    /// The current root: what a node that joins fetches, and what the join tokens are for.
    pub fn root(&self) -> &Certificate {
        self.root.certificate()
    }

    /// The rotation that is under way.
    pub fn rotation(&self) -> Option<&Rotation> {
        self.rotation.as_ref()
    }

    /// The token to join with in this role.
    pub fn token(&self, role: Role) -> &JoinToken {
        self.tokens.of(role)
    }

    /// Makes a new token for this role; nodes that have joined stay.
    ///
    /// # Errors
    /// There is no randomness; the token stays as it was.
    pub fn rotate_token(&mut self, role: Role, entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
        self.tokens.rotate(role, entropy)
    }

    /// The role that a node joins in with this token.
    ///
    /// # Errors
    /// The token is for another root, or its secret is not valid.
    pub fn role_of(&self, token: &JoinToken) -> Result<Role, TokenError> {
        self.tokens.role_of(token)
    }

    /// The roots that every node is to trust.
    pub fn trust(&self) -> TrustBundle {
        let current = TrustBundle::of(self.root().clone());
        match &self.rotation {
            Some(rotation) => current.with(&TrustBundle::of(rotation.next().clone())),
            None => current,
        }
    }

    /// The root that issues now.
    pub fn issuer(&self) -> &Certificate {
        self.rotation.as_ref().map_or(self.root(), Rotation::next)
    }

    /// Whether the root that issues now can do so here; else an authority elsewhere has its key.
    pub fn issues_here(&self) -> bool {
        self.signer().has_key()
    }

    fn signer(&self) -> &Root {
        let next = self.rotation.as_ref().map(|rotation| &rotation.next);
        next.unwrap_or(&self.root)
    }

    /// Issues a node's certificate.
    ///
    /// Who the node is and in which role comes from the caller, who has it from the store or the join token, never from
    /// the request.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn issue(
        &self,
        request: &CertificateRequest,
        subject: &Subject,
        life: NodeLife,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Issued, RootError> {
        let certificate = self.signer().issue(request, subject, life, now, entropy)?;
        Ok(self.issued(certificate))
    }

    /// Takes a certificate that an authority elsewhere has issued with the key of the root that issues now, where it is
    /// what was requested: for this key and this node, and accepted by all.
    ///
    /// # Errors
    /// See [`ForeignError`].
    pub fn accept(
        &self,
        certificate: Certificate,
        request: &CertificateRequest,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Issued, ForeignError> {
        let signer = self.signer();
        signer.verifies(&certificate, subject, now)?;
        if certificate.public_key() != request.public_key().subject_public_key_info() {
            return Err(ForeignError::Key);
        }
        let found = certificate.subject().map_err(Refusal::from)?;
        if found != *subject {
            let text = |subject: &Subject| {
                let Subject {
                    cluster_id,
                    role,
                    node_id,
                } = subject;
                format!("the {role} {node_id} of the cluster {cluster_id}")
            };
            let (found, expected) = (text(&found), text(subject));
            return Err(ForeignError::Subject { found, expected });
        }
        let names = certificate.dns_names().map_err(Refusal::from)?;
        if let Some(missing) = subject.names().find(|name| !names.iter().any(|it| it == name)) {
            return Err(ForeignError::Name(missing.to_owned()));
        }
        Ok(self.issued(certificate))
    }

    fn issued(&self, certificate: Certificate) -> Issued {
        let cross_signed = self.rotation.as_ref().map(|rotation| &rotation.cross_signed);
        let mut chain = vec![certificate];
        chain.extend(cross_signed.cloned());
        Issued {
            chain,
            trust: self.trust(),
        }
    }

    /// Begins to replace the root, or starts over with another one; see [`RootCa`].
    ///
    /// # Errors
    /// See [`RotateError`].
    pub fn rotate(
        &mut self,
        desired: DesiredRoot,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<RotateOutcome, RotateError> {
        let next = match desired {
            DesiredRoot::New => Root::create(now, entropy)?,
            DesiredRoot::Given(root) => *root,
        };
        if next.certificate() == self.root() {
            if next.has_key() {
                self.root = next;
            }
            return Ok(match self.rotation.take() {
                Some(_) => RotateOutcome::CalledOff,
                None => RotateOutcome::Unchanged,
            });
        }
        if let Some(rotation) = &mut self.rotation
            && rotation.next() == next.certificate()
        {
            if next.has_key() {
                rotation.next = next;
            }
            return Ok(RotateOutcome::UnderWay);
        }
        if !self.root.has_key() {
            return Err(RotateError::KeyElsewhere);
        }
        if next.certificate().public_key() == self.root().public_key() {
            return Err(RotateError::SameKey);
        }
        let not_after = self.root().not_after();
        if not_after < now {
            return Err(RotateError::CurrentExpired { not_after });
        }
        let cross_signed = self.root.cross_sign(next.certificate(), now, entropy)?;
        self.rotation = Some(Rotation { next, cross_signed });
        Ok(RotateOutcome::Started)
    }

    /// The nodes that have to renew before the rotation can finish: those whose certificate was not issued by the next
    /// root in this rotation, that do not trust it, or that have not reported. Nobody where no rotation is under way.
    pub fn pending(&self, nodes: &BTreeMap<NodeId, Option<TlsInfo>>) -> BTreeSet<NodeId> {
        let Some(rotation) = &self.rotation else {
            return BTreeSet::new();
        };
        let renewed = |info: &TlsInfo| {
            let next = rotation.next();
            info.issuer_subject == next.subject_name()
                && info.issuer_public_key == next.public_key()
                && info.trust.trusts(next)
                && info.intermediates.contains(&rotation.cross_signed)
        };
        let waiting = nodes
            .iter()
            .filter(|(_, info)| !info.as_ref().is_some_and(renewed));
        waiting.map(|(node, _)| node.clone()).collect()
    }

    /// Finishes the rotation: the next root is the current one, and the join tokens are new.
    ///
    /// `nodes` is every node of the cluster, also those that are down, with what each has last reported of its
    /// certificate; a report may be late, and only delays the end.
    ///
    /// # Errors
    /// There is no rotation, or nodes are pending.
    pub fn finish(
        &mut self,
        nodes: &BTreeMap<NodeId, Option<TlsInfo>>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), FinishError> {
        let pending = self.pending(nodes);
        if !pending.is_empty() {
            return Err(FinishError::Pending(pending));
        }
        let Some(rotation) = &self.rotation else {
            return Err(FinishError::NoRotation);
        };
        self.tokens = JoinTokens::generate(rotation.next.digest(), entropy)?;
        if let Some(rotation) = self.rotation.take() {
            self.root = rotation.next;
        }
        Ok(())
    }
}
