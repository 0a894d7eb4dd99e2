//! The steps that bring a node's links to what is desired.

use crate::firewall::{DockerUserRules, Ruleset};
use crate::observed::Route;
use crate::sysctl::Sysctl;
use essaim_abi::MacAddr;
use essaim_model::AttachmentKey;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOp {
    /// Where it is done, and for whom.
    pub place: Place,
    /// What is done.
    pub action: LinkAction,
}

/// Where a step is done, and for whom: what fails for one endpoint stops only that one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the node's namespace, for the node.
    Node,
    /// In the node's namespace, for an endpoint.
    NodeSide(AttachmentKey),
    /// In the namespace of the endpoint's task.
    TaskSide(AttachmentKey),
}

impl Place {
    /// The endpoint that it is done for.
    pub const fn attachment(&self) -> Option<&AttachmentKey> {
        match self {
            Self::Node => None,
            Self::NodeSide(attachment) | Self::TaskSide(attachment) => Some(attachment),
        }
    }
}

/// What is done. Links are named, not numbered: the number of one that is yet to be made is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkAction {
    /// Makes the VXLAN device.
    CreateVxlan {
        /// Its name.
        link: String,
        /// Its UDP port.
        port: u16,
        /// Its Ethernet address.
        mac: MacAddr,
        /// Its MTU, in bytes.
        mtu: u32,
    },
    /// Makes a pair of links.
    CreateVeth {
        /// This end.
        link: String,
        /// Its Ethernet address.
        mac: MacAddr,
        /// The MTU of both ends, in bytes.
        mtu: u32,
        /// The other end.
        peer: VethPeer,
    },
    /// Removes a link, its addresses and its routes.
    DeleteLink {
        /// Its name.
        link: String,
    },
    /// Changes a link.
    SetLink {
        /// Its name.
        link: String,
        /// What is changed.
        settings: LinkSettings,
    },
    /// Gives a link an address.
    AddAddress {
        /// The link.
        link: String,
        /// The address and the length of its subnet's prefix.
        address: IpNet,
    },
    /// Takes an address from a link.
    RemoveAddress {
        /// The link.
        link: String,
        /// The address.
        address: IpNet,
    },
    /// Adds a route.
    AddRoute(Route),
    /// Removes a route.
    RemoveRoute(Route),
    /// Writes down for good which Ethernet address an address has.
    AddNeighbour {
        /// The link that it is on.
        link: String,
        /// The address.
        address: IpAddr,
        /// Its Ethernet address.
        mac: MacAddr,
    },
    /// Forgets a neighbour.
    RemoveNeighbour {
        /// The link that it was on.
        link: String,
        /// The address.
        address: IpAddr,
    },
    /// Sets a kernel parameter.
    SetSysctl {
        /// Which.
        sysctl: Sysctl,
        /// To what.
        value: String,
    },
    /// Replaces essaim's firewall table.
    ReplaceFirewall(Ruleset),
    /// Replaces essaim's rules in Docker's chain for rules of users.
    ReplaceDockerUserRules(DockerUserRules),
}

/// The other end of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPeer {
    /// Its name.
    pub link: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The namespace that it is made in; that of the first end where `None`.
    pub netns: Option<String>,
}

/// Changes of a link; what is `None` or `false` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// The Ethernet address.
    pub mac: Option<MacAddr>,
    /// The MTU, in bytes.
    pub mtu: Option<u32>,
    /// The alias.
    pub alias: Option<String>,
    /// The group.
    pub group: Option<u32>,
    /// The kernel is to give it no link-local address.
    pub without_link_local: bool,
    /// It is to be turned on.
    pub up: bool,
}

impl fmt::Display for LinkOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Node => self.action.fmt(f),
            Place::NodeSide(attachment) => write!(f, "{} (endpoint {attachment})", self.action),
            Place::TaskSide(attachment) => write!(f, "{} (inside the task of {attachment})", self.action),
        }
    }
}

impl fmt::Display for LinkAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateVxlan { link, port, .. } => {
                write!(f, "create VXLAN device {link} at UDP port {port}")
            }
            Self::CreateVeth { link, peer, .. } => match &peer.netns {
                Some(netns) => write!(f, "create veth {link} with {} in netns {netns}", peer.link),
                None => write!(f, "create veth {link} with {}", peer.link),
            },
            Self::DeleteLink { link } => write!(f, "delete link {link}"),
            Self::SetLink { link, settings } => write!(f, "set link {link}:{settings}"),
            Self::AddAddress { link, address } => write!(f, "add address {address} to {link}"),
            Self::RemoveAddress { link, address } => write!(f, "remove address {address} from {link}"),
            Self::AddRoute(route) => write!(f, "add route {route}"),
            Self::RemoveRoute(route) => write!(f, "remove route {route}"),
            Self::AddNeighbour { link, address, mac } => {
                write!(f, "add neighbour {address} {mac} dev {link}")
            }
            Self::RemoveNeighbour { link, address } => write!(f, "remove neighbour {address} dev {link}"),
            Self::SetSysctl { sysctl, value } => write!(f, "set {sysctl} to {value}"),
            Self::ReplaceFirewall(_) => f.write_str("replace firewall table inet essaim"),
            Self::ReplaceDockerUserRules(rules) => {
                write!(f, "replace essaim's rules in chain {}", rules.chain())
            }
        }
    }
}

impl fmt::Display for LinkSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mac,
            mtu,
            alias,
            group,
            without_link_local,
            up,
        } = self;
        if let Some(mac) = mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(alias) = alias {
            write!(f, " alias {alias}")?;
        }
        if let Some(group) = group {
            write!(f, " group {group}")?;
        }
        if *without_link_local {
            f.write_str(" without link-local address")?;
        }
        if *up {
            f.write_str(" up")?;
        }
        Ok(())
    }
}
