//! What stands in front of a packet between nodes: VXLAN (RFC 7348), and the steering of ingress traffic.

use crate::checksum;
use essaim_abi::MacAddr;
use std::net::IpAddr;

/// The outer header of VXLAN in front of an inner frame, as the harness' VTEPs prepare it.
pub fn vxlan(
    macs: (MacAddr, MacAddr),
    addresses: (IpAddr, IpAddr),
    source_port: u16,
    vni: u32,
    inner: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(macs.0.0);
    bytes.extend(macs.1.0);
    let udp_len = u16::try_from(16 + inner.len()).unwrap();
    match addresses {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0];
            header.extend((20 + udp_len).to_be_bytes());
            header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = checksum::internet(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            bytes.extend([0x08, 0x00]);
            bytes.extend(header);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            bytes.extend(udp_len.to_be_bytes());
            bytes.extend([17, 64]);
            bytes.extend(source.octets());
            bytes.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("families do not mix"),
    }
    bytes.extend(source_port.to_be_bytes());
    bytes.extend(4789_u16.to_be_bytes());
    bytes.extend(udp_len.to_be_bytes());
    bytes.extend([0, 0, 8, 0, 0, 0]);
    bytes.extend((vni << 8).to_be_bytes());
    bytes.extend(inner);
    bytes
}

/// What the inner Ethernet addresses of ingress traffic say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// A reply.
    pub reply: bool,
    /// Only where the flow is known.
    pub only_if_known: bool,
    /// The last word.
    pub last: bool,
    /// 0 TCP, 1 UDP, 2 SCTP.
    pub protocol: u8,
    /// The published port.
    pub port: u16,
    /// The uplink at the edge, plus one.
    pub token: u8,
    /// How often it was handed on.
    pub budget: u8,
    /// The owner to begin with.
    pub hop: u8,
    /// The flow's hash.
    pub hash: u32,
    /// The edge's number where it is not the sender.
    pub edge: u16,
}

impl Steering {
    /// The inner destination and source address.
    pub fn macs(&self) -> (MacAddr, MacAddr) {
        let kind = u8::from(self.reply) << 7
            | u8::from(self.only_if_known) << 6
            | u8::from(self.last) << 5
            | self.protocol << 3
            | self.token;
        let [port_high, port_low] = self.port.to_be_bytes();
        let [hash_a, hash_b, hash_c, _] = self.hash.to_be_bytes();
        let [edge_high, edge_low] = self.edge.to_be_bytes();
        (
            MacAddr([0x02, 0xe5, kind, port_high, port_low, edge_low]),
            MacAddr([
                0x02,
                self.budget << 4 | self.hop,
                hash_a,
                hash_b,
                hash_c,
                edge_high,
            ]),
        )
    }
}
