use crate::frame::{Frame, View, load, view};
use crate::wire::{ethernet, ipv4, ipv6, protocol, tcp};
use essaim_abi::{Addr, DropReason};

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment: it carries the ports.
    First,
    /// A later one.
    Later,
}

/// What is read of an IP packet, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// Source port as it lies; the type and code of ICMP; 0 where there is none.
    pub source_port: u16,
    /// Destination port as it lies; the identifier of an ICMP echo; 0 where there is none.
    pub destination_port: u16,
    /// Offset of the IP header in the frame.
    pub network: u16,
    /// Offset of the transport header in the frame.
    pub transport: u16,
    /// Length of the IP packet, by its own word, in bytes.
    pub len: u16,
    /// IP protocol number, extension headers skipped.
    pub protocol: u8,
    /// TCP flags; 0 where it is not TCP. The first chunk's type of SCTP.
    pub flags: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Whether it is IPv6.
    pub v6: bool,
    /// Whether it may not be fragmented on the way: DF, or IPv6.
    pub dont_fragment: bool,
    /// Where it stands in a datagram.
    pub fragment: Fragment,
    /// Identification of the datagram, as it lies.
    pub id: u32,
}

impl Packet {
    /// No packet: every field zero.
    pub const NOTHING: Self = Self {
        source: Addr::UNSPECIFIED,
        destination: Addr::UNSPECIFIED,
        source_port: 0,
        destination_port: 0,
        network: 0,
        transport: 0,
        len: 0,
        protocol: 0,
        flags: 0,
        ttl: 0,
        v6: false,
        dont_fragment: false,
        fragment: Fragment::Whole,
        id: 0,
    };

    /// Whether the protocol has ports at the start of its header.
    #[inline(always)]
    pub const fn has_ports(&self) -> bool {
        matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP)
    }

    /// The ICMP type, where it is ICMP.
    #[inline(always)]
    pub const fn icmp_type(&self) -> Option<u8> {
        if (self.v6 && self.protocol == protocol::ICMP6) || (!self.v6 && self.protocol == protocol::ICMP) {
            Some(self.source_port.to_ne_bytes()[0])
        } else {
            None
        }
    }
}

/// Reads the frame's Ethernet and IP headers and the ports; `None` where it is not IP.
///
/// # Errors
/// [`DropReason::Truncated`] and [`DropReason::Malformed`] where headers contradict themselves or the frame's end.
#[inline(always)]
pub fn parse(frame: &impl Frame) -> Result<Option<Packet>, DropReason> {
    let mut packet = Packet::NOTHING;
    parse_into(frame, &mut packet).map(|ip| ip.then_some(packet))
}

/// As [`parse`], to where the packet is kept: put together on the stack and copied it costs twice. Says whether it is
/// IP; on an error the place may be half written.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn parse_into(frame: &impl Frame, packet: &mut Packet) -> Result<bool, DropReason> {
    let kind: u16 = load(frame, ethernet::TYPE)?;
    if kind == ethernet::IPV4 {
        parse_with(frame, ethernet::LEN, false, true, packet).map(|()| true)
    } else if kind == ethernet::IPV6 {
        parse_with(frame, ethernet::LEN, true, true, packet).map(|()| true)
    } else {
        Ok(false)
    }
}

/// Reads an IP header at `network` and the ports behind it.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub fn parse_ip(frame: &impl Frame, network: usize, v6: bool) -> Result<Packet, DropReason> {
    let mut packet = Packet::NOTHING;
    parse_with(frame, network, v6, true, &mut packet).map(|()| packet)
}

/// As [`parse_ip`], extension headers not followed: for quoted packets, where each path more doubles the verifier's work.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
pub(crate) fn parse_quoted(frame: &impl Frame, network: usize, v6: bool) -> Result<Packet, DropReason> {
    let mut packet = Packet::NOTHING;
    parse_with(frame, network, v6, false, &mut packet).map(|()| packet)
}

#[inline(always)]
fn parse_with(
    frame: &impl Frame,
    network: usize,
    v6: bool,
    extensions: bool,
    packet: &mut Packet,
) -> Result<(), DropReason> {
    let transport = if v6 {
        ipv6(frame, network, extensions, packet)?
    } else {
        ipv4(frame, network, packet)?
    };
    packet.transport = transport as u16;
    if packet.fragment == Fragment::Later {
        return Ok(());
    }
    if packet.has_ports() || packet.icmp_type().is_some() {
        let ports: View<'_, 4> = view(frame, transport)?;
        packet.source_port = ports.get(0);
        packet.destination_port = ports.get(2);
        if packet.protocol == protocol::TCP {
            // A quoted packet may end after eight bytes; whole packets are checked by `tcp_header_len`.
            packet.flags = load(frame, transport + tcp::FLAGS).unwrap_or(0);
        } else if packet.protocol == protocol::SCTP {
            packet.flags = load(frame, transport + crate::wire::sctp::LEN).unwrap_or(0);
        } else if packet.icmp_type().is_some() {
            packet.destination_port = load(frame, transport + 4).unwrap_or(0);
        }
    }
    Ok(())
}

/// Reads an IPv4 header; the offset of what follows.
#[inline(always)]
fn ipv4(frame: &impl Frame, network: usize, packet: &mut Packet) -> Result<usize, DropReason> {
    let header: View<'_, { ipv4::LEN }> = view(frame, network)?;
    let first: u8 = header.get(0);
    let header_len = ((first & 15) as usize) << 2;
    if first >> 4 != 4 || header_len < ipv4::LEN {
        return Err(DropReason::Malformed);
    }
    let len = u16::from_be(header.get(ipv4::TOTAL_LEN));
    if (len as usize) < header_len {
        return Err(DropReason::Malformed);
    }
    let fragment: u16 = header.get(ipv4::FRAGMENT);
    *packet = Packet {
        source: Addr::v4(header.get(ipv4::SOURCE)),
        destination: Addr::v4(header.get(ipv4::DESTINATION)),
        network: network as u16,
        len,
        protocol: header.get(ipv4::PROTOCOL),
        ttl: header.get(ipv4::TTL),
        dont_fragment: fragment & ipv4::DF != 0,
        fragment: if fragment & ipv4::OFFSET != 0 {
            Fragment::Later
        } else if fragment & ipv4::MF != 0 {
            Fragment::First
        } else {
            Fragment::Whole
        },
        id: u32::from(header.get::<u16>(ipv4::ID)),
        ..Packet::NOTHING
    };
    Ok(network + header_len)
}

/// Reads an IPv6 header and what extends it; the offset of what follows.
#[inline(always)]
fn ipv6(
    frame: &impl Frame,
    network: usize,
    extensions: bool,
    packet: &mut Packet,
) -> Result<usize, DropReason> {
    let header: View<'_, { ipv6::LEN }> = view(frame, network)?;
    if header.get::<u8>(0) >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    *packet = Packet {
        source: header.address6(ipv6::SOURCE),
        destination: header.address6(ipv6::DESTINATION),
        network: network as u16,
        len: u16::from_be(header.get(ipv6::PAYLOAD_LEN)).saturating_add(ipv6::LEN as u16),
        protocol: header.get(ipv6::NEXT),
        ttl: header.get(ipv6::HOP_LIMIT),
        v6: true,
        dont_fragment: true,
        ..Packet::NOTHING
    };
    let mut at = network + ipv6::LEN;
    if !extensions {
        return Ok(at);
    }
    let mut next = packet.protocol;
    for _ in 0..ipv6::MAX_EXTENSIONS {
        if next == ipv6::FRAGMENT {
            let extension: View<'_, 8> = view(frame, at)?;
            next = extension.get(0);
            packet.id = extension.get(4);
            let offset = u16::from_be(extension.get(2));
            at += 8;
            if offset & 0xfff8 != 0 {
                packet.fragment = Fragment::Later;
                break;
            }
            if offset & 1 != 0 {
                packet.fragment = Fragment::First;
            }
        } else if next == ipv6::HOP_BY_HOP || next == ipv6::ROUTING || next == ipv6::DESTINATION_OPTIONS {
            let extension: View<'_, 2> = view(frame, at)?;
            next = extension.get(0);
            at += ((extension.get::<u8>(1) as usize) << 3) + 8;
        } else {
            break;
        }
    }
    packet.protocol = next;
    if matches!(
        next,
        ipv6::FRAGMENT | ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS
    ) && packet.fragment != Fragment::Later
    {
        return Err(DropReason::Malformed);
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Slice;
    use core::net::IpAddr;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn built(builder: etherparse::PacketBuilderStep<etherparse::TcpHeader>) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, b"payload").unwrap();
        bytes
    }

    #[test]
    fn tcp_over_ipv4_is_read() {
        let frame = built(
            PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 63)
                .tcp(1234, 80, 7, 100)
                .syn(),
        );
        let packet = parse(&Slice(&frame)).unwrap().unwrap();
        assert_eq!(
            (packet.source, packet.destination),
            (addr("10.0.0.1"), addr("10.0.0.2"))
        );
        assert_eq!(
            (packet.source_port, packet.destination_port),
            (1234_u16.to_be(), 80_u16.to_be())
        );
        assert_eq!(
            (packet.protocol, packet.flags, packet.ttl, packet.v6),
            (6, tcp::SYN, 63, false)
        );
        assert_eq!((packet.network, packet.transport, packet.len), (14, 34, 47));
        assert_eq!((packet.fragment, packet.dont_fragment), (Fragment::Whole, true));
    }

    #[test]
    fn tcp_over_ipv6_is_read() {
        let (a, b) = ([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd; 16]);
        let frame = built(
            PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv6(a, b, 9)
                .tcp(1, 2, 7, 100)
                .ack(5),
        );
        let packet = parse(&Slice(&frame)).unwrap().unwrap();
        assert_eq!(
            (packet.source, packet.transport, packet.len),
            (addr("fd00::1"), 54, 67)
        );
        assert_eq!((packet.flags, packet.ttl, packet.v6), (tcp::ACK, 9, true));
    }

    #[test]
    fn fragments_of_ipv6_are_told_apart() {
        let mut frame = vec![0; 14];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        let mut header = [0; 40];
        header[0] = 0x60;
        header[5] = 16;
        header[6] = 44;
        frame.extend(header);
        let at = frame.len();
        frame.extend([17, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef, 0, 7, 0, 8, 0, 8, 0, 0]);
        let packet = parse(&Slice(&frame)).unwrap().unwrap();
        assert_eq!(
            (packet.fragment, packet.protocol, packet.transport),
            (Fragment::First, 17, 62)
        );
        assert_eq!(
            (packet.source_port, packet.id),
            (7_u16.to_be(), 0xdead_beef_u32.to_be())
        );
        frame[at + 3] = 8;
        let packet = parse(&Slice(&frame)).unwrap().unwrap();
        assert_eq!((packet.fragment, packet.source_port), (Fragment::Later, 0));
    }

    #[test]
    fn a_chain_of_extension_headers_without_end_is_malformed() {
        let mut frame = vec![0; 14];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        let mut header = [0; 40];
        header[0] = 0x60;
        frame.extend(header);
        frame.extend([0; 200]);
        assert_eq!(parse(&Slice(&frame)), Err(DropReason::Malformed));
    }

    #[test]
    fn bad_lengths_are_malformed() {
        let mut frame = built(
            PacketBuilder::ethernet2([1; 6], [2; 6])
                .ipv4([1; 4], [2; 4], 63)
                .tcp(1, 2, 7, 100),
        );
        frame[14] = 0x44;
        assert_eq!(parse(&Slice(&frame)), Err(DropReason::Malformed));
        frame[14] = 0x45;
        frame[16] = 0;
        frame[17] = 19;
        assert_eq!(parse(&Slice(&frame)), Err(DropReason::Malformed));
        assert_eq!(parse(&Slice(&frame[..33])), Err(DropReason::Truncated));
    }

    #[test]
    fn what_is_not_ip_is_none() {
        let mut frame = [0; 60];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(parse(&Slice(&frame)), Ok(None));
        assert_eq!(parse(&Slice(&frame[..13])), Err(DropReason::Truncated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..3) {
            if bytes.len() >= 15 {
                match kind {
                    0 => { bytes[12] = 8; bytes[13] = 0; bytes[14] = 0x40 | bytes[14] & 15; }
                    1 => { bytes[12] = 0x86; bytes[13] = 0xdd; bytes[14] = 0x60; }
                    _ => {}
                }
            }
            if let Ok(Some(packet)) = parse(&Slice(&bytes)) {
                prop_assert!(packet.transport as usize >= packet.network as usize + 20);
            }
        }
    }
}
