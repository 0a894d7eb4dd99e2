//! East-west by packet: VIPs, what a backend answers, and published ports from within (`vip_tc`, `reply_tc`).

use essaim_abi::{
    BackendState, DropReason, Flow, FlowFlags, FlowKey, FlowKind, FlowState, Hook, MacAddr, ServiceFlags,
    Verdict,
};
use essaim_bpf_tests::{
    Input, Node, Packet, Payload, REDIRECT, Row, Steering, Tcp, addr, check, encapsulated, index, mac_of,
    of_flow, uplink,
};

const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);
/// The client task, a VIP, the backend on this node, the one behind VTEP 2.
const SIDES: [(&str, &str, &str, &str); 2] = [
    ("10.1.0.11", "10.1.0.100", "10.1.0.12", "10.1.0.22"),
    ("fd01::11", "fd01::100", "fd01::12", "fd01::22"),
];

fn task1(packet: &Packet) -> Input {
    Input::endpoint(index::TASK1, packet.framed(GATEWAY, mac_of("10.1.0.11")))
}

fn task2(packet: &Packet) -> Input {
    Input::endpoint(index::TASK2, packet.framed(GATEWAY, mac_of("10.1.0.12")))
}

fn into_task1(packet: &Packet, from: &str) -> Vec<u8> {
    packet.framed(mac_of("10.1.0.11"), mac_of(from))
}

fn into_task2(packet: &Packet) -> Vec<u8> {
    packet.framed(mac_of("10.1.0.12"), GATEWAY)
}

fn key(remote: (&str, u16), local: (&str, u16), protocol: u8) -> FlowKey {
    FlowKey {
        remote: addr(remote.0),
        local: addr(local.0),
        remote_port: remote.1.to_be(),
        local_port: local.1.to_be(),
        protocol,
        reserved: [0; 3],
    }
}

fn answering(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Packet {
    match protocol {
        6 => Packet::tcp(source, destination, Tcp::SYN | Tcp::ACK, b""),
        17 => Packet::udp(source, destination, b"answer"),
        _ => Packet::sctp(source, destination, 2),
    }
}

fn going_on(protocol: u8, source: (&str, u16), destination: (&str, u16)) -> Packet {
    match protocol {
        6 => Packet::tcp(source, destination, Tcp::ACK, b"data"),
        17 => Packet::udp(source, destination, b"more"),
        _ => Packet::sctp(source, destination, 10),
    }
}

/// The reset that answers a SYN, or a segment with ACK.
fn reset(segment: &Packet) -> Packet {
    let Payload::Tcp(tcp) = &segment.payload else {
        panic!("{segment:?} is no TCP")
    };
    let (flags, sequence, acknowledgement) = if tcp.flags & Tcp::ACK == 0 {
        (Tcp::RST | Tcp::ACK, 0, 1001)
    } else {
        (Tcp::RST, 5000, 0)
    };
    let payload = Payload::Tcp(Tcp {
        source: tcp.destination,
        destination: tcp.source,
        sequence,
        acknowledgement,
        flags,
        window: 0,
        ..tcp.clone()
    });
    Packet {
        ttl: 64,
        source: segment.destination,
        destination: segment.source,
        payload,
        ..segment.clone()
    }
}

fn unreachable(packet: &Packet) -> Packet {
    let v4 = packet.source.is_ipv4();
    let bytes = packet.bytes();
    let len = if bytes.len() < 64 {
        if v4 { 28 } else { 48 }
    } else {
        64
    };
    let (kind, code) = if v4 { (3, 3) } else { (1, 4) };
    let (from, to) = (packet.destination.to_string(), packet.source.to_string());
    let error = Packet::icmp(&from, &to, kind, code, [0; 4], &bytes[..len]);
    Packet {
        ttl: 64,
        tos: if v4 { 0xc0 } else { 0 },
        df: false,
        id: 0,
        ..error
    }
}

#[test]
fn a_vip_leads_to_a_backend_and_its_answers_come_from_the_vip() {
    let mut node = Node::new();
    let hz = node.hz();
    for (task, vip, backend, _) in SIDES {
        for protocol in [6, 17, 132] {
            // Any port: nothing is published here.
            let (client, asked, given) = ((task, 40_000), (vip, 1234), (backend, 1234));
            let what = format!("{vip} by protocol {protocol}");
            let opening = Packet::opening(protocol, client, asked);
            check(
                &mut node,
                &[Row::becomes(
                    &what,
                    task1(&opening),
                    into_task2(&opening.clone().to(backend, 1234)),
                )
                .watched(Hook::EndpointTc, Verdict::Delivered, index::TASK2)],
            );
            let (forward, reverse) = (key(asked, client, protocol), key(given, client, protocol));
            let flow = node.half_open(&forward).expect(&what);
            let expected = Flow {
                translated: addr(backend),
                translated_port: 1234_u16.to_be(),
                kind: FlowKind::Forward as u8,
                state: FlowState::HalfOpen as u8,
                flags: FlowFlags::NONE,
                edge_token: 0,
                reserved: [0; 2],
                service: index::VIP,
                backend: index::HERE2,
                backend_generation: 100 + index::HERE2,
                edge_vtep: 0,
                seen: flow.seen,
                timeout: 63 * hz,
            };
            assert_eq!(flow, expected, "{what}");
            let back = node.half_open(&reverse).expect(&what);
            assert_eq!(
                back,
                Flow {
                    translated: addr(vip),
                    kind: FlowKind::Reverse as u8,
                    ..expected
                },
                "{what}"
            );
            assert_eq!(node.maps().translated.read(1).unwrap(), 1);

            let answer = answering(protocol, given, client);
            let more = going_on(protocol, client, asked);
            check(
                &mut node,
                &[
                    Row::becomes(
                        &what,
                        task2(&answer),
                        into_task1(&answer.clone().from(vip, 1234), "10.1.0.12"),
                    )
                    .watched(Hook::EndpointTc, Verdict::Delivered, index::TASK1),
                    Row::becomes(&what, task1(&more), into_task2(&more.clone().to(backend, 1234))),
                ],
            );
            for key in [&forward, &reverse] {
                assert_eq!(node.half_open(key), None, "{what}");
                let flow = node.established(key).expect(&what);
                assert_eq!(flow.state, FlowState::Established as u8, "{what}");
                assert_eq!(
                    flow.timeout,
                    if protocol == 17 { 180 * hz } else { 7200 * hz },
                    "{what}"
                );
            }
            let answer = going_on(protocol, given, client);
            check(
                &mut node,
                &[Row::becomes(
                    &what,
                    task2(&answer),
                    into_task1(&answer.clone().from(vip, 1234), "10.1.0.12"),
                )],
            );
        }
    }
}

#[test]
fn a_backend_on_another_node_is_reached_and_answers_as_the_vip() {
    let mut node = Node::new();
    node.active(index::VIP, &[index::behind(index::VTEP2)]);
    for (task, vip, _, remote) in SIDES {
        for protocol in [6, 17, 132] {
            let (client, asked, given) = ((task, 40_000), (vip, 1234), (remote, 1234));
            let opening = Packet::opening(protocol, client, asked);
            let inner = opening
                .clone()
                .to(remote, 1234)
                .framed(mac_of("10.1.0.22"), GATEWAY);
            let answer = answering(protocol, given, client);
            let enters = Input::overlay(index::RED, index::VTEP2, into_task1(&answer, "10.1.0.22"));
            check(
                &mut node,
                &[
                    Row::becomes(
                        "question",
                        task1(&opening),
                        encapsulated(index::VTEP2, index::RED, &inner),
                    )
                    .watched(Hook::EndpointTc, Verdict::Encapsulated, index::UP0),
                    Row::becomes(
                        "answer",
                        enters,
                        into_task1(&answer.clone().from(vip, 1234), "10.1.0.22"),
                    )
                    .watched(Hook::OverlayTc, Verdict::Delivered, index::TASK1),
                ],
            );
        }
    }
}

#[test]
fn packets_of_a_peer_that_is_no_answer_keep_their_source() {
    let mut node = Node::new();
    for (task, vip, backend, _) in SIDES {
        node.verdict(&task1(&Packet::opening(6, (task, 40_000), (vip, 80))));
        let own = Packet::opening(6, (backend, 5), (task, 40_000));
        let other = Packet::udp((backend, 80), (task, 40_000), b"by UDP");
        check(
            &mut node,
            &[
                Row::becomes("another port", task2(&own), into_task1(&own, "10.1.0.12")),
                Row::becomes("another protocol", task2(&other), into_task1(&other, "10.1.0.12")),
            ],
        );
    }
}

#[test]
fn flows_take_the_backends_in_turn() {
    let mut node = Node::new();
    let backends = [
        index::HERE2,
        index::behind(index::VTEP2),
        index::behind(index::VTEP3),
    ];
    node.active(index::VIP, &backends);
    let mut chosen = Vec::new();
    for port in 1..=9 {
        let ran = node.run(&task1(&Packet::opening(
            6,
            ("10.1.0.11", port),
            ("10.1.0.100", 80),
        )));
        assert_eq!(ran.verdict, REDIRECT);
        let counted: Vec<_> = ran.backends.into_iter().collect();
        let [(backend, (packets, bytes, flows))] = counted.as_slice() else {
            panic!("counted {counted:?}")
        };
        assert_eq!((*packets, *bytes, *flows), (1, 14 + 44, 1));
        assert_eq!(ran.services.get(&index::VIP), Some(&(1, 58, 1)));
        chosen.push(*backend);
    }
    assert_eq!(chosen, backends.repeat(3));
    // The flow stays where it is.
    let again = node.run(&task1(&Packet::tcp(
        ("10.1.0.11", 2),
        ("10.1.0.100", 80),
        Tcp::ACK,
        b"",
    )));
    assert_eq!(
        again.backends.into_iter().collect::<Vec<_>>(),
        [(backends[1], (1, 54, 0))]
    );
}

#[test]
fn affinity_keeps_a_client_at_its_backend() {
    let mut node = Node::new();
    node.service(index::VIP, |service| {
        service.flags = service.flags.with(ServiceFlags::AFFINITY);
    });
    node.owners(index::VIP, &[index::HERE2]);
    node.active(index::VIP, &[index::behind(index::VTEP2), index::HERE2]);
    for port in 1..=8 {
        let packet = Packet::opening(6, ("10.1.0.11", port), ("10.1.0.100", 80));
        check(
            &mut node,
            &[Row::becomes(
                "affinity",
                task1(&packet),
                into_task2(&packet.clone().to("10.1.0.12", 80)),
            )],
        );
    }
}

#[test]
fn udp_moves_at_once_off_a_dead_backend() {
    let mut node = Node::new();
    let remote = index::behind(index::VTEP2);
    node.active(index::VIP, &[remote, index::HERE2]);
    for (task, vip, backend, other) in SIDES {
        let question = Packet::udp((task, 40_000), (vip, 53), b"question");
        let there = question
            .clone()
            .to(other, 53)
            .framed(mac_of("10.1.0.22"), GATEWAY);
        node.maps().next_pick.insert(&index::VIP, &0).unwrap();
        check(
            &mut node,
            &[
                Row::becomes(
                    "first",
                    task1(&question),
                    encapsulated(index::VTEP2, index::RED, &there),
                ),
                Row::becomes(
                    "second",
                    task1(&question),
                    encapsulated(index::VTEP2, index::RED, &there),
                ),
            ],
        );
        // Dead, and the list of active ones has not been swapped yet.
        node.backend(remote, |backend| backend.state = BackendState::Gone as u8);
        let here = into_task2(&question.clone().to(backend, 53));
        check(
            &mut node,
            &[
                Row::becomes("moved", task1(&question), here.clone()),
                Row::becomes("stays", task1(&question), here),
            ],
        );
        node.backend(remote, |backend| backend.state = BackendState::Active as u8);
    }
}

/// TCP does not move: its client must not hang.
#[test]
fn tcp_of_a_dead_backend_is_reset() {
    let mut node = Node::new();
    for (task, vip, backend, _) in SIDES {
        let syn = Packet::opening(6, (task, 40_000), (vip, 80));
        let ack = Packet::tcp((task, 40_000), (vip, 80), Tcp::ACK, b"data");
        check(
            &mut node,
            &[Row::becomes(
                "SYN",
                task1(&syn),
                into_task2(&syn.clone().to(backend, 80)),
            )],
        );
        node.backend(index::HERE2, |backend| backend.state = BackendState::Gone as u8);
        let answer = into_task1_from_gateway(&reset(&ack));
        check(
            &mut node,
            &[Row::answered(
                "ACK",
                task1(&ack),
                DropReason::UnknownFlow,
                answer.clone(),
            )],
        );
        // Its number was given to another task.
        node.backend(index::HERE2, |backend| {
            backend.state = BackendState::Active as u8;
            backend.generation += 1;
        });
        check(
            &mut node,
            &[Row::answered("ACK", task1(&ack), DropReason::UnknownFlow, answer)],
        );
    }
}

#[test]
fn a_draining_backend_keeps_its_flows() {
    let mut node = Node::new();
    let syn = Packet::opening(6, ("10.1.0.11", 40_000), ("10.1.0.100", 80));
    let ack = Packet::tcp(("10.1.0.11", 40_000), ("10.1.0.100", 80), Tcp::ACK, b"");
    check(
        &mut node,
        &[Row::becomes(
            "SYN",
            task1(&syn),
            into_task2(&syn.clone().to("10.1.0.12", 80)),
        )],
    );
    node.backend(index::HERE2, |backend| {
        backend.state = BackendState::Draining as u8;
    });
    node.active(index::VIP, &[]);
    let other = Packet::opening(6, ("10.1.0.11", 40_001), ("10.1.0.100", 80));
    check(
        &mut node,
        &[
            Row::becomes(
                "its flow",
                task1(&ack),
                into_task2(&ack.clone().to("10.1.0.12", 80)),
            ),
            Row::answered(
                "a new one",
                task1(&other),
                DropReason::NoBackend,
                into_task1_from_gateway(&reset(&other)),
            ),
        ],
    );
}

fn into_task1_from_gateway(packet: &Packet) -> Vec<u8> {
    packet.framed(mac_of("10.1.0.11"), GATEWAY)
}

#[test]
fn a_service_without_backends_refuses_at_once() {
    let mut node = Node::new();
    for active in [vec![], vec![index::HERE2]] {
        node.active(index::VIP, &active);
        node.backend(index::HERE2, |backend| backend.state = BackendState::Gone as u8);
        let mut rows = Vec::new();
        for (task, vip, _, _) in SIDES {
            let syn = Packet::opening(6, (task, 40_000), (vip, 80));
            let datagram = Packet::udp((task, 40_000), (vip, 53), b"question");
            let init = Packet::opening(132, (task, 40_000), (vip, 80));
            rows.push(Row::answered(
                "TCP",
                task1(&syn),
                DropReason::NoBackend,
                into_task1_from_gateway(&reset(&syn)),
            ));
            rows.push(Row::answered("UDP", task1(&datagram), DropReason::NoBackend, {
                into_task1_from_gateway(&unreachable(&datagram))
            }));
            rows.push(Row::answered(
                "SCTP",
                task1(&init),
                DropReason::NoBackend,
                into_task1_from_gateway(&unreachable(&init)),
            ));
        }
        check(&mut node, &rows);
    }
}

#[test]
fn a_backend_without_an_address_of_the_family_refuses() {
    let mut node = Node::new();
    node.backend(index::HERE2, |backend| {
        backend.addr6 = essaim_abi::Addr::UNSPECIFIED;
    });
    let syn = Packet::opening(6, ("fd01::11", 40_000), ("fd01::100", 80));
    let answer = into_task1_from_gateway(&reset(&syn));
    check(
        &mut node,
        &[Row::answered(
            "v6",
            task1(&syn),
            DropReason::NoBackendInFamily,
            answer,
        )],
    );
}

#[test]
fn an_unknown_flow_is_reset() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (task, vip, _, _) in SIDES {
        let ack = Packet::tcp((task, 40_000), (vip, 80), Tcp::ACK, b"data");
        rows.push(Row::answered(
            "ACK",
            task1(&ack),
            DropReason::UnknownFlow,
            into_task1_from_gateway(&reset(&ack)),
        ));
        let other = Packet::new(task, vip, Payload::Raw(47, vec![0; 20]));
        rows.push(Row::drops("GRE", task1(&other), DropReason::UnsupportedProtocol));
    }
    check(&mut node, &rows);
}

#[test]
fn a_vip_answers_ping_while_somebody_stands_behind_it() {
    let mut node = Node::new();
    for (task, vip, _, _) in SIDES {
        let (echo, reply) = if vip == "10.1.0.100" { (8, 0) } else { (128, 129) };
        let ping = Packet::icmp(task, vip, echo, 0, [1, 2, 3, 4], b"ping");
        let echoed = Packet::icmp(vip, task, reply, 0, [1, 2, 3, 4], b"ping").ttl(64);
        let other = Packet::icmp(task, vip, reply, 0, [1, 2, 3, 4], b"pong");
        check(
            &mut node,
            &[
                Row::becomes("ping", task1(&ping), into_task1_from_gateway(&echoed)).watched(
                    Hook::EndpointTc,
                    Verdict::Answered,
                    0,
                ),
                Row::drops(
                    "a reply that nobody asked for",
                    task1(&other),
                    DropReason::UnmatchedError,
                ),
            ],
        );
        node.active(index::VIP, &[]);
        let answer = into_task1_from_gateway(&unreachable(&ping));
        check(
            &mut node,
            &[Row::answered(
                "nobody",
                task1(&ping),
                DropReason::NoBackend,
                answer,
            )],
        );
        node.active(index::VIP, &[index::HERE2]);
    }
}

/// A kernel takes nothing from its own address, so the task sees the VIP as its peer. UDP is answered by address, and the
/// socket programs would balance an answer to a VIP: there it sees the node.
#[test]
fn a_task_reaches_itself_through_its_vip() {
    let mut node = Node::new();
    for ((_, vip, task, _), own_node) in SIDES.into_iter().zip(["10.255.0.1", "fd00:ff::1"]) {
        for protocol in [6, 17, 132] {
            let peer = if protocol == 17 { own_node } else { vip };
            let (client, asked) = ((task, 40_000), (vip, 1234));
            let opening = Packet::opening(protocol, client, asked);
            let answer = answering(protocol, (task, 1234), (peer, 40_000));
            let more = going_on(protocol, client, asked);
            let what = format!("{vip} by protocol {protocol}");
            let there = |packet: &Packet| into_task2(&packet.clone().from(peer, 40_000).to(task, 1234));
            let back = into_task2(&answer.clone().from(vip, 1234).to(task, 40_000));
            check(
                &mut node,
                &[
                    Row::becomes(&what, task2(&opening), there(&opening)),
                    Row::becomes(&what, task2(&answer), back.clone()),
                    Row::becomes(&what, task2(&more), there(&more)),
                    Row::becomes(&what, task2(&answer), back),
                ],
            );
            for key in [
                key(asked, client, protocol),
                key((peer, 40_000), (task, 1234), protocol),
            ] {
                assert_eq!(
                    node.established(&key).expect(&what).state,
                    FlowState::Established as u8,
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_the_way_to_the_backend_is_answered() {
    let mut node = Node::new();
    node.active(index::VIP, &[index::behind(index::VTEP3)]);
    for (task, vip, _, _) in SIDES {
        let v4 = vip == "10.1.0.100";
        let headers = if v4 { 28 } else { 48 };
        let big = Packet::udp((task, 40_000), (vip, 53), &vec![1; 1431 - headers]);
        let (kind, code) = if v4 { (3, 4) } else { (2, 0) };
        let error = Packet::icmp(vip, task, kind, code, 1430_u32.to_be_bytes(), &big.bytes()[..64]);
        let error = Packet {
            ttl: 64,
            tos: if v4 { 0xc0 } else { 0 },
            df: false,
            id: 0,
            ..error
        };
        check(
            &mut node,
            &[Row::answered(
                "DF",
                task1(&big),
                DropReason::TooBig,
                into_task1_from_gateway(&error),
            )],
        );
        if v4 {
            let may = big.may_be_fragmented();
            let there = may
                .clone()
                .to("10.1.0.23", 53)
                .framed(mac_of("10.1.0.23"), GATEWAY);
            check(
                &mut node,
                &[
                    Row::becomes("no DF", task1(&may), there).watched(
                        Hook::EndpointTc,
                        Verdict::Tunnelled,
                        0,
                    ),
                ],
            );
        }
    }
}

#[test]
fn a_published_port_is_reached_from_a_task() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE2]);
    for (task, own, elsewhere, backend) in [
        ("10.1.0.11", uplink::V4, "192.0.2.2", "10.1.0.12"),
        ("fd01::11", uplink::V6, "2001:db8:f::3", "fd01::12"),
    ] {
        for published in [own, elsewhere] {
            let client = (task, if published == own { 40_000 } else { 40_001 });
            let syn = Packet::opening(6, client, (published, 8080));
            let answer = answering(6, (backend, 80), client);
            check(
                &mut node,
                &[
                    Row::becomes(
                        published,
                        task1(&syn),
                        into_task2(&syn.clone().to(backend, 80).ttl(60)),
                    )
                    .watched(Hook::EndpointTc, Verdict::Delivered, index::TASK2),
                    Row::becomes(published, task2(&answer), {
                        into_task1_from_gateway(&answer.clone().from(published, 8080).ttl(60))
                    })
                    .watched(Hook::EndpointTc, Verdict::Delivered, index::TASK1),
                ],
            );
        }
    }
}

#[test]
fn a_published_port_of_another_nodes_task_is_reached_from_a_task() {
    let mut node = Node::new();
    for (task, own) in [("10.1.0.11", uplink::V4), ("fd01::11", uplink::V6)] {
        let syn = Packet::opening(6, (task, 40_000), (own, 8080));
        let hash = of_flow((syn.source, 40_000), (syn.destination, 8080), 6) & 0xffff_ff00;
        let (destination, source) = Steering {
            port: 8080,
            hash,
            ..Steering::default()
        }
        .macs();
        let sent = encapsulated(index::VTEP2, index::INGRESS, &syn.framed(destination, source));
        let reply = Packet::tcp((own, 8080), (task, 40_000), Tcp::SYN | Tcp::ACK, b"");
        let (destination, source) = Steering {
            reply: true,
            ..Steering::default()
        }
        .macs();
        let enters = Input::overlay(index::INGRESS, index::VTEP2, reply.framed(destination, source));
        check(
            &mut node,
            &[
                Row::becomes("request", task1(&syn), sent),
                Row::becomes("reply", enters, into_task1_from_gateway(&reply)),
            ],
        );
    }
}

/// A kernel drops what comes in from its own address: a task that reaches itself through a published port sees the
/// published address as its peer, as it sees the VIP.
#[test]
fn a_task_reaches_itself_through_its_published_port() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (task, own) in [("10.1.0.11", uplink::V4), ("fd01::11", uplink::V6)] {
        let syn = Packet::opening(6, (task, 40_000), (own, 8080));
        let answer = answering(6, (task, 80), (own, 40_000));
        let enters = syn.clone().from(own, 40_000).to(task, 80).ttl(60);
        let returns = answer.clone().from(own, 8080).to(task, 40_000).ttl(60);
        check(
            &mut node,
            &[
                Row::becomes(own, task1(&syn), into_task1_from_gateway(&enters)),
                Row::becomes(own, task1(&answer), into_task1_from_gateway(&returns)),
            ],
        );
    }
}

#[test]
fn a_published_port_without_backends_refuses_a_task() {
    let mut node = Node::new();
    node.owners(index::WEB, &[]);
    for (task, own) in [("10.1.0.11", uplink::V4), ("fd01::11", uplink::V6)] {
        let syn = Packet::opening(6, (task, 40_000), (own, 8080));
        let answer = into_task1_from_gateway(&reset(&syn));
        check(
            &mut node,
            &[Row::answered("TCP", task1(&syn), DropReason::NoBackend, answer)],
        );
    }
}

/// Idle flows are gone: the backend is chosen anew, and an old answer is no answer.
#[test]
fn a_flow_that_idled_out_is_gone() {
    let mut node = Node::new();
    let (client, vip) = (("10.1.0.11", 40_000), ("10.1.0.100", 53));
    let question = Packet::udp(client, vip, b"question");
    let answer = Packet::udp(("10.1.0.12", 53), client, b"answer");
    node.verdict(&task1(&question));
    let now = node.jiffies();
    let reverse = key(("10.1.0.12", 53), client, 17);
    let mut flow = node.half_open(&reverse).unwrap();
    flow.seen = now.wrapping_sub(flow.timeout + 10);
    node.maps().half_open_flows.insert(&reverse, &flow).unwrap();
    check(
        &mut node,
        &[Row::becomes(
            "late",
            task2(&answer),
            into_task1(&answer, "10.1.0.12"),
        )],
    );
    node.verdict(&task1(&question));
    let forward = key(vip, client, 17);
    let mut flow = node.half_open(&forward).unwrap();
    flow.seen = now.wrapping_sub(flow.timeout + 10);
    node.maps().half_open_flows.insert(&forward, &flow).unwrap();
    node.active(index::VIP, &[index::behind(index::VTEP2)]);
    let there = question
        .clone()
        .to("10.1.0.22", 53)
        .framed(mac_of("10.1.0.22"), GATEWAY);
    check(
        &mut node,
        &[Row::becomes(
            "anew",
            task1(&question),
            encapsulated(index::VTEP2, index::RED, &there),
        )],
    );
}
