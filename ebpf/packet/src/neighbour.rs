//! Answers to ARP requests (RFC 826) and neighbour solicitations (RFC 4861).

use crate::checksum;
use crate::wire::{ethernet, icmp, ipv6, protocol};
use crate::{Frame, FrameMut, View, ViewMut, view, view_mut};
use essaim_abi::{Addr, DropReason, MacAddr};

/// An Ethernet frame with an ARP packet for IPv4.
pub const ARP_LEN: usize = ethernet::LEN + 28;
/// An Ethernet frame with a neighbour advertisement that carries one link-layer option.
pub const ADVERTISEMENT_LEN: usize = ethernet::LEN + ipv6::LEN + 32;

/// Hardware type Ethernet, protocol type IPv4.
const ARP_ETHERNET_IPV4: u32 = 0x0001_0800_u32.to_be();
/// Lengths of both addresses.
const ARP_LENGTHS: u16 = 0x0604_u16.to_be();
const ARP_REQUEST: u16 = 1_u16.to_be();
const ARP_REPLY: u16 = 2_u16.to_be();

/// What an endpoint asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who asks.
    pub sender: Addr,
    /// The Ethernet address it claims.
    pub sender_mac: MacAddr,
    /// Whose Ethernet address is asked for.
    pub target: Addr,
}

/// Reads an ARP packet; `None` where it is no request (announcements and replies ask nothing).
///
/// # Errors
/// [`DropReason::Truncated`], or [`DropReason::Malformed`] where it is not ARP for IPv4 over Ethernet.
#[inline(always)]
pub fn arp_question(frame: &impl Frame) -> Result<Option<Question>, DropReason> {
    let packet: View<'_, 28> = view(frame, ethernet::LEN)?;
    if packet.get::<u32>(0) != ARP_ETHERNET_IPV4 || packet.get::<u16>(4) != ARP_LENGTHS {
        return Err(DropReason::Malformed);
    }
    let question = Question {
        sender: Addr::v4(packet.get(14)),
        sender_mac: packet.mac(8),
        target: Addr::v4(packet.get(24)),
    };
    let is_request = packet.get::<u16>(6) == ARP_REQUEST;
    Ok(if is_request && question.sender != question.target {
        Some(question)
    } else {
        None
    })
}

/// Turns the frame into the reply that tells `question.sender` that `mac` has the target.
///
/// # Errors
/// [`DropReason::Truncated`] where the frame is shorter than [`ARP_LEN`].
#[inline(always)]
pub fn arp_answer(frame: &mut impl FrameMut, question: &Question, mac: &MacAddr) -> Result<(), DropReason> {
    let mut to: ViewMut<'_, ARP_LEN> = view_mut(frame, 0)?;
    to.put_mac(0, &question.sender_mac);
    to.put_mac(ethernet::SOURCE, mac);
    let arp = ethernet::LEN;
    to.put(arp + 6, ARP_REPLY);
    to.put_mac(arp + 8, mac);
    to.put(arp + 14, question.target.v4_word());
    to.put_mac(arp + 18, &question.sender_mac);
    to.put(arp + 24, question.sender.v4_word());
    Ok(())
}

/// Reads a neighbour solicitation whose IPv6 header is at [`ethernet::LEN`] and whose ICMPv6 header follows it.
///
/// `None` for duplicate address detection (the source is unspecified): nobody else has an endpoint's address.
///
/// # Errors
/// [`DropReason::Truncated`], or [`DropReason::Malformed`] where the hop limit is not 255 (RFC 4861 section 7.1.1).
#[inline(always)]
pub fn solicitation(frame: &impl Frame) -> Result<Option<Question>, DropReason> {
    let header: View<'_, { ipv6::LEN + 24 }> = view(frame, ethernet::LEN)?;
    if header.get::<u8>(ipv6::HOP_LIMIT) != 255 {
        return Err(DropReason::Malformed);
    }
    let question = Question {
        sender: header.address6(ipv6::SOURCE),
        sender_mac: view::<6>(frame, ethernet::SOURCE)?.mac(0),
        target: header.address6(ipv6::LEN + 8),
    };
    Ok(if question.sender.is_unspecified() {
        None
    } else {
        Some(question)
    })
}

/// Turns a frame of [`ADVERTISEMENT_LEN`] bytes into the advertisement of `mac` for the target: solicited, overriding.
///
/// # Errors
/// [`DropReason::Truncated`] where the frame is shorter.
#[inline(always)]
pub fn advertisement(
    frame: &mut impl FrameMut,
    question: &Question,
    mac: &MacAddr,
) -> Result<(), DropReason> {
    let mut to: ViewMut<'_, ADVERTISEMENT_LEN> = view_mut(frame, 0)?;
    to.put_mac(0, &question.sender_mac);
    to.put_mac(ethernet::SOURCE, mac);
    let ip = ethernet::LEN;
    to.put(ip, 0x60_u32.to_le());
    to.put(ip + ipv6::PAYLOAD_LEN, 32_u16.to_be());
    to.put(ip + ipv6::NEXT, protocol::ICMP6);
    to.put(ip + ipv6::HOP_LIMIT, 255_u8);
    to.put_address(ip + ipv6::SOURCE, &question.target, true);
    to.put_address(ip + ipv6::DESTINATION, &question.sender, true);
    let message = ip + ipv6::LEN;
    to.put(message, u32::from(icmp::ADVERTISEMENT).to_le());
    to.put(message + 4, 0x60_u32.to_le());
    to.put_address(message + 8, &question.target, true);
    to.put(message + 24, 0x0102_u16.to_le());
    to.put_mac(message + 26, mac);
    let sum = checksum::sum(&view::<32>(frame, message)?)
        + checksum::pseudo_header(&question.target, &question.sender, true, 32, protocol::ICMP6);
    view_mut::<2>(frame, message + icmp::CHECKSUM)?.put(0, !checksum::fold(sum));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Slice, SliceMut};
    use core::net::IpAddr;

    fn addr(text: &str) -> Addr {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn arp(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0x42, 10, 0, 1, 5, 8, 6, 0, 1, 8, 0, 6, 4]);
        frame.extend(operation.to_be_bytes());
        frame.extend([2, 0x42, 10, 0, 1, 5]);
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    #[test]
    fn an_arp_request_is_answered() {
        let request = arp(1, [10, 0, 1, 5], [10, 0, 1, 6]);
        let question = arp_question(&Slice(&request)).unwrap().unwrap();
        assert_eq!(
            (question.sender, question.target),
            (addr("10.0.1.5"), addr("10.0.1.6"))
        );
        let mut answer = request.clone();
        arp_answer(
            &mut SliceMut(&mut answer),
            &question,
            &MacAddr([2, 0x42, 10, 0, 1, 6]),
        )
        .unwrap();
        assert_eq!(&answer[..14], [2, 0x42, 10, 0, 1, 5, 2, 0x42, 10, 0, 1, 6, 8, 6]);
        assert_eq!(&answer[14..22], [0, 1, 8, 0, 6, 4, 0, 2]);
        assert_eq!(&answer[22..32], [2, 0x42, 10, 0, 1, 6, 10, 0, 1, 6]);
        assert_eq!(&answer[32..42], [2, 0x42, 10, 0, 1, 5, 10, 0, 1, 5]);
    }

    #[test]
    fn announcements_and_replies_ask_nothing() {
        assert_eq!(
            arp_question(&Slice(&arp(1, [10, 0, 1, 5], [10, 0, 1, 5]))),
            Ok(None)
        );
        assert_eq!(
            arp_question(&Slice(&arp(2, [10, 0, 1, 5], [10, 0, 1, 6]))),
            Ok(None)
        );
    }

    #[test]
    fn other_hardware_is_malformed() {
        let mut frame = arp(1, [10, 0, 1, 5], [10, 0, 1, 6]);
        frame[15] = 6;
        assert_eq!(arp_question(&Slice(&frame)), Err(DropReason::Malformed));
        assert_eq!(arp_question(&Slice(&frame[..41])), Err(DropReason::Truncated));
    }

    #[test]
    fn an_advertisement_carries_a_valid_checksum() {
        let question = Question {
            sender: addr("fd00::5"),
            sender_mac: MacAddr([1; 6]),
            target: addr("fd00::6"),
        };
        let mut frame = [0xff; ADVERTISEMENT_LEN];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        advertisement(
            &mut SliceMut(&mut frame),
            &question,
            &MacAddr([2, 0x42, 1, 2, 3, 4]),
        )
        .unwrap();
        let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::TransportSlice::Icmpv6(message)) = sliced.transport else {
            panic!("no ICMPv6")
        };
        let source = IpAddr::from(question.target);
        let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, IpAddr::from(question.sender)) else {
            panic!()
        };
        assert!(message.is_checksum_valid(source.octets(), destination.octets()));
        assert_eq!(message.slice()[0], 136);
    }
}
