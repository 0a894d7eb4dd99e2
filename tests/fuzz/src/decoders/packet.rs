//! Frames from the wire and from tasks, as the programs read them.

use essaim_abi::{Addr, DnsAnswer, DnsKey, MacAddr};
use essaim_packet::neighbour::{
    ADVERTISEMENT_LEN, ARP_LEN, advertisement, arp_answer, arp_question, solicitation,
};
use essaim_packet::steer::Steering;
use essaim_packet::wire::{ethernet, ipv4, ipv6, protocol, tcp};
use essaim_packet::{Fragment, Packet, Slice, SliceMut, answer, dns, parse, quote, view};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use std::net::IpAddr;

/// What is read of a frame lies inside of it, and agrees with another parser.
pub(crate) fn frame(bytes: &[u8]) {
    let Ok(Some(packet)) = parse(&Slice(bytes)) else {
        return;
    };
    assert_eq!(usize::from(packet.network), ethernet::LEN);
    inside(bytes, &packet);
    agrees(bytes, &packet);
    if packet.protocol == protocol::TCP
        && packet.fragment != Fragment::Later
        && let Ok(header) = view(&Slice(bytes), usize::from(packet.transport))
        && let Some(reset) = answer::reset(&header, 0)
    {
        let [offset, flags, ..] = reset.offset_flags_window.to_ne_bytes();
        assert_eq!(offset & 0x0f, 0, "a reset changes reserved bits");
        assert!(flags & tcp::RST != 0, "a reset that is none");
    }
    if packet
        .icmp_type()
        .is_some_and(|kind| quote::is_error(packet.v6, kind))
        && packet.fragment != Fragment::Later
        && let Ok(Some(quoted)) = quote::quoted(&Slice(bytes), &packet)
    {
        assert!(
            quoted.network >= packet.transport,
            "it quotes what stands before it"
        );
        assert_eq!(quoted.v6, packet.v6);
        assert!(quoted.has_ports());
        inside(bytes, &quoted);
    }
}

/// The offsets lie in the frame, in the order of the headers; all that was read of a transport header does, too.
///
/// A transport offset may lie behind a frame that ends early, where nothing was read there: whoever goes on reading
/// checks it again.
fn inside(bytes: &[u8], packet: &Packet) {
    let (network, transport) = (usize::from(packet.network), usize::from(packet.transport));
    let header = if packet.v6 { ipv6::LEN } else { ipv4::LEN };
    assert!(
        network + header <= bytes.len(),
        "the IP header ends behind the frame"
    );
    assert!(
        transport >= network + header,
        "the transport header begins in the IP header"
    );
    assert!(
        usize::from(packet.len) >= header,
        "the packet is shorter than its header"
    );
    if packet.fragment == Fragment::Later {
        assert_eq!(
            (packet.source_port, packet.destination_port, packet.flags),
            (0, 0, 0)
        );
    } else if packet.has_ports() {
        assert!(transport + 4 <= bytes.len(), "the ports end behind the frame");
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(packet.source_port, word(transport));
        assert_eq!(packet.destination_port, word(transport + 2));
    }
}

/// Another parser that can make sense of the frame reads the same addresses and ports.
fn agrees(bytes: &[u8], packet: &Packet) {
    let Ok(sliced) = SlicedPacket::from_ethernet(bytes) else {
        return;
    };
    let (source, destination): (IpAddr, IpAddr) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        Some(NetSlice::Ipv6(ip)) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        Some(NetSlice::Arp(_)) | None => panic!("no IP for the other parser"),
    };
    assert_eq!(
        (packet.source, packet.destination),
        (Addr::from(source), Addr::from(destination))
    );
    let (theirs, source, destination) = match &sliced.transport {
        Some(TransportSlice::Tcp(header)) => (protocol::TCP, header.source_port(), header.destination_port()),
        Some(TransportSlice::Udp(header)) => (protocol::UDP, header.source_port(), header.destination_port()),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) | None => {
            return;
        }
    };
    // An authentication header is where ours stops: such a packet has no ports.
    if packet.has_ports() {
        assert_eq!(
            packet.fragment,
            Fragment::Whole,
            "the other parser saw no fragment"
        );
        assert_eq!(
            (packet.protocol, packet.source_port, packet.destination_port),
            (theirs, source.to_be(), destination.to_be())
        );
    }
}

/// What asks for an Ethernet address is answered in place, or too short for an answer.
pub(crate) fn neighbour(bytes: &[u8]) {
    let mac = MacAddr([2, 0x42, 10, 0, 1, 6]);
    if let Ok(Some(question)) = arp_question(&Slice(bytes)) {
        assert!(bytes.len() >= ARP_LEN, "a question that is cut");
        let mut answer = bytes.to_vec();
        arp_answer(&mut SliceMut(&mut answer), &question, &mac).expect("there is room");
        assert_eq!(
            answer[ARP_LEN..],
            bytes[ARP_LEN..],
            "the answer is longer than the question"
        );
        assert_eq!(answer[..6], question.sender_mac.0, "it goes to whoever asked");
        assert_eq!(arp_question(&Slice(&answer)), Ok(None), "an answer asks");
    }
    if let Ok(Some(question)) = solicitation(&Slice(bytes)) {
        assert!(!question.sender.is_unspecified());
        let mut answer = [0; ADVERTISEMENT_LEN];
        answer[ethernet::TYPE..ethernet::LEN].copy_from_slice(&ethernet::IPV6.to_ne_bytes());
        advertisement(&mut SliceMut(&mut answer), &question, &mac).expect("there is room");
        let packet = parse(&Slice(&answer)).unwrap().expect("an advertisement is IPv6");
        assert_eq!(
            (packet.source, packet.destination),
            (question.target, question.sender)
        );
    }
}

/// Steering that is read is written as it was.
pub(crate) fn steering(bytes: &[u8]) {
    let Some(addresses) = bytes.first_chunk::<12>() else {
        return;
    };
    let decoded = Steering::decode(addresses);
    let header = view(&Slice(bytes), 0).expect("there are twelve bytes");
    assert_eq!(Steering::of(&header), decoded, "read in two ways");
    if let Some(steering) = decoded {
        assert_eq!(steering.encode(), *addresses, "written as another one");
    }
}

/// A frame on a task's loopback: what the kernel takes for a question is one for another reader too, and its answer is a
/// whole packet the other way round.
pub(crate) fn dns_frame(bytes: &[u8]) {
    let Ok(headers) = view::<{ dns::HEADERS }>(&Slice(bytes), 0) else {
        return;
    };
    if !dns::is_asked(&headers, bytes.len()) {
        return;
    }
    let mut buffer = dns::Buffer::default();
    buffer.frame()[..bytes.len()].copy_from_slice(bytes);
    let mut key = DnsKey::default();
    let message = &bytes[dns::HEADERS - 12..];
    if dns::question(&buffer, bytes.len(), &mut key).is_none() {
        assert_eq!(dns::key_of(0, message), None);
        return;
    }
    assert_eq!(dns::key_of(0, message), Some(key), "two keys for one message");
    let answer = DnsAnswer {
        len: 16,
        ..DnsAnswer::default()
    };
    let at = dns::records_at(key.len);
    let len = dns::answer(&mut buffer, key.len, &answer).expect("what was read can be answered");
    assert_eq!(len, at + 16);
    let mut given = buffer.frame()[..dns::HEADERS].to_vec();
    given.extend(&bytes[dns::HEADERS..at]);
    given.extend([0; 16]);
    let sliced = SlicedPacket::from_ethernet(&given).expect("an answer is a packet");
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("an answer without IPv4");
    };
    assert_eq!(ip.header().source(), [127, 0, 0, 11]);
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else {
        panic!("an answer without UDP");
    };
    assert_eq!(udp.payload().len(), len - 42);
    assert_eq!(
        &udp.payload()[..2],
        &message[..2],
        "an answer has the id of its question"
    );
}
