use crate::base36;
use crate::entropy::{Entropy, EntropyError, random};
use crate::{Certificate, CertificateError, Role};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use zeroize::{Zeroize, ZeroizeOnDrop};

#[cfg(test)]
mod tests;

const PREFIX: &str = "SWMTKN";
const DIGEST_DIGITS: usize = 50;
const SECRET_DIGITS: usize = 25;

/// The SHA-256 of a root certificate's PEM text, as Swarm writes it: the text, not the DER inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootDigest([u8; 32]);

impl RootDigest {
    /// Of this certificate.
    pub fn of(root: &Certificate) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, root.to_pem().as_bytes()).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for RootDigest {
    /// As `sha256:` and hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text is not a join token; what it is, is not said, since it may be nearly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFormatError {
    /// It does not look like a token at all.
    #[error("not a join token: expected SWMTKN-1-, 50 digits, a hyphen and 25 digits (0-9, a-z)")]
    Shape,
    /// It is of another version.
    #[error("the join token is of another version, expected SWMTKN-1-…")]
    Version,
    /// Its digits say a number that is too great.
    #[error("the join token is damaged: its digits say more than a digest and a secret hold")]
    Overflow,
}

/// What a node that wants to join is refused for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is for another root: of another cluster, or from before the root was rotated.
    #[error(
        "the join token is for the root {found}, this cluster's is {expected}; ask a manager for a new token"
    )]
    OtherRoot {
        /// The root that the token is for.
        found: RootDigest,
        /// The root of this cluster.
        expected: RootDigest,
    },
    /// The root is right, the secret is that of neither role.
    #[error("the join token's secret is not valid; it may have been rotated: ask a manager for a new token")]
    Secret,
    /// What the manager sent is no certificate.
    #[error("the manager did not send a root certificate")]
    Root(#[from] CertificateError),
}

/// A join token, `SWMTKN-1-<digest of the root>-<secret>`.
///
/// Its text is a secret: [`JoinToken::reveal`] gives it, and nothing else shows it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct JoinToken {
    #[zeroize(skip)]
    root: RootDigest,
    secret: [u8; 16],
}

impl JoinToken {
    /// A new one for this root.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate(root: RootDigest, entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            root,
            secret: random(entropy)?,
        })
    }

    /// The token's text, to be shown to the operator or sent to a manager.
    pub fn reveal(&self) -> String {
        let (root, secret) = (
            base36::encode(&self.root.0, DIGEST_DIGITS),
            base36::encode(&self.secret, SECRET_DIGITS),
        );
        format!("{PREFIX}-1-{root}-{secret}")
    }

    /// The root that it is for.
    pub fn root(&self) -> RootDigest {
        self.root
    }

    /// Checks the root certificate that a manager sent, on the joining node: the first fetch is not authenticated, and
    /// nothing but this digest makes it so.
    ///
    /// # Errors
    /// It is no certificate, or another than the token is for.
    pub fn check_root(&self, pem: &str) -> Result<Certificate, TokenError> {
        let root = Certificate::from_pem(pem)?;
        let found = RootDigest::of(&root);
        if found != self.root {
            return Err(TokenError::OtherRoot {
                found: self.root,
                expected: found,
            });
        }
        Ok(root)
    }

    /// Whether the two are the same, in a time that does not tell where they differ.
    pub fn is(&self, other: &Self) -> bool {
        let same = |a: &[u8], b: &[u8]| verify_slices_are_equal(a, b).is_ok();
        same(&self.root.0, &other.root.0) & same(&self.secret, &other.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken(for {}, secret not shown)", self.root)
    }
}

impl FromStr for JoinToken {
    type Err = TokenFormatError;

    fn from_str(text: &str) -> Result<Self, TokenFormatError> {
        let mut parts = text.split('-');
        let (Some(PREFIX), Some(version), Some(root), Some(secret), None) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        ) else {
            // Version 2 (FIPS) has a part more.
            let other = text
                .strip_prefix("SWMTKN-")
                .is_some_and(|rest| !rest.starts_with("1-"));
            return Err(if other {
                TokenFormatError::Version
            } else {
                TokenFormatError::Shape
            });
        };
        if version != "1" {
            return Err(TokenFormatError::Version);
        }
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        if root.len() != DIGEST_DIGITS || secret.len() != SECRET_DIGITS || !digits(root) || !digits(secret) {
            return Err(TokenFormatError::Shape);
        }
        match (base36::decode(root), base36::decode(secret)) {
            (Some(root), Some(secret)) => Ok(Self {
                root: RootDigest(root),
                secret,
            }),
            _ => Err(TokenFormatError::Overflow),
        }
    }
}

/// The two tokens of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinTokens {
    #[serde(with = "as_text")]
    worker: JoinToken,
    #[serde(with = "as_text")]
    manager: JoinToken,
}

impl JoinTokens {
    /// New ones for this root.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate(root: RootDigest, entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            worker: JoinToken::generate(root, entropy)?,
            manager: JoinToken::generate(root, entropy)?,
        })
    }

    /// The token to join with in this role.
    pub fn of(&self, role: Role) -> &JoinToken {
        match role {
            Role::Worker => &self.worker,
            Role::Manager => &self.manager,
        }
    }

    /// Makes a new token for this role; the old one is refused from now on, and nodes that have joined stay.
    ///
    /// # Errors
    /// There is no randomness; the token stays as it was.
    pub fn rotate(&mut self, role: Role, entropy: &mut dyn Entropy) -> Result<(), EntropyError> {
        match role {
            Role::Worker => self.worker = JoinToken::generate(self.worker.root, entropy)?,
            Role::Manager => self.manager = JoinToken::generate(self.manager.root, entropy)?,
        }
        Ok(())
    }

    /// The role that a node joins in with this token; takes the same time for every token of the right root.
    ///
    /// # Errors
    /// The token is for another root, or its secret is not valid.
    pub fn role_of(&self, presented: &JoinToken) -> Result<Role, TokenError> {
        // Both are compared whatever the first says. The root is no secret.
        let (worker, manager) = (self.worker.is(presented), self.manager.is(presented));
        if presented.root != self.manager.root {
            return Err(TokenError::OtherRoot {
                found: presented.root,
                expected: self.manager.root,
            });
        }
        match (worker, manager) {
            (_, true) => Ok(Role::Manager),
            (true, false) => Ok(Role::Worker),
            (false, false) => Err(TokenError::Secret),
        }
    }
}

/// Tokens in the replicated store: their text.
mod as_text {
    use super::JoinToken;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(token: &JoinToken, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Zeroizing::new(token.reveal()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<JoinToken, D::Error> {
        Zeroizing::new(String::deserialize(from)?)
            .parse()
            .map_err(D::Error::custom)
    }
}
