//! Published ports by tc: `uplink_tc`, `edge_tc`, `backend_tc` and `reply_tc`, from the client's first packet on.

use essaim_abi::{
    DropReason, Flow, FlowFlags, FlowKey, FlowKind, FlowState, Hook, MacAddr, PortFlags, Protocol, Verdict,
};
use essaim_bpf_tests::{
    Input, Node, Packet, Payload, Row, Steering, Tcp, addr, check, check_each, encapsulated, index, mac_of,
    of_flow, uplink,
};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const CLIENT6: (&str, u16) = ("2001:db8:c::7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);

fn from_client(packet: &Packet) -> Input {
    Input::uplink(packet.framed(uplink::MAC, uplink::ROUTER))
}

fn from_task(packet: &Packet) -> Input {
    Input::endpoint(index::TASK1, packet.framed(GATEWAY, mac_of("10.1.0.11")))
}

fn into_task(packet: &Packet) -> Vec<u8> {
    packet.framed(mac_of("10.1.0.11"), GATEWAY)
}

/// An address and a port.
type End = (&'static str, u16);

/// Client, published address and port, protocol, the task's address and port.
const PATHS: [(End, End, u8, End); 6] = [
    (CLIENT, (uplink::V4, 8080), 6, ("10.1.0.11", 80)),
    (CLIENT, (uplink::V4, 5353), 17, ("10.1.0.11", 53)),
    (CLIENT, (uplink::V4, 3868), 132, ("10.1.0.11", 3868)),
    (CLIENT6, (uplink::V6, 8080), 6, ("fd01::11", 80)),
    (CLIENT6, (uplink::V6, 5353), 17, ("fd01::11", 53)),
    (CLIENT6, (uplink::V6, 3868), 132, ("fd01::11", 3868)),
];

fn key(client: (&str, u16), task: (&str, u16), protocol: u8) -> FlowKey {
    FlowKey {
        remote: addr(client.0),
        local: addr(task.0),
        remote_port: client.1.to_be(),
        local_port: task.1.to_be(),
        protocol,
        reserved: [0; 3],
    }
}

/// A packet that goes on in a flow, either way.
fn later(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Packet {
    match protocol {
        6 => Packet::tcp(source, destination, Tcp::ACK, b"some data"),
        17 => Packet::udp(source, destination, b"more"),
        _ => Packet::sctp(source, destination, 10),
    }
}

/// The backend's first answer.
fn answer(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Packet {
    match protocol {
        6 => Packet::tcp(source, destination, Tcp::SYN | Tcp::ACK, b""),
        17 => Packet::udp(source, destination, b"answer"),
        _ => Packet::sctp(source, destination, 2),
    }
}

#[test]
fn a_flow_lives_from_its_first_packet_to_its_last() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let hz = node.hz();
    for (client, published, protocol, task) in PATHS {
        let what = format!("{client:?} to {published:?} by protocol {protocol}");
        let opening = Packet::opening(protocol, client, published);
        let delivered = opening.clone().to(task.0, task.1).ttl(60);
        check(
            &mut node,
            &[
                Row::becomes(&what, from_client(&opening), into_task(&delivered)).watched(
                    Hook::UplinkTc,
                    Verdict::Delivered,
                    index::TASK1,
                ),
            ],
        );
        let key = key(client, task, protocol);
        let flow = node.half_open(&key).expect(&what);
        let expected = Flow {
            translated: addr(published.0),
            translated_port: published.1.to_be(),
            kind: FlowKind::Ingress as u8,
            state: FlowState::HalfOpen as u8,
            flags: FlowFlags::NONE,
            edge_token: 1,
            reserved: [0; 2],
            service: index::WEB,
            backend: index::HERE1,
            backend_generation: 100 + index::HERE1,
            edge_vtep: index::SELF,
            seen: flow.seen,
            timeout: 63 * hz,
        };
        assert_eq!(flow, expected, "{what}");
        assert!(node.jiffies().wrapping_sub(flow.seen) < 10 * hz, "{what}");

        // A second packet of the client before the answer leaves it half-open.
        let again = later(protocol, client, published);
        let delivered = again.clone().to(task.0, task.1).ttl(60);
        check(
            &mut node,
            &[Row::becomes(&what, from_client(&again), into_task(&delivered))],
        );
        assert_eq!(
            node.half_open(&key).unwrap().state,
            FlowState::HalfOpen as u8,
            "{what}"
        );
        assert_eq!(node.established(&key), None, "{what}");

        let reply = answer(protocol, task, client);
        let sent = reply.clone().from(published.0, published.1).ttl(60);
        let row = Row::becomes(
            &what,
            from_task(&reply),
            sent.framed(GATEWAY, mac_of("10.1.0.11")),
        );
        check(
            &mut node,
            &[row.watched(Hook::EndpointTc, Verdict::Forwarded, index::UP0)],
        );
        assert_eq!(node.half_open(&key).unwrap().flags, FlowFlags::REPLIED, "{what}");

        check(
            &mut node,
            &[Row::becomes(&what, from_client(&again), into_task(&delivered))],
        );
        assert_eq!(node.half_open(&key), None, "{what}");
        let flow = node.established(&key).expect(&what);
        assert_eq!(flow.state, FlowState::Established as u8, "{what}");
        assert_eq!(
            flow.timeout,
            if protocol == 17 { 180 * hz } else { 7200 * hz },
            "{what}"
        );

        if protocol == 6 {
            let end = Packet::tcp(client, published, Tcp::FIN | Tcp::ACK, b"");
            let delivered = end.clone().to(task.0, task.1).ttl(60);
            check(
                &mut node,
                &[Row::becomes(&what, from_client(&end), into_task(&delivered))],
            );
            let flow = node.established(&key).unwrap();
            assert_eq!((flow.state, flow.timeout), (FlowState::Closing as u8, 60 * hz));
            // The same client opens the same flow anew.
            check(
                &mut node,
                &[Row::becomes(
                    &what,
                    from_client(&opening),
                    into_task(&opening.clone().to(task.0, task.1).ttl(60)),
                )],
            );
            assert_eq!(node.half_open(&key).unwrap().state, FlowState::HalfOpen as u8);
            assert_eq!(node.established(&key), None, "the closed flow made room");
        }
    }
}

#[test]
fn packets_and_flows_are_counted_once() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let syn = from_client(&Packet::opening(6, CLIENT, (uplink::V4, 8080)));
    let len = syn.frame.len() as u64;
    for flows in [1, 0] {
        let ran = node.run(&syn);
        assert_eq!(
            ran.services.into_iter().collect::<Vec<_>>(),
            [(index::WEB, (1, len, flows))]
        );
        assert_eq!(
            ran.backends.into_iter().collect::<Vec<_>>(),
            [(index::HERE1, (1, len, flows))]
        );
    }
    // From another node's edge.
    let steering = Steering {
        port: 8080,
        token: 2,
        hash: 0x0102_0300,
        ..Steering::default()
    };
    let (destination, source) = steering.macs();
    let syn = Packet::opening(6, ("198.51.100.8", 7), ("192.0.2.2", 8080)).framed(destination, source);
    let len = syn.len() as u64;
    for flows in [1, 0] {
        let ran = node.run(&Input::overlay(index::INGRESS, index::VTEP2, syn.clone()));
        assert_eq!(
            ran.services.into_iter().collect::<Vec<_>>(),
            [(index::WEB, (1, len, flows))]
        );
        assert_eq!(
            ran.backends.into_iter().collect::<Vec<_>>(),
            [(index::HERE1, (1, len, flows))]
        );
    }
}

#[test]
fn what_is_not_published_is_left_to_the_kernel() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let syn = |to: &str, port: u16| from_client(&Packet::opening(6, CLIENT, (to, port)));
    let mut rows = vec![
        Row::passes("an unpublished port", syn(uplink::V4, 8081)),
        Row::passes("another machine", syn("192.0.2.77", 8080)),
        Row::passes(
            "ping",
            from_client(&Packet::icmp(CLIENT.0, uplink::V4, 8, 0, [0, 1, 0, 2], b"ping")),
        ),
        Row::passes(
            "another protocol",
            from_client(&Packet::new(CLIENT.0, uplink::V4, Payload::Raw(47, vec![0; 8]))),
        ),
    ];
    let mut arp = syn(uplink::V4, 8080);
    arp.frame[12..14].copy_from_slice(&[0x08, 0x06]);
    rows.push(Row::passes("ARP", arp));
    let whole = syn(uplink::V4, 8080).frame;
    // The kernel runs no frame of tc that says to be IPv4 and has no whole header.
    for len in 34..38 {
        rows.push(Row::passes(
            &format!("{len} bytes"),
            Input::uplink(whole[..len].to_vec()),
        ));
    }
    check(&mut node, &rows);
}

#[test]
fn options_and_extension_headers_are_carried_along() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let v4 = Packet {
        options: vec![1, 1, 1, 0],
        ..Packet::opening(6, CLIENT, (uplink::V4, 8080))
    };
    let v6 = Packet {
        extension: true,
        ..Packet::opening(17, CLIENT6, (uplink::V6, 5353))
    };
    check(
        &mut node,
        &[
            Row::becomes(
                "IPv4 options",
                from_client(&v4),
                into_task(&v4.clone().to("10.1.0.11", 80).ttl(60)),
            ),
            Row::becomes(
                "extension",
                from_client(&v6),
                into_task(&v6.clone().to("fd01::11", 53).ttl(60)),
            ),
        ],
    );
}

#[test]
fn a_checksum_that_was_left_out_stays_out() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let mut packet = Packet::opening(17, CLIENT, (uplink::V4, 5353));
    if let Payload::Udp { no_checksum, .. } = &mut packet.payload {
        *no_checksum = true;
    }
    let delivered = packet.clone().to("10.1.0.11", 53).ttl(60);
    check(
        &mut node,
        &[Row::becomes(
            "UDP without checksum",
            from_client(&packet),
            into_task(&delivered),
        )],
    );
}

/// Data that makes the translated checksum come out as every value near zero, where UDP has two ways to write one.
#[test]
fn checksums_are_right_for_every_sum() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let mut rows = Vec::new();
    for number in (0..=u16::MAX).step_by(13).chain(0..300) {
        let packet = Packet::udp(CLIENT, (uplink::V4, 5353), &number.to_be_bytes());
        let delivered = packet.clone().to("10.1.0.11", 53).ttl(60);
        rows.push(Row::becomes(
            &format!("data {number}"),
            from_client(&packet),
            into_task(&delivered),
        ));
    }
    check(&mut node, &rows);
}

#[test]
fn a_backend_elsewhere_gets_the_packet_as_xdp_would_send_it() {
    let mut node = Node::new();
    for vtep in [index::VTEP2, index::VTEP3, index::VTEP5] {
        node.owners(index::WEB, &[index::behind(vtep)]);
        let ifindex = if vtep == index::VTEP5 {
            index::UP1
        } else {
            index::UP0
        };
        let mut rows = Vec::new();
        for (client, published, protocol, _) in PATHS {
            let number = match protocol {
                6 => 0,
                17 => 1,
                _ => 2,
            };
            let packet = Packet::opening(protocol, client, published);
            let hash = of_flow(
                (packet.source, client.1),
                (packet.destination, published.1),
                protocol,
            ) & 0xffff_ff00;
            let steering = Steering {
                protocol: number,
                port: published.1,
                token: 1,
                hash,
                ..Steering::default()
            };
            let (destination, source) = steering.macs();
            let expected = encapsulated(vtep, index::INGRESS, &packet.framed(destination, source));
            let row = Row::becomes(&format!("{packet:?}"), from_client(&packet), expected);
            rows.push(row.watched(Hook::UplinkTc, Verdict::Encapsulated, ifindex));
        }
        check(&mut node, &rows);
        assert_eq!(node.flows(), 0, "the edge keeps no flow");
    }
}

#[test]
fn an_unresolved_vtep_is_reached_through_the_device() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::behind(index::VTEP4)]);
    let packet = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    let hash = of_flow((packet.source, CLIENT.1), (packet.destination, 8080), 6) & 0xffff_ff00;
    let (destination, source) = Steering {
        port: 8080,
        token: 1,
        hash,
        ..Steering::default()
    }
    .macs();
    let row = Row::becomes(
        "unresolved",
        from_client(&packet),
        packet.framed(destination, source),
    );
    check(&mut node, &[row.watched(Hook::UplinkTc, Verdict::Tunnelled, 0)]);
}

#[test]
fn host_mode_delivers_to_the_tasks_of_this_node_alone() {
    let mut node = Node::new();
    node.publish(Protocol::Tcp, 8080, 80, PortFlags::HOST);
    node.owners(index::WEB, &[index::HERE1]);
    let packet = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    let delivered = packet.clone().to("10.1.0.11", 80).ttl(60);
    check(
        &mut node,
        &[Row::becomes(
            "host mode",
            from_client(&packet),
            into_task(&delivered),
        )],
    );
}

#[test]
fn sctp_to_another_port_is_refused_since_its_crc_covers_the_ports() {
    let mut node = Node::new();
    node.publish(Protocol::Sctp, 3868, 3869, PortFlags::NONE);
    node.owners(index::WEB, &[index::HERE1]);
    let packet = Packet::opening(132, CLIENT, (uplink::V4, 3868));
    check(
        &mut node,
        &[Row::drops(
            "SCTP",
            from_client(&packet),
            DropReason::UnsupportedProtocol,
        )],
    );
}

#[test]
fn replies_leave_by_the_edge_that_the_client_came_through() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, published, protocol, task) in PATHS {
        for (vtep, token) in [(index::VTEP2, 1), (index::VTEP3, 4)] {
            let number = match protocol {
                6 => 0,
                17 => 1,
                _ => 2,
            };
            let steering = Steering {
                protocol: number,
                port: published.1,
                token,
                hash: 0x0102_0300,
                ..Steering::default()
            };
            let (destination, source) = steering.macs();
            let opening = Packet::opening(protocol, client, published);
            let delivered = into_task(&opening.clone().to(task.0, task.1).ttl(60));
            let input = Input::overlay(index::INGRESS, vtep, opening.framed(destination, source));
            let reply = answer(protocol, task, client);
            let (destination, source) = Steering {
                reply: true,
                token,
                ..Steering::default()
            }
            .macs();
            let inner = reply
                .clone()
                .from(published.0, published.1)
                .ttl(60)
                .framed(destination, source);
            check(
                &mut node,
                &[
                    Row::becomes("steered request", input, delivered).watched(
                        Hook::OverlayTc,
                        Verdict::Delivered,
                        index::TASK1,
                    ),
                    Row::becomes(
                        "reply",
                        from_task(&reply),
                        encapsulated(vtep, index::INGRESS, &inner),
                    )
                    .watched(Hook::EndpointTc, Verdict::Encapsulated, index::UP0),
                ],
            );
        }
    }
}

#[test]
fn direct_replies_leave_here() {
    let mut node = Node::new();
    node.publish(Protocol::Tcp, 8080, 80, PortFlags::DSR);
    node.owners(index::WEB, &[index::HERE1]);
    let steering = Steering {
        port: 8080,
        token: 1,
        hash: 0x0102_0300,
        ..Steering::default()
    };
    let (destination, source) = steering.macs();
    let opening = Packet::opening(6, CLIENT, ("192.0.2.2", 8080));
    let reply = answer(6, ("10.1.0.11", 80), CLIENT);
    check(
        &mut node,
        &[
            Row::becomes(
                "request",
                Input::overlay(index::INGRESS, index::VTEP2, opening.framed(destination, source)),
                into_task(&opening.clone().to("10.1.0.11", 80).ttl(60)),
            ),
            Row::becomes("reply", from_task(&reply), {
                reply
                    .clone()
                    .from("192.0.2.2", 8080)
                    .ttl(60)
                    .framed(GATEWAY, mac_of("10.1.0.11"))
            })
            .watched(Hook::EndpointTc, Verdict::Forwarded, index::UP0),
        ],
    );
}

#[test]
fn the_mss_is_clamped_to_what_fits_the_tunnel() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let mut rows = Vec::new();
    for (client, published, task, limit) in [
        (CLIENT, (uplink::V4, 8080), ("10.1.0.11", 80), 1410),
        (CLIENT6, (uplink::V6, 8080), ("fd01::11", 80), 1390),
    ] {
        let opening = Packet::opening(6, client, published);
        rows.push(Row::becomes(
            "SYN",
            from_client(&opening),
            into_task(&opening.clone().to(task.0, task.1).ttl(60)),
        ));
        for (mss, options) in [
            (1460_u16, vec![2, 4, 0, 0]),
            (limit + 1, vec![2, 4, 0, 0]),
            (limit, vec![2, 4, 0, 0]),
            (500, vec![2, 4, 0, 0]),
            (9000, vec![1, 1, 2, 4, 0, 0, 1, 1]),
            (9000, vec![3, 3, 7, 1, 2, 4, 0, 0]),
            (9000, vec![4, 2, 1, 1, 2, 4, 0, 0, 3, 3, 7, 0]),
        ] {
            let with = |mss: u16| {
                let mut packet = answer(6, task, client);
                let Payload::Tcp(tcp) = &mut packet.payload else {
                    unreachable!()
                };
                let at = options
                    .windows(4)
                    .position(|bytes| bytes == [2, 4, 0, 0])
                    .unwrap();
                tcp.options.clone_from(&options);
                tcp.options[at + 2..at + 4].copy_from_slice(&mss.to_be_bytes());
                packet
            };
            let sent = with(mss.min(limit)).from(published.0, published.1).ttl(60);
            rows.push(Row::becomes(
                &format!("MSS {mss} in {options:?}"),
                from_task(&with(mss)),
                sent.framed(GATEWAY, mac_of("10.1.0.11")),
            ));
        }
    }
    check(&mut node, &rows);
}

/// Options are optional, and data is none.
#[test]
fn an_answer_without_an_mss_passes_as_it_is() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let mut rows = Vec::new();
    for (client, published, task) in [
        (CLIENT, (uplink::V4, 8080), ("10.1.0.11", 80)),
        (CLIENT6, (uplink::V6, 8080), ("fd01::11", 80)),
    ] {
        let opening = Packet::opening(6, client, published);
        rows.push(Row::becomes(
            "SYN",
            from_client(&opening),
            into_task(&opening.clone().to(task.0, task.1).ttl(60)),
        ));
        for (options, data) in [
            (vec![], b"".as_slice()),
            (vec![], b"fast open"),
            (vec![], &[2, 4, 0xff, 0xff]),
            (vec![1, 1, 4, 2], b""),
            (vec![4, 2, 1, 0], &[2, 4, 0xff, 0xff]),
            (vec![1, 1, 1, 1], &[2, 4, 0xff, 0xff]),
            (vec![3, 0, 0, 0], b""),
            (vec![1, 1, 1, 2], b""),
            (vec![1, 1, 2, 4], b""),
        ] {
            let mut reply = answer(6, task, client);
            let Payload::Tcp(tcp) = &mut reply.payload else {
                unreachable!()
            };
            (tcp.options, tcp.data) = (options.clone(), data.to_vec());
            let sent = reply.clone().from(published.0, published.1).ttl(60);
            rows.push(Row::becomes(
                &format!("options {options:?}, data {data:?}"),
                from_task(&reply),
                sent.framed(GATEWAY, mac_of("10.1.0.11")),
            ));
        }
    }
    check(&mut node, &rows);
}

#[test]
fn a_syn_flood_evicts_no_established_flow() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let client = (CLIENT.0, 9);
    for input in [
        from_client(&Packet::opening(6, client, (uplink::V4, 8080))),
        from_task(&answer(6, ("10.1.0.11", 80), client)),
        from_client(&later(6, client, (uplink::V4, 8080))),
    ] {
        node.verdict(&input);
    }
    let key = key(client, ("10.1.0.11", 80), 6);
    assert!(node.established(&key).is_some());
    for port in 0..40_000_u32 {
        let address = format!("203.0.113.{}", port % 250);
        let syn = Packet::opening(
            6,
            (&address, u16::try_from(1024 + port / 250).unwrap()),
            (uplink::V4, 8080),
        );
        node.verdict(&from_client(&syn));
    }
    assert!(
        node.maps().half_open_flows.entries().unwrap().len() > 20_000,
        "the flood filled the table of half-open flows"
    );
    assert_eq!(
        node.established(&key).unwrap().state,
        FlowState::Established as u8
    );
}

#[test]
fn a_conflicting_flow_is_refused_while_the_other_lives() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let first = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    let second = Packet::opening(6, CLIENT, ("192.0.2.101", 8080));
    let reset = |packet: &Packet| {
        let mut reset = packet
            .clone()
            .from("192.0.2.101", 8080)
            .to(CLIENT.0, CLIENT.1)
            .ttl(64);
        let Payload::Tcp(tcp) = &mut reset.payload else {
            unreachable!()
        };
        (tcp.flags, tcp.sequence, tcp.acknowledgement, tcp.window) = (Tcp::RST | Tcp::ACK, 0, 1001, 0);
        reset.framed(uplink::ROUTER, uplink::MAC)
    };
    check(
        &mut node,
        &[
            Row::becomes(
                "first",
                from_client(&first),
                into_task(&first.clone().to("10.1.0.11", 80).ttl(60)),
            ),
            Row::answered(
                "second",
                from_client(&second),
                DropReason::FlowConflict,
                reset(&second),
            )
            .watched(Hook::UplinkTc, Verdict::Answered, 0),
            Row::becomes(
                "first again",
                from_client(&first),
                into_task(&first.clone().to("10.1.0.11", 80).ttl(60)),
            ),
        ],
    );
    check_each(
        &mut node,
        &[Row::becomes(
            "alone",
            from_client(&second),
            into_task(&second.clone().to("10.1.0.11", 80).ttl(60)),
        )],
    );
}

#[test]
fn a_dry_run_makes_no_flow() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    node.configure(|config| config.trace_mark = 77);
    let packet = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    let ran = node.run(&Input {
        mark: 77,
        ..from_client(&packet)
    });
    assert_eq!(ran.frame, into_task(&packet.clone().to("10.1.0.11", 80).ttl(60)));
    assert!(ran.services.is_empty() && ran.backends.is_empty() && ran.drops.is_empty());
    assert_eq!(node.flows(), 0);
    assert!(
        ran.events
            .iter()
            .any(|event| event.verdict == Verdict::Delivered as u8 && event.trace_mark == 77)
    );
    node.owners(index::WEB, &[]);
    let ran = node.run(&Input {
        mark: 77,
        ..from_client(&packet)
    });
    assert!(ran.drops.is_empty(), "{:?}", ran.drops);
}

#[test]
fn a_full_table_of_established_flows_refuses_and_harms_none() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let establish = |node: &mut Node, port: u16| {
        let client = (CLIENT.0, port);
        for input in [
            from_client(&Packet::opening(17, client, (uplink::V4, 5353))),
            from_task(&answer(17, ("10.1.0.11", 53), client)),
        ] {
            node.verdict(&input);
        }
        node.run(&from_client(&later(17, client, (uplink::V4, 5353))))
    };
    let mut established = 0;
    let refused = (10_000..11_000)
        .map(|port| establish(&mut node, port))
        .find(|ran| {
            established += 1;
            ran.drops.contains_key(&DropReason::FlowTableFull)
        });
    assert!(refused.is_some(), "the table took {established} flows");
    assert!(established > 256, "the table holds 256, took {established}");
    let key = key((CLIENT.0, 10_000), ("10.1.0.11", 53), 17);
    assert_eq!(
        node.established(&key).unwrap().state,
        FlowState::Established as u8
    );
}
