//! The names of the cluster, checked once at construction.

use crate::ids::StableHasher;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest name of a node, network or service, in bytes: that of a DNS label.
const MAX_NAME: usize = 63;
/// Longest task identity, in bytes.
const MAX_TASK_ID: usize = 127;
/// Longest name of a network interface, in bytes (`IFNAMSIZ` of linux/if.h, less its end).
const MAX_INTERFACE: usize = 15;

/// A string that cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there, or too much.
    #[error("{what} \"{found}\" has {length} bytes, expected 1 to {most}")]
    Length {
        /// What it should name.
        what: &'static str,
        /// The string.
        found: String,
        /// Its length in bytes.
        length: usize,
        /// The longest that is accepted.
        most: usize,
    },
    /// A character that names do not have.
    #[error(
        "{what} \"{found}\" has {character:?}, expected letters, digits, '-', '_' and '.', a letter or digit first"
    )]
    Character {
        /// What it should name.
        what: &'static str,
        /// The string.
        found: String,
        /// The first character that is refused.
        character: char,
    },
    /// A string that is not put together as such names are.
    #[error("{what} \"{found}\" is not made of {expected}")]
    Shape {
        /// What it should name.
        what: &'static str,
        /// The string.
        found: String,
        /// What such a name is made of.
        expected: &'static str,
    },
}

fn checked(what: &'static str, text: &str, most: usize) -> Result<Arc<str>, NameError> {
    if text.is_empty() || text.len() > most {
        return Err(NameError::Length {
            what,
            found: text.to_owned(),
            length: text.len(),
            most,
        });
    }
    let refused =
        |(at, c): &(usize, char)| !(c.is_ascii_alphanumeric() || *at > 0 && matches!(c, '-' | '_' | '.'));
    match text.char_indices().find(refused) {
        Some((_, character)) => Err(NameError::Character {
            what,
            found: text.to_owned(),
            character,
        }),
        None => Ok(text.into()),
    }
}

/// Gives a type that is built from a checked string what all names have.
macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }
    };
}
pub(crate) use text;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $most:ident) => {
        $(#[$doc])*
        ///
        /// Letters, digits, `-`, `_` and `.`, a letter or digit first. Cheap to clone.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the string.
            ///
            /// # Errors
            /// It is empty, too long, or has a character that names do not have.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked($what, text, $most).map(Self)
            }

            /// The string.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        text!($name);

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// The name of a node.
    NodeName, "node name", MAX_NAME
}
name! {
    /// The name of a service.
    ServiceName, "service name", MAX_NAME
}
name! {
    /// The name of a network; `ingress` stands for the network between the nodes and published services.
    NetworkName, "network name", MAX_NAME
}
name! {
    /// The identity of a task, `web.1` for example; never given to another task.
    TaskId, "task id", MAX_TASK_ID
}
name! {
    /// The name of a network interface.
    InterfaceName, "interface name", MAX_INTERFACE
}

impl NetworkName {
    /// The network between the nodes and published services, which every catalog has: `ingress`.
    pub fn ingress() -> Self {
        Self("ingress".into())
    }
}

/// A number that is no VXLAN network identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VNI {found} is out of range, expected 1 to {}", Vni::MAX)]
pub struct VniError {
    /// The number.
    pub found: u32,
}

/// A VXLAN network identifier (RFC 7348): 24 bits, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// The largest.
    pub const MAX: u32 = (1 << 24) - 1;
    /// The one between edge and backend where the catalog names no other.
    pub const INGRESS: Self = Self(4095);

    /// Checks the number.
    ///
    /// # Errors
    /// It is 0 or has more than 24 bits.
    pub const fn new(number: u32) -> Result<Self, VniError> {
        if number == 0 || number > Self::MAX {
            Err(VniError { found: number })
        } else {
            Ok(Self(number))
        }
    }

    /// The number, in host byte order.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = VniError;

    fn try_from(number: u32) -> Result<Self, VniError> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Through what a group of backends is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Its VIP on this network.
    Network(NetworkName),
    /// Its ports published on every node.
    Ingress,
    /// Its ports published on the nodes that run a task.
    HostPort,
}

/// A group of backends that one decision chooses from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct ServiceKey {
    /// The service.
    pub service: ServiceName,
    /// Through what it is reached.
    pub scope: Scope,
}

impl ServiceKey {
    /// Its identity, the same on every node and after every restart; never 0.
    pub fn id(&self) -> u64 {
        StableHasher::new()
            .write(self.service.as_str())
            .write("@")
            .write(self.scope.as_str())
            .finish()
    }
}

impl Scope {
    /// As in the group's name; a catalog has no network called `host`, and no VIP on `ingress`.
    fn as_str(&self) -> &str {
        match self {
            Self::Network(network) => network.as_str(),
            Self::Ingress => "ingress",
            Self::HostPort => "host",
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.scope.as_str())
    }
}

/// A task's endpoint on one network, as a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct BackendKey {
    /// The task.
    pub task: TaskId,
    /// The network.
    pub network: NetworkName,
}

impl BackendKey {
    /// Its identity, the same on every node and after every restart; never 0.
    pub fn id(&self) -> u64 {
        StableHasher::new()
            .write(self.task.as_str())
            .write("@")
            .write(self.network.as_str())
            .finish()
    }
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.task, self.network)
    }
}

/// A task's endpoint on one network, as an interface of this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub struct AttachmentKey {
    /// The task.
    pub task: TaskId,
    /// The network.
    pub network: NetworkName,
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.task, self.network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stable_id;

    #[test]
    fn a_name_has_letters_digits_and_little_else() {
        for good in ["a", "9", "web", "my-app_1.x", &"x".repeat(63)] {
            assert_eq!(ServiceName::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "_a", "a@b", "a b", "é", "a/b", &"x".repeat(64)] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
        assert!(TaskId::new(&"x".repeat(127)).is_ok());
        assert_eq!(
            NetworkName::new("a@b").unwrap_err().to_string(),
            "network name \"a@b\" has '@', expected letters, digits, '-', '_' and '.', a letter or digit first"
        );
    }

    #[test]
    fn a_vni_has_24_bits() {
        assert!(Vni::new(0).is_err());
        assert_eq!(Vni::new(Vni::MAX).unwrap().get(), 0xff_ffff);
        assert_eq!(
            Vni::new(1 << 24).unwrap_err().to_string(),
            "VNI 16777216 is out of range, expected 1 to 16777215"
        );
    }

    #[test]
    fn keys_read_as_name_at_scope_and_their_identity_is_that_of_the_text() {
        let service = ServiceName::new("web").unwrap();
        let network = NetworkName::new("app").unwrap();
        for (scope, text) in [
            (Scope::Network(network.clone()), "web@app"),
            (Scope::Ingress, "web@ingress"),
            (Scope::HostPort, "web@host"),
        ] {
            let key = ServiceKey {
                service: service.clone(),
                scope,
            };
            assert_eq!(key.to_string(), text);
            assert_eq!(key.id(), stable_id(text));
        }
        let key = BackendKey {
            task: TaskId::new("web.1").unwrap(),
            network,
        };
        assert_eq!(
            (key.to_string().as_str(), key.id()),
            ("web.1@app", stable_id("web.1@app"))
        );
    }
}
