//! What the CNI plugin asks the daemon of its node: JSON over HTTP, each message posted to a path of its own.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The paths that the messages are posted to.
pub mod cni_path {
    /// [`CniAdd`](super::CniAdd), answered by [`CniInterface`](super::CniInterface).
    pub const ADD: &str = "/cni/add";
    /// [`CniAttachment`](super::CniAttachment), answered by nothing.
    pub const DEL: &str = "/cni/del";
    /// [`CniCheck`](super::CniCheck), answered by [`CniInterface`](super::CniInterface).
    pub const CHECK: &str = "/cni/check";
    /// [`CniGc`](super::CniGc), answered by nothing.
    pub const GC: &str = "/cni/gc";
    /// [`CniStatus`](super::CniStatus), answered by nothing.
    pub const STATUS: &str = "/cni/status";
}

/// What a runtime knows an interface by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CniAttachment {
    /// The name of the runtime's network configuration.
    pub config: String,
    /// The container (`CNI_CONTAINERID`).
    pub container: String,
    /// The interface's name in its namespace (`CNI_IFNAME`).
    pub interface: String,
}

/// Asks for an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniAdd {
    /// What it is to be known by.
    pub attachment: CniAttachment,
    /// The cluster's network: its name, its identity, or the beginning of that.
    pub network: String,
    /// The file of the container's network namespace (`CNI_NETNS`).
    pub netns: String,
    /// What the container is called on the network, beside the beginning of its identity.
    pub names: Vec<String>,
    /// The addresses that it wants, at most one of a family; none where they are to be chosen.
    pub addresses: Vec<IpAddr>,
    /// Whether the container's default route is to lead there.
    pub is_default: bool,
}

/// An interface as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniInterface {
    /// Its Ethernet address.
    pub mac: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its addresses with the lengths of their subnets' prefixes.
    pub addresses: Vec<IpNet>,
    /// The gateways that the container's default routes lead to, at most one of a family.
    pub gateways: Vec<IpAddr>,
}

/// Asks whether an interface is as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniCheck {
    /// Which.
    pub attachment: CniAttachment,
    /// The file of the container's network namespace.
    pub netns: String,
}

/// Has all interfaces of a configuration removed but these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniGc {
    /// The name of the runtime's network configuration.
    pub config: String,
    /// What stays.
    pub valid: Vec<CniAttachment>,
}

/// Asks whether interfaces on a network can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniStatus {
    /// The cluster's network.
    pub network: String,
}

/// Why the daemon did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub struct CniRefusal {
    /// The kind.
    pub kind: CniFault,
    /// The reason, in a sentence.
    pub why: String,
}

impl CniRefusal {
    /// Of a kind, for a reason.
    pub fn new(kind: CniFault, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { kind, why }
    }
}

/// What is wrong, by who must act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CniFault {
    /// The call cannot be read: the two builds do not fit.
    Unreadable,
    /// The network is none of the cluster's, or not for containers.
    Network,
    /// The container's namespace does not exist.
    NoNamespace,
    /// It is no namespace, or none that an interface may be put into.
    Namespace,
    /// The interface is there already.
    Exists,
    /// The managers do not give what was asked for.
    Refused,
    /// The interface is not as it should be.
    Differs,
    /// Nobody knows of such an interface.
    Unknown,
    /// The managers or the data plane do not answer.
    Later,
}
