//! What holds for all programs: which there are, frames larger than a page, sampling, dry runs.

use essaim_abi::{ConfigFlags, Hook, MacAddr, Verdict};
use essaim_bpf_tests::{
    Input, Node, Packet, REDIRECT, Row, Steering, Tcp, check, encapsulated, index, kernel_version, mac_of,
    of_flow, sound, uplink, xdp,
};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);

fn from_client(packet: &Packet) -> Vec<u8> {
    packet.framed(uplink::MAC, uplink::ROUTER)
}

fn from_task(packet: &Packet) -> Input {
    Input::endpoint(index::TASK1, packet.framed(GATEWAY, mac_of("10.1.0.11")))
}

/// A new program wants rows of its own, here or, where it cannot be test-run, among the tests with real sockets.
#[test]
fn every_program_has_its_tests() {
    let node = Node::new();
    let by_sockets = [
        "connect4",
        "connect6",
        "getpeername4",
        "getpeername6",
        "recvmsg4",
        "recvmsg6",
        "sendmsg4",
        "sendmsg6",
    ];
    let here = [
        "answer_tc",
        "backend_error_tc",
        "backend_tc",
        "clock_probe",
        "dns_tc",
        "edge_tc",
        "endpoint_tc",
        "icmp_error_tc",
        "ingress_xdp",
        "overlay_inner_tc",
        "overlay_tc",
        "reply_tc",
        "uplink_tc",
        "vip_tc",
    ];
    let mut expected: Vec<&str> = by_sockets.into_iter().chain(here).collect();
    expected.sort_unstable();
    assert_eq!(node.programs(), expected);
}

/// Where the verifier gives up, whatever the kernel.
const VERIFIER_LIMIT: u32 = 1_000_000;

/// At most so many verified instructions with the kernels of today, and with those before 6.8, of which the oldest that is
/// supported is tested (`tests/vm`): a third more than there were when this was written. A change that has the verifier
/// follow a program twice as long shows here, long before a kernel refuses it.
const VERIFIED_AT_MOST: [(&str, u32, u32); 22] = [
    ("answer_tc", 21_000, 43_000),
    ("backend_error_tc", 210_000, 120_000),
    ("backend_tc", 770_000, 340_000),
    ("clock_probe", 10, 10),
    ("connect4", 17_000, 23_000),
    ("connect6", 15_000, 19_000),
    ("dns_tc", 5_900, 8_600),
    ("edge_tc", 32_000, 47_000),
    ("endpoint_tc", 260_000, 150_000),
    ("getpeername4", 190, 190),
    ("getpeername6", 240, 240),
    ("icmp_error_tc", 93_000, 290_000),
    ("ingress_xdp", 25_000, 360_000),
    ("overlay_inner_tc", 130_000, 81_000),
    ("overlay_tc", 2_800, 2_800),
    ("recvmsg4", 190, 190),
    ("recvmsg6", 240, 240),
    ("reply_tc", 250_000, 130_000),
    ("sendmsg4", 16_000, 18_000),
    ("sendmsg6", 14_000, 17_000),
    ("uplink_tc", 10_000, 9_900),
    ("vip_tc", 77_000, 370_000),
];

/// Prints what each program takes, with `--nocapture`.
#[test]
fn the_verifier_follows_no_program_too_long() {
    let node = Node::new();
    let (major, minor) = kernel_version();
    println!("verified instructions, Linux {major}.{minor}");
    assert_eq!(
        VERIFIED_AT_MOST.map(|(name, ..)| name).as_slice(),
        node.programs()
    );
    let mut beyond = Vec::new();
    for (name, today, before) in VERIFIED_AT_MOST {
        let most = if (major, minor) < (6, 8) { before } else { today };
        let taken = node.verified_instructions(name);
        println!("{name:18} {taken:8} of {most}");
        assert!(taken > 0 && most < VERIFIER_LIMIT, "{name}");
        if taken > most {
            beyond.push(format!("{name}: {taken}, expected at most {most}"));
        }
    }
    assert!(beyond.is_empty(), "{}", beyond.join("; "));
}

#[test]
fn the_clock_is_the_kernels() {
    let mut node = Node::new();
    let before = node.jiffies();
    let (clock, _) = node.verdict(&Input::new("clock_probe", index::UP0, vec![0; 14]));
    assert!(clock.wrapping_sub(before) < 100 * node.hz());
}

/// XDP sees the start of a frame of several pages; tc is run on what fits one, which is all that the kernel makes of a test
/// run's packet.
#[test]
fn large_frames_are_carried() {
    let mut node = Node::new();
    for vtep in [index::VTEP2, index::VTEP3] {
        node.vtep(vtep, |vtep| vtep.mtu = 9000);
        node.owners(index::WEB, &[index::behind(vtep)]);
        let packet = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::ACK, &[0x77; 3500]);
        let hash = of_flow((packet.source, CLIENT.1), (packet.destination, 8080), 6) & 0xffff_ff00;
        let (destination, source) = Steering {
            port: 8080,
            token: 1,
            hash,
            ..Steering::default()
        }
        .macs();
        let sent = encapsulated(vtep, index::INGRESS, &packet.framed(destination, source));
        check(
            &mut node,
            &[
                Row::becomes("tc", Input::uplink(from_client(&packet)), sent),
                Row::passes("XDP leaves several pages to tc", {
                    let packet = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::ACK, &[0x77; 8000]);
                    Input {
                        metadata: Vec::new(),
                        ..Input::wire(from_client(&packet))
                    }
                }),
            ],
        );
    }
    node.owners(index::WEB, &[index::HERE1]);
    let packet = Packet::tcp(CLIENT, (uplink::V4, 8080), Tcp::SYN, &[0x77; 3500]);
    let delivered = packet
        .clone()
        .to("10.1.0.11", 80)
        .ttl(60)
        .framed(mac_of("10.1.0.11"), GATEWAY);
    check(
        &mut node,
        &[Row::becomes(
            "delivered",
            Input::uplink(from_client(&packet)),
            delivered,
        )],
    );
    // Answers of both kinds.
    node.owners(index::WEB, &[]);
    for packet in [packet, Packet::udp(CLIENT, (uplink::V4, 5353), &[0x77; 3500])] {
        let ran = node.run(&Input::uplink(from_client(&packet)));
        assert_eq!(ran.verdict, REDIRECT);
        sound(&ran.frame).unwrap();
    }
}

#[test]
fn new_flows_are_sampled_by_their_hash() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    node.configure(|config| config.flags = ConfigFlags::NONE);
    let packet = |port: u16| Packet::tcp((CLIENT.0, port), (uplink::V4, 8080), Tcp::SYN, b"");
    let mut reported = |mask: u32, port: u16| {
        node.configure(|config| config.sample_mask = mask);
        let ran = node.run(&Input::uplink(from_client(&packet(port))));
        assert_eq!(ran.verdict, REDIRECT);
        ran.events
    };
    assert!(reported(u32::MAX, 1).is_empty(), "sampling is off");
    let events = reported(0, 2);
    assert_eq!(events.len(), 1, "every new flow");
    let event = events[0];
    assert_eq!(
        (event.opened, event.hook, event.verdict),
        (1, Hook::UplinkTc as u8, Verdict::Delivered as u8)
    );
    assert_eq!(
        (event.service, event.backend, event.ifindex),
        (index::WEB, index::HERE1, index::TASK1)
    );
    assert_eq!(
        (event.flow.remote_port, event.flow.local_port),
        (2_u16.to_be(), 8080_u16.to_be())
    );
    assert!(reported(0, 2).is_empty(), "the flow is not new");
    let some = (1000..2000)
        .filter(|port| !reported(0xf00, *port).is_empty())
        .count();
    assert!(
        (20..150).contains(&some),
        "{some} of 1000 flows were sampled, expected one in 16"
    );
}

/// `trace` runs packets through the programs of a live node.
#[test]
fn a_dry_run_within_the_overlay_writes_nothing() {
    let mut node = Node::new();
    node.configure(|config| config.trace_mark = 77);
    node.active(index::VIP, &[index::HERE2]);
    node.owners(index::WEB, &[index::HERE2]);
    let mut runs = Vec::new();
    for (task, vip, own) in [
        ("10.1.0.11", "10.1.0.100", uplink::V4),
        ("fd01::11", "fd01::100", uplink::V6),
    ] {
        for packet in [
            Packet::opening(6, (task, 1), (vip, 80)),
            Packet::opening(17, (task, 1), (vip, 80)),
            Packet::opening(6, (task, 1), (own, 8080)),
            Packet::tcp((task, 1), (vip, 80), Tcp::ACK, b"unknown"),
            Packet::udp((task, 1), (own, 4789), b"forbidden"),
        ] {
            runs.push(packet);
        }
        let whole = Packet::udp((task, 1), (vip, 80), &[1; 64]);
        let part = whole.fragments(&[32]).swap_remove(0);
        let input = Input::endpoint(
            index::TASK1,
            essaim_bpf_tests::ethernet(GATEWAY, mac_of("10.1.0.11"), &part),
        );
        node.run(&Input { mark: 77, ..input });
    }
    for packet in runs {
        let ran = node.run(&Input {
            mark: 77,
            ..from_task(&packet)
        });
        assert!(
            ran.services.is_empty() && ran.backends.is_empty() && ran.drops.is_empty(),
            "{packet:?}: {ran:?}"
        );
        assert!(
            !ran.events.is_empty() && ran.events.iter().all(|event| event.trace_mark == 77),
            "{packet:?}"
        );
    }
    assert_eq!(node.flows(), 0);
    assert!(node.maps().fragments.entries().unwrap().is_empty());
    assert_eq!(node.maps().next_pick.entry(&index::VIP).unwrap(), Some(0));
    for slot in 0..8 {
        assert_eq!(node.maps().translated.read(slot).unwrap(), 0);
    }
}

/// A dry run sees the flows that live and leaves them as they are.
#[test]
fn a_dry_run_leaves_live_flows_alone() {
    let mut node = Node::new();
    node.configure(|config| config.trace_mark = 77);
    let syn = from_task(&Packet::opening(6, ("10.1.0.11", 1), ("10.1.0.100", 80)));
    node.verdict(&syn);
    let before = node.maps().half_open_flows.entries().unwrap();
    let reply = Packet::tcp(("10.1.0.12", 80), ("10.1.0.11", 1), Tcp::SYN | Tcp::ACK, b"");
    let reply = Input::endpoint(index::TASK2, reply.framed(GATEWAY, mac_of("10.1.0.12")));
    let fin = from_task(&Packet::tcp(
        ("10.1.0.11", 1),
        ("10.1.0.100", 80),
        Tcp::FIN | Tcp::ACK,
        b"",
    ));
    for input in [reply, fin, syn] {
        let ran = node.run(&Input { mark: 77, ..input });
        assert_eq!(ran.verdict, REDIRECT);
    }
    assert_eq!(node.maps().half_open_flows.entries().unwrap(), before);
}

#[test]
fn an_unconfigured_node_leaves_everything_alone() {
    let mut node = Node::new();
    node.configure(|config| *config = essaim_abi::Config::default());
    let packet = Packet::opening(6, CLIENT, (uplink::V4, 8081));
    check(
        &mut node,
        &[
            Row::passes("XDP", Input::wire(from_client(&packet))).verdict(xdp::PASS),
            Row::passes("tc", Input::uplink(from_client(&packet))),
        ],
    );
}
