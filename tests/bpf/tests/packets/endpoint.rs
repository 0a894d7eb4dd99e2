//! `endpoint_tc`: what a task sends, its neighbours' addresses, its peers, the world, and what it may not reach.

use essaim_abi::{DropReason, EndpointKind, Hook, MacAddr, Verdict};
use essaim_bpf_tests::{
    DROP, Fragment, Input, Node, Packet, Payload, Row, Tcp, arp, check, encapsulated, index, mac_of, uplink,
};

const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);
const BROADCAST: MacAddr = MacAddr([0xff; 6]);
const NONE: MacAddr = MacAddr([0; 6]);
const V4: &str = "10.1.0.11";
const V6: &str = "fd01::11";

fn mac() -> MacAddr {
    mac_of(V4)
}

fn sends(packet: &Packet) -> Input {
    Input::endpoint(index::TASK1, packet.framed(GATEWAY, mac()))
}

fn udp(to: &str, port: u16) -> Packet {
    Packet::udp(
        (if to.contains(':') { V6 } else { V4 }, 40_000),
        (to, port),
        b"hello",
    )
}

fn tcp(to: &str, port: u16) -> Packet {
    Packet::opening(6, (if to.contains(':') { V6 } else { V4 }, 40_000), (to, port))
}

/// A neighbour solicitation; `options`: whether it carries the sender's own address.
fn solicitation(source: &str, destination: &str, target: &str, options: bool) -> Packet {
    let std::net::IpAddr::V6(target) = target.parse().unwrap() else {
        panic!("{target} has no neighbours")
    };
    let mut body = target.octets().to_vec();
    if options {
        body.extend([1, 1]);
        body.extend(mac().0);
    }
    Packet::icmp(source, destination, 135, 0, [0; 4], &body).ttl(255)
}

fn advertisement(target: &str, to: &str, of: MacAddr) -> Packet {
    let std::net::IpAddr::V6(address) = target.parse().unwrap() else {
        panic!("{target} has no neighbours")
    };
    let mut body = address.octets().to_vec();
    body.extend([2, 1]);
    body.extend(of.0);
    Packet::icmp(target, to, 136, 0, [0x60, 0, 0, 0], &body).ttl(255)
}

#[test]
fn nobody_speaks_in_another_name() {
    let mut node = Node::new();
    let packet = udp("10.1.0.12", 1);
    let claims = |sender: &str, sender_mac: MacAddr, frame_mac: MacAddr| {
        Input::endpoint(
            index::TASK1,
            arp(
                (BROADCAST, frame_mac),
                1,
                (sender_mac, sender),
                (NONE, "10.1.0.1"),
            ),
        )
    };
    let other = mac_of("10.1.0.12");
    check(
        &mut node,
        &[
            Row::drops(
                "MAC",
                Input::endpoint(index::TASK1, packet.framed(GATEWAY, other)),
                DropReason::SpoofedMac,
            )
            .watched(Hook::EndpointTc, Verdict::Drop, 0),
            Row::drops(
                "a peer's IPv4 address",
                sends(&packet.clone().from("10.1.0.12", 1)),
                DropReason::SpoofedAddress,
            ),
            Row::drops(
                "the world's IPv4 address",
                sends(&packet.clone().from("198.51.100.7", 1)),
                DropReason::SpoofedAddress,
            ),
            Row::drops(
                "no IPv4 address",
                sends(&packet.clone().from("0.0.0.0", 1)),
                DropReason::SpoofedAddress,
            ),
            Row::drops(
                "a peer's IPv6 address",
                sends(&udp("fd01::12", 1).from("fd01::12", 1)),
                DropReason::SpoofedAddress,
            ),
            Row::drops(
                "a mapped IPv6 address",
                sends(&udp("fd01::12", 1).from("::ffff:10.1.0.11", 1)),
                DropReason::SpoofedAddress,
            ),
            Row::drops(
                "ARP for a peer",
                claims("10.1.0.12", mac(), mac()),
                DropReason::SpoofedArp,
            ),
            Row::drops(
                "ARP of another MAC",
                claims(V4, other, mac()),
                DropReason::SpoofedArp,
            ),
            Row::drops(
                "ARP in another's frame",
                claims(V4, mac(), other),
                DropReason::SpoofedMac,
            ),
            Row::drops(
                "a solicitation in a peer's name",
                sends(&solicitation("fd01::12", "ff02::1:ff00:1", "fd01::1", true)),
                DropReason::SpoofedArp,
            ),
            Row::drops(
                "an interface that is no endpoint",
                Input::endpoint(index::UP1, packet.framed(GATEWAY, mac())),
                DropReason::UnknownInterface,
            ),
        ],
    );
}

#[test]
fn arp_requests_are_answered() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (target, of) in [
        ("10.1.0.1", GATEWAY),
        ("10.1.0.12", mac_of("10.1.0.12")),
        ("10.1.0.22", mac_of("10.1.0.22")),
        ("10.1.0.100", GATEWAY),
        ("10.1.0.66", GATEWAY),
    ] {
        let question = arp((BROADCAST, mac()), 1, (mac(), V4), (NONE, target));
        let answer = arp((mac(), of), 2, (of, target), (mac(), V4));
        rows.push(Row::becomes(
            target,
            Input::endpoint(index::TASK1, question),
            answer,
        ));
        // As Linux asks again: to the address it has.
        let probe = arp((of, mac()), 1, (mac(), V4), (NONE, target));
        let answer = arp((mac(), of), 2, (of, target), (mac(), V4));
        rows.push(Row::becomes(target, Input::endpoint(index::TASK1, probe), answer));
    }
    for target in ["10.1.0.99", "10.2.0.13", "198.51.100.7", "10.255.0.1"] {
        let question = arp((BROADCAST, mac()), 1, (mac(), V4), (NONE, target));
        rows.push(Row::drops(
            target,
            Input::endpoint(index::TASK1, question),
            DropReason::UnknownDestination,
        ));
    }
    let mut strange = arp((BROADCAST, mac()), 1, (mac(), V4), (NONE, "10.1.0.1"));
    strange[15] = 6;
    rows.push(Row::drops(
        "other hardware",
        Input::endpoint(index::TASK1, strange.clone()),
        DropReason::Malformed,
    ));
    rows.push(Row::drops(
        "cut",
        Input::endpoint(index::TASK1, strange[..41].to_vec()),
        DropReason::Truncated,
    ));
    // The node asks for everybody.
    let node_mac = mac_of("10.255.0.1");
    for (target, of) in [
        ("10.1.0.11", mac()),
        ("10.2.0.13", mac_of("10.2.0.13")),
        ("10.255.0.2", mac_of("10.255.0.2")),
    ] {
        let question = arp((BROADCAST, node_mac), 1, (node_mac, "10.255.0.1"), (NONE, target));
        let answer = arp((node_mac, of), 2, (of, target), (node_mac, "10.255.0.1"));
        rows.push(Row::becomes(
            "the node's",
            Input::endpoint(index::NODE, question),
            answer,
        ));
    }
    check(&mut node, &rows);
}

#[test]
fn a_padded_arp_request_is_answered_in_a_frame_as_long() {
    let mut node = Node::new();
    let mut question = arp((BROADCAST, mac()), 1, (mac(), V4), (NONE, "10.1.0.1"));
    let mut answer = arp((mac(), GATEWAY), 2, (GATEWAY, "10.1.0.1"), (mac(), V4));
    question.resize(60, 0);
    answer.resize(60, 0);
    check(
        &mut node,
        &[Row::becomes(
            "60 bytes",
            Input::endpoint(index::TASK1, question),
            answer,
        )],
    );
}

#[test]
fn solicitations_are_answered() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (target, of) in [
        ("fd01::1", GATEWAY),
        ("fd01::12", mac_of("10.1.0.12")),
        ("fd01::22", mac_of("10.1.0.22")),
        ("fd01::100", GATEWAY),
        ("fd01::66", GATEWAY),
    ] {
        for source in [V6, "fe80::42:aff:fe01:b"] {
            for options in [true, false] {
                let question = solicitation(source, "ff02::1:ff00:1", target, options);
                let answer = advertisement(target, source, of).framed(mac(), of);
                rows.push(Row::becomes(
                    &format!("{target} from {source}, {options}"),
                    sends(&question),
                    answer,
                ));
            }
        }
    }
    for target in ["fd01::99", "fd02::13", "2001:db8:c::7"] {
        let question = solicitation(V6, "ff02::1:ff00:1", target, true);
        rows.push(Row::drops(
            target,
            sends(&question),
            DropReason::UnknownDestination,
        ));
    }
    let question = solicitation(V6, "ff02::1:ff00:1", "fd01::1", true).ttl(254);
    rows.push(Row::drops(
        "from beyond the link",
        sends(&question),
        DropReason::Malformed,
    ));
    check(&mut node, &rows);
}

/// RFC 4861 section 7.2.4 answers a solicitation however it came; neighbour unreachability detection asks by unicast.
#[test]
fn solicitations_by_unicast_are_answered() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (target, of) in [("fd01::1", GATEWAY), ("fd01::100", GATEWAY)] {
        for source in ["fe80::42:aff:fe01:b", V6] {
            let question = solicitation(source, target, target, true);
            let answer = advertisement(target, source, of).framed(mac(), of);
            rows.push(Row::becomes(
                &format!("{target} from {source}"),
                sends(&question),
                answer,
            ));
        }
    }
    check(&mut node, &rows);
}

/// Nobody else has an endpoint's address: its probes for its own address stay without an answer.
#[test]
fn an_endpoint_is_never_told_that_its_address_is_taken() {
    let mut node = Node::new();
    let quiet = |what: &str, input: Input| Row {
        counted: None,
        ..Row::drops(what, input, DropReason::Multicast)
    };
    let asks = |operation: u16, sender: &str, target: &str| {
        Input::endpoint(
            index::TASK1,
            arp((BROADCAST, mac()), operation, (mac(), sender), (NONE, target)),
        )
    };
    let rows = [
        quiet("an announcement", asks(1, V4, V4)),
        quiet("an announcement as a reply", asks(2, V4, V4)),
        quiet("a reply", asks(2, V4, "10.1.0.12")),
        Row::drops(
            "a probe (RFC 5227)",
            asks(1, "0.0.0.0", V4),
            DropReason::SpoofedArp,
        ),
        quiet(
            "duplicate address detection",
            sends(&solicitation("::", "ff02::1:ff00:11", V6, false)),
        ),
        quiet("duplicate address detection of its link-local address", {
            sends(&solicitation(
                "::",
                "ff02::1:ff01:b",
                "fe80::42:aff:fe01:b",
                false,
            ))
        }),
    ];
    check(&mut node, &rows);
    for source in [V6, "fe80::42:aff:fe01:b"] {
        let (verdict, _) = node.verdict(&sends(&solicitation(source, "ff02::1:ff00:11", V6, true)));
        assert_eq!(verdict, DROP, "its own address, asked from {source}, is answered");
    }
}

#[test]
fn what_is_said_on_the_link_stays_there() {
    let mut node = Node::new();
    let quiet = |what: &str, input: Input| Row {
        counted: None,
        ..Row::drops(what, input, DropReason::Multicast)
    };
    let link_local = "fe80::42:aff:fe01:b";
    check(
        &mut node,
        &[
            quiet(
                "a router solicitation",
                sends(&Packet::icmp(link_local, "ff02::2", 133, 0, [0; 4], b"").ttl(255)),
            ),
            quiet(
                "a report of groups",
                sends(&Packet::icmp(link_local, "ff02::16", 143, 0, [0; 4], &[0; 20]).ttl(1)),
            ),
            Row::drops(
                "multicast",
                sends(&udp("224.0.0.251", 5353)),
                DropReason::Multicast,
            ),
            Row::drops(
                "multicast, v6",
                sends(&udp("ff02::fb", 5353)),
                DropReason::Multicast,
            ),
            Row::drops(
                "broadcast",
                sends(&udp("255.255.255.255", 67)),
                DropReason::Multicast,
            ),
            Row::drops(
                "from its link-local address",
                sends(&udp("fd01::12", 1).from(link_local, 1)),
                DropReason::LinkLocal,
            ),
            Row::drops(
                "an advertisement",
                sends(&Packet::icmp(link_local, "fd01::12", 136, 0, [0x60, 0, 0, 0], &[0; 24]).ttl(255)),
                DropReason::LinkLocal,
            ),
            Row::drops(
                "a router advertisement",
                sends(&Packet::icmp(link_local, "ff02::1", 134, 0, [0; 4], &[0; 8]).ttl(255)),
                DropReason::Multicast,
            ),
            Row::drops(
                "another EtherType",
                {
                    let mut frame = udp("10.1.0.12", 1).framed(GATEWAY, mac());
                    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
                    Input::endpoint(index::TASK1, frame)
                },
                DropReason::UnsupportedEtherType,
            ),
        ],
    );
}

/// The node's side of the veth may have a link-local address: the node is not to be reached by it.
#[test]
fn link_local_addresses_of_the_node_are_not_reached() {
    let mut node = Node::new();
    check(
        &mut node,
        &[
            Row::drops("gossip", sends(&udp("fe80::1", 7946)), DropReason::LinkLocal),
            Row::drops("anything", sends(&tcp("fe80::1", 22)), DropReason::LinkLocal),
        ],
    );
}

#[test]
fn a_peer_on_this_node_is_reached_directly() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for to in ["10.1.0.12", "fd01::12"] {
        for packet in [udp(to, 9), tcp(to, 9), Packet { ttl: 1, ..udp(to, 9) }, {
            let from = if to == "fd01::12" { V6 } else { V4 };
            Packet::new(from, to, Payload::Raw(47, vec![3; 50]))
        }] {
            let row = Row::becomes(to, sends(&packet), packet.framed(mac_of("10.1.0.12"), mac()));
            rows.push(row.watched(Hook::EndpointTc, Verdict::Delivered, index::TASK2));
        }
    }
    check(&mut node, &rows);
}

/// Two interfaces or addresses may share a place in the arrays that are looked at first, and another build leaves them
/// empty: the hashes know all.
#[test]
fn who_has_no_place_in_front_is_found_all_the_same() {
    let mut node = Node::new();
    let rows = |what: &str| {
        ["10.1.0.12", "fd01::12"].map(|to| {
            let row = Row::becomes(
                &format!("{what}, {to}"),
                sends(&udp(to, 9)),
                udp(to, 9).framed(mac_of("10.1.0.12"), mac()),
            );
            row.watched(Hook::EndpointTc, Verdict::Delivered, index::TASK2)
        })
    };
    node.displace_local(index::TASK1);
    check(&mut node, &rows("another interface stands there"));
    for address in ["10.1.0.12", "fd01::12"] {
        node.displace_endpoint(address);
    }
    check(&mut node, &rows("another address stands there"));
    node.clear_fronts();
    check(&mut node, &rows("nobody stands there"));
}

#[test]
fn a_peer_on_another_node_is_encapsulated() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for vtep in [index::VTEP2, index::VTEP3, index::VTEP5] {
        let ifindex = if vtep == index::VTEP5 {
            index::UP1
        } else {
            index::UP0
        };
        let of = mac_of(&format!("10.1.0.2{vtep}"));
        for to in [format!("10.1.0.2{vtep}"), format!("fd01::2{vtep}")] {
            let from = if to.contains(':') { V6 } else { V4 };
            for packet in [
                udp(&to, 9),
                tcp(&to, 9),
                Packet::new(from, &to, Payload::Raw(47, vec![3; 50])),
            ] {
                let expected = encapsulated(vtep, index::RED, &packet.framed(of, mac()));
                let row = Row::becomes(&to, sends(&packet), expected);
                rows.push(row.watched(Hook::EndpointTc, Verdict::Encapsulated, ifindex));
            }
        }
    }
    let packet = udp("10.1.0.24", 9);
    rows.push(
        Row::becomes(
            "unresolved",
            sends(&packet),
            packet.framed(mac_of("10.1.0.24"), mac()),
        )
        .watched(Hook::EndpointTc, Verdict::Tunnelled, 0),
    );
    let packet = udp("10.255.0.2", 9);
    let inner = packet.framed(mac_of("10.255.0.2"), mac());
    rows.push(Row::becomes(
        "another node",
        sends(&packet),
        encapsulated(index::VTEP2, index::INGRESS, &inner),
    ));
    let packet = udp("10.255.0.1", 9);
    rows.push(
        Row::becomes(
            "this node",
            sends(&packet),
            packet.framed(mac_of("10.255.0.1"), mac()),
        )
        .watched(Hook::EndpointTc, Verdict::Delivered, index::NODE),
    );
    check(&mut node, &rows);
}

#[test]
fn the_node_reaches_every_network() {
    let mut node = Node::new();
    let of = mac_of("10.255.0.1");
    let packet = |to: &str| Packet::udp(("10.255.0.1", 1), (to, 2), b"from the node");
    let input = |to: &str| Input::endpoint(index::NODE, packet(to).framed(GATEWAY, of));
    check(
        &mut node,
        &[
            Row::becomes("red", input("10.1.0.11"), packet("10.1.0.11").framed(mac(), of)),
            Row::becomes(
                "blue",
                input("10.2.0.13"),
                packet("10.2.0.13").framed(mac_of("10.2.0.13"), of),
            ),
            Row::becomes("remote", input("10.1.0.22"), {
                encapsulated(
                    index::VTEP2,
                    index::RED,
                    &packet("10.1.0.22").framed(mac_of("10.1.0.22"), of),
                )
            }),
            Row::drops(
                "the world is not there",
                input("198.51.100.7"),
                DropReason::UnknownDestination,
            ),
        ],
    );
}

#[test]
fn networks_are_apart() {
    let mut node = Node::new();
    node.endpoint("10.2.0.100", |endpoint| {
        endpoint.vni = index::BLUE;
        endpoint.kind = EndpointKind::Vip as u8;
    });
    node.endpoint("10.2.0.1", |endpoint| {
        endpoint.vni = index::BLUE;
        endpoint.kind = EndpointKind::Gateway as u8;
    });
    let mut rows = Vec::new();
    for to in ["10.2.0.13", "fd02::13", "10.3.0.14", "10.2.0.100", "10.2.0.1"] {
        rows.push(Row::drops(to, sends(&udp(to, 9)), DropReason::NotInNetwork));
        rows.push(Row::drops(to, sends(&tcp(to, 9)), DropReason::NotInNetwork));
    }
    check(&mut node, &rows);
}

#[test]
fn an_internal_network_reaches_nobody_outside() {
    let mut node = Node::new();
    let sends = |to: &str| {
        let from = if to.contains(':') { "fd03::14" } else { "10.3.0.14" };
        let packet = Packet::udp((from, 1), (to, 2), b"let me out");
        Input::endpoint(index::TASK4, packet.framed(GATEWAY, mac_of("10.3.0.14")))
    };
    check(
        &mut node,
        &[
            Row::drops("the world", sends("198.51.100.7"), DropReason::InternalNetwork),
            Row::drops(
                "the world, v6",
                sends("2001:db8:c::7"),
                DropReason::InternalNetwork,
            ),
            Row::drops("a node", sends(uplink::V4), DropReason::InternalNetwork),
            Row::drops("another node", sends("192.0.2.2"), DropReason::InternalNetwork),
        ],
    );
}

#[test]
fn the_world_is_the_kernels_to_route() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for to in ["198.51.100.7", "2001:db8:c::7"] {
        for packet in [
            udp(to, 53),
            tcp(to, 443),
            udp(to, 4789),
            udp(to, 7946),
            tcp(to, 2377),
        ] {
            // Whatever the task took for the gateway's address: the kernel must take it for its own.
            for destination in [GATEWAY, mac_of("10.1.0.12")] {
                let input = Input::endpoint(index::TASK1, packet.framed(destination, mac()));
                let row = Row {
                    frame: Some(packet.framed(GATEWAY, mac())),
                    ..Row::passes(to, input)
                };
                rows.push(row.watched(Hook::EndpointTc, Verdict::Pass, 0));
            }
        }
    }
    for to in [uplink::V4, uplink::V6, "192.0.2.2", "2001:db8:f::3"] {
        rows.push(Row::passes("a node's other ports", sends(&tcp(to, 22))));
        rows.push(Row::passes("a node's other ports", sends(&udp(to, 123))));
    }
    check(&mut node, &rows);
}

#[test]
fn ports_that_trust_a_nodes_address_are_not_for_tasks() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for to in [
        uplink::V4,
        "192.0.2.101",
        uplink::V6,
        "192.0.2.2",
        "192.0.2.4",
        "2001:db8:f::3",
        "10.255.0.1",
        "fd00:ff::1",
        "10.255.0.2",
    ] {
        for packet in [udp(to, 4789), udp(to, 7946), tcp(to, 7946), tcp(to, 2377)] {
            rows.push(Row::drops(
                &format!("{packet:?}"),
                sends(&packet),
                DropReason::ForbiddenPort,
            ));
        }
        for (offset, more) in [(0, true), (5, true), (5, false)] {
            let part = Packet {
                fragment: Some(Fragment { offset, more }),
                df: false,
                ..udp(to, 9)
            };
            rows.push(Row::drops(
                &format!("{part:?}"),
                sends(&part),
                DropReason::ForbiddenPort,
            ));
        }
    }
    check(&mut node, &rows);
}

#[test]
fn what_does_not_fit_is_answered_and_what_may_be_fragmented_is_tunnelled() {
    let mut node = Node::new();
    for (to, mtu) in [
        ("10.1.0.22", 1450_u32),
        ("fd01::22", 1450),
        ("10.1.0.23", 1430),
        ("fd01::23", 1430),
    ] {
        let from = if to.contains(':') { V6 } else { V4 };
        let headers = if to.contains(':') { 60 } else { 40 };
        let data = |len: u32| vec![1; usize::try_from(len).unwrap() - headers];
        let fits = Packet::tcp((from, 1), (to, 2), Tcp::ACK, &data(mtu));
        let ran = node.run(&sends(&fits));
        assert!(
            ran.drops.is_empty() && ran.frame.len() > fits.bytes().len() + 50,
            "{to}: {:?}",
            ran.drops
        );
        essaim_bpf_tests::sound(&ran.frame).unwrap();
        let big = Packet::tcp((from, 1), (to, 2), Tcp::ACK, &data(mtu + 1));
        let (kind, code) = if headers == 40 { (3, 4) } else { (2, 0) };
        let error = Packet::icmp(to, from, kind, code, mtu.to_be_bytes(), &big.bytes()[..64]);
        let tos = if headers == 40 { 0xc0 } else { 0 };
        let error = Packet {
            ttl: 64,
            tos,
            df: false,
            id: 0,
            ..error
        }
        .framed(mac(), GATEWAY);
        check(
            &mut node,
            &[Row::answered(to, sends(&big), DropReason::TooBig, error)],
        );
        if headers == 40 {
            let may = big.may_be_fragmented();
            let of = mac_of(to);
            check(
                &mut node,
                &[Row::becomes(to, sends(&may), may.framed(of, mac())).watched(
                    Hook::EndpointTc,
                    Verdict::Tunnelled,
                    0,
                )],
            );
        }
    }
}

#[test]
fn the_gateway_answers_ping_and_nothing_else() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (from, gateway, echo, reply, refused) in
        [(V4, "10.1.0.1", 8, 0, (3, 1)), (V6, "fd01::1", 128, 129, (1, 3))]
    {
        for body in [b"".as_slice(), b"odd", b"a longer body than the last"] {
            let ping = Packet::icmp(from, gateway, echo, 0, [0x12, 0x34, 0, 1], body);
            let echoed = Packet::icmp(gateway, from, reply, 0, [0x12, 0x34, 0, 1], body).ttl(64);
            rows.push(
                Row::becomes("ping", sends(&ping), echoed.framed(mac(), GATEWAY)).watched(
                    Hook::EndpointTc,
                    Verdict::Answered,
                    0,
                ),
            );
        }
        let packet = udp(gateway, 53);
        let header = if from == V4 { 20 } else { 40 };
        let error = Packet::icmp(
            gateway,
            from,
            refused.0,
            refused.1,
            [0; 4],
            &packet.bytes()[..header + 8],
        );
        let tos = if from == V4 { 0xc0 } else { 0 };
        let error = Packet {
            ttl: 64,
            tos,
            df: false,
            id: 0,
            ..error
        }
        .framed(mac(), GATEWAY);
        rows.push(Row::answered(
            "UDP",
            sends(&packet),
            DropReason::UnknownDestination,
            error,
        ));
    }
    check(&mut node, &rows);
}

#[test]
fn a_task_that_is_gone_refuses() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for (from, gone, code) in [(V4, "10.1.0.66", (3, 1)), (V6, "fd01::66", (1, 3))] {
        let segment = tcp(gone, 80);
        let mut reset = segment.clone().from(gone, 80).to(from, 40_000).ttl(64);
        let Payload::Tcp(tcp) = &mut reset.payload else {
            unreachable!()
        };
        (tcp.flags, tcp.sequence, tcp.acknowledgement, tcp.window) = (Tcp::RST | Tcp::ACK, 0, 1001, 0);
        rows.push(Row::answered(
            "TCP",
            sends(&segment),
            DropReason::EndpointGone,
            reset.framed(mac(), GATEWAY),
        ));
        let datagram = udp(gone, 53);
        let header = if from == V4 { 20 } else { 40 };
        let error = Packet::icmp(
            gone,
            from,
            code.0,
            code.1,
            [0; 4],
            &datagram.bytes()[..header + 8],
        );
        let tos = if from == V4 { 0xc0 } else { 0 };
        let error = Packet {
            ttl: 64,
            tos,
            df: false,
            id: 0,
            ..error
        }
        .framed(mac(), GATEWAY);
        rows.push(Row::answered(
            "UDP",
            sends(&datagram),
            DropReason::EndpointGone,
            error,
        ));
    }
    check(&mut node, &rows);
}
