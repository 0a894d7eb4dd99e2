//! What can be wrong with a catalog.

use crate::{NameError, VniError};
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// Everything that is wrong with a catalog, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogErrors(pub(super) Vec<CatalogError>);

impl CatalogErrors {
    /// The errors.
    pub fn iter(&self) -> std::slice::Iter<'_, CatalogError> {
        self.0.iter()
    }
}

impl<'e> IntoIterator for &'e CatalogErrors {
    type Item = &'e CatalogError;
    type IntoIter = std::slice::Iter<'e, CatalogError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for CatalogErrors {
    type Item = CatalogError;
    type IntoIter = std::vec::IntoIter<CatalogError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for CatalogErrors {
    /// One error a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for CatalogErrors {}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogError {
    /// Where in the file; none where the catalog was not read from one.
    pub place: Option<Place>,
    /// Where in the catalog: `services.web.ports[0].published`. Empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = self.place {
            write!(f, "{place}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.problem.fmt(f)
    }
}

impl std::error::Error for CatalogError {}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The character in it, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// What is wrong with a part of a catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is no TOML.
    #[error("not TOML: {message}")]
    Syntax {
        /// The parser's words.
        message: String,
    },
    /// A field that the schema does not have.
    #[error("unknown field, expected one of {}", .known.join(", "))]
    UnknownField {
        /// The fields that there are.
        known: &'static [&'static str],
    },
    /// A field that must be there is not.
    #[error("is missing")]
    Missing,
    /// A value of another type.
    #[error("found {found}, expected {expected}")]
    WrongType {
        /// The value's type.
        found: &'static str,
        /// The field's type.
        expected: &'static str,
    },
    /// A string that cannot be a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A number that cannot be a VNI.
    #[error(transparent)]
    Vni(#[from] VniError),
    /// A string that is not written as this field must be.
    #[error("\"{found}\" is not {expected}")]
    Malformed {
        /// The string.
        found: String,
        /// What the field holds, with an example.
        expected: &'static str,
    },
    /// A number, duration or count that is too small or too large.
    #[error("{what} {found} is out of range, expected {least} to {most}")]
    OutOfRange {
        /// What it counts.
        what: &'static str,
        /// The value.
        found: String,
        /// The smallest that is accepted.
        least: String,
        /// The largest that is accepted.
        most: String,
    },
    /// A name that stands for something else.
    #[error("network name {found} is reserved, choose another")]
    ReservedName {
        /// The name.
        found: String,
    },
    /// Something that must be unique is there twice.
    #[error("{what} {value} is already used by {first}")]
    Duplicate {
        /// What it is.
        what: &'static str,
        /// The value.
        value: String,
        /// Who has it.
        first: String,
    },
    /// Two subnets share addresses.
    #[error("subnet {subnet} overlaps {other} of {owner}")]
    SubnetsOverlap {
        /// This subnet.
        subnet: IpNet,
        /// The other.
        other: IpNet,
        /// Whose the other is.
        owner: String,
    },
    /// A subnet with bits set beyond its prefix.
    #[error("subnet {found} has bits set after its prefix, expected {expected}")]
    HostBits {
        /// As written.
        found: IpNet,
        /// As it should be.
        expected: IpNet,
    },
    /// An underlay address lies in an overlay.
    #[error("underlay address {address} lies in subnet {subnet} of {owner}")]
    VtepInSubnet {
        /// The node's address.
        address: IpAddr,
        /// The overlay's subnet.
        subnet: IpNet,
        /// Whose it is.
        owner: String,
    },
    /// An address that nothing can have.
    #[error(
        "{address} is not an address that {what} can have: multicast, loopback, link-local or unspecified"
    )]
    NotUnicast {
        /// What should have it.
        what: &'static str,
        /// The address or subnet.
        address: String,
    },
    /// An address outside its network.
    #[error("{what} {address} is in no subnet of {owner}, expected {expected}")]
    OutsideSubnet {
        /// What it is.
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// The network.
        owner: String,
        /// Its subnets.
        expected: String,
    },
    /// An address that the network needs for itself.
    #[error("{what} {address} is the {role} address of subnet {subnet}")]
    ReservedAddress {
        /// What it is.
        what: &'static str,
        /// The address.
        address: IpAddr,
        /// `network`, `broadcast` or `gateway`.
        role: &'static str,
        /// The subnet.
        subnet: IpNet,
    },
    /// Two of one family.
    #[error("{what} {found} is the second of its family ({family}), expected at most one")]
    FamilyTwice {
        /// What it is.
        what: &'static str,
        /// The second one.
        found: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// A node without an overlay address.
    #[error("no address in ingress subnet {subnet}, expected one")]
    NoOverlayAddress {
        /// The subnet.
        subnet: IpNet,
    },
    /// A network that the catalog does not have.
    #[error("network {network} is not in the catalog")]
    UnknownNetwork {
        /// The name.
        network: String,
    },
    /// A node that the catalog does not have.
    #[error("node {node} is not in the catalog")]
    UnknownNode {
        /// The name.
        node: String,
    },
    /// A task on a network that its service is not on.
    #[error("network {network} is none of service {service}, expected {expected}")]
    NotOfService {
        /// The network.
        network: String,
        /// The service.
        service: String,
        /// The service's networks.
        expected: String,
    },
    /// A task that the service's published ports cannot reach.
    #[error(
        "task {task} has no endpoint and its service publishes ports, give it one on a network of the service or on ingress"
    )]
    Unreachable {
        /// The task.
        task: String,
    },
    /// A VIP on the ingress network.
    #[error("the ingress network has no VIPs, remove them")]
    IngressVip,
    /// An address that no DNS server of the outside has.
    #[error("{address} is no DNS server to ask: unspecified, multicast, or the tasks' own 127.0.0.11")]
    NotAResolver {
        /// The address.
        address: IpAddr,
    },
    /// A published port that masquerading uses.
    #[error("published port {port} is in the range of masquerading, expected 1 to 60999")]
    MasqueradedPort {
        /// The port.
        port: u16,
    },
    /// A translation that the programs refuse.
    #[error(
        "port {published} of SCTP goes to port {target}: expected the same, since SCTP's checksum covers the port"
    )]
    SctpTranslated {
        /// The published port.
        published: u16,
        /// The tasks' port.
        target: u16,
    },
}
