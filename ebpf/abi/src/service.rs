use crate::pod::{bits, pod};
use crate::{Addr, MacAddr};

/// The transport protocols that services balance; also the row of the table of published ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp = 0,
    /// UDP, IP protocol 17.
    Udp = 1,
    /// SCTP, IP protocol 132.
    Sctp = 2,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The protocol with this IP protocol number.
    #[inline(always)]
    pub const fn of_ip(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The IP protocol number.
    #[inline(always)]
    pub const fn ip(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The index of a port in [`crate::maps::PORTS`]; `port` in host byte order.
    #[inline(always)]
    pub const fn port_index(self, port: u16) -> u32 {
        (self as u32) << 16 | port as u32
    }
}

/// Entries of [`crate::maps::PORTS`]: one per protocol and port.
pub const PORT_ENTRIES: u32 = 3 << 16;

bits! {
    /// How a published port behaves.
    PortFlags: u16 {
        /// Published on the nodes that run a task only; `service` then lists the tasks of this node.
        HOST = 1;
        /// Replies go straight from the backend's node to the client, not back through the edge.
        DSR = 2;
    }
}

/// A published port. All zero: not published.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Port {
    /// Index into [`crate::maps::SERVICES`]; 0 where nothing is published.
    pub service: u32,
    /// The task's port, in network order.
    pub target_port: u16,
    /// [`PortFlags`].
    pub flags: PortFlags,
}
pod!(Port, size = 8, align = 4);

/// Where a list of backend indices stands in [`crate::maps::TABLES`], in one word so that one store swaps it.
///
/// Bits 0 to 31: the offset. Bits 32 to 61: the length in slots. Bit 62: earlier owners follow the list,
/// [`EARLIER_OWNERS`] for each slot, slot by slot.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TableRef(pub u64);
pod!(TableRef, size = 8, align = 8);

/// How many earlier owners a slot of a Maglev table remembers.
pub const EARLIER_OWNERS: u32 = 4;

impl TableRef {
    /// A reference to no list.
    pub const EMPTY: Self = Self(0);
    const EARLIER: u64 = 1 << 62;

    /// A list of `len` (below 2^30) slots at `offset`.
    pub const fn new(offset: u32, len: u32, earlier: bool) -> Self {
        Self(offset as u64 | (len as u64) << 32 | if earlier { Self::EARLIER } else { 0 })
    }

    /// The index of the first slot.
    #[inline(always)]
    pub const fn offset(self) -> u32 {
        self.0 as u32
    }

    /// The number of slots.
    #[inline(always)]
    pub const fn len(self) -> u32 {
        (self.0 >> 32) as u32 & 0x3fff_ffff
    }

    /// Whether the list has no slot.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether earlier owners follow the list.
    #[inline(always)]
    pub const fn has_earlier(self) -> bool {
        self.0 & Self::EARLIER != 0
    }

    /// The index of the first earlier owner of `slot`, where [`Self::has_earlier`].
    #[inline(always)]
    pub const fn earlier_offset(self, slot: u32) -> u32 {
        self.offset()
            .wrapping_add(self.len())
            .wrapping_add(slot.wrapping_mul(EARLIER_OWNERS))
    }

    /// How many entries of [`crate::maps::TABLES`] the list occupies, earlier owners included.
    pub const fn footprint(self) -> u32 {
        if self.has_earlier() {
            self.len() * (1 + EARLIER_OWNERS)
        } else {
            self.len()
        }
    }
}

bits! {
    /// How a service behaves.
    ServiceFlags: u32 {
        /// The entry is in use.
        USED = 1;
        /// A client address keeps its backend: only the client's address is hashed.
        AFFINITY = 2;
        /// Reached through published ports; its backends hold the default route of their tasks.
        INGRESS = 4;
        /// The network is encrypted: XDP leaves the packet to `uplink_tc`.
        ENCRYPTED = 8;
    }
}

/// A group of backends that one decision chooses from: a service on one network, or behind its published ports.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Service {
    /// The Maglev table: for published services and those with affinity; empty where no backend lives.
    pub maglev: TableRef,
    /// The active backends, draining ones left out.
    pub active: TableRef,
    /// Stable identity across restarts and nodes: a hash of the service's key; 0 where unused.
    pub id: u64,
    /// The VIP of each family; unspecified where there is none.
    pub vip6: Addr,
    /// The IPv4 VIP in network order; 0 where there is none.
    pub vip4: u32,
    /// The network of the VIP; the ingress VNI for published ports.
    pub vni: u32,
    /// [`ServiceFlags`].
    pub flags: ServiceFlags,
    /// Idle time of an established TCP or SCTP flow, in jiffies.
    pub established_timeout: u32,
    /// Idle time of a flow that has seen a FIN, a RST or a SHUTDOWN, in jiffies.
    pub closing_timeout: u32,
    /// Idle time of a UDP flow that was answered, in jiffies.
    pub udp_timeout: u32,
}
pod!(Service, size = 64, align = 8);

/// The life of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BackendState {
    /// The slot is not in use.
    Free = 0,
    /// Takes new flows.
    Active = 1,
    /// Keeps its flows and gets no new ones.
    Draining = 2,
    /// Gone: its flows are reset.
    Gone = 3,
}

/// One task's endpoint as a target.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Backend {
    /// Stable identity across restarts and nodes: a hash of the endpoint's key; 0 where unused.
    pub id: u64,
    /// The IPv6 address; unspecified where it has none.
    pub addr6: Addr,
    /// The IPv4 address in network order; 0 where it has none.
    pub addr4: u32,
    /// The network.
    pub vni: u32,
    /// Index into [`crate::maps::VTEPS`] of the node that has it; meaningless where `ifindex` is set.
    pub vtep: u32,
    /// The node's side of its veth where it is on this node, else 0.
    pub ifindex: u32,
    /// Changes whenever the slot is given to another endpoint.
    pub generation: u32,
    /// [`BackendState`] as a number.
    pub state: u8,
    /// Zero.
    pub reserved: u8,
    /// The endpoint's Ethernet address.
    pub mac: MacAddr,
    /// Local slot, as in [`crate::LocalEndpoint::slot`]; 0 where it is remote.
    pub slot: u32,
    /// Zero.
    pub reserved2: u32,
}
pod!(Backend, size = 64, align = 8);

impl Backend {
    /// Whether packets of known flows still go there.
    #[inline(always)]
    pub const fn is_alive(&self) -> bool {
        self.state == BackendState::Active as u8 || self.state == BackendState::Draining as u8
    }

    /// Its address in the family of `like`; unspecified where it has none.
    #[inline(always)]
    pub const fn addr_like(&self, like: &Addr) -> Addr {
        if like.is_v4() {
            if self.addr4 == 0 {
                Addr::UNSPECIFIED
            } else {
                Addr::v4(self.addr4)
            }
        } else {
            self.addr6
        }
    }
}

/// Buckets of [`crate::maps::LOCAL_ADDRESSES`].
pub const LOCAL_ADDRESS_BUCKETS: u32 = 256;
/// Addresses in a bucket.
pub const LOCAL_ADDRESS_WAYS: usize = 4;

/// One cache line of the set of this node's own addresses.
///
/// An address stands in the bucket of its first or of its second hash ([`LocalAddressBucket::buckets`]);
/// free ways are unspecified.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LocalAddressBucket {
    /// The addresses.
    pub ways: [Addr; LOCAL_ADDRESS_WAYS],
}
pod!(LocalAddressBucket, size = 64, align = 4);

impl LocalAddressBucket {
    /// The two buckets where an address may stand.
    #[inline(always)]
    pub const fn buckets(address: &Addr) -> [u32; 2] {
        let words = address.words;
        let mixed = (words[0] ^ words[1].rotate_left(11) ^ words[2].rotate_left(22) ^ words[3])
            .wrapping_mul(0x9e37_79b1);
        [
            mixed >> 24 & (LOCAL_ADDRESS_BUCKETS - 1),
            mixed >> 16 & (LOCAL_ADDRESS_BUCKETS - 1),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pod;

    #[test]
    fn a_table_reference_round_trips() {
        let table = TableRef::new(0xdead_beef, 0x3fff_ffff, true);
        assert_eq!(
            (table.offset(), table.len(), table.has_earlier()),
            (0xdead_beef, 0x3fff_ffff, true)
        );
        let table = TableRef::new(7, 101, false);
        assert_eq!(
            (
                table.offset(),
                table.len(),
                table.has_earlier(),
                table.footprint()
            ),
            (7, 101, false, 101)
        );
        assert_eq!(TableRef::new(10, 5, true).earlier_offset(2), 10 + 5 + 8);
    }

    #[test]
    fn a_port_lies_as_documented() {
        let port = Port {
            service: 0x0102_0304,
            target_port: 80_u16.to_be(),
            flags: PortFlags::DSR,
        };
        assert_eq!(port.bytes(), [4, 3, 2, 1, 0, 80, 2, 0]);
        assert_eq!(Protocol::Udp.port_index(53), 65_536 + 53);
        assert_eq!(Protocol::Sctp.port_index(u16::MAX), PORT_ENTRIES - 1);
    }
}
