//! What a packet on the ingress VNI carries besides itself: the inner Ethernet addresses, which mean nothing there.
//!
//! ```text
//! destination: 02 e5 rkfppttt port(2) edge-low      r reply, k only if known, f final, pp protocol, ttt token
//! source:      02 bh hash(3) edge-high               b budget, h hop
//! ```
//! The service is named by its published port and protocol, which every node knows; the hash finds the slot in every
//! node's own table, so that nodes whose tables differ in size for a moment still agree on most flows. A packet that an
//! owner's node hands on names the edge, which then is no longer its sender.

use crate::{View, ViewMut};
use essaim_abi::Protocol;

/// The first byte of both addresses: locally administered, unicast.
const LOCAL: u8 = 0x02;
/// The second byte of the destination address: no endpoint has it (those are `02:42`).
const MAGIC: u8 = 0xe5;

const REPLY: u8 = 0x80;
const ONLY_IF_KNOWN: u8 = 0x40;
const FINAL: u8 = 0x20;

/// How often a packet may be handed on.
pub const MAX_BUDGET: u8 = 7;

/// The steering of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steering {
    /// A reply on its way to the edge, not a request on its way to a backend.
    pub reply: bool,
    /// Deliver it only where the flow is known, else ask on.
    pub only_if_known: bool,
    /// Every owner was asked: the first owner makes the flow.
    pub last: bool,
    /// The protocol of the published port.
    pub protocol: u8,
    /// The published port, in network order.
    pub port: u16,
    /// The interface at the edge, plus one; 0: an endpoint of the edge's node.
    pub token: u8,
    /// How often it was handed on.
    pub budget: u8,
    /// The owner to begin with: 0 the current one, then the earlier ones.
    pub hop: u8,
    /// The flow hash; its low eight bits are zero ([`HASH_MASK`]).
    pub hash: u32,
    /// The number of the edge's node where that is not the sender, else 0.
    pub edge: u16,
}

/// The bits of a flow hash that steering carries.
pub const HASH_MASK: u32 = 0xffff_ff00;
/// The largest token.
pub const MAX_TOKEN: u8 = 7;

impl Steering {
    /// A request as the edge makes it.
    #[inline(always)]
    pub const fn request(protocol: Protocol, port: u16, token: u8, hash: u32) -> Self {
        Self {
            reply: false,
            only_if_known: false,
            last: false,
            protocol: protocol as u8,
            port,
            token,
            budget: 0,
            hop: 0,
            hash,
            edge: 0,
        }
    }

    /// A reply as the backend's node makes it.
    #[inline(always)]
    pub const fn reply(token: u8) -> Self {
        Self {
            reply: true,
            only_if_known: false,
            last: false,
            protocol: 0,
            port: 0,
            token,
            budget: 0,
            hop: 0,
            hash: 0,
            edge: 0,
        }
    }

    /// The destination and source address, twelve bytes as they lie in the frame.
    #[inline(always)]
    pub const fn encode(&self) -> [u8; 12] {
        let kind = (self.token & MAX_TOKEN)
            | (self.protocol & 3) << 3
            | if self.reply { REPLY } else { 0 }
            | if self.only_if_known { ONLY_IF_KNOWN } else { 0 }
            | if self.last { FINAL } else { 0 };
        let port = self.port.to_ne_bytes();
        let hash = self.hash.to_be_bytes();
        let edge = self.edge.to_le_bytes();
        [
            LOCAL,
            MAGIC,
            kind,
            port[0],
            port[1],
            edge[0],
            LOCAL,
            self.budget << 4 | self.hop & 15,
            hash[0],
            hash[1],
            hash[2],
            edge[1],
        ]
    }

    /// Writes the destination and source address at an offset.
    #[inline(always)]
    pub fn put<const N: usize>(&self, to: &mut ViewMut<'_, N>, at: usize) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.encode();
        to.put(at, u32::from_ne_bytes([a, b, c, d]));
        to.put(at + 4, u32::from_ne_bytes([e, f, g, h]));
        to.put(at + 8, u32::from_ne_bytes([i, j, k, l]));
    }

    /// Reads the steering from a frame's Ethernet addresses; `None` where they are no steering.
    #[inline(always)]
    pub fn of(header: &View<'_, 12>) -> Option<Self> {
        let [a, b, c, d] = header.get::<u32>(0).to_ne_bytes();
        let [e, f, g, h] = header.get::<u32>(4).to_ne_bytes();
        let [i, j, k, l] = header.get::<u32>(8).to_ne_bytes();
        Self::decode(&[a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// Reads the steering from both addresses; `None` where they are no steering.
    #[inline(always)]
    pub const fn decode(bytes: &[u8; 12]) -> Option<Self> {
        if bytes[0] != LOCAL || bytes[1] != MAGIC || bytes[6] != LOCAL {
            return None;
        }
        Some(Self {
            reply: bytes[2] & REPLY != 0,
            only_if_known: bytes[2] & ONLY_IF_KNOWN != 0,
            last: bytes[2] & FINAL != 0,
            protocol: bytes[2] >> 3 & 3,
            port: u16::from_ne_bytes([bytes[3], bytes[4]]),
            token: bytes[2] & MAX_TOKEN,
            budget: bytes[7] >> 4,
            hop: bytes[7] & 15,
            hash: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], 0]),
            edge: u16::from_le_bytes([bytes[5], bytes[11]]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::MacAddr;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn steering_round_trips(
            reply: bool, only_if_known: bool, last: bool, protocol in 0_u8..3, port: u16, token in 0_u8..=7, edge: u16,
            budget in 0_u8..=15, hop in 0_u8..=15, hash: u32
        ) {
            let hash = hash & HASH_MASK;
            let steering = Steering { reply, only_if_known, last, protocol, port, token, budget, hop, hash, edge };
            prop_assert_eq!(Steering::decode(&steering.encode()), Some(steering));
        }
    }

    #[test]
    fn addresses_of_endpoints_and_devices_are_no_steering() {
        let task = MacAddr::of_ipv4([10, 0, 1, 2].into()).0;
        for own in [task, MacAddr::GATEWAY.0, MacAddr::VXLAN_DEVICE.0] {
            let mut bytes = [0; 12];
            bytes[..6].copy_from_slice(&own);
            bytes[6..].copy_from_slice(&own);
            assert_eq!(Steering::decode(&bytes), None);
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let mut steering = Steering::request(Protocol::Udp, 0x1f90_u16.to_be(), 3, 0x0102_0300);
        steering.edge = 0x0b0a;
        steering.hop = 2;
        assert_eq!(
            steering.encode(),
            [2, 0xe5, 0b0000_1011, 0x1f, 0x90, 0x0a, 2, 2, 1, 2, 3, 0x0b]
        );
    }
}
