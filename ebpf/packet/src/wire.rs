//! Sizes, offsets and numbers of the headers. Values that are compared with packet fields are in network order.

/// Ethernet II.
pub mod ethernet {
    /// Length of the header.
    pub const LEN: usize = 14;
    /// Offset of the source address.
    pub const SOURCE: usize = 6;
    /// Offset of the EtherType.
    pub const TYPE: usize = 12;
    /// EtherType of IPv4, in network order.
    pub const IPV4: u16 = 0x0800_u16.to_be();
    /// EtherType of IPv6, in network order.
    pub const IPV6: u16 = 0x86dd_u16.to_be();
    /// EtherType of ARP, in network order.
    pub const ARP: u16 = 0x0806_u16.to_be();
}

/// IPv4, RFC 791.
pub mod ipv4 {
    /// Length of the header without options.
    pub const LEN: usize = 20;
    /// Offset of the total length.
    pub const TOTAL_LEN: usize = 2;
    /// Offset of the identification.
    pub const ID: usize = 4;
    /// Offset of flags and fragment offset.
    pub const FRAGMENT: usize = 6;
    /// Offset of the time to live.
    pub const TTL: usize = 8;
    /// Offset of the protocol.
    pub const PROTOCOL: usize = 9;
    /// Offset of the header checksum.
    pub const CHECKSUM: usize = 10;
    /// Offset of the source address.
    pub const SOURCE: usize = 12;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 16;
    /// "Don't fragment", in network order.
    pub const DF: u16 = 0x4000_u16.to_be();
    /// "More fragments", in network order.
    pub const MF: u16 = 0x2000_u16.to_be();
    /// The fragment offset, in network order.
    pub const OFFSET: u16 = 0x1fff_u16.to_be();
}

/// IPv6, RFC 8200.
pub mod ipv6 {
    /// Length of the fixed header.
    pub const LEN: usize = 40;
    /// Offset of the payload length.
    pub const PAYLOAD_LEN: usize = 4;
    /// Offset of the next header.
    pub const NEXT: usize = 6;
    /// Offset of the hop limit.
    pub const HOP_LIMIT: usize = 7;
    /// Offset of the source address.
    pub const SOURCE: usize = 8;
    /// Offset of the destination address.
    pub const DESTINATION: usize = 24;
    /// Extension header: hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Extension header: routing.
    pub const ROUTING: u8 = 43;
    /// Extension header: fragment.
    pub const FRAGMENT: u8 = 44;
    /// Extension header: destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// How many extension headers are followed.
    pub const MAX_EXTENSIONS: usize = 4;
}

/// IP protocol numbers.
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMP6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// TCP, RFC 9293.
pub mod tcp {
    /// Length of the header without options.
    pub const LEN: usize = 20;
    /// Offset of the sequence number.
    pub const SEQUENCE: usize = 4;
    /// Offset of the acknowledgement number.
    pub const ACKNOWLEDGEMENT: usize = 8;
    /// Offset of the data offset (upper four bits, in words).
    pub const DATA_OFFSET: usize = 12;
    /// Offset of the flags.
    pub const FLAGS: usize = 13;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 16;
    /// Flag.
    pub const FIN: u8 = 1;
    /// Flag.
    pub const SYN: u8 = 2;
    /// Flag.
    pub const RST: u8 = 4;
    /// Flag.
    pub const ACK: u8 = 16;
    /// Option kind: end of the list.
    pub const OPTION_END: u8 = 0;
    /// Option kind: padding.
    pub const OPTION_NOP: u8 = 1;
    /// Option kind: maximum segment size.
    pub const OPTION_MSS: u8 = 2;
}

/// UDP, RFC 768.
pub mod udp {
    /// Length of the header.
    pub const LEN: usize = 8;
    /// Offset of the source port.
    pub const SOURCE_PORT: usize = 0;
    /// Offset of the destination port.
    pub const DESTINATION_PORT: usize = 2;
    /// Offset of the length.
    pub const LENGTH: usize = 4;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 6;
}

/// SCTP, RFC 9260.
pub mod sctp {
    /// Length of the common header.
    pub const LEN: usize = 12;
    /// Chunk type.
    pub const INIT: u8 = 1;
    /// Chunk type.
    pub const ABORT: u8 = 6;
    /// Chunk type.
    pub const SHUTDOWN: u8 = 7;
    /// Chunk type.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Chunk type.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// ICMP and ICMPv6, RFC 792 and RFC 4443.
pub mod icmp {
    /// Length of the header of every message handled here.
    pub const LEN: usize = 8;
    /// Offset of the checksum.
    pub const CHECKSUM: usize = 2;
    /// IPv4 type: echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// IPv4 type: destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// IPv4 type: echo request.
    pub const ECHO: u8 = 8;
    /// IPv4 type: time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// IPv4 type: parameter problem.
    pub const PARAMETER: u8 = 12;
    /// IPv4 code of unreachable: fragmentation needed.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// IPv4 code of unreachable: port.
    pub const PORT: u8 = 3;
    /// IPv4 code of unreachable: host.
    pub const HOST: u8 = 1;
    /// IPv6 type: destination unreachable.
    pub const UNREACHABLE6: u8 = 1;
    /// IPv6 type: packet too big.
    pub const TOO_BIG6: u8 = 2;
    /// IPv6 type: time exceeded.
    pub const TIME_EXCEEDED6: u8 = 3;
    /// IPv6 type: parameter problem.
    pub const PARAMETER6: u8 = 4;
    /// IPv6 type: echo request.
    pub const ECHO6: u8 = 128;
    /// IPv6 type: echo reply.
    pub const ECHO_REPLY6: u8 = 129;
    /// IPv6 code of unreachable: port.
    pub const PORT6: u8 = 4;
    /// IPv6 code of unreachable: address.
    pub const ADDRESS6: u8 = 3;
    /// IPv6 type: neighbour solicitation (RFC 4861).
    pub const SOLICITATION: u8 = 135;
    /// IPv6 type: neighbour advertisement (RFC 4861).
    pub const ADVERTISEMENT: u8 = 136;
    /// IPv6 type: router solicitation (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
}

/// VXLAN, RFC 7348.
pub mod vxlan {
    /// Length of the header.
    pub const LEN: usize = 8;
    /// First word of a header with a valid VNI, in network order.
    pub const FLAGS: u32 = 0x0800_0000_u32.to_be();
}
