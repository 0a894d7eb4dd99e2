//! What the kernel of a node says of itself: the observed half of what the map image is made from.

use crate::AttachmentKey;
use essaim_abi::MacAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the data plane must know of the node's kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The uplinks, at most four, in the order of the command line.
    pub uplinks: Vec<Uplink>,
    /// Every address of the node that a client may send to; loopback addresses left out, overlay addresses of the node
    /// left out.
    pub local_addresses: BTreeSet<IpAddr>,
    /// Interface index of the VXLAN device.
    pub vxlan_ifindex: u32,
    /// Interface index of the node's side of the node's own endpoint (its other end holds the overlay addresses).
    pub node_ifindex: u32,
    /// How each VTEP is reached; absent where route or neighbour is unknown.
    pub next_hops: BTreeMap<IpAddr, NextHop>,
    /// The endpoints that exist.
    pub attachments: BTreeMap<AttachmentKey, AttachmentFacts>,
    /// Cookie of the node's own network namespace (`SO_NETNS_COOKIE`).
    pub node_netns_cookie: u64,
    /// The kernel encrypts, or blocks, what leaves with [`essaim_abi::IPSEC_MARK`]. Until then the programs let nothing
    /// of encrypted networks leave.
    pub ipsec: bool,
}

/// An interface to the underlay and the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its index.
    pub ifindex: u32,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// The way to a VTEP, from the kernel's routes and neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The uplink.
    pub ifindex: u32,
    /// This node's address on the way there.
    pub source: IpAddr,
    /// The uplink's Ethernet address.
    pub source_mac: MacAddr,
    /// The next hop's Ethernet address.
    pub destination_mac: MacAddr,
    /// MTU of the way there, in bytes: of the route where it has one, else of the uplink.
    pub mtu: u32,
}

/// An endpoint that exists on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentFacts {
    /// Interface index of the node's side.
    pub ifindex: u32,
    /// Cookie of the task's network namespace; 0 where its container engine has yet to place the other end.
    pub netns_cookie: u64,
    /// MTU it was given, in bytes.
    pub mtu: u32,
    /// Where the agent's resolver listens in the task's namespace; none where it does not (yet). The links do not
    /// know: the agent fills it in.
    pub resolver: Option<ResolverPorts>,
}

/// The ports of 127.0.0.11 in a task's namespace that stand behind its port 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolverPorts {
    /// UDP.
    pub udp: u16,
    /// TCP.
    pub tcp: u16,
}
