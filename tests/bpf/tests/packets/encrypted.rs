//! Encrypted networks: nothing of them leaves in clear, and nothing enters that did not come through IPsec. What tells is
//! the mark; that the kernel encrypts what has it, and marks what it decrypted, is shown in `tests/vm`.

use essaim_abi::{
    ConfigFlags, DropReason, ESP_OVERHEAD, Hook, IPSEC_MARK, IPSEC_MARK_MASK, IPSEC_RECEIVED, IPSEC_SENT,
    MacAddr, Verdict,
};
use essaim_bpf_tests::{
    Input, Node, PASS, Packet, Payload, REDIRECT, Row, Steering, Tcp, check, encapsulated, index, mac_of,
    of_flow, uplink, vxlan,
};
use std::collections::BTreeMap;

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);
/// Other bits of a mark, which are somebody else's.
const FOREIGN: u32 = 0x00c0_ffee;

fn encrypted() -> Node {
    let mut node = Node::new();
    node.encrypt_red();
    node
}

fn marked(input: Input, mark: u32) -> Input {
    Input { mark, ..input }
}

/// From the remote task behind VTEP 2 to the first task.
fn from_peer(task: &str) -> Vec<u8> {
    let peer = if task.contains(':') {
        "fd01::22"
    } else {
        "10.1.0.22"
    };
    Packet::udp((peer, 1), (task, 2), b"hello").framed(mac_of("10.1.0.11"), mac_of("10.1.0.22"))
}

fn to_peer(peer: &str) -> (Input, Vec<u8>) {
    let task = if peer.contains(':') {
        "fd01::11"
    } else {
        "10.1.0.11"
    };
    let packet = Packet::udp((task, 1), (peer, 2), b"hello");
    let frame = packet.framed(mac_of("10.1.0.22"), mac_of("10.1.0.11"));
    (Input::endpoint(index::TASK1, frame.clone()), frame)
}

fn carried(inner: &[u8], source: &str, vni: u32) -> Vec<u8> {
    let own = if source.contains(':') {
        uplink::V6
    } else {
        uplink::V4
    };
    let addresses = (source.parse().unwrap(), own.parse().unwrap());
    vxlan((uplink::MAC, uplink::ROUTER), addresses, 50_000, vni, inner)
}

#[test]
fn what_came_through_ipsec_enters_and_nothing_else() {
    let mut node = encrypted();
    for task in ["10.1.0.11", "fd01::11"] {
        let input = || Input::overlay(index::RED, index::VTEP2, from_peer(task));
        for (what, mark) in [
            ("no mark", 0),
            ("another's mark", FOREIGN),
            ("part of the mark", IPSEC_MARK & 0x8000_0000),
            ("more than the mark", IPSEC_MARK_MASK),
        ] {
            check(
                &mut node,
                &[Row::drops(what, marked(input(), mark), DropReason::NotEncrypted)],
            );
        }
        let ran = node.run(&marked(input(), IPSEC_MARK | FOREIGN));
        assert_eq!((ran.verdict, ran.frame), (REDIRECT, from_peer(task)), "{task}");
        assert_eq!(ran.ipsec, BTreeMap::from([(IPSEC_RECEIVED, 1)]));
        assert_eq!(ran.mark, FOREIGN, "a task does not see the mark");
    }
    // Another network is none the worse.
    let frame = Packet::udp(("10.2.0.9", 1), ("10.2.0.13", 2), b"hello")
        .framed(mac_of("10.2.0.13"), mac_of("10.2.0.9"));
    check(
        &mut node,
        &[Row::becomes(
            "a plain network",
            Input::overlay(index::BLUE, index::VTEP2, frame.clone()),
            frame,
        )],
    );
}

#[test]
fn a_task_of_an_encrypted_network_reaches_this_node_through_ipsec_only() {
    let mut node = encrypted();
    let frame = Packet::udp(("10.1.0.22", 1), ("10.255.0.1", 2), b"hello")
        .framed(mac_of("10.255.0.1"), mac_of("10.1.0.22"));
    let input = || Input::overlay(index::INGRESS, index::VTEP2, frame.clone());
    let from_node = Packet::udp(("10.255.0.2", 1), ("10.255.0.1", 2), b"hello")
        .framed(mac_of("10.255.0.1"), mac_of("10.255.0.2"));
    check(
        &mut node,
        &[
            Row::drops("in clear", input(), DropReason::NotEncrypted),
            Row::becomes("decrypted", marked(input(), IPSEC_MARK), frame.clone()),
            Row::becomes(
                "another node, in clear",
                Input::overlay(index::INGRESS, index::VTEP2, from_node.clone()),
                from_node,
            ),
        ],
    );
}

#[test]
fn what_leaves_goes_through_the_vxlan_device_with_the_mark() {
    let mut node = encrypted();
    for peer in ["10.1.0.22", "fd01::22", "10.1.0.23", "10.1.0.24"] {
        let (input, frame) = to_peer(peer);
        let ran = node.run(&marked(input, FOREIGN));
        assert_eq!(ran.verdict, REDIRECT, "{peer}");
        // No outer header: the kernel makes it, and encrypts.
        assert_eq!(ran.frame.len(), frame.len(), "{peer}");
        assert_eq!(ran.mark, IPSEC_MARK | FOREIGN, "{peer}");
        assert_eq!(ran.ipsec, BTreeMap::from([(IPSEC_SENT, 1)]));
        let tunnelled = |event: &essaim_abi::Event| event.verdict == Verdict::Tunnelled as u8;
        assert!(ran.events.iter().any(tunnelled), "{:?}", ran.events);
    }
    // To another node's own address, too.
    let packet = Packet::udp(("10.1.0.11", 1), ("10.255.0.2", 9), b"hello");
    let ran = node.run(&Input::endpoint(
        index::TASK1,
        packet.framed(mac_of("10.255.0.2"), mac_of("10.1.0.11")),
    ));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK));
    // And from this node to such a task, though the node is on no network.
    let packet = Packet::udp(("10.255.0.1", 1), ("10.1.0.22", 9), b"hello");
    let ran = node.run(&Input::endpoint(
        index::NODE,
        packet.framed(mac_of("10.1.0.22"), mac_of("10.255.0.1")),
    ));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK));
    // Or to a VIP, seen by packet.
    node.active(index::VIP, &[index::behind(index::VTEP2)]);
    let packet = Packet::opening(6, ("10.255.0.1", 1), ("10.1.0.100", 80));
    let ran = node.run(&Input::endpoint(
        index::NODE,
        packet.framed(GATEWAY, mac_of("10.255.0.1")),
    ));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK));
}

#[test]
fn without_ipsec_nothing_leaves() {
    let mut node = encrypted();
    node.configure(|config| config.flags.0 &= !ConfigFlags::IPSEC.0);
    for peer in ["10.1.0.22", "fd01::22", "10.1.0.23", "10.1.0.24"] {
        check(
            &mut node,
            &[Row::drops(peer, to_peer(peer).0, DropReason::CannotEncrypt)],
        );
    }
    node.owners(index::WEB, &[index::behind(index::VTEP2)]);
    let syn = Packet::opening(6, CLIENT, (uplink::V4, 8080)).framed(uplink::MAC, uplink::ROUTER);
    check(
        &mut node,
        &[Row::drops(
            "a client of a published port",
            Input::uplink(syn),
            DropReason::CannotEncrypt,
        )],
    );
}

#[test]
fn a_plain_network_leaves_as_before_whatever_its_sender_marks() {
    let mut node = Node::new();
    for mark in [0, IPSEC_MARK] {
        let (input, frame) = to_peer("10.1.0.22");
        let row = Row::becomes(
            "a plain network",
            marked(input, mark),
            encapsulated(index::VTEP2, index::RED, &frame),
        );
        check(
            &mut node,
            &[row.watched(Hook::EndpointTc, Verdict::Encapsulated, index::UP0)],
        );
    }
}

#[test]
fn a_packet_fits_less_the_overhead_of_esp() {
    let mut node = encrypted();
    let limit = 1450 - usize::try_from(ESP_OVERHEAD).unwrap();
    for (len, fits) in [(limit, true), (limit + 1, false)] {
        let packet = Packet::new("10.1.0.11", "10.1.0.22", Payload::Raw(47, vec![1; len - 20]));
        let frame = packet.framed(mac_of("10.1.0.22"), mac_of("10.1.0.11"));
        let ran = node.run(&Input::endpoint(index::TASK1, frame));
        let told = ran.drops.get(&DropReason::TooBig).copied();
        assert_eq!(told, (!fits).then_some(1), "{len} bytes: {ran:?}");
        if fits {
            assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK));
        } else {
            // Next-hop MTU of the ICMP message (RFC 1191).
            let told = u16::from_be_bytes([ran.frame[14 + 20 + 6], ran.frame[14 + 20 + 7]]);
            assert_eq!(usize::from(told), limit);
        }
    }
}

#[test]
fn clear_vxlan_of_an_encrypted_network_is_dropped_where_it_comes_in() {
    let mut node = encrypted();
    // From a member's own address: who may send it from there is not the question. CVE-2023-28840, 28841, 28842.
    for source in ["192.0.2.2", "2001:db8:f::3"] {
        for (what, vni, refused) in [
            ("encrypted", index::RED, true),
            ("plain", index::BLUE, false),
            ("ingress", index::INGRESS, false),
            ("nobody's", 5, false),
        ] {
            let frame = carried(&from_peer("10.1.0.11"), source, vni);
            let rows = [Input::wire(frame.clone()), Input::uplink(frame)].map(|input| {
                if refused {
                    Row::drops(what, input, DropReason::NotEncrypted)
                } else {
                    Row::passes(what, input)
                }
            });
            check(&mut node, &rows);
        }
    }
    // A stranger's is dropped by XDP for that already, and by tc for what it carries.
    let frame = carried(&from_peer("10.1.0.11"), "192.0.2.99", index::RED);
    check(
        &mut node,
        &[
            Row::drops(
                "a stranger's, XDP",
                Input::wire(frame.clone()),
                DropReason::NotMember,
            ),
            Row::drops(
                "a stranger's, tc",
                Input::uplink(frame.clone()),
                DropReason::NotEncrypted,
            ),
        ],
    );
    // Cut off before its VNI it is left to the kernel, which has no use for it.
    let mut cut = carried(&from_peer("10.1.0.11"), "192.0.2.2", index::RED);
    cut.truncate(14 + 20 + 8 + 6);
    assert_ne!(node.run(&Input::uplink(cut)).verdict, REDIRECT);
}

#[test]
fn nothing_from_the_wire_brings_the_mark_along() {
    let mut node = encrypted();
    let plain = Packet::udp(("192.0.2.2", 1), (uplink::V4, 9999), b"x").framed(uplink::MAC, uplink::ROUTER);
    let esp = Packet::new("192.0.2.2", uplink::V4, Payload::Raw(50, vec![7; 40]))
        .framed(uplink::MAC, uplink::ROUTER);
    let unreadable = [&plain[..14], &[0x45; 6]].concat();
    for frame in [plain, esp] {
        let ran = node.run(&marked(Input::uplink(frame), IPSEC_MARK | FOREIGN));
        assert_eq!((ran.verdict, ran.mark), (PASS, FOREIGN));
    }
    // The kernel itself refuses to run what has no whole header.
    assert!(
        node.try_verdict(&marked(Input::uplink(unreadable), IPSEC_MARK))
            .is_err()
    );
}

#[test]
fn a_published_port_of_an_encrypted_network_is_left_to_tc_which_encrypts() {
    let mut node = encrypted();
    node.owners(index::WEB, &[index::behind(index::VTEP2)]);
    let frame = Packet::opening(6, CLIENT, (uplink::V4, 8080)).framed(uplink::MAC, uplink::ROUTER);
    check(&mut node, &[Row::passes("XDP", Input::wire(frame.clone()))]);
    let ran = node.run(&Input::uplink(frame.clone()));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK));
    assert_eq!(ran.frame.len(), frame.len(), "the kernel makes the outer header");
    assert_eq!(ran.ipsec, BTreeMap::from([(IPSEC_SENT, 1)]));
}

#[test]
fn ingress_traffic_of_an_encrypted_network_enters_through_ipsec_only() {
    let mut node = encrypted();
    node.owners(index::WEB, &[index::HERE1]);
    let syn = Packet::opening(6, CLIENT, (uplink::V4, 8080));
    let hash = of_flow((syn.source, CLIENT.1), (syn.destination, 8080), 6) & 0xffff_ff00;
    let (destination, source) = Steering {
        port: 8080,
        token: 1,
        hash,
        ..Steering::default()
    }
    .macs();
    let frame = syn.framed(destination, source);
    let input = || Input::overlay(index::INGRESS, index::VTEP2, frame.clone());
    check(
        &mut node,
        &[Row::drops("in clear", input(), DropReason::NotEncrypted)],
    );
    assert_eq!(node.flows(), 0, "no flow is made of what is refused");
    let ran = node.run(&marked(input(), IPSEC_MARK));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, 0));
    assert_eq!(ran.ipsec, BTreeMap::from([(IPSEC_RECEIVED, 1)]));

    // The task's answer goes back to the edge encrypted.
    let answer = Packet::tcp(("10.1.0.11", 80), CLIENT, Tcp::SYN | Tcp::ACK, b"");
    let ran = node.run(&Input::endpoint(
        index::TASK1,
        answer.framed(GATEWAY, mac_of("10.1.0.11")),
    ));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK), "{ran:?}");
}

#[test]
fn the_edge_takes_an_answer_of_an_encrypted_network_through_ipsec_only() {
    let mut node = encrypted();
    let answer = Packet::tcp((uplink::V4, 8080), CLIENT, Tcp::SYN | Tcp::ACK, b"");
    let (destination, source) = Steering {
        reply: true,
        token: 1,
        ..Steering::default()
    }
    .macs();
    let frame = answer.framed(destination, source);
    let input = || Input::overlay(index::INGRESS, index::VTEP2, frame.clone());
    check(
        &mut node,
        &[Row::drops("in clear", input(), DropReason::NotEncrypted)],
    );
    let ran = node.run(&marked(input(), IPSEC_MARK));
    assert_eq!(
        (ran.verdict, ran.mark),
        (REDIRECT, 0),
        "the client's side is in clear"
    );
}

#[test]
fn a_task_of_an_encrypted_network_reaches_the_world_without_the_mark() {
    let mut node = encrypted();
    let packet = Packet::udp(("10.1.0.11", 1), ("203.0.113.9", 53), b"x");
    let ran = node.run(&Input::endpoint(
        index::TASK1,
        packet.framed(GATEWAY, mac_of("10.1.0.11")),
    ));
    assert_eq!(
        (ran.verdict, ran.mark),
        (PASS, 0),
        "the kernel would block what has it"
    );
}

#[test]
fn a_dry_run_tells_the_way_of_an_encrypted_packet() {
    let mut node = encrypted();
    node.configure(|config| config.trace_mark = 77);
    let (input, _) = to_peer("10.1.0.22");
    let ran = node.run(&marked(input, 77));
    assert_eq!((ran.verdict, ran.mark), (REDIRECT, IPSEC_MARK | 0x4d));
    assert_eq!(ran.ipsec, BTreeMap::new(), "a dry run counts nothing");
    assert!(ran.events.iter().all(|event| event.trace_mark == 77) && !ran.events.is_empty());
    let ran = node.run(&marked(
        Input::overlay(index::RED, index::VTEP2, from_peer("10.1.0.11")),
        77,
    ));
    assert_eq!(ran.verdict, REDIRECT);
}
