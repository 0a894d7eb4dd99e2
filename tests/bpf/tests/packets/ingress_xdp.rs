//! `ingress_xdp`: what it leaves alone, what it encapsulates and how, what it drops.

use essaim_abi::{DropReason, Hook, PortFlags, Protocol, ServiceFlags, Verdict, VtepFlags};
use essaim_bpf_tests::{
    Fragment, Input, Node, Packet, Payload, REDIRECT, Row, Steering, Tcp, check, encapsulated, index,
    of_client, of_flow, source_port, uplink, xdp,
};
use std::collections::BTreeSet;

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const CLIENT6: (&str, u16) = ("2001:db8:c::7", 40_000);

fn from_client(packet: &Packet) -> Vec<u8> {
    packet.framed(uplink::MAC, uplink::ROUTER)
}

fn web() -> Packet {
    Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::SYN, b"")
}

/// The frame that carries a client's packet to the backend's node.
fn carried(packet: &Packet, vtep: u32, protocol: u8, port: u16, hash: u32, token: u8) -> Vec<u8> {
    let hash = hash & 0xffff_ff00;
    let steering = Steering {
        protocol,
        port,
        token,
        hash,
        ..Steering::default()
    };
    let (destination, source) = steering.macs();
    let inner = packet.framed(destination, source);
    encapsulated(vtep, index::INGRESS, &inner)
}

fn hash_of(packet: &Packet, published: u16) -> u32 {
    of_flow(
        (packet.source, CLIENT.1),
        (packet.destination, published),
        packet.protocol(),
    )
}

#[test]
fn what_is_not_published_passes_untouched() {
    let mut node = Node::new();
    node.publish(Protocol::Tcp, 81, 80, PortFlags::HOST);
    let passing = |packet: Packet| Input::wire(from_client(&packet));
    let mut rows = vec![
        Row::passes(
            "a port that is not published",
            passing(web().to(uplink::V4, 8081)),
        ),
        Row::passes(
            "a published port by another protocol",
            passing(Packet::udp(CLIENT, (uplink::V4, 8080), b"")),
        ),
        Row::passes("host mode", passing(web().to(uplink::V4, 81))),
        Row::passes(
            "a published port of another machine",
            passing(web().to("192.0.2.77", 8080)),
        ),
        Row::passes("a published port of another machine, v6", {
            passing(Packet::tcp(CLIENT6, ("2001:db8:f::77", 8080), Tcp::SYN, b""))
        }),
        Row::passes(
            "IPv4 options",
            passing(Packet {
                options: vec![1, 1, 1, 0],
                ..web()
            }),
        ),
        Row::passes("extension headers", {
            passing(Packet {
                extension: true,
                ..Packet::tcp(CLIENT6, (uplink::V6, 8080), Tcp::SYN, b"")
            })
        }),
        Row::passes("a first fragment", {
            passing(Packet {
                fragment: Some(Fragment {
                    offset: 0,
                    more: true,
                }),
                ..web()
            })
        }),
        Row::passes("a later fragment", {
            passing(Packet {
                fragment: Some(Fragment {
                    offset: 3,
                    more: false,
                }),
                ..web()
            })
        }),
        Row::passes("a first fragment, v6", {
            let whole = Packet::udp(CLIENT6, (uplink::V6, 5353), b"");
            passing(Packet {
                fragment: Some(Fragment {
                    offset: 0,
                    more: true,
                }),
                ..whole
            })
        }),
        Row::passes(
            "ping",
            passing(Packet::icmp(CLIENT.0, uplink::V4, 8, 0, [0, 1, 0, 2], b"ping")),
        ),
        Row::passes(
            "ping, v6",
            passing(Packet::icmp(CLIENT6.0, uplink::V6, 128, 0, [0, 1, 0, 2], b"ping")),
        ),
        Row::passes(
            "another protocol",
            passing(Packet::new(CLIENT.0, uplink::V4, Payload::Raw(47, vec![0; 8]))),
        ),
    ];
    let mut arp = from_client(&web());
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    rows.push(Row::passes("ARP", Input::wire(arp)));
    let mut vlan = from_client(&web());
    vlan.splice(12..12, [0x81, 0x00, 0, 5]);
    rows.push(Row::passes("a VLAN tag", Input::wire(vlan)));
    let mut wrong = from_client(&web());
    wrong[14] = 0x65;
    rows.push(Row::passes(
        "IPv4 that calls itself version 6",
        Input::wire(wrong),
    ));
    let mut long = from_client(&web());
    long[16..18].copy_from_slice(&100_u16.to_be_bytes());
    rows.push(Row::passes(
        "a packet that claims to be longer than its frame",
        Input::wire(long),
    ));
    check(&mut node, &rows);
}

/// The kernel runs no frame shorter than an Ethernet header.
#[test]
fn frames_cut_at_every_length_pass_untouched() {
    let mut node = Node::new();
    let mut rows = Vec::new();
    for packet in [
        web(),
        Packet::udp(CLIENT, (uplink::V4, 5353), b"question"),
        Packet::sctp(CLIENT, (uplink::V4, 3868), 1),
        Packet::tcp(CLIENT6, (uplink::V6, 8080), Tcp::SYN, b""),
        Packet::udp(CLIENT6, (uplink::V6, 5353), b"question"),
        Packet::udp(("203.0.113.9", 5), (uplink::V4, 4789), b"VXLAN, perhaps"),
    ] {
        let frame = from_client(&packet);
        // VXLAN from no member is dropped as soon as its ports can be read.
        let whole = if matches!(
            packet.payload,
            Payload::Udp {
                destination: 4789,
                ..
            }
        ) {
            38
        } else {
            frame.len()
        };
        for len in 14..whole {
            rows.push(Row::passes(
                &format!("{len} bytes of {packet:?}"),
                Input::wire(frame[..len].to_vec()),
            ));
        }
    }
    check(&mut node, &rows);
}

#[test]
fn a_published_port_is_encapsulated_to_the_backends_node() {
    for vtep in [index::VTEP2, index::VTEP3, index::VTEP5] {
        let mut node = Node::new();
        node.owners(index::WEB, &[index::behind(vtep)]);
        // Back out where it came in, unless another uplink leads there.
        let (verdict, ifindex) = if vtep == index::VTEP5 {
            (xdp::REDIRECT, index::UP1)
        } else {
            (xdp::TX, index::UP0)
        };
        let mut rows = Vec::new();
        for (client, own) in [
            (CLIENT, uplink::V4),
            (CLIENT, "192.0.2.101"),
            (CLIENT6, uplink::V6),
        ] {
            for (protocol, port, number) in [(6, 8080, 0), (17, 5353, 1), (132, 3868, 2)] {
                let packet = Packet::opening(protocol, client, (own, port));
                let expected = carried(&packet, vtep, number, port, hash_of(&packet, port), 1);
                let input = Input::wire(from_client(&packet));
                for metadata in [0, 4, 128] {
                    let row = Row::becomes(
                        &format!("{packet:?} to VTEP {vtep}"),
                        Input {
                            metadata: vec![0xa5; metadata],
                            ..input.clone()
                        },
                        expected.clone(),
                    );
                    rows.push(
                        row.verdict(verdict)
                            .watched(Hook::IngressXdp, Verdict::Encapsulated, ifindex),
                    );
                }
            }
        }
        check(&mut node, &rows);
    }
}

#[test]
fn the_edge_token_names_the_uplink() {
    let mut node = Node::new();
    let packet = web();
    let input = Input {
        ifindex: index::UP1,
        ..Input::wire(from_client(&packet))
    };
    let expected = carried(&packet, index::VTEP2, 0, 8080, hash_of(&packet, 8080), 2);
    // The VTEP is behind the other uplink.
    let row = Row::becomes("the second uplink", input.clone(), expected);
    check(
        &mut node,
        &[row
            .verdict(xdp::REDIRECT)
            .watched(Hook::IngressXdp, Verdict::Encapsulated, index::UP0)],
    );
    check(
        &mut node,
        &[Row::passes(
            "an interface that is no uplink",
            Input {
                ifindex: index::TASK1,
                ..input
            },
        )],
    );
}

#[test]
fn a_packet_is_counted_for_its_service_and_backend() {
    let mut node = Node::new();
    let frame = from_client(&web());
    let ran = node.run(&Input::wire(frame.clone()));
    let once = (1, frame.len() as u64, 0);
    assert_eq!(ran.services.into_iter().collect::<Vec<_>>(), [(index::WEB, once)]);
    assert_eq!(
        ran.backends.into_iter().collect::<Vec<_>>(),
        [(index::behind(index::VTEP2), once)]
    );
    assert_eq!(node.flows(), 0, "the edge keeps no flow");
}

#[test]
fn what_tc_must_do_passes_untouched() {
    let mut node = Node::new();
    let syn = || Input::wire(from_client(&web()));
    node.owners(index::WEB, &[index::HERE1]);
    check(&mut node, &[Row::passes("a backend on this node", syn())]);
    node.owners(index::WEB, &[index::behind(index::VTEP4)]);
    check(&mut node, &[Row::passes("an unresolved VTEP", syn())]);
    node.owners(index::WEB, &[]);
    check(&mut node, &[Row::passes("an empty table", syn())]);
    node.owners(index::WEB, &[0]);
    check(&mut node, &[Row::passes("a slot of nobody", syn())]);
    node.owners(index::WEB, &[index::behind(index::VTEP2)]);
    node.backend(index::behind(index::VTEP2), |backend| backend.state = 3);
    check(&mut node, &[Row::passes("a backend that is gone", syn())]);
    node.backend(index::behind(index::VTEP2), |backend| backend.state = 2);
    check(
        &mut node,
        &[Row::becomes("a draining backend", syn(), {
            carried(&web(), index::VTEP2, 0, 8080, hash_of(&web(), 8080), 1)
        })
        .verdict(xdp::TX)],
    );
    node.service(index::WEB, |service| {
        service.flags = service.flags.with(ServiceFlags::ENCRYPTED);
    });
    check(&mut node, &[Row::passes("an encrypted service", syn())]);
    node.service(index::WEB, |service| service.flags = ServiceFlags::NONE);
    check(&mut node, &[Row::passes("a service that is not in use", syn())]);
    node.service(index::WEB, |service| service.flags = ServiceFlags::USED);
    node.vtep(index::VTEP2, |vtep| vtep.flags = VtepFlags::RESOLVED);
    check(&mut node, &[Row::passes("a VTEP that is not in use", syn())]);
}

#[test]
fn the_largest_packet_that_fits_is_sent_and_the_next_passes() {
    let mut node = Node::new();
    for (vtep, client, own, mtu, headers) in [
        (index::VTEP2, CLIENT, uplink::V4, 1450, 40),
        (index::VTEP3, CLIENT, uplink::V4, 1430, 40),
        (index::VTEP2, CLIENT6, uplink::V6, 1450, 60),
        (index::VTEP3, CLIENT6, uplink::V6, 1430, 60),
    ] {
        node.owners(index::WEB, &[index::behind(vtep)]);
        let packet = |len: usize| Packet::tcp(client, (own, 8080), Tcp::ACK, &vec![7; len - headers]);
        let fits = packet(mtu);
        let expected = carried(&fits, vtep, 0, 8080, hash_of(&fits, 8080), 1);
        check(
            &mut node,
            &[
                Row::becomes("fits", Input::wire(from_client(&fits)), expected).verdict(xdp::TX),
                Row::passes("does not fit", Input::wire(from_client(&packet(mtu + 1)))),
            ],
        );
    }
}

/// A frame may be longer than its packet: padding travels no further than the length of the packet says it may.
#[test]
fn a_padded_frame_is_sent_with_lengths_that_agree() {
    let mut node = Node::new();
    let packet = Packet::udp(CLIENT, (uplink::V4, 5353), b"");
    let mut frame = from_client(&packet);
    frame.resize(60, 0);
    let ran = node.run(&Input::wire(frame));
    assert_eq!(ran.verdict, xdp::TX);
    let udp_len = usize::from(u16::from_be_bytes([ran.frame[38], ran.frame[39]]));
    assert_eq!(
        udp_len,
        16 + 14 + packet.bytes().len(),
        "the padding is no part of the inner frame"
    );
    assert_eq!(&ran.frame[50 + 14..50 + 14 + 28], packet.bytes());
}

#[test]
fn affinity_gives_a_client_one_hash_for_all_its_ports() {
    let mut node = Node::new();
    node.service(index::WEB, |service| {
        service.flags = service.flags.with(ServiceFlags::AFFINITY);
    });
    let mut rows = Vec::new();
    for port in [1024, 40_000, 65_535] {
        for (client, own) in [(CLIENT.0, uplink::V4), (CLIENT6.0, uplink::V6)] {
            let packet = Packet::tcp((client, port), (own, 8080), Tcp::SYN, b"");
            let hash = of_client(client.parse().unwrap());
            let expected = carried(&packet, index::VTEP2, 0, 8080, hash, 1);
            rows.push(Row::becomes("affinity", Input::wire(from_client(&packet)), expected).verdict(xdp::TX));
        }
    }
    check(&mut node, &rows);
}

/// The underlay spreads by the outer source port, the only thing in which the flows between two nodes differ there.
#[test]
fn flows_spread_over_the_outer_source_ports() {
    let mut node = Node::new();
    let mut ports = BTreeSet::new();
    for port in 10_000..11_000 {
        let packet = Packet::tcp((CLIENT.0, port), (uplink::V4, 8080), Tcp::SYN, b"");
        let (verdict, frame) = node.verdict(&Input::wire(from_client(&packet)));
        assert_eq!(verdict, xdp::TX);
        ports.insert(source_port(&frame).unwrap());
    }
    assert!(ports.len() > 900, "1000 flows came from {} ports", ports.len());
}

/// Some packets of a flow go through XDP and some through tc (segments joined by GRO): in one order, so on one path.
#[test]
fn a_flow_has_the_same_outer_source_port_in_xdp_and_in_tc() {
    let mut node = Node::new();
    for port in 10_000..10_100 {
        let packet = Packet::tcp((CLIENT.0, port), (uplink::V4, 8080), Tcp::ACK, b"data");
        let (verdict, by_xdp) = node.verdict(&Input::wire(from_client(&packet)));
        assert_eq!(verdict, xdp::TX);
        let (verdict, by_tc) = node.verdict(&Input::uplink(from_client(&packet)));
        assert_eq!(verdict, REDIRECT);
        assert_eq!(by_xdp, by_tc, "client port {port}");
    }
}

#[test]
fn vxlan_from_no_member_is_dropped() {
    let mut node = Node::new();
    let vxlan = |source: &str, own: &str, port: u16| {
        from_client(&Packet::udp(
            (source, 50_000),
            (own, port),
            &[8, 0, 0, 0, 0, 16, 4, 0, 1, 2, 3, 4],
        ))
    };
    check(
        &mut node,
        &[
            Row::drops(
                "a stranger",
                Input::wire(vxlan("203.0.113.9", uplink::V4, 4789)),
                DropReason::NotMember,
            )
            .watched(Hook::IngressXdp, Verdict::Drop, 0),
            Row::drops(
                "a stranger, v6",
                Input::wire(vxlan("2001:db8:e::9", uplink::V6, 4789)),
                DropReason::NotMember,
            ),
            Row::passes("a member", Input::wire(vxlan("192.0.2.2", uplink::V4, 4789))),
            Row::passes(
                "a member, v6",
                Input::wire(vxlan("2001:db8:f::3", uplink::V6, 4789)),
            ),
            Row::passes(
                "not for this node",
                Input::wire(vxlan("203.0.113.9", "192.0.2.77", 4789)),
            ),
            Row::passes(
                "another port",
                Input::wire(vxlan("203.0.113.9", uplink::V4, 4790)),
            ),
        ],
    );
}

#[test]
fn a_dry_run_reports_and_changes_nothing() {
    let mut node = Node::new();
    node.configure(|config| {
        config.trace_mark = 0x5eed_0001;
        config.flags = essaim_abi::ConfigFlags::NONE;
    });
    let marked = |frame: Vec<u8>| Input {
        metadata: 0x5eed_0001_u32.to_ne_bytes().to_vec(),
        ..Input::wire(frame)
    };
    let frame = from_client(&web());
    let ran = node.run(&marked(frame.clone()));
    assert_eq!((ran.verdict, &ran.frame), (xdp::PASS, &frame));
    assert!(ran.services.is_empty() && ran.backends.is_empty(), "{ran:?}");
    assert_eq!(ran.events.len(), 1);
    assert_eq!(ran.events[0].trace_mark, 0x5eed_0001);
    assert_eq!(
        (ran.events[0].verdict, ran.events[0].vtep),
        (Verdict::Encapsulated as u8, index::VTEP2)
    );

    let stranger = from_client(&Packet::udp(("203.0.113.9", 5), (uplink::V4, 4789), b"12345678"));
    let ran = node.run(&marked(stranger));
    assert_eq!(
        (ran.verdict, ran.drops.len(), ran.events.len()),
        (xdp::DROP, 0, 1)
    );

    let other = Input {
        metadata: 0x5eed_0002_u32.to_ne_bytes().to_vec(),
        ..Input::wire(frame.clone())
    };
    let ran = node.run(&other);
    assert_eq!(
        (ran.verdict, ran.services.len(), ran.events.len()),
        (xdp::TX, 1, 0),
        "another mark is no dry run"
    );
    let ran = node.run(&Input {
        metadata: Vec::new(),
        ..Input::wire(frame)
    });
    assert_eq!(
        (ran.verdict, ran.services.len(), ran.events.len()),
        (xdp::TX, 1, 0)
    );
}
