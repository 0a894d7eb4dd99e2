//! `overlay_inner_tc`: who may enter from another node, and to whom. (`overlay_tc` itself only reads the tunnel key, which
//! no test run can set.)

use essaim_abi::{DropReason, Hook, MacAddr, Verdict};
use essaim_bpf_tests::{Input, Node, Packet, Payload, Row, Steering, Tcp, check, index, mac_of, uplink};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const CLIENT6: (&str, u16) = ("2001:db8:c::7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);

/// From the remote task behind VTEP 2.
fn from_peer(packet: &Packet) -> Vec<u8> {
    packet.framed(mac_of("10.1.0.11"), mac_of("10.1.0.22"))
}

fn steered(packet: &Packet, steering: Steering) -> Input {
    let (destination, source) = steering.macs();
    Input::overlay(index::INGRESS, index::VTEP2, packet.framed(destination, source))
}

#[test]
fn unicast_reaches_its_endpoint_as_it_is() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (peer, task) in [("10.1.0.22", "10.1.0.11"), ("fd01::22", "fd01::11")] {
        for packet in [
            Packet::tcp((peer, 1), (task, 2), Tcp::SYN, b""),
            Packet::udp((peer, 1), (task, 2), b"hello"),
            Packet::sctp((peer, 1), (task, 2), 1),
            Packet::new(peer, task, Payload::Raw(47, vec![1; 30])),
            Packet::udp((peer, 1), (task, 2), b"its last hop").ttl(1),
        ] {
            let row = Row::becomes(
                &format!("{packet:?}"),
                Input::overlay(index::RED, index::VTEP2, from_peer(&packet)),
                from_peer(&packet),
            );
            rows.push(row.watched(Hook::OverlayTc, Verdict::Delivered, index::TASK1));
        }
    }
    let to_node = Packet::udp(("10.255.0.2", 1), ("10.255.0.1", 2), b"hello")
        .framed(mac_of("10.255.0.1"), mac_of("10.255.0.2"));
    rows.push(
        Row::becomes(
            "to this node",
            Input::overlay(index::INGRESS, index::VTEP2, to_node.clone()),
            to_node,
        )
        .watched(Hook::OverlayTc, Verdict::Delivered, index::NODE),
    );
    // The destination's Ethernet address is its own, whatever the sender took it for.
    let packet = Packet::udp(("10.1.0.22", 1), ("10.1.0.11", 2), b"hello");
    let stale = packet.framed(mac_of("10.1.0.99"), mac_of("10.1.0.22"));
    rows.push(Row::becomes(
        "a stale address",
        Input::overlay(index::RED, index::VTEP2, stale),
        from_peer(&packet),
    ));
    check(&mut node, &rows);
}

#[test]
fn nobody_enters_another_network() {
    let mut node = Node::new();
    let to = |address: &str| {
        let from = if address.contains(':') {
            "fd01::22"
        } else {
            "10.1.0.22"
        };
        from_peer(&Packet::udp((from, 1), (address, 2), b"hello"))
    };
    let input = |vni: u32, address: &str| Input::overlay(vni, index::VTEP2, to(address));
    let mut rows = Vec::new();
    for (what, vni, address, reason) in [
        (
            "another network's VNI",
            index::BLUE,
            "10.1.0.11",
            DropReason::UnknownVni,
        ),
        (
            "another network's VNI, v6",
            index::BLUE,
            "fd01::11",
            DropReason::UnknownVni,
        ),
        ("an unknown VNI", 5, "10.1.0.11", DropReason::UnknownVni),
        (
            "the ingress VNI without steering",
            index::INGRESS,
            "10.1.0.11",
            DropReason::UnknownVni,
        ),
        (
            "nobody's address",
            index::RED,
            "10.1.0.99",
            DropReason::UnknownDestination,
        ),
        (
            "nobody's address, v6",
            index::RED,
            "fd01::99",
            DropReason::UnknownDestination,
        ),
        (
            "the world",
            index::RED,
            "198.51.100.7",
            DropReason::UnknownDestination,
        ),
        (
            "an underlay address",
            index::RED,
            uplink::V4,
            DropReason::UnknownDestination,
        ),
        (
            "an endpoint of a third node",
            index::RED,
            "10.1.0.23",
            DropReason::UnknownDestination,
        ),
        ("a VIP", index::RED, "10.1.0.100", DropReason::UnknownDestination),
        (
            "the gateway",
            index::RED,
            "10.1.0.1",
            DropReason::UnknownDestination,
        ),
        (
            "another node",
            index::INGRESS,
            "10.255.0.2",
            DropReason::UnknownDestination,
        ),
        (
            "a task that is gone",
            index::RED,
            "10.1.0.66",
            DropReason::EndpointGone,
        ),
        ("multicast", index::RED, "ff02::1", DropReason::UnknownDestination),
    ] {
        rows.push(Row::drops(what, input(vni, address), reason).watched(Hook::OverlayTc, Verdict::Drop, 0));
    }
    check(&mut node, &rows);
}

#[test]
fn what_cannot_be_read_does_not_enter() {
    let mut node = Node::new();
    let whole = from_peer(&Packet::udp(("10.1.0.22", 1), ("10.1.0.11", 2), b"hello"));
    let mut rows = Vec::new();
    let mut arp = whole.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    rows.push(Row::drops(
        "ARP",
        Input::overlay(index::RED, index::VTEP2, arp),
        DropReason::UnsupportedEtherType,
    ));
    let mut malformed = whole.clone();
    malformed[14] = 0x44;
    rows.push(Row::drops(
        "a header of 16 bytes",
        Input::overlay(index::RED, index::VTEP2, malformed),
        DropReason::Malformed,
    ));
    let cut = Input::overlay(index::RED, index::VTEP2, whole[..36].to_vec());
    rows.push(Row::drops("cut within the ports", cut, DropReason::Truncated));
    check(&mut node, &rows);
}

#[test]
fn steering_that_makes_no_sense_is_dropped() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    let syn = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    let good = Steering {
        port: 8080,
        token: 1,
        hash: 0x100,
        ..Steering::default()
    };
    let unreachable = Packet::icmp("203.0.113.1", uplink::V4, 3, 3, [0; 4], &syn.bytes()[..28]);
    check(
        &mut node,
        &[
            Row::drops(
                "a port that is not published",
                steered(&syn, Steering { port: 8081, ..good }),
                DropReason::UnknownService,
            ),
            Row::drops(
                "another port than the packet's",
                steered(&syn.clone().to(uplink::V4, 8081), good),
                DropReason::BadSteering,
            ),
            Row::drops(
                "another protocol than the packet's",
                steered(&Packet::opening(17, CLIENT, (uplink::V4, 8080)), good),
                DropReason::BadSteering,
            ),
            Row::drops(
                "an unknown protocol",
                steered(&syn, Steering { protocol: 3, ..good }),
                DropReason::BadSteering,
            ),
            Row::drops(
                "an edge that nobody is",
                steered(&syn, Steering { edge: 0x7777, ..good }),
                DropReason::BadSteering,
            ),
            Row::drops(
                "an ICMP message that is no error",
                steered(&Packet::icmp(CLIENT.0, uplink::V4, 8, 0, [0; 4], b"ping"), good),
                DropReason::BadSteering,
            ),
            Row::drops(
                "an error that quotes the wrong side",
                steered(&unreachable, good),
                DropReason::UnmatchedError,
            ),
            // On a network's VNI these addresses steer nothing.
            Row::drops(
                "a network's VNI",
                {
                    let (destination, source) = good.macs();
                    Input::overlay(index::RED, index::VTEP2, syn.framed(destination, source))
                },
                DropReason::UnknownDestination,
            ),
        ],
    );
}

#[test]
fn a_reply_leaves_the_edge_by_the_uplink_it_names() {
    let mut node = Node::new();
    let reply = |token: u8| Steering {
        reply: true,
        token,
        ..Steering::default()
    };
    let mut rows = Vec::new();
    for (client, own) in [(CLIENT, uplink::V4), (CLIENT6, uplink::V6)] {
        let packet = Packet::tcp((own, 8080), client, Tcp::SYN | Tcp::ACK, b"");
        for (token, ifindex) in [(1, index::UP0), (2, index::UP1)] {
            let (destination, source) = reply(token).macs();
            rows.push(
                Row::becomes(
                    "to a client",
                    steered(&packet, reply(token)),
                    packet.clone().ttl(60).framed(destination, source),
                )
                .watched(Hook::OverlayTc, Verdict::Forwarded, ifindex),
            );
        }
        for token in 3..=7 {
            rows.push(Row::drops(
                "an uplink that is not",
                steered(&packet, reply(token)),
                DropReason::UnknownInterface,
            ));
        }
        rows.push(Row::drops(
            "its last hop",
            steered(&packet.clone().ttl(1), reply(1)),
            DropReason::TtlExceeded,
        ));
        rows.push(Row::drops(
            "token 0 to a client outside",
            steered(&packet, reply(0)),
            DropReason::UnknownDestination,
        ));
    }
    check(&mut node, &rows);
}

#[test]
fn a_reply_to_a_task_of_this_node_enters_it() {
    let mut node = Node::new();
    let steering = Steering {
        reply: true,
        token: 0,
        ..Steering::default()
    };
    let mut rows = Vec::new();
    for (own, task) in [(uplink::V4, "10.1.0.11"), (uplink::V6, "fd01::11")] {
        let packet = Packet::tcp((own, 8080), (task, 40_000), Tcp::SYN | Tcp::ACK, b"");
        rows.push(
            Row::becomes(
                "to a task",
                steered(&packet, steering),
                packet.framed(mac_of("10.1.0.11"), GATEWAY),
            )
            .watched(Hook::OverlayTc, Verdict::Delivered, index::TASK1),
        );
    }
    for address in ["10.1.0.22", "10.1.0.100", "10.1.0.66", "10.1.0.99"] {
        let packet = Packet::tcp((uplink::V4, 8080), (address, 40_000), Tcp::ACK, b"");
        rows.push(Row::drops(
            address,
            steered(&packet, steering),
            DropReason::UnknownDestination,
        ));
    }
    check(&mut node, &rows);
}

/// Without a tunnel key nothing enters, and `overlay_tc` says so.
#[test]
fn a_packet_without_a_tunnel_key_is_dropped() {
    let mut node = Node::new();
    let packet = Packet::udp(("10.1.0.22", 1), ("10.1.0.11", 2), b"hello");
    let input = Input::new("overlay_tc", index::VXLAN, from_peer(&packet));
    check(
        &mut node,
        &[Row::drops("no tunnel key", input, DropReason::HelperFailed)],
    );
}
