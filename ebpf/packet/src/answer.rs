//! What a refused packet is answered with: a TCP reset in its place, or an ICMP error in front of it.

use crate::wire::{icmp, ipv4, ipv6, protocol, tcp};
use crate::{View, ViewMut, checksum};
use essaim_abi::Addr;

/// IPv4 and ICMP header of an error.
pub const ICMP4_LEN: usize = ipv4::LEN + icmp::LEN;
/// IPv6 and ICMPv6 header of an error.
pub const ICMP6_LEN: usize = ipv6::LEN + icmp::LEN;

/// The three words of a TCP header that make it a reset; ports and addresses are to be swapped besides.
///
/// The payload stays where it is: a reset may carry data (RFC 9293 section 3.10.7.3 ignores it), and the checksum then
/// changes by these words alone, whoever has yet to fill it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// Sequence number, as it lies.
    pub sequence: u32,
    /// Acknowledgement number, as it lies.
    pub acknowledgement: u32,
    /// Data offset, flags and window, as they lie.
    pub offset_flags_window: u32,
}

/// The reset that answers a segment of `payload_len` bytes (RFC 9293 section 3.10.7.1); `None` for a reset.
#[inline(always)]
pub fn reset(header: &View<'_, { tcp::LEN }>, payload_len: u32) -> Option<Reset> {
    let flags: u8 = header.get(tcp::FLAGS);
    if flags & tcp::RST != 0 {
        return None;
    }
    let offset = header.get::<u8>(tcp::DATA_OFFSET) & 0xf0;
    let word = |flags: u8| u32::from_ne_bytes([offset, flags, 0, 0]);
    if flags & tcp::ACK != 0 {
        return Some(Reset {
            sequence: header.get(tcp::ACKNOWLEDGEMENT),
            acknowledgement: 0,
            offset_flags_window: word(tcp::RST),
        });
    }
    let sequence = u32::from_be(header.get(tcp::SEQUENCE));
    let control = u32::from(flags & tcp::SYN != 0) + u32::from(flags & tcp::FIN != 0);
    Some(Reset {
        sequence: 0,
        acknowledgement: sequence.wrapping_add(payload_len).wrapping_add(control).to_be(),
        offset_flags_window: word(tcp::RST | tcp::ACK),
    })
}

/// What an ICMP error says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The last four bytes of the header: the MTU, or zero; in host order.
    pub word: u32,
}

impl Message {
    /// "It does not fit": fragmentation needed (RFC 1191), packet too big (RFC 4443 section 3.2).
    #[inline(always)]
    pub const fn too_big(v6: bool, mtu: u32) -> Self {
        if v6 {
            Self {
                kind: icmp::TOO_BIG6,
                code: 0,
                word: mtu,
            }
        } else {
            Self {
                kind: icmp::UNREACHABLE,
                code: icmp::FRAGMENTATION_NEEDED,
                word: mtu & 0xffff,
            }
        }
    }

    /// "Nobody answers at this port".
    #[inline(always)]
    pub const fn port_unreachable(v6: bool) -> Self {
        if v6 {
            Self {
                kind: icmp::UNREACHABLE6,
                code: icmp::PORT6,
                word: 0,
            }
        } else {
            Self {
                kind: icmp::UNREACHABLE,
                code: icmp::PORT,
                word: 0,
            }
        }
    }

    /// "There is nobody at this address".
    #[inline(always)]
    pub const fn host_unreachable(v6: bool) -> Self {
        if v6 {
            Self {
                kind: icmp::UNREACHABLE6,
                code: icmp::ADDRESS6,
                word: 0,
            }
        } else {
            Self {
                kind: icmp::UNREACHABLE,
                code: icmp::HOST,
                word: 0,
            }
        }
    }

    /// "Time to live ran out on the way".
    #[inline(always)]
    pub const fn time_exceeded(v6: bool) -> Self {
        Self {
            kind: if v6 {
                icmp::TIME_EXCEEDED6
            } else {
                icmp::TIME_EXCEEDED
            },
            code: 0,
            word: 0,
        }
    }
}

/// Writes IPv4 and ICMP header in front of a quote of `quote_len` bytes (even) whose sum is `quote_sum`.
#[inline(always)]
pub fn icmp4(
    to: &mut ViewMut<'_, ICMP4_LEN>,
    source: &Addr,
    destination: &Addr,
    message: Message,
    quote_sum: u64,
    quote_len: u16,
) {
    // Precedence "internetwork control", as routers answer (RFC 1812 section 4.3.2.5).
    to.put(0, 0xc045_u16.to_le());
    to.put(ipv4::TOTAL_LEN, quote_len.wrapping_add(ICMP4_LEN as u16).to_be());
    to.put(ipv4::ID, 0_u32);
    to.put(ipv4::TTL, u16::from_le_bytes([64, protocol::ICMP]));
    to.put(ipv4::CHECKSUM, 0_u16);
    to.put_address(ipv4::SOURCE, source, false);
    to.put_address(ipv4::DESTINATION, destination, false);
    let mut sum = 0_u64;
    let mut at = 0;
    while at < ipv4::LEN {
        sum += u64::from(to.get::<u32>(at));
        at += 4;
    }
    to.put(ipv4::CHECKSUM, !checksum::fold(sum));
    icmp_header(to, ipv4::LEN, message, quote_sum);
}

/// Writes IPv6 and ICMPv6 header in front of a quote of `quote_len` bytes (even) whose sum is `quote_sum`.
#[inline(always)]
pub fn icmp6(
    to: &mut ViewMut<'_, ICMP6_LEN>,
    source: &Addr,
    destination: &Addr,
    message: Message,
    quote_sum: u64,
    quote_len: u16,
) {
    let len = quote_len.wrapping_add(icmp::LEN as u16);
    to.put(0, 0x60_u32.to_le());
    to.put(ipv6::PAYLOAD_LEN, len.to_be());
    to.put(ipv6::NEXT, u16::from_le_bytes([protocol::ICMP6, 64]));
    to.put_address(ipv6::SOURCE, source, true);
    to.put_address(ipv6::DESTINATION, destination, true);
    let pseudo = checksum::pseudo_header(source, destination, true, len, protocol::ICMP6);
    icmp_header(to, ipv6::LEN, message, quote_sum + pseudo);
}

#[inline(always)]
fn icmp_header<const N: usize>(to: &mut ViewMut<'_, N>, at: usize, message: Message, rest: u64) {
    let kind = u16::from_le_bytes([message.kind, message.code]).to_le();
    let word = message.word.to_be();
    to.put(at, kind);
    to.put(at + 4, word);
    to.put(
        at + icmp::CHECKSUM,
        !checksum::fold(u64::from(kind) + u64::from(word) + rest),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Slice, SliceMut, view, view_mut};
    use core::net::IpAddr;
    use etherparse::{SlicedPacket, TransportSlice};

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn segment(flags: u8) -> [u8; 20] {
        let mut header = [0; 20];
        header[4..8].copy_from_slice(&1000_u32.to_be_bytes());
        header[8..12].copy_from_slice(&5000_u32.to_be_bytes());
        header[12] = 0x80;
        header[13] = flags;
        header[14..16].copy_from_slice(&[0xff, 0xff]);
        header
    }

    fn answer_to(flags: u8, payload_len: u32) -> Option<Reset> {
        reset(&view(&Slice(&segment(flags)), 0).unwrap(), payload_len)
    }

    #[test]
    fn a_syn_is_answered_with_an_acknowledging_reset() {
        let reset = answer_to(tcp::SYN, 0).unwrap();
        assert_eq!(reset.sequence, 0);
        assert_eq!(reset.acknowledgement, 1001_u32.to_be());
        assert_eq!(
            reset.offset_flags_window.to_ne_bytes(),
            [0x80, tcp::RST | tcp::ACK, 0, 0]
        );
    }

    #[test]
    fn a_segment_with_an_acknowledgement_is_reset_where_the_peer_expects_it() {
        let answer = answer_to(tcp::ACK, 100).unwrap();
        assert_eq!((answer.sequence, answer.acknowledgement), (5000_u32.to_be(), 0));
        assert_eq!(answer.offset_flags_window.to_ne_bytes(), [0x80, tcp::RST, 0, 0]);
        assert_eq!(answer_to(tcp::RST | tcp::ACK, 0), None);
    }

    #[test]
    fn an_icmp_error_carries_valid_checksums() {
        let quote: [u8; 28] = core::array::from_fn(|i| i as u8 * 7);
        let sum = checksum::sum(&view::<28>(&Slice(&quote), 0).unwrap());
        let mut packet = vec![0xff; ICMP4_LEN];
        packet.extend(quote);
        let mut frame = SliceMut(&mut packet);
        let mut to = view_mut(&mut frame, 0).unwrap();
        icmp4(
            &mut to,
            &addr("10.0.0.1"),
            &addr("10.0.0.2"),
            Message::too_big(false, 1450),
            sum,
            28,
        );
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
            panic!("no IPv4")
        };
        assert_eq!(
            ip.header().header_checksum(),
            ip.header().to_header().calc_header_checksum()
        );
        let Some(TransportSlice::Icmpv4(message)) = &sliced.transport else {
            panic!("no ICMP")
        };
        assert_eq!(&message.slice()[..2], [3, 4]);
        assert_eq!(&message.slice()[4..8], [0, 0, 5, 0xaa]);
        assert_eq!(
            checksum::fold(
                message
                    .slice()
                    .chunks(2)
                    .map(|c| u64::from(u16::from_ne_bytes([c[0], c[1]])))
                    .sum()
            ),
            0xffff
        );
    }

    #[test]
    fn an_icmpv6_error_carries_a_valid_checksum() {
        let quote: [u8; 48] = core::array::from_fn(|i| i as u8 * 5);
        let (source, destination) = (addr("fd00::1"), addr("fd00::2"));
        let sum = checksum::sum(&view::<48>(&Slice(&quote), 0).unwrap());
        let mut packet = vec![0xff; ICMP6_LEN];
        packet.extend(quote);
        let mut frame = SliceMut(&mut packet);
        let mut to = view_mut(&mut frame, 0).unwrap();
        icmp6(
            &mut to,
            &source,
            &destination,
            Message::port_unreachable(true),
            sum,
            48,
        );
        let sliced = SlicedPacket::from_ip(&packet).unwrap();
        let Some(TransportSlice::Icmpv6(message)) = &sliced.transport else {
            panic!("no ICMPv6")
        };
        let (IpAddr::V6(s), IpAddr::V6(d)) = (source.into(), destination.into()) else {
            panic!()
        };
        assert!(message.is_checksum_valid(s.octets(), d.octets()));
    }
}
