use crate::pod::{bits, pod};
use crate::{Addr, MacAddr};

/// What an overlay address stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EndpointKind {
    /// A task's endpoint on this node.
    Local = 1,
    /// A task's endpoint on another node.
    Remote = 2,
    /// The virtual address of a service.
    Vip = 3,
    /// The gateway of a network; every node answers for it.
    Gateway = 4,
    /// The overlay address of this node.
    ThisNode = 5,
    /// The overlay address of another node.
    OtherNode = 6,
    /// An endpoint that is gone: refused until its address is given out again.
    Tombstone = 7,
}

impl EndpointKind {
    /// The kind with this number.
    #[inline(always)]
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Local),
            2 => Some(Self::Remote),
            3 => Some(Self::Vip),
            4 => Some(Self::Gateway),
            5 => Some(Self::ThisNode),
            6 => Some(Self::OtherNode),
            7 => Some(Self::Tombstone),
            _ => None,
        }
    }
}

bits! {
    /// What is special about an address.
    EndpointFlags: u8 {
        /// The network is encrypted.
        ENCRYPTED = 1;
    }
}

/// What is known of an overlay address. Subnets of networks never overlap, so the address alone is the key; the
/// programs compare the VNI.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Endpoint {
    /// The network.
    pub vni: u32,
    /// `Remote`, `OtherNode`: index into [`crate::maps::VTEPS`]. `Vip`: index into [`crate::maps::SERVICES`]. Else 0.
    pub index: u32,
    /// `Local`, `ThisNode`: the node's side of the veth. Else 0.
    pub ifindex: u32,
    /// Index into [`crate::maps::BACKENDS`] of a task's endpoint; 0 where it belongs to no service.
    pub backend: u32,
    /// As in [`LocalEndpoint::slot`]; 0 where it is not on this node.
    pub slot: u32,
    /// [`EndpointKind`] as a number.
    pub kind: u8,
    /// [`EndpointFlags`].
    pub flags: EndpointFlags,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Largest IP packet that fits where it is delivered, in bytes.
    pub mtu: u32,
}
pod!(Endpoint, size = 32, align = 4);

bits! {
    /// What an endpoint may do.
    LocalEndpointFlags: u32 {
        /// The network is internal: the world is dropped.
        INTERNAL = 1;
        /// The network is encrypted.
        ENCRYPTED = 2;
        /// The node's own endpoint: may speak to every network.
        NODE = 4;
    }
}

/// An endpoint on this node, found by the interface its packets come in on.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LocalEndpoint {
    /// The IPv6 address; unspecified where it has none.
    pub addr6: Addr,
    /// The IPv4 address in network order; 0 where it has none.
    pub addr4: u32,
    /// The network.
    pub vni: u32,
    /// [`LocalEndpointFlags`].
    pub flags: LocalEndpointFlags,
    /// Dense number of the endpoint on this node, from 1: index into [`crate::maps::TRANSLATED`].
    pub slot: u32,
    /// Largest IP packet the network carries, in bytes.
    pub mtu: u32,
    /// Index into [`crate::maps::BACKENDS`]; 0 where it belongs to no service.
    pub backend: u32,
    /// Cookie of its network namespace, the lower half first: what affinity goes by.
    pub netns_cookie: [u32; 2],
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Zero.
    pub reserved: [u8; 2],
}
pod!(LocalEndpoint, size = 56, align = 4);
