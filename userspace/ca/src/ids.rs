use crate::base36;
use crate::entropy::{Entropy, EntropyError, random};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Characters in an identity.
const LENGTH: usize = 25;

/// Text is not an identity of 25 characters `0-9a-z`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {found:?} is not 25 characters of a-z and 0-9")]
pub struct IdError {
    what: &'static str,
    /// At most its first 64 characters: it may come from anybody.
    found: String,
}

macro_rules! id {
    ($name:ident, $what:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// 25 characters `0-9a-z`, as Swarm's.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            /// It is not 25 characters `0-9a-z`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let fits = text.len() == LENGTH
                    && text
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
                if !fits {
                    return Err(IdError {
                        what: $what,
                        found: text.chars().take(64).collect(),
                    });
                }
                Ok(Self(text.to_owned()))
            }

            /// A new one, of 128 random bits.
            ///
            /// # Errors
            /// There is no randomness.
            pub fn random(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
                Ok(Self(base36::encode(&random::<16>(entropy)?, LENGTH)))
            }

            /// The identity as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    NodeId,
    "node id",
    "A node of the cluster: the common name (CN) of its certificate."
);
id!(
    ClusterId,
    "cluster id",
    "A cluster: the organisation (O) of its nodes' certificates."
);

/// What a node may do: the organisational unit (OU) of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs tasks.
    Worker,
    /// Runs tasks, and takes part in the consensus and in the certificate authority.
    Manager,
}

impl Role {
    /// The unit as Swarm writes it: `swarm-worker` or `swarm-manager`.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Worker => "swarm-worker",
            Self::Manager => "swarm-manager",
        }
    }

    /// The role with this unit.
    pub fn from_unit(unit: &str) -> Option<Self> {
        [Self::Worker, Self::Manager]
            .into_iter()
            .find(|role| role.unit() == unit)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Manager => "manager",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Seeded;
    use proptest::prelude::*;

    #[test]
    fn identities_of_a_real_swarm_are_identities() {
        assert!(NodeId::new("jaxx7nxf7kbjq38ruw07gqxq5").is_ok());
        assert!(ClusterId::new("u7m4wb5uvqfzsjhhemve7mlei").is_ok());
    }

    #[test]
    fn random_identities_are_valid_and_differ() {
        let mut entropy = Seeded::new(1);
        let (a, b) = (
            NodeId::random(&mut entropy).unwrap(),
            NodeId::random(&mut entropy).unwrap(),
        );
        assert_ne!(a, b);
        assert_eq!(NodeId::new(a.as_str()), Ok(a));
    }

    #[test]
    fn a_long_text_is_quoted_in_part() {
        let error = NodeId::new(&"\n".repeat(1_000)).unwrap_err().to_string();
        assert!(error.len() < 220 && !error.contains('\n'), "{error}");
    }

    proptest! {
        #[test]
        fn only_25_lower_case_letters_and_digits_are_an_identity(text in "\\PC{0,30}|[a-z0-9]{24,26}|[a-zA-Z0-9]{25}") {
            let fits = text.len() == 25 && text.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase());
            prop_assert_eq!(NodeId::new(&text).is_ok(), fits);
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(serde_json::from_str::<ClusterId>(&json).is_ok(), fits);
        }
    }
}
