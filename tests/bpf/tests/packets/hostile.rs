//! Frames that nobody should send, to every program: a verdict of its own kind comes back, and every drop is counted.

use essaim_abi::{DropReason, Hook, MacAddr};
use essaim_bpf_tests::{
    DROP, Fragment, Input, Node, PASS, Packet, Payload, REDIRECT, Random, Steering, Tcp, arp, index, mac_of,
    uplink, xdp,
};

/// Mutated frames a program and kind of frame.
const ROUNDS: usize = 400;
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);

/// Packets that go deep, to `to` from `from`.
fn packets(from: &str, to: &str) -> Vec<Packet> {
    let v4 = !from.contains(':');
    let quoted = Packet::tcp((to, 8080), (from, 40_000), Tcp::ACK, b"quoted");
    let mut quoted = quoted.bytes();
    quoted.truncate(if v4 { 28 } else { 48 });
    let first = Some(Fragment {
        offset: 0,
        more: true,
    });
    vec![
        Packet::opening(6, (from, 40_000), (to, 8080)),
        Packet::tcp((from, 40_000), (to, 8080), Tcp::ACK, b"data"),
        Packet::udp((from, 40_000), (to, 5353), b"question"),
        Packet::sctp((from, 40_000), (to, 3868), 1),
        Packet::icmp(from, to, if v4 { 8 } else { 128 }, 0, [0; 4], b"ping"),
        Packet::icmp(from, to, if v4 { 3 } else { 1 }, 4, [0; 4], &quoted),
        Packet {
            fragment: first,
            df: false,
            ..Packet::udp((from, 40_000), (to, 5353), &[0; 64])
        },
        Packet {
            extension: true,
            ..Packet::udp((from, 40_000), (to, 5353), b"question")
        },
        Packet::udp((from, 40_000), (to, 4789), &[8, 0, 0, 0, 0, 16, 0, 0, 1, 2, 3, 4]),
        Packet::new(from, to, Payload::Raw(47, vec![0; 40])),
        Packet::udp((from, 40_000), (to, 5353), &[0; 1600]),
    ]
}

/// Every program, with frames from which to begin.
fn seeds() -> Vec<Input> {
    let mut seeds = from_outside();
    seeds.extend(from_inside());
    seeds
}

/// What the wire and other nodes send.
fn from_outside() -> Vec<Input> {
    let mut seeds = Vec::new();
    for (client, own) in [("198.51.100.7", uplink::V4), ("2001:db8:c::7", uplink::V6)] {
        for packet in packets(client, own) {
            let frame = packet.framed(uplink::MAC, uplink::ROUTER);
            seeds.push(Input::wire(frame.clone()));
            seeds.push(Input::uplink(frame.clone()));
            for program in [
                "edge_tc",
                "icmp_error_tc",
                "answer_tc",
                "backend_tc",
                "backend_error_tc",
            ] {
                let cb = match program {
                    "answer_tc" => [12, index::VTEP2, 1, 1400, Hook::UplinkTc as u32 | 1 << 8],
                    "backend_tc" | "backend_error_tc" => [index::VTEP2, 1, 0x100, 8080_u32.to_be() >> 16, 3],
                    _ => [0, 0, 0, 0, Hook::UplinkTc as u32],
                };
                seeds.push(Input {
                    cb,
                    ..Input::new(program, index::UP0, frame.clone())
                });
            }
            let (destination, source) = Steering {
                port: 8080,
                token: 1,
                hash: 0x100,
                ..Steering::default()
            }
            .macs();
            seeds.push(Input::overlay(
                index::INGRESS,
                index::VTEP2,
                packet.framed(destination, source),
            ));
            let (destination, source) = Steering {
                reply: true,
                token: 1,
                ..Steering::default()
            }
            .macs();
            seeds.push(Input::overlay(
                index::INGRESS,
                index::VTEP2,
                packet.framed(destination, source),
            ));
            seeds.push(Input::new(
                "overlay_tc",
                index::VXLAN,
                packet.framed(destination, source),
            ));
        }
    }
    seeds
}

/// What a task sends, and its peers on another node.
fn from_inside() -> Vec<Input> {
    let mut seeds = Vec::new();
    let task = mac_of("10.1.0.11");
    for address in ["10.1.0.11", "fd01::11"] {
        let v4 = address == "10.1.0.11";
        let peers: [&str; 5] = if v4 {
            ["10.1.0.12", "10.1.0.22", "10.1.0.100", uplink::V4, "198.51.100.7"]
        } else {
            ["fd01::12", "fd01::22", "fd01::100", uplink::V6, "2001:db8:c::7"]
        };
        for peer in peers {
            for packet in packets(address, peer) {
                let frame = packet.framed(GATEWAY, task);
                seeds.push(Input::endpoint(index::TASK1, frame.clone()));
                let cb = [index::VIP, 1, 0, 0, Hook::EndpointTc as u32];
                seeds.push(Input {
                    cb,
                    ..Input::new("vip_tc", index::TASK1, frame.clone())
                });
                seeds.push(Input {
                    cb,
                    ..Input::new("reply_tc", index::TASK1, frame.clone())
                });
                seeds.push(Input {
                    cb,
                    ..Input::new("icmp_error_tc", index::TASK1, frame)
                });
            }
        }
        for packet in packets(peers[1], address) {
            seeds.push(Input::overlay(
                index::RED,
                index::VTEP2,
                packet.framed(task, mac_of("10.1.0.22")),
            ));
        }
    }
    seeds.push(Input::endpoint(
        index::TASK1,
        arp(
            (MacAddr([0xff; 6]), task),
            1,
            (task, "10.1.0.11"),
            (MacAddr([0; 6]), "10.1.0.1"),
        ),
    ));
    let solicitation = Packet::icmp(
        "fd01::11",
        "ff02::1:ff00:1",
        135,
        0,
        [0; 4],
        &[0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    );
    seeds.push(Input::endpoint(
        index::TASK1,
        solicitation.ttl(255).framed(GATEWAY, task),
    ));
    seeds
}

/// Verdicts that a program may come to.
fn allowed(program: &str) -> &'static [u32] {
    if program == "ingress_xdp" {
        &[xdp::DROP, xdp::PASS, xdp::TX, xdp::REDIRECT]
    } else {
        &[PASS, DROP, REDIRECT]
    }
}

/// What an endpoint says on its link that concerns nobody: neither answered nor worth a count.
fn may_be_quiet(input: &Input) -> bool {
    let frame = &input.frame;
    let kind = frame.get(12..14);
    let is_arp = kind == Some(&[0x08, 0x06]);
    // Neighbour discovery and reports of groups, from anywhere in the frame that extension headers may put it.
    let is_v6 = kind == Some(&[0x86, 0xdd]);
    input.program == "endpoint_tc"
        && (is_arp || is_v6 && frame[20..].contains(&58) || is_v6 && frame.contains(&143))
}

fn attack(node: &mut Node, random: &mut Random, seeds: &[Input], rounds: usize) {
    for seed in seeds {
        for _ in 0..rounds {
            let input = Input {
                frame: random.mutate(&seed.frame),
                ..seed.clone()
            };
            let before = drops(node);
            // What the kernel does not run is no packet.
            let Ok((verdict, _)) = node.try_verdict(&input) else {
                continue;
            };
            assert!(
                allowed(input.program).contains(&verdict),
                "{} returned {verdict} for {:02x?}",
                input.program,
                input.frame
            );
            let dropped = verdict
                == if input.program == "ingress_xdp" {
                    xdp::DROP
                } else {
                    DROP
                };
            if dropped && !may_be_quiet(&input) {
                assert!(
                    drops(node) > before,
                    "{} dropped uncounted {:02x?}",
                    input.program,
                    input.frame
                );
            }
        }
    }
}

fn drops(node: &mut Node) -> u64 {
    node.maps()
        .drop_counters
        .sums()
        .unwrap()
        .into_iter()
        .map(|(_, counters)| counters.packets)
        .sum()
}

#[test]
fn mutated_frames_are_judged_and_every_drop_is_counted() {
    let mut random = Random::new();
    let mut node = Node::new();
    let seeds = seeds();
    assert!(seeds.len() > 200, "{} seeds", seeds.len());
    for (owners, active) in [
        (vec![index::HERE1], vec![index::HERE2]),
        (
            vec![index::HERE1, index::behind(index::VTEP2), index::HERE2],
            vec![index::behind(index::VTEP3)],
        ),
        (vec![index::behind(index::VTEP3)], vec![]),
        (vec![], vec![index::behind(index::VTEP4)]),
    ] {
        node.owners(index::WEB, &owners);
        node.active(index::VIP, &active);
        attack(&mut node, &mut random, &seeds, ROUNDS / 20);
    }
    // Every reason stands for itself: none that no program knows.
    for (number, _) in node.maps().drop_counters.sums().unwrap() {
        assert!(
            DropReason::of(u8::try_from(number).unwrap()).is_some(),
            "reason {number}"
        );
    }
}

/// Whatever stands in the words between programs, and in steering.
#[test]
fn mutated_steering_is_judged() {
    let mut random = Random::new();
    let mut node = Node::new();
    node.owners(
        index::WEB,
        &[index::HERE1, index::behind(index::VTEP2), index::HERE2],
    );
    let packet = Packet::tcp(("198.51.100.7", 40_000), (uplink::V4, 8080), Tcp::ACK, b"data");
    for _ in 0..ROUNDS * 10 {
        let mut frame = packet.framed(MacAddr([2, 0xe5, 1, 0x1f, 0x90, 0]), MacAddr([2, 0, 0, 0, 1, 0]));
        for _ in 0..=random.below(4) {
            frame[random.below(12)] = u8::try_from(random.below(256)).unwrap();
        }
        let input = Input::overlay(index::INGRESS, index::VTEP2, frame);
        let before = drops(&mut node);
        let (verdict, _) = node.verdict(&input);
        assert!(
            verdict == REDIRECT || verdict == DROP && drops(&mut node) > before,
            "{verdict} for {:02x?}",
            input.frame
        );
    }
}

/// Nothing a task sends gets out under another address: from whatever it makes, each IP packet that leaves is its own.
#[test]
fn no_frame_of_a_task_leaves_under_another_address() {
    let mut random = Random::new();
    let mut node = Node::new();
    let own4 = [10, 1, 0, 11];
    for packet in packets("10.1.0.11", "10.1.0.12")
        .iter()
        .chain(&packets("10.1.0.11", "198.51.100.7"))
    {
        let seed = packet.framed(GATEWAY, mac_of("10.1.0.11"));
        for _ in 0..ROUNDS {
            let input = Input::endpoint(index::TASK1, random.mutate(&seed));
            let is_v4 = input.frame.get(12..14) == Some(&[0x08, 0x00]);
            let Ok((verdict, frame)) = node.try_verdict(&input) else {
                continue;
            };
            if verdict != DROP && is_v4 {
                assert_eq!(input.frame[6..12], mac_of("10.1.0.11").0, "{:02x?}", input.frame);
                assert_eq!(
                    input.frame[26..30],
                    own4,
                    "{:02x?} became {frame:02x?}",
                    input.frame
                );
            }
        }
    }
}
