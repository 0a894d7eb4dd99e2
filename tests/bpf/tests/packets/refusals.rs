//! What cannot be delivered is answered at once: a reset, or an ICMP error, never silence.

use essaim_abi::{BackendState, DropReason, Hook, MacAddr, PortFlags, Protocol, Verdict};
use essaim_bpf_tests::{
    Input, Node, Packet, Payload, Row, Steering, Tcp, check, check_each, encapsulated, ethernet, index,
    mac_of, uplink,
};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const CLIENT6: (&str, u16) = ("2001:db8:c::7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);

fn from_client(packet: &Packet) -> Input {
    Input::uplink(packet.framed(uplink::MAC, uplink::ROUTER))
}

/// The reset that answers a segment.
fn reset(segment: &Packet) -> Packet {
    let Payload::Tcp(tcp) = &segment.payload else {
        panic!("{segment:?} is no TCP")
    };
    let mut answer = Packet {
        ttl: 64,
        source: segment.destination,
        destination: segment.source,
        ..segment.clone()
    };
    let length = u32::try_from(tcp.data.len()).unwrap();
    let control = u32::from(tcp.flags & Tcp::SYN != 0) + u32::from(tcp.flags & Tcp::FIN != 0);
    let (flags, sequence, acknowledgement) = if tcp.flags & Tcp::ACK != 0 {
        (Tcp::RST, tcp.acknowledgement, 0)
    } else {
        (
            Tcp::RST | Tcp::ACK,
            0,
            tcp.sequence.wrapping_add(length).wrapping_add(control),
        )
    };
    answer.payload = Payload::Tcp(Tcp {
        source: tcp.destination,
        destination: tcp.source,
        sequence,
        acknowledgement,
        flags,
        window: 0,
        ..tcp.clone()
    });
    answer
}

/// The ICMP error about a packet: what it quotes is as long as the sender of the error chooses, and at least eight bytes
/// of the transport header (RFC 792).
fn error(packet: &Packet, v4: (u8, u8), v6: (u8, u8), mtu: u32) -> Packet {
    let whole = packet.bytes();
    let header = if packet.source.is_ipv4() { 20 } else { 40 };
    let quote = if whole.len() < 64 { header + 8 } else { 64 };
    let (kind, code) = if packet.source.is_ipv4() { v4 } else { v6 };
    let (source, destination) = (packet.destination.to_string(), packet.source.to_string());
    let answer = Packet::icmp(
        &source,
        &destination,
        kind,
        code,
        mtu.to_be_bytes(),
        &whole[..quote],
    );
    let tos = if packet.source.is_ipv4() { 0xc0 } else { 0 };
    Packet {
        ttl: 64,
        tos,
        df: false,
        id: 0,
        ..answer
    }
}

fn port_unreachable(packet: &Packet) -> Packet {
    error(packet, (3, 3), (1, 4), 0)
}

fn to_client(packet: &Packet) -> Vec<u8> {
    packet.framed(uplink::ROUTER, uplink::MAC)
}

#[test]
fn a_service_without_backends_refuses_at_the_edge() {
    for owners in [vec![], vec![0], vec![index::HERE1]] {
        let mut node = Node::new();
        node.owners(index::WEB, &owners);
        node.backend(index::HERE1, |backend| backend.state = BackendState::Gone as u8);
        let mut rows = Vec::new();
        for (client, own) in [(CLIENT, uplink::V4), (CLIENT6, uplink::V6)] {
            for (flags, data) in [
                (Tcp::SYN, b"".as_slice()),
                (Tcp::SYN, b"fast open".as_slice()),
                (Tcp::SYN | Tcp::FIN, b""),
                (Tcp::ACK, b""),
                (Tcp::ACK, b"odd"),
                (Tcp::FIN | Tcp::ACK, b"data"),
                (0, b"neither"),
            ] {
                let segment = Packet::tcp(client, (own, 8080), flags, data);
                let row = Row::answered(
                    &format!("{owners:?} {segment:?}"),
                    from_client(&segment),
                    DropReason::NoBackend,
                    to_client(&reset(&segment)),
                );
                rows.push(row.watched(Hook::UplinkTc, Verdict::Answered, 0));
            }
            let resets = Packet::tcp(client, (own, 8080), Tcp::RST, b"");
            rows.push(Row::drops("a reset", from_client(&resets), DropReason::NoBackend));
            for len in [0, 1, 8, 15, 16, 17, 35, 36, 37, 63, 64, 500, 1400] {
                let datagram = Packet::udp(client, (own, 5353), &vec![0x5a; len]);
                rows.push(Row::answered(
                    &format!("{len} bytes by UDP"),
                    from_client(&datagram),
                    DropReason::NoBackend,
                    to_client(&port_unreachable(&datagram)),
                ));
            }
            let init = Packet::sctp(client, (own, 3868), 1);
            rows.push(Row::answered(
                "SCTP",
                from_client(&init),
                DropReason::NoBackend,
                to_client(&port_unreachable(&init)),
            ));
        }
        check_each(&mut node, &rows);
    }
}

/// The padding of a short frame is no data: the reset acknowledges the SYN alone.
#[test]
fn padding_is_not_acknowledged() {
    let mut node = Node::new();
    node.owners(index::WEB, &[]);
    let mut syn = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::SYN, b"");
    if let Payload::Tcp(tcp) = &mut syn.payload {
        tcp.options.clear();
    }
    let mut input = from_client(&syn);
    input.frame.resize(60, 0);
    let ran = node.run(&input);
    assert_eq!(&ran.frame[..54], to_client(&reset(&syn)));
}

#[test]
fn a_backend_without_an_address_of_the_family_refuses() {
    let mut node = Node::new();
    for backend in [index::HERE1, index::behind(index::VTEP2)] {
        node.owners(index::WEB, &[backend]);
        node.backend(backend, |backend| backend.addr6 = essaim_abi::Addr::UNSPECIFIED);
        let segment = Packet::opening(6, CLIENT6, (uplink::V6, 8080));
        let answer = to_client(&reset(&segment));
        let row = Row::answered("v6", from_client(&segment), DropReason::NoBackendInFamily, answer);
        check(&mut node, &[row]);
    }
}

#[test]
fn an_unknown_flow_is_reset_where_its_task_would_be() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own) in [(CLIENT, uplink::V4), (CLIENT6, uplink::V6)] {
        let segment = Packet::tcp(client, (own, 8080), Tcp::ACK, b"data");
        check(
            &mut node,
            &[Row::answered(
                "by this node's edge",
                from_client(&segment),
                DropReason::UnknownFlow,
                to_client(&reset(&segment)),
            )
            .watched(Hook::UplinkTc, Verdict::Forwarded, index::UP0)],
        );
        for (vtep, token) in [(index::VTEP2, 1), (index::VTEP3, 2), (index::VTEP5, 0)] {
            let (destination, source) = Steering {
                port: 8080,
                token,
                hash: 0x100,
                ..Steering::default()
            }
            .macs();
            let input = Input::overlay(index::INGRESS, vtep, segment.framed(destination, source));
            let (destination, source) = Steering {
                reply: true,
                token,
                ..Steering::default()
            }
            .macs();
            let answer = encapsulated(vtep, index::INGRESS, &reset(&segment).framed(destination, source));
            check(
                &mut node,
                &[
                    Row::answered("by another edge", input, DropReason::UnknownFlow, answer).watched(
                        Hook::OverlayTc,
                        Verdict::Answered,
                        0,
                    ),
                ],
            );
        }
    }
}

/// A task that died had flows: its clients must not hang.
#[test]
fn flows_of_a_dead_backend_are_reset() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let syn = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    check(
        &mut node,
        &[Row::becomes(
            "SYN",
            from_client(&syn),
            syn.clone()
                .to("10.1.0.11", 80)
                .ttl(60)
                .framed(mac_of("10.1.0.11"), GATEWAY),
        )],
    );
    node.backend(index::HERE1, |backend| backend.state = BackendState::Gone as u8);
    node.owners(index::WEB, &[index::HERE2, index::HERE1]);
    let segment = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::ACK, b"data");
    let answer = to_client(&reset(&segment));
    check(
        &mut node,
        &[Row::answered(
            "gone",
            from_client(&segment),
            DropReason::UnknownFlow,
            answer.clone(),
        )],
    );
    // Its slot was given to another task.
    node.owners(index::WEB, &[index::HERE1]);
    node.backend(index::HERE1, |backend| {
        backend.state = BackendState::Active as u8;
        backend.generation += 1;
    });
    check(
        &mut node,
        &[Row::answered(
            "another generation",
            from_client(&segment),
            DropReason::UnknownFlow,
            answer,
        )],
    );
}

#[test]
fn ttl_that_runs_out_is_answered() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own) in [(CLIENT, uplink::V4), (CLIENT6, uplink::V6)] {
        for (protocol, port) in [(6, 8080), (17, 5353), (132, 3868)] {
            for ttl in [0, 1] {
                let packet = Packet::opening(protocol, client, (own, port)).ttl(ttl);
                let answer = error(&packet, (11, 0), (3, 0), 0);
                check_each(
                    &mut node,
                    &[Row::answered(
                        &format!("{packet:?}"),
                        from_client(&packet),
                        DropReason::TtlExceeded,
                        to_client(&answer),
                    )],
                );
            }
        }
        let packet = Packet::opening(6, client, (own, 8080)).ttl(1);
        let answer = error(&packet, (11, 0), (3, 0), 0);
        let (destination, source) = Steering {
            port: 8080,
            token: 1,
            hash: 0x100,
            ..Steering::default()
        }
        .macs();
        let input = Input::overlay(index::INGRESS, index::VTEP2, packet.framed(destination, source));
        let (destination, source) = Steering {
            reply: true,
            token: 1,
            ..Steering::default()
        }
        .macs();
        let sent = encapsulated(index::VTEP2, index::INGRESS, &answer.framed(destination, source));
        check_each(
            &mut node,
            &[Row::answered(
                "through the edge",
                input,
                DropReason::TtlExceeded,
                sent,
            )],
        );
    }
}

#[test]
fn what_does_not_fit_is_answered_with_the_size_that_does() {
    let mut node = Node::new();
    for (vtep, client, own, mtu) in [
        (index::VTEP2, CLIENT, uplink::V4, 1450_u32),
        (index::VTEP3, CLIENT, uplink::V4, 1430),
        (index::VTEP3, CLIENT6, uplink::V6, 1430),
        (index::VTEP4, CLIENT6, uplink::V6, 1450),
    ] {
        node.owners(index::WEB, &[index::behind(vtep)]);
        let headers = if client == CLIENT { 40 } else { 60 };
        let packet = Packet::tcp(
            client,
            (own, 8080),
            Tcp::ACK,
            &vec![1; mtu as usize + 1 - headers],
        );
        let answer = error(&packet, (3, 4), (2, 0), mtu);
        check(
            &mut node,
            &[Row::answered(
                &format!("VTEP {vtep}"),
                from_client(&packet),
                DropReason::TooBig,
                to_client(&answer),
            )],
        );
    }
}

#[test]
fn what_may_be_fragmented_goes_through_the_device() {
    let mut node = Node::new();
    let packet = Packet::udp(CLIENT, (uplink::V4, 5353), &[1; 1450]).may_be_fragmented();
    let ran = node.run(&from_client(&packet));
    assert_eq!(&ran.frame[14..], packet.bytes());
    assert_eq!(ran.frame[..2], [0x02, 0xe5]);
    assert!(
        ran.events
            .iter()
            .any(|event| event.verdict == Verdict::Tunnelled as u8),
        "{:?}",
        ran.events
    );
}

/// Segments that the kernel has joined fit where each of them does. Through the device: a test run cannot say that the
/// segments are TCP's, and the kernel makes no room in others.
#[test]
fn joined_segments_are_judged_one_by_one() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::behind(index::VTEP4)]);
    let packet = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::ACK, &[1; 2800]);
    let joined = |size: u32| Input {
        gso: (size, 2800_u32.div_ceil(size)),
        ..from_client(&packet)
    };
    let ran = node.run(&joined(1400));
    assert_eq!(
        (ran.drops.len(), &ran.frame[14..]),
        (0, packet.bytes().as_slice()),
        "{:?}",
        ran.drops
    );
    let ran = node.run(&joined(1450));
    assert_eq!(ran.drops.keys().collect::<Vec<_>>(), [&DropReason::TooBig]);
}

#[test]
fn errors_and_later_fragments_are_never_answered() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let datagram = Packet::udp(CLIENT, (uplink::V4, 5353), &[9; 64]).ttl(1);
    let parts = datagram.fragments(&[40]);
    let input = |part: &[u8]| Input::uplink(ethernet(uplink::MAC, uplink::ROUTER, part));
    let ran = node.run(&input(&parts[0]));
    assert_eq!(
        ran.drops.keys().collect::<Vec<_>>(),
        [&DropReason::TtlExceeded],
        "the first one is"
    );
    check(
        &mut node,
        &[Row::drops(
            "a later one",
            input(&parts[1]),
            DropReason::TtlExceeded,
        )],
    );
}

/// Whatever a task sends towards a client that does not fit is answered to the task.
#[test]
fn a_reply_that_does_not_fit_is_answered_to_the_task() {
    let mut node = Node::new();
    node.publish(Protocol::Tcp, 8080, 80, PortFlags::NONE);
    node.owners(index::WEB, &[index::HERE1]);
    let (destination, source) = Steering {
        port: 8080,
        token: 1,
        hash: 0x100,
        ..Steering::default()
    }
    .macs();
    for (client, task) in [(CLIENT, ("10.1.0.11", 80)), (CLIENT6, ("fd01::11", 80))] {
        let own = if client == CLIENT { uplink::V4 } else { uplink::V6 };
        let syn = Packet::opening(6, client, (own, 8080));
        node.verdict(&Input::overlay(
            index::INGRESS,
            index::VTEP3,
            syn.framed(destination, source),
        ));
        let reply = Packet::tcp(task, client, Tcp::ACK, &[3; 1400]);
        let input = Input::endpoint(index::TASK1, reply.framed(GATEWAY, mac_of("10.1.0.11")));
        let answer = error(&reply, (3, 4), (2, 0), 1430).framed(mac_of("10.1.0.11"), GATEWAY);
        check(
            &mut node,
            &[Row::answered("reply", input, DropReason::TooBig, answer)],
        );
    }
}
