//! Packets, header by header.

use crate::checksum;
use essaim_abi::MacAddr;
use std::net::IpAddr;

/// A TCP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// What it carries.
    pub data: Vec<u8>,
}

impl Tcp {
    /// Flag.
    pub const FIN: u8 = 1;
    /// Flag.
    pub const SYN: u8 = 2;
    /// Flag.
    pub const RST: u8 = 4;
    /// Flag.
    pub const ACK: u8 = 16;
}

/// What an IP packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A TCP segment.
    Tcp(Tcp),
    /// A UDP datagram.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Whether the checksum is left out (IPv4).
        no_checksum: bool,
        /// What it carries.
        data: Vec<u8>,
    },
    /// An SCTP packet.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Type of its only chunk.
        chunk: u8,
    },
    /// An ICMP or ICMPv6 message.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The four bytes behind the checksum.
        word: [u8; 4],
        /// What follows.
        body: Vec<u8>,
    },
    /// Anything: the protocol number and the bytes.
    Raw(u8, Vec<u8>),
}

/// Where a packet stands in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Offset in units of eight bytes.
    pub offset: u16,
    /// Whether more follow.
    pub more: bool,
}

/// An IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Type of service, traffic class.
    pub tos: u8,
    /// Whether DF is set (IPv4).
    pub df: bool,
    /// Identification.
    pub id: u32,
    /// Where it is a fragment: in IPv6, a fragment header.
    pub fragment: Option<Fragment>,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6: destination options of eight bytes stand before the payload.
    pub extension: bool,
    /// What it carries.
    pub payload: Payload,
}

impl Packet {
    /// A packet with DF and a TTL of 61.
    pub fn new(source: &str, destination: &str, payload: Payload) -> Self {
        Self {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ttl: 61,
            tos: 0,
            df: true,
            id: 0x1234,
            fragment: None,
            options: Vec::new(),
            extension: false,
            payload,
        }
    }

    /// A TCP segment with sequence number 1000 and acknowledgement number 5000 (where ACK is set) and `data`; a SYN offers
    /// an MSS of 1200.
    pub fn tcp(source: (&str, u16), destination: (&str, u16), flags: u8, data: &[u8]) -> Self {
        Self::new(
            source.0,
            destination.0,
            Payload::Tcp(Tcp {
                source: source.1,
                destination: destination.1,
                sequence: 1000,
                acknowledgement: if flags & Tcp::ACK == 0 { 0 } else { 5000 },
                flags,
                window: 0xfaf0,
                options: if flags & Tcp::SYN == 0 {
                    Vec::new()
                } else {
                    vec![2, 4, 0x04, 0xb0]
                },
                data: data.to_vec(),
            }),
        )
    }

    /// A UDP datagram.
    pub fn udp(source: (&str, u16), destination: (&str, u16), data: &[u8]) -> Self {
        Self::new(
            source.0,
            destination.0,
            Payload::Udp {
                source: source.1,
                destination: destination.1,
                no_checksum: false,
                data: data.to_vec(),
            },
        )
    }

    /// An SCTP packet with one chunk.
    pub fn sctp(source: (&str, u16), destination: (&str, u16), chunk: u8) -> Self {
        Self::new(
            source.0,
            destination.0,
            Payload::Sctp {
                source: source.1,
                destination: destination.1,
                chunk,
            },
        )
    }

    /// An ICMP or ICMPv6 message.
    pub fn icmp(source: &str, destination: &str, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Self {
        Self::new(
            source,
            destination,
            Payload::Icmp {
                kind,
                code,
                word,
                body: body.to_vec(),
            },
        )
    }

    /// A packet of TCP (6), UDP (17) or SCTP (132) that opens a flow.
    pub fn opening(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Self {
        match protocol {
            6 => Self::tcp(source, destination, Tcp::SYN, b""),
            17 => Self::udp(source, destination, b"question"),
            132 => Self::sctp(source, destination, 1),
            _ => panic!("protocol {protocol} opens no flow"),
        }
    }

    /// With another source address and port.
    #[must_use]
    pub fn from(mut self, address: &str, port: u16) -> Self {
        self.source = address.parse().unwrap();
        match &mut self.payload {
            Payload::Tcp(Tcp { source, .. }) | Payload::Udp { source, .. } | Payload::Sctp { source, .. } => {
                *source = port;
            }
            Payload::Icmp { .. } | Payload::Raw(..) => {}
        }
        self
    }

    /// With another destination address and port.
    #[must_use]
    pub fn to(mut self, address: &str, port: u16) -> Self {
        self.destination = address.parse().unwrap();
        match &mut self.payload {
            Payload::Tcp(Tcp { destination, .. })
            | Payload::Udp { destination, .. }
            | Payload::Sctp { destination, .. } => *destination = port,
            Payload::Icmp { .. } | Payload::Raw(..) => {}
        }
        self
    }

    /// With another time to live.
    #[must_use]
    pub fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// Without DF.
    #[must_use]
    pub fn may_be_fragmented(self) -> Self {
        Self { df: false, ..self }
    }

    /// The number of its protocol.
    pub fn protocol(&self) -> u8 {
        match &self.payload {
            Payload::Tcp(_) => 6,
            Payload::Udp { .. } => 17,
            Payload::Sctp { .. } => 132,
            Payload::Icmp { .. } => {
                if self.source.is_ipv4() {
                    1
                } else {
                    58
                }
            }
            Payload::Raw(protocol, _) => *protocol,
        }
    }

    /// The transport header and what follows, its checksum right.
    pub fn segment(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.payload {
            Payload::Tcp(tcp) => {
                bytes.extend(tcp.source.to_be_bytes());
                bytes.extend(tcp.destination.to_be_bytes());
                bytes.extend(tcp.sequence.to_be_bytes());
                bytes.extend(tcp.acknowledgement.to_be_bytes());
                let words = u8::try_from(5 + tcp.options.len() / 4).unwrap();
                bytes.extend([words << 4, tcp.flags]);
                bytes.extend(tcp.window.to_be_bytes());
                bytes.extend([0, 0, 0, 0]);
                bytes.extend(&tcp.options);
                bytes.extend(&tcp.data);
                self.sum(&mut bytes, 16);
            }
            Payload::Udp {
                source,
                destination,
                no_checksum,
                data,
            } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend(u16::try_from(8 + data.len()).unwrap().to_be_bytes());
                bytes.extend([0, 0]);
                bytes.extend(data);
                if !no_checksum {
                    self.sum(&mut bytes, 6);
                    if bytes[6..8] == [0, 0] {
                        bytes[6..8].fill(0xff);
                    }
                }
            }
            Payload::Sctp {
                source,
                destination,
                chunk,
            } => {
                bytes.extend(source.to_be_bytes());
                bytes.extend(destination.to_be_bytes());
                bytes.extend([0, 0, 0, 1, 0, 0, 0, 0]);
                bytes.extend([*chunk, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 7]);
                let crc = checksum::crc32c(&bytes);
                bytes[8..12].copy_from_slice(&crc.to_le_bytes());
            }
            Payload::Icmp {
                kind,
                code,
                word,
                body,
            } => {
                bytes.extend([*kind, *code, 0, 0]);
                bytes.extend(word);
                bytes.extend(body);
                if self.source.is_ipv4() {
                    let sum = checksum::internet(&bytes);
                    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
                } else {
                    self.sum(&mut bytes, 2);
                }
            }
            Payload::Raw(_, raw) => bytes.extend(raw),
        }
        bytes
    }

    fn sum(&self, segment: &mut [u8], at: usize) {
        let sum = checksum::transport(self.source, self.destination, self.protocol(), segment);
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    /// The IP packet.
    pub fn bytes(&self) -> Vec<u8> {
        self.carrying(&self.segment())
    }

    /// The IP packet with `payload` behind its headers.
    fn carrying(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_len = 20 + self.options.len();
                bytes.extend([0x40 | u8::try_from(header_len / 4).unwrap(), self.tos]);
                bytes.extend(u16::try_from(header_len + payload.len()).unwrap().to_be_bytes());
                bytes.extend(u16::try_from(self.id).unwrap().to_be_bytes());
                let fragment = self
                    .fragment
                    .map_or(0, |part| part.offset | u16::from(part.more) << 13);
                bytes.extend((fragment | u16::from(self.df) << 14).to_be_bytes());
                bytes.extend([self.ttl, self.protocol(), 0, 0]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(&self.options);
                let sum = checksum::internet(&bytes);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut extensions = Vec::new();
                let mut next = self.protocol();
                if let Some(part) = self.fragment {
                    extensions.extend([next, 0]);
                    extensions.extend((part.offset << 3 | u16::from(part.more)).to_be_bytes());
                    extensions.extend(self.id.to_be_bytes());
                    next = 44;
                }
                if self.extension {
                    extensions.splice(0..0, [next, 0, 1, 4, 0, 0, 0, 0]);
                    next = 60;
                }
                bytes.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 0]);
                bytes.extend(
                    u16::try_from(extensions.len() + payload.len())
                        .unwrap()
                        .to_be_bytes(),
                );
                bytes.extend([next, self.ttl]);
                bytes.extend(source.octets());
                bytes.extend(destination.octets());
                bytes.extend(extensions);
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("families do not mix: {self:?}")
            }
        }
        bytes.extend(payload);
        bytes
    }

    /// The packet as fragments, whose payloads are cut at multiples of eight bytes.
    pub fn fragments(&self, cuts: &[usize]) -> Vec<Vec<u8>> {
        let whole = self.segment();
        let mut parts = Vec::new();
        let mut at = 0;
        for end in cuts.iter().copied().chain([whole.len()]) {
            let fragment = Fragment {
                offset: u16::try_from(at / 8).unwrap(),
                more: end != whole.len(),
            };
            let part = Self {
                fragment: Some(fragment),
                df: false,
                ..self.clone()
            };
            parts.push(part.carrying(&whole[at..end]));
            at = end;
        }
        parts
    }

    /// The packet in an Ethernet frame.
    pub fn framed(&self, destination: MacAddr, source: MacAddr) -> Vec<u8> {
        ethernet(destination, source, &self.bytes())
    }
}

/// An IP packet in an Ethernet frame.
pub fn ethernet(destination: MacAddr, source: MacAddr, packet: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(destination.0);
    bytes.extend(source.0);
    bytes.extend(if packet[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    });
    bytes.extend(packet);
    bytes
}

/// The Ethernet address of the endpoint with an IPv4 address.
pub fn mac_of(address: &str) -> MacAddr {
    let IpAddr::V4(address) = address.parse().unwrap() else {
        panic!("{address} is not of IPv4")
    };
    let [a, b, c, d] = address.octets();
    MacAddr([0x02, 0x42, a, b, c, d])
}

/// An ARP packet in its frame; `frame` is the destination and source of the frame.
pub fn arp(
    frame: (MacAddr, MacAddr),
    operation: u16,
    sender: (MacAddr, &str),
    target: (MacAddr, &str),
) -> Vec<u8> {
    let octets = |address: &str| match address.parse().unwrap() {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => panic!("{address} has no ARP"),
    };
    let mut bytes = Vec::new();
    bytes.extend(frame.0.0);
    bytes.extend(frame.1.0);
    bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0.0);
    bytes.extend(octets(sender.1));
    bytes.extend(target.0.0);
    bytes.extend(octets(target.1));
    bytes
}
