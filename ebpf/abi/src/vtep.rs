use crate::Addr;
use crate::pod::{bits, pod};

/// Bytes that VXLAN over IPv4 adds to an IP packet: inner Ethernet 14, VXLAN 8, UDP 8, IPv4 20 (RFC 7348).
pub const VXLAN_OVERHEAD_V4: u32 = 50;
/// Bytes that VXLAN over IPv6 adds to an IP packet.
pub const VXLAN_OVERHEAD_V6: u32 = 70;

bits! {
    /// What is known of a VTEP.
    VtepFlags: u32 {
        /// The entry is in use.
        USED = 1;
        /// It is this node.
        SELF = 2;
        /// Next hop and interface are known: `header` is whole. Else the packet goes through the VXLAN device.
        RESOLVED = 4;
        /// The underlay is IPv6: `header` is 70 bytes, else 50.
        V6 = 8;
    }
}

/// Another node's VTEP, with the outer header that leads there.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vtep {
    /// Its underlay address.
    pub addr: Addr,
    /// [`VtepFlags`].
    pub flags: VtepFlags,
    /// The uplink that leads there.
    pub ifindex: u32,
    /// Largest inner IP packet that fits the way there, in bytes.
    pub mtu: u32,
    /// One's complement sum (not folded, not inverted, of words as they lie in memory) of the outer IPv4 header with
    /// total length, identification and checksum zero.
    pub ipv4_sum: u32,
    /// Outer Ethernet, IP, UDP and VXLAN header: 14 + 20 (40) + 8 + 8 bytes; total length (payload length), IPv4
    /// checksum, UDP source port, UDP length and VNI zero; UDP checksum zero (RFC 7348, RFC 6935). Outer DF is set.
    pub header: [u8; 72],
    /// The node's number, unique in the cluster: the low 16 bits of its overlay address (IPv4 where it has one).
    pub number: u32,
    /// Zero.
    pub reserved: [u8; 20],
}
pod!(Vtep, size = 128, align = 4);

impl Default for Vtep {
    fn default() -> Self {
        crate::Pod::zeroed()
    }
}

impl Vtep {
    /// Bytes that encapsulation adds in front of the inner Ethernet header, the outer Ethernet header left out.
    #[inline(always)]
    pub const fn outer_len(&self) -> u32 {
        if self.flags.has(VtepFlags::V6) { 56 } else { 36 }
    }
}
