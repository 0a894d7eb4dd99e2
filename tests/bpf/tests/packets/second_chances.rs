//! A packet whose flow the current owner does not know is handed to earlier owners.

use essaim_abi::{DropReason, Flow, FlowKey, FlowState, Hook, MacAddr, Verdict};
use essaim_bpf_tests::{
    Input, Node, Packet, Payload, Row, Steering, Tcp, addr, check, encapsulated, index, mac_of, of_flow,
    uplink,
};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);
const HASH: u32 = 0x0102_0300;

fn from_client(packet: &Packet) -> Input {
    Input::uplink(packet.framed(uplink::MAC, uplink::ROUTER))
}

fn steered(packet: &Packet, steering: Steering) -> Vec<u8> {
    let (destination, source) = steering.macs();
    packet.framed(destination, source)
}

fn from_vtep(vtep: u32, packet: &Packet, steering: Steering) -> Input {
    Input::overlay(index::INGRESS, vtep, steered(packet, steering))
}

fn to_vtep(vtep: u32, packet: &Packet, steering: Steering) -> Vec<u8> {
    encapsulated(vtep, index::INGRESS, &steered(packet, steering))
}

fn tcp(flags: u8) -> Packet {
    Packet::tcp(CLIENT, (uplink::V4, 8080), flags, b"")
}

fn udp() -> Packet {
    Packet::udp(CLIENT, (uplink::V4, 5353), b"question")
}

fn delivered(packet: &Packet, task: &str, port: u16) -> Vec<u8> {
    packet
        .clone()
        .to(task, port)
        .ttl(60)
        .framed(mac_of(task), GATEWAY)
}

fn hash_of(packet: &Packet, port: u16) -> u32 {
    of_flow(
        (packet.source, CLIENT.1),
        (packet.destination, port),
        packet.protocol(),
    ) & 0xffff_ff00
}

#[test]
fn an_unknown_segment_goes_to_the_earlier_owner() {
    let mut node = Node::new();
    node.owners(
        index::WEB,
        &[
            index::HERE1,
            index::behind(index::VTEP2),
            index::behind(index::VTEP3),
        ],
    );
    let at_own_edge = Steering {
        port: 8080,
        token: 1,
        hash: hash_of(&tcp(0), 8080),
        hop: 1,
        budget: 1,
        edge: index::number(index::SELF),
        ..Steering::default()
    };
    let request = Steering {
        port: 8080,
        token: 2,
        hash: HASH,
        ..Steering::default()
    };
    let handed = Steering {
        hop: 1,
        budget: 1,
        edge: index::number(index::VTEP5),
        ..request
    };
    let ack = tcp(Tcp::ACK);
    check(
        &mut node,
        &[
            Row::becomes(
                "by this node's edge",
                from_client(&ack),
                to_vtep(index::VTEP2, &ack, at_own_edge),
            )
            .watched(Hook::UplinkTc, Verdict::Encapsulated, index::UP0),
            Row::becomes(
                "by another edge",
                from_vtep(index::VTEP5, &ack, request),
                to_vtep(index::VTEP2, &ack, handed),
            )
            .watched(Hook::OverlayTc, Verdict::Encapsulated, index::UP0),
        ],
    );
    // An opening packet stays with the current owner, and so do later ones of its flow.
    let syn = tcp(Tcp::SYN);
    check(
        &mut node,
        &[
            Row::becomes(
                "SYN",
                from_vtep(index::VTEP5, &syn, request),
                delivered(&syn, "10.1.0.11", 80),
            ),
            Row::becomes(
                "ACK",
                from_vtep(index::VTEP5, &ack, request),
                delivered(&ack, "10.1.0.11", 80),
            ),
        ],
    );
}

#[test]
fn an_earlier_owner_on_this_node_is_asked_at_once() {
    let mut node = Node::new();
    let (syn, ack) = (tcp(Tcp::SYN), tcp(Tcp::ACK));
    node.owners(index::WEB, &[index::HERE2]);
    check(
        &mut node,
        &[Row::becomes(
            "SYN",
            from_client(&syn),
            delivered(&syn, "10.1.0.12", 80),
        )],
    );
    node.owners(
        index::WEB,
        &[index::HERE1, index::HERE2, index::behind(index::VTEP2)],
    );
    check(
        &mut node,
        &[
            Row::becomes("ACK", from_client(&ack), delivered(&ack, "10.1.0.12", 80)).watched(
                Hook::UplinkTc,
                Verdict::Delivered,
                index::TASK2,
            ),
        ],
    );
}

#[test]
fn a_packet_handed_on_is_judged_by_the_owner_it_names() {
    let mut node = Node::new();
    let (syn, ack) = (tcp(Tcp::SYN), tcp(Tcp::ACK));
    let first = Steering {
        port: 8080,
        token: 2,
        hash: HASH,
        ..Steering::default()
    };
    node.owners(index::WEB, &[index::HERE2]);
    check(
        &mut node,
        &[Row::becomes(
            "SYN",
            from_vtep(index::VTEP5, &syn, first),
            delivered(&syn, "10.1.0.12", 80),
        )],
    );
    // The slot has moved to VTEP 3's task, whose node hands on what it does not know.
    node.owners(
        index::WEB,
        &[
            index::behind(index::VTEP3),
            index::HERE2,
            index::behind(index::VTEP2),
        ],
    );
    let handed = Steering {
        hop: 1,
        budget: 1,
        edge: index::number(index::VTEP5),
        ..first
    };
    check(
        &mut node,
        &[Row::becomes(
            "ACK",
            from_vtep(index::VTEP3, &ack, handed),
            delivered(&ack, "10.1.0.12", 80),
        )],
    );
    let key = FlowKey {
        remote: addr(CLIENT.0),
        local: addr("10.1.0.12"),
        remote_port: CLIENT.1.to_be(),
        local_port: 80_u16.to_be(),
        protocol: 6,
        reserved: [0; 3],
    };
    let Flow {
        edge_vtep,
        edge_token,
        ..
    } = node.half_open(&key).unwrap();
    assert_eq!(
        (edge_vtep, edge_token),
        (index::VTEP5, 2),
        "replies go to the edge, not to who handed it on"
    );
    // Another client's, unknown here too, goes on to the third.
    let other = ack.clone().from("198.51.100.99", 1);
    let further = Steering {
        hop: 2,
        budget: 2,
        ..handed
    };
    check(
        &mut node,
        &[Row::becomes(
            "onwards",
            from_vtep(index::VTEP3, &other, handed),
            to_vtep(index::VTEP2, &other, further),
        )],
    );
}

#[test]
fn an_owner_here_keeps_the_flows_it_knows_whatever_its_place() {
    let mut node = Node::new();
    let (syn, ack) = (tcp(Tcp::SYN), tcp(Tcp::ACK));
    let first = Steering {
        port: 8080,
        token: 2,
        hash: HASH,
        ..Steering::default()
    };
    // By this node's table its task is still the current owner; the sender's knows a newer one already.
    node.owners(index::WEB, &[index::HERE2, index::behind(index::VTEP2)]);
    check(
        &mut node,
        &[Row::becomes(
            "SYN",
            from_vtep(index::VTEP5, &syn, first),
            delivered(&syn, "10.1.0.12", 80),
        )],
    );
    let handed = Steering {
        hop: 1,
        budget: 1,
        edge: index::number(index::VTEP5),
        ..first
    };
    let further = Steering { budget: 2, ..handed };
    let (other_syn, other_ack) = (
        syn.clone().from("198.51.100.99", 1),
        ack.clone().from("198.51.100.99", 1),
    );
    check(
        &mut node,
        &[
            Row::becomes(
                "known here",
                from_vtep(index::VTEP3, &ack, handed),
                delivered(&ack, "10.1.0.12", 80),
            ),
            Row::becomes(
                "unknown here",
                from_vtep(index::VTEP3, &other_ack, handed),
                to_vtep(index::VTEP2, &other_ack, further),
            ),
            Row::becomes(
                "an opening is not taken back",
                from_vtep(index::VTEP3, &other_syn, handed),
                to_vtep(index::VTEP2, &other_syn, further),
            ),
        ],
    );
    // By this node's table an owner elsewhere comes first, by the sender's it comes later.
    node.owners(
        index::WEB,
        &[
            index::behind(index::VTEP3),
            index::behind(index::VTEP2),
            index::HERE2,
        ],
    );
    check(
        &mut node,
        &[
            Row::becomes(
                "its opening again",
                from_vtep(index::VTEP3, &syn, Steering { hop: 0, ..handed }),
                delivered(&syn, "10.1.0.12", 80),
            ),
            Row::becomes(
                "known here, later",
                from_vtep(index::VTEP3, &ack, handed),
                delivered(&ack, "10.1.0.12", 80),
            ),
            Row::becomes(
                "unknown here, later",
                from_vtep(index::VTEP3, &other_ack, handed),
                to_vtep(index::VTEP2, &other_ack, further),
            ),
        ],
    );
}

#[test]
fn replies_follow_the_client_to_another_edge() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let (syn, ack) = (tcp(Tcp::SYN), tcp(Tcp::ACK));
    let request = |token: u8| Steering {
        port: 8080,
        token,
        hash: HASH,
        ..Steering::default()
    };
    let reply = Packet::tcp(("10.1.0.11", 80), CLIENT, Tcp::ACK, b"answer");
    let from_task = Input::endpoint(index::TASK1, reply.framed(GATEWAY, mac_of("10.1.0.11")));
    let sent = |vtep: u32, token: u8| {
        let packet = reply.clone().from(uplink::V4, 8080).ttl(60);
        to_vtep(
            vtep,
            &packet,
            Steering {
                reply: true,
                token,
                ..Steering::default()
            },
        )
    };
    check(
        &mut node,
        &[
            Row::becomes(
                "SYN",
                from_vtep(index::VTEP2, &syn, request(1)),
                delivered(&syn, "10.1.0.11", 80),
            ),
            Row::becomes("reply", from_task.clone(), sent(index::VTEP2, 1)),
            Row::becomes(
                "ACK",
                from_vtep(index::VTEP5, &ack, request(3)),
                delivered(&ack, "10.1.0.11", 80),
            ),
            Row::becomes("reply", from_task, sent(index::VTEP5, 3)),
        ],
    );
}

#[test]
fn the_last_owner_resets() {
    let mut node = Node::new();
    node.owners(
        index::WEB,
        &[
            index::behind(index::VTEP3),
            index::behind(index::VTEP2),
            index::HERE1,
        ],
    );
    let handed = Steering {
        port: 8080,
        token: 2,
        hash: HASH,
        hop: 2,
        budget: 2,
        edge: index::number(index::VTEP5),
        ..Steering::default()
    };
    let mut reset = tcp(Tcp::ACK)
        .from(uplink::V4, 8080)
        .to(CLIENT.0, CLIENT.1)
        .ttl(64);
    let Payload::Tcp(segment) = &mut reset.payload else {
        unreachable!()
    };
    (
        segment.flags,
        segment.sequence,
        segment.acknowledgement,
        segment.window,
    ) = (Tcp::RST, 5000, 0, 0);
    let answer = to_vtep(
        index::VTEP5,
        &reset,
        Steering {
            reply: true,
            token: 2,
            ..Steering::default()
        },
    );
    let input = from_vtep(index::VTEP2, &tcp(Tcp::ACK), handed);
    check(
        &mut node,
        &[Row::answered(
            "unknown to all",
            input,
            DropReason::UnknownFlow,
            answer,
        )],
    );
}

#[test]
fn all_four_earlier_owners_are_asked() {
    let mut node = Node::new();
    let ack = tcp(Tcp::ACK);
    let here = index::HERE1;
    for hop in 1..=4_u8 {
        let mut owners = [here; 5];
        owners[usize::from(hop)] = index::behind(index::VTEP2);
        node.owners(index::WEB, &owners);
        let request = Steering {
            port: 8080,
            token: 2,
            hash: HASH,
            ..Steering::default()
        };
        let handed = Steering {
            hop,
            budget: 1,
            edge: index::number(index::VTEP5),
            ..request
        };
        check(
            &mut node,
            &[Row::becomes(
                &format!("owner {hop}"),
                from_vtep(index::VTEP5, &ack, request),
                to_vtep(index::VTEP2, &ack, handed),
            )],
        );
    }
}

#[test]
fn udp_is_made_by_the_first_owner_after_all_were_asked() {
    let mut node = Node::new();
    let request = Steering {
        protocol: 1,
        port: 5353,
        token: 2,
        hash: HASH,
        ..Steering::default()
    };
    // The first owner's node asks on, only if known.
    node.owners(index::WEB, &[index::HERE1, index::behind(index::VTEP2)]);
    let asked = Steering {
        only_if_known: true,
        hop: 1,
        budget: 1,
        edge: index::number(index::VTEP5),
        ..request
    };
    check(
        &mut node,
        &[Row::becomes(
            "asked on",
            from_vtep(index::VTEP5, &udp(), request),
            to_vtep(index::VTEP2, &udp(), asked),
        )],
    );
    assert_eq!(node.flows(), 0);
    // The earlier owner's node does not know it: back, marked as the last word.
    node.owners(index::WEB, &[index::behind(index::VTEP3), index::HERE1]);
    let last = Steering {
        only_if_known: false,
        last: true,
        hop: 0,
        budget: 2,
        ..asked
    };
    check(
        &mut node,
        &[Row::becomes(
            "returned",
            from_vtep(index::VTEP3, &udp(), asked),
            to_vtep(index::VTEP3, &udp(), last),
        )],
    );
    assert_eq!(node.flows(), 0, "only if known");
    // The first owner makes it.
    node.owners(index::WEB, &[index::HERE1, index::behind(index::VTEP2)]);
    check(
        &mut node,
        &[
            Row::becomes(
                "made",
                from_vtep(index::VTEP2, &udp(), last),
                delivered(&udp(), "10.1.0.11", 53),
            ),
            Row::becomes(
                "known",
                from_vtep(index::VTEP5, &udp(), request),
                delivered(&udp(), "10.1.0.11", 53),
            ),
        ],
    );
    let flows = node.maps().half_open_flows.entries().unwrap();
    assert_eq!(
        (flows.len(), flows[0].1.state, flows[0].1.edge_vtep),
        (1, FlowState::HalfOpen as u8, index::VTEP5)
    );
}

/// The first owner may lack an address of the client's family: it is refused, not sent to no address at all.
#[test]
fn the_last_word_of_udp_needs_an_address_of_the_family() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1, index::HERE2]);
    node.backend(index::HERE1, |backend| {
        backend.addr6 = essaim_abi::Addr::UNSPECIFIED;
    });
    let datagram = Packet::udp(("2001:db8:c::7", 40_000), (uplink::V6, 5353), b"question");
    let asked = Steering {
        protocol: 1,
        port: 5353,
        token: 2,
        hash: HASH,
        only_if_known: true,
        hop: 1,
        ..Steering::default()
    };
    let ran = node.run(&from_vtep(index::VTEP3, &datagram, asked));
    assert_eq!(
        ran.drops.keys().collect::<Vec<_>>(),
        [&DropReason::NoBackendInFamily],
        "{:02x?}",
        ran.frame
    );
}

#[test]
fn udp_known_to_the_earlier_owner_stays_there() {
    let mut node = Node::new();
    let request = Steering {
        protocol: 1,
        port: 5353,
        token: 2,
        hash: HASH,
        ..Steering::default()
    };
    node.owners(index::WEB, &[index::HERE2]);
    check(
        &mut node,
        &[Row::becomes(
            "made",
            from_vtep(index::VTEP5, &udp(), request),
            delivered(&udp(), "10.1.0.12", 53),
        )],
    );
    node.owners(index::WEB, &[index::behind(index::VTEP3), index::HERE2]);
    let asked = Steering {
        only_if_known: true,
        hop: 1,
        budget: 1,
        edge: index::number(index::VTEP5),
        ..request
    };
    check(
        &mut node,
        &[Row::becomes(
            "known",
            from_vtep(index::VTEP3, &udp(), asked),
            delivered(&udp(), "10.1.0.12", 53),
        )],
    );
}

#[test]
fn udp_whose_owners_are_all_here_is_made_at_once() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1, index::HERE2]);
    check(
        &mut node,
        &[Row::becomes(
            "made",
            from_client(&udp()),
            delivered(&udp(), "10.1.0.11", 53),
        )],
    );
}

#[test]
fn tables_that_differ_do_not_make_packets_circle() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1, index::behind(index::VTEP2)]);
    let ack = tcp(Tcp::ACK);
    for budget in 0..=15 {
        let request = Steering {
            port: 8080,
            token: 2,
            hash: HASH,
            budget,
            edge: 0,
            ..Steering::default()
        };
        let input = from_vtep(index::VTEP5, &ack, request);
        let what = format!("budget {budget}");
        let row = if budget < 7 {
            let handed = Steering {
                hop: 1,
                budget: budget + 1,
                edge: index::number(index::VTEP5),
                ..request
            };
            Row::becomes(&what, input, to_vtep(index::VTEP2, &ack, handed))
        } else {
            Row::drops(&what, input, DropReason::HandedOnTooOften)
        };
        check(&mut node, &[row]);
    }
}

/// A draining task keeps its flows and gets no new ones: it is an earlier owner of its slots, and the current owner may be
/// nobody.
#[test]
fn a_draining_last_task_keeps_its_flows() {
    let mut node = Node::new();
    let (syn, ack) = (tcp(Tcp::SYN), tcp(Tcp::ACK));
    node.owners(index::WEB, &[index::HERE1]);
    check(
        &mut node,
        &[Row::becomes(
            "SYN",
            from_client(&syn),
            delivered(&syn, "10.1.0.11", 80),
        )],
    );
    node.owners(index::WEB, &[0, index::HERE1]);
    node.backend(index::HERE1, |backend| backend.state = 2);
    let other = syn.clone().from("198.51.100.99", 1);
    check(
        &mut node,
        &[Row::becomes(
            "its flow",
            from_client(&ack),
            delivered(&ack, "10.1.0.11", 80),
        )],
    );
    let ran = node.run(&from_client(&other));
    assert_eq!(
        ran.drops.keys().collect::<Vec<_>>(),
        [&DropReason::NoBackend],
        "a new one is refused"
    );
}

/// What the second chance does not fit into is answered like anything else that does not fit.
#[test]
fn a_segment_too_big_to_be_handed_on_is_answered() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1, index::behind(index::VTEP3)]);
    let big = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::ACK, &[1; 1410]);
    let request = Steering {
        port: 8080,
        token: 2,
        hash: HASH,
        ..Steering::default()
    };
    let quote = &big.bytes()[..64];
    let error = Packet::icmp(uplink::V4, CLIENT.0, 3, 4, 1430_u32.to_be_bytes(), quote);
    let error = Packet {
        ttl: 64,
        tos: 0xc0,
        df: false,
        id: 0,
        ..error
    };
    let answer = to_vtep(
        index::VTEP5,
        &error,
        Steering {
            reply: true,
            token: 2,
            ..Steering::default()
        },
    );
    let input = from_vtep(index::VTEP5, &big, request);
    check(
        &mut node,
        &[Row::answered(
            "1450 bytes, 1430 fit",
            input,
            DropReason::TooBig,
            answer,
        )],
    );
}
