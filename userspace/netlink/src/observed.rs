//! What the kernel of a node holds, in words that can be compared with what is desired.

use crate::firewall::ObservedFirewall;
use crate::sysctl::Sysctl;
use essaim_abi::MacAddr;
use essaim_model::{AttachmentKey, Uplink};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Everything that a node's plan of links is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedLinks {
    /// The uplinks that were asked for, in that order.
    pub uplinks: Vec<Uplink>,
    /// The node's namespace.
    pub node: ObservedNetns,
    /// Every neighbour entry with an Ethernet address, and whether it is known to be good.
    pub neighbours: BTreeMap<(u32, IpAddr), ObservedNeighbour>,
    /// The firewall rules of essaim; `None` where they cannot be read.
    pub firewall: Option<ObservedFirewall>,
    /// The namespaces of the tasks; a missing one is absent.
    pub tasks: BTreeMap<AttachmentKey, ObservedNetns>,
}

impl ObservedLinks {
    /// The neighbours that were set by hand on a link of the node's namespace.
    pub(crate) fn permanent_neighbours(&self, index: u32) -> impl Iterator<Item = (IpAddr, Option<MacAddr>)> {
        self.neighbours
            .iter()
            .filter(move |((link, _), neighbour)| {
                *link == index && neighbour.certainty == Certainty::Permanent
            })
            .map(|((_, address), neighbour)| (*address, neighbour.mac))
    }
}

/// What a network namespace holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedNetns {
    /// Its cookie.
    pub cookie: u64,
    /// Its links by name.
    pub links: BTreeMap<String, ObservedLink>,
    /// The routes of essaim.
    pub routes: BTreeSet<Route>,
    /// The parameters that were asked for, where the kernel has them.
    pub sysctls: BTreeMap<Sysctl, String>,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedLink {
    /// Its index.
    pub index: u32,
    /// What it is.
    pub kind: LinkKind,
    /// Its Ethernet address, where it has one.
    pub mac: Option<MacAddr>,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its alias.
    pub alias: Option<String>,
    /// Its group.
    pub group: u32,
    /// Whether it is turned on (which does not mean that it has a carrier).
    pub up: bool,
    /// Whether the kernel gives it no link-local address of its own.
    pub without_link_local: bool,
    /// Index of the other end of a veth, in the other end's namespace.
    pub peer: Option<u32>,
    /// Its addresses.
    pub addresses: BTreeSet<IpNet>,
}

/// What a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// One end of a pair.
    Veth,
    /// A VXLAN device.
    Vxlan(VxlanSettings),
    /// Anything else, by the kernel's name for it; empty for hardware.
    Other(String),
}

/// How a VXLAN device is set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the switches of the kernel's device, each on its own"
)]
pub struct VxlanSettings {
    /// Its UDP port.
    pub port: u16,
    /// Whether the programs say where each packet goes.
    pub collect_metadata: bool,
    /// Whether it learns from what it receives.
    pub learning: bool,
    /// Whether packets over IPv6 may come without a checksum.
    pub zero_checksum6_rx: bool,
    /// Whether packets over IPv6 are sent without a checksum.
    pub zero_checksum6_tx: bool,
}

impl VxlanSettings {
    /// What essaim's device is set up like.
    pub(crate) const fn at_port(port: u16) -> Self {
        Self {
            port,
            collect_metadata: true,
            learning: false,
            zero_checksum6_rx: true,
            zero_checksum6_tx: true,
        }
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Veth => f.write_str("a veth"),
            Self::Vxlan(settings) => write!(f, "a VXLAN device at port {}", settings.port),
            Self::Other(kind) if kind.is_empty() => f.write_str("an interface of the machine"),
            Self::Other(kind) => write!(f, "a link of kind {kind}"),
        }
    }
}

/// A route of essaim, in the main table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Out of which link.
    pub link: String,
    /// By whom; on the link itself where `None`.
    pub gateway: Option<IpAddr>,
    /// The address that the node's own packets get.
    pub source: Option<IpAddr>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} dev {}", self.destination, self.link)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        Ok(())
    }
}

/// An entry of the kernel's neighbour tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedNeighbour {
    /// The Ethernet address, where it is known.
    pub mac: Option<MacAddr>,
    /// How sure the kernel is.
    pub certainty: Certainty,
}

/// How sure the kernel is of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// Set by hand, for good.
    Permanent,
    /// Confirmed of late, or being confirmed.
    Fresh,
    /// Was right once; nobody asked since.
    Stale,
    /// Not known, or not any more.
    Unknown,
}
