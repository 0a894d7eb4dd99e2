//! ICMP errors about translated flows reach who sent the quoted packet, who finds his own packet quoted.

use essaim_abi::{DropReason, Hook, MacAddr, Verdict};
use essaim_bpf_tests::{
    Input, Node, Packet, Row, Steering, Tcp, check, check_each, encapsulated, index, mac_of, of_flow, uplink,
};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const CLIENT6: (&str, u16) = ("2001:db8:c::7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);

fn from_wire(packet: &Packet) -> Input {
    Input::uplink(packet.framed(uplink::MAC, uplink::ROUTER))
}

fn into_task(packet: &Packet) -> Vec<u8> {
    packet.framed(mac_of("10.1.0.11"), GATEWAY)
}

/// An error from `router` to the sender of `quoted`, of which it quotes `len` bytes behind the IP header.
fn error(router: &str, kind: (u8, u8), quoted: &Packet, len: usize) -> Packet {
    let header = if quoted.source.is_ipv4() { 20 } else { 40 };
    let bytes = quoted.bytes();
    let quote = &bytes[..bytes.len().min(header + len)];
    Packet::icmp(
        router,
        &quoted.source.to_string(),
        kind.0,
        kind.1,
        1300_u32.to_be_bytes(),
        quote,
    )
}

/// Kinds of errors by version of IP.
fn kinds(v4: bool) -> &'static [(u8, u8)] {
    if v4 {
        &[(3, 4), (3, 3), (11, 0), (12, 0)]
    } else {
        &[(2, 0), (1, 4), (3, 0), (4, 0)]
    }
}

/// Clients, the published address, the task, a router on the way.
const SIDES: [((&str, u16), &str, &str, &str); 2] = [
    (CLIENT, uplink::V4, "10.1.0.11", "203.0.113.1"),
    (CLIENT6, uplink::V6, "fd01::11", "2001:db8:e::1"),
];

/// The quoted packet, of which errors may hold no checksum: as the client's side saw it, and as the task sent it.
fn replies(protocol: u8, client: (&str, u16), own: &str, task: &str) -> (Packet, Packet) {
    let (published, target) = if protocol == 6 { (8080, 80) } else { (5353, 53) };
    let sent = match protocol {
        6 => Packet::tcp((task, target), client, Tcp::ACK, b"a long enough answer"),
        _ => Packet::udp((task, target), client, b"a long enough answer"),
    };
    (sent.clone().from(own, published), sent)
}

/// What stands in the quoted transport checksum is nobody's business: it is compared no further than eight bytes (six of
/// UDP).
fn quoting(protocol: u8) -> usize {
    if protocol == 6 { 8 } else { 6 }
}

#[test]
fn an_error_about_a_reply_reaches_the_task() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own, task, router) in SIDES {
        for protocol in [6, 17] {
            let port = if protocol == 6 { 8080 } else { 5353 };
            let opening = Packet::opening(protocol, client, (own, port));
            node.verdict(&from_wire(&opening));
            let (seen, sent) = replies(protocol, client, own, task);
            let mut rows = Vec::new();
            for kind in kinds(client == CLIENT) {
                let len = quoting(protocol);
                let mut delivered = error(router, *kind, &sent, len);
                delivered.ttl = 60;
                let row = Row::becomes(
                    &format!("{kind:?}"),
                    from_wire(&error(router, *kind, &seen, len)),
                    into_task(&delivered),
                );
                rows.push(row.watched(Hook::UplinkTc, Verdict::Delivered, index::TASK1));
            }
            check(&mut node, &rows);
        }
    }
}

/// A longer quote holds more than is translated; the error's own checksum is right all the same.
#[test]
fn longer_quotes_keep_the_checksum_right() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own, task, router) in SIDES {
        node.verdict(&from_wire(&Packet::opening(6, client, (own, 8080))));
        let (seen, sent) = replies(6, client, own, task);
        for len in [8, 9, 10, 19, 20, 21, 40] {
            let input = from_wire(&error(router, kinds(client == CLIENT)[0], &seen, len));
            let ran = node.run(&input);
            essaim_bpf_tests::sound(&ran.frame).unwrap();
            let header = if client == CLIENT { 20 } else { 40 };
            let quote = &ran.frame[14 + header + 8..];
            assert_eq!(
                quote[..header + 8],
                sent.bytes()[..header + 8],
                "{len} bytes of the transport quoted"
            );
            assert_eq!(
                quote[header + 8..],
                seen.bytes()[header + 8..header + quote.len() - header]
            );
        }
    }
}

#[test]
fn an_error_goes_to_the_node_of_the_task() {
    let mut node = Node::new();
    for (client, own, _, router) in SIDES {
        let (seen, _) = replies(
            6,
            client,
            own,
            if client == CLIENT { "10.1.0.22" } else { "fd01::22" },
        );
        let error = error(router, kinds(client == CLIENT)[0], &seen, 8);
        let hash = of_flow((seen.destination, client.1), (seen.source, 8080), 6) & 0xffff_ff00;
        let (destination, source) = Steering {
            port: 8080,
            token: 1,
            hash,
            ..Steering::default()
        }
        .macs();
        let sent = encapsulated(index::VTEP2, index::INGRESS, &error.framed(destination, source));
        check(
            &mut node,
            &[Row::becomes("sent on", from_wire(&error), sent).watched(
                Hook::UplinkTc,
                Verdict::Encapsulated,
                index::UP0,
            )],
        );
    }
}

#[test]
fn an_error_from_the_edge_reaches_the_task_or_its_earlier_owner() {
    let mut node = Node::new();
    for (client, own, task, router) in SIDES {
        node.owners(index::WEB, &[index::HERE1, index::behind(index::VTEP3)]);
        let request = Steering {
            port: 8080,
            token: 2,
            hash: 0x100,
            ..Steering::default()
        };
        let (destination, source) = request.macs();
        let (seen, sent) = replies(6, client, own, task);
        let kind = kinds(client == CLIENT)[0];
        let steered = Input::overlay(
            index::INGRESS,
            index::VTEP2,
            error(router, kind, &seen, 8).framed(destination, source),
        );
        let handed = Steering {
            hop: 1,
            budget: 1,
            edge: index::number(index::VTEP2),
            ..request
        };
        let (to, from) = handed.macs();
        let onwards = encapsulated(
            index::VTEP3,
            index::INGRESS,
            &error(router, kind, &seen, 8).framed(to, from),
        );
        check(
            &mut node,
            &[Row::becomes("unknown here", steered.clone(), onwards)],
        );
        let opening = Packet::opening(6, client, (own, 8080)).framed(destination, source);
        node.verdict(&Input::overlay(index::INGRESS, index::VTEP2, opening));
        let delivered = into_task(&error(router, kind, &sent, 8).ttl(60));
        check(&mut node, &[Row::becomes("known", steered, delivered)]);
    }
}

#[test]
fn an_error_about_no_flow_is_dropped() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own, task, router) in SIDES {
        let (seen, _) = replies(6, client, own, task);
        let error = error(router, kinds(client == CLIENT)[0], &seen, 8);
        check_each(
            &mut node,
            &[Row::drops(
                "no flow",
                from_wire(&error),
                DropReason::UnmatchedError,
            )],
        );
    }
}

#[test]
fn errors_that_are_not_ours_are_the_kernels() {
    let mut node = Node::new();
    for (client, own, _, router) in SIDES {
        let kind = kinds(client == CLIENT)[0];
        let other = Packet::tcp((own, 8081), client, Tcp::ACK, b"");
        let elsewhere = if client == CLIENT {
            "192.0.2.77"
        } else {
            "2001:db8:f::77"
        };
        let forwarded = Packet::tcp((elsewhere, 8080), client, Tcp::ACK, b"");
        let mut short = error(router, kind, &other, 2);
        if let essaim_bpf_tests::Payload::Icmp { body, .. } = &mut short.payload {
            body.truncate(12);
        }
        check(
            &mut node,
            &[
                Row::passes("an unpublished port", from_wire(&error(router, kind, &other, 8))),
                Row::passes(
                    "another machine's",
                    from_wire(&error(router, kind, &forwarded, 8)),
                ),
                Row::passes("cut", from_wire(&short)),
                Row::passes("about ICMP", {
                    let ping = Packet::icmp(own, client.0, 0, 0, [0; 4], b"ping");
                    from_wire(&error(router, kind, &ping, 8))
                }),
            ],
        );
    }
}

/// The task answers a datagram for which it has no socket: the client finds its own datagram quoted.
#[test]
fn an_error_of_the_task_reaches_the_client() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own, task, _) in SIDES {
        let asked = Packet::udp(client, (own, 5353), b"question");
        let got = asked.clone().to(task, 53).ttl(60);
        let kind = if client == CLIENT { (3, 3) } else { (1, 4) };
        let as_the_client = |packet: &Packet| Packet {
            ttl: 60,
            ..packet.clone()
        };
        let unreachable = |quoted: &Packet, from: &str| {
            let mut error = error(from, kind, quoted, 6);
            error.destination = client.0.parse().unwrap();
            error
        };
        for (vtep, token) in [(index::SELF, 1), (index::VTEP3, 2)] {
            node.forget();
            let input = if vtep == index::SELF {
                from_wire(&asked)
            } else {
                let steering = Steering {
                    protocol: 1,
                    port: 5353,
                    token,
                    hash: 0x100,
                    ..Steering::default()
                };
                let (destination, source) = steering.macs();
                Input::overlay(index::INGRESS, vtep, asked.framed(destination, source))
            };
            let sent = unreachable(&got, task);
            let arrives = unreachable(&as_the_client(&asked), own).ttl(60);
            let expected = if vtep == index::SELF {
                arrives.framed(GATEWAY, mac_of("10.1.0.11"))
            } else {
                let (destination, source) = Steering {
                    reply: true,
                    token,
                    ..Steering::default()
                }
                .macs();
                encapsulated(vtep, index::INGRESS, &arrives.framed(destination, source))
            };
            check(
                &mut node,
                &[
                    Row::becomes("question", input, into_task(&got)),
                    Row::becomes(
                        "error",
                        Input::endpoint(index::TASK1, sent.framed(GATEWAY, mac_of("10.1.0.11"))),
                        expected,
                    ),
                ],
            );
        }
    }
}

/// Within the overlay: a backend's error about a packet to a VIP quotes the VIP, and comes from it.
#[test]
fn an_error_about_a_packet_to_a_vip_quotes_the_vip() {
    let mut node = Node::new();
    for (task, vip, backend, router) in [
        ("10.1.0.11", "10.1.0.100", "10.1.0.12", "10.1.0.22"),
        ("fd01::11", "fd01::100", "fd01::12", "fd01::22"),
    ] {
        let asked = Packet::udp((task, 40_000), (vip, 53), b"question");
        let got = asked.clone().to(backend, 53);
        let kind = if task == "10.1.0.11" { (3, 3) } else { (1, 4) };
        let question = Input::endpoint(index::TASK1, asked.framed(GATEWAY, mac_of("10.1.0.11")));
        let from_backend = error(backend, kind, &got, 6).framed(mac_of("10.1.0.11"), mac_of("10.1.0.12"));
        let from_elsewhere = error(router, kind, &got, 6).framed(mac_of("10.1.0.11"), mac_of("10.1.0.22"));
        check(
            &mut node,
            &[
                Row::becomes("question", question, got.framed(mac_of("10.1.0.12"), GATEWAY)),
                Row::becomes("the backend's", Input::endpoint(index::TASK2, from_backend), {
                    error(vip, kind, &asked, 6).framed(mac_of("10.1.0.11"), mac_of("10.1.0.12"))
                }),
                Row::becomes(
                    "a third one's",
                    Input::overlay(index::RED, index::VTEP2, from_elsewhere),
                    error(router, kind, &asked, 6).framed(mac_of("10.1.0.11"), mac_of("10.1.0.22")),
                ),
            ],
        );
    }
}
