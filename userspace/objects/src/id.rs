//! Identities: 25 characters of `0-9a-z`, as Swarm's are, a type for each kind of object.

use std::fmt;
use std::str::FromStr;

/// Length of an identity in characters: what 128 bits need in base 36.
pub const ID_LENGTH: usize = 25;

/// A string that is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} \"{found}\" is no identity, expected 25 characters of 0-9 and a-z")]
pub struct IdError {
    /// What it should identify.
    pub what: &'static str,
    /// The string.
    pub found: String,
}

/// 128 bits in base 36, the most significant digit first.
fn base36(mut bits: u128) -> [u8; ID_LENGTH] {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; ID_LENGTH];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(bits % 36).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or(b'0');
        bits /= 36;
    }
    text
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 25 characters of `0-9a-z`; cheap to copy.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; ID_LENGTH]);

        impl $name {
            /// The least of all, for the start of a range.
            pub const MIN: Self = Self([b'0'; ID_LENGTH]);
            /// The greatest of all, for the end of a range.
            pub const MAX: Self = Self([b'z'; ID_LENGTH]);

            /// The identity made of these bits, which the caller draws at random.
            pub fn from_bits(bits: u128) -> Self {
                Self(base36(bits))
            }

            /// The characters.
            pub fn as_str(&self) -> &str {
                // Only ASCII gets in.
                std::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                <[u8; ID_LENGTH]>::try_from(text.as_bytes())
                    .ok()
                    .filter(|bytes| bytes.iter().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase()))
                    .map(Self)
                    .ok_or_else(|| IdError {
                        what: $what,
                        found: text.to_owned(),
                    })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::object::text(deserializer)
            }
        }

        impl crate::object::Member for $name {
            fn absent() -> Option<Self> {
                None
            }

            fn is_absent(&self) -> bool {
                false
            }
        }
    };
}

id! {
    /// The identity of a node.
    NodeId, "node id"
}
id! {
    /// The identity of a service.
    ServiceId, "service id"
}
id! {
    /// The identity of a task.
    TaskId, "task id"
}
id! {
    /// The identity of a network.
    NetworkId, "network id"
}
id! {
    /// The identity of a secret.
    SecretId, "secret id"
}
id! {
    /// The identity of a config.
    ConfigId, "config id"
}
id! {
    /// The identity of the cluster.
    ClusterId, "cluster id"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bits_make_an_identity_that_reads_back() {
        for bits in [0, 1, 35, 36, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = TaskId::from_bits(bits);
            assert_eq!(id.as_str().len(), ID_LENGTH);
            assert_eq!(id.as_str().parse::<TaskId>(), Ok(id));
            assert_eq!(u128::from_str_radix(id.as_str(), 36), Ok(bits));
        }
        assert_eq!(TaskId::from_bits(u128::MAX).as_str(), "f5lxx1zz5pnorynqglhzmsp33");
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for bad in [
            "",
            "web",
            "8NDMFQYJKNWBF6QU2VWSPT9CI",
            "8ndmfqyjknwbf6qu2vwspt9cié",
            "8ndmfqyjknwbf6qu2vwspt9c",
            "8ndmfqyjknwbf6qu2vwspt9c/",
        ] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad}");
        }
        assert_eq!(
            "web".parse::<NodeId>().unwrap_err().to_string(),
            "node id \"web\" is no identity, expected 25 characters of 0-9 and a-z"
        );
    }

    #[test]
    fn the_range_ends_hold_every_identity() {
        let id = NodeId::from_bits(u128::MAX);
        assert!(NodeId::MIN <= NodeId::from_bits(0) && id < NodeId::MAX);
        assert!("zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<NodeId>().unwrap() <= NodeId::MAX);
    }
}
