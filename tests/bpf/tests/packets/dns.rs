//! Questions for names: what the kernel answers is what the server answers, byte for byte, and all else is left alone.

use essaim_abi::{DnsAnswer, DnsKey, DnsState, MacAddr};
use essaim_bpf_tests::{Fragment, Input, Node, PASS, Packet, Payload, Random};
use essaim_datapath::{AnswerStore, Answering};
use essaim_dns::{AskerId, AskerInfo, DnsServer, KernelAnswers, Zone, open_sockets};
use essaim_model::{Catalog, Liveness};
use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

const RESOLVER: &str = "127.0.0.11";
const NO_MAC: MacAddr = MacAddr([0; 6]);
const CATALOG: &str = r#"
revision = 7
cluster = { ingress_subnets = ["10.255.0.0/16"] }
nodes = [{ name = "n1", address = "192.0.2.11", overlay = ["10.255.0.11"] }]
networks = [
  { name = "app", vni = 100, subnets = ["10.0.1.0/24", "fd00:1::/64"] },
  { name = "back", vni = 200, subnets = ["10.0.2.0/24"] },
]
[[services]]
name = "web"
networks = [{ name = "app", vips = ["10.0.1.2", "fd00:1::2"], aliases = ["www"] }]
ports = [{ published = 8080, target = 80, name = "http" }]
[[services.tasks]]
id = "web.1"
node = "n1"
netns = "a"
slot = 1
hostname = "alpha"
container = "0123456789abcdef"
endpoints = [{ network = "app", addresses = ["10.0.1.11", "fd00:1::11"], aliases = ["one"] }]
[[services]]
name = "two"
networks = [{ name = "app", vips = ["10.0.1.3"] }]
[[services.tasks]]
id = "two.1"
node = "n1"
netns = "b"
endpoints = [{ network = "app", addresses = ["10.0.1.12"] }]
[[services.tasks]]
id = "two.2"
node = "n1"
netns = "c"
endpoints = [{ network = "app", addresses = ["10.0.1.13"] }]
[[services]]
name = "hidden"
networks = [{ name = "back", vips = ["10.0.2.2"] }]
[[services.tasks]]
id = "hidden.1"
node = "n1"
netns = "d"
endpoints = [{ network = "back", addresses = ["10.0.2.11"] }]
"#;

#[derive(Debug)]
struct InKernel(AnswerStore);

impl KernelAnswers for InKernel {
    fn generation(&self) -> io::Result<u64> {
        self.0.generation().map_err(io::Error::other)
    }
    fn set_generation(&self, generation: u64) -> io::Result<()> {
        self.0.set_generation(generation).map_err(io::Error::other)
    }
    fn renew(&self, lease: Duration) -> io::Result<()> {
        self.0.renew(lease).map_err(io::Error::other)
    }
    fn insert(&self, key: &DnsKey, answer: &DnsAnswer) -> io::Result<()> {
        self.0.insert(key, answer).map_err(io::Error::other)
    }
}

/// A server of the catalog's names, with the kernel beside it, and sockets in this thread's namespace.
struct Site {
    node: Node,
    server: DnsServer,
    catalog: Catalog,
}

/// Where a task asks: both ports are on this namespace's loopback, as two tasks' would be in theirs.
struct Task {
    udp: UdpSocket,
    client: UdpSocket,
}

impl Site {
    fn new() -> Self {
        let mut node = Node::new();
        let store = node.datapath().answers().unwrap();
        let server = DnsServer::start().unwrap();
        server.answer_in_kernel(Arc::new(InKernel(store)));
        let catalog = Catalog::parse(CATALOG).unwrap();
        let site = Self {
            node,
            server,
            catalog,
        };
        site.renew_zone();
        site
    }

    fn renew_zone(&self) {
        let zone = Zone::new(&self.catalog, &Liveness::of(&self.catalog));
        self.server.set_zone(Arc::new(zone));
    }

    /// Serves a task under this number.
    fn task(&mut self, id: u64, name: &str) -> Task {
        let netns = File::open("/proc/thread-self/ns/net").unwrap();
        let (udp, tcp) = open_sockets(netns.as_fd()).unwrap();
        let (service, task) = self
            .catalog
            .services
            .iter()
            .flat_map(|service| service.tasks.iter().map(move |task| (service, task)))
            .find(|(_, task)| task.id.as_str() == name)
            .unwrap();
        let info = AskerInfo::of(&self.catalog, service, task);
        let kept = udp.try_clone().unwrap();
        self.server.add_asker(AskerId(id), info, udp, tcp).unwrap();
        self.node.datapath().set_asker(id, kept.as_fd()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(kept.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Task { udp: kept, client }
    }

    /// Hangs the program into this thread's loopback.
    fn attach(&mut self, task: &Task, id: u64) -> Answering {
        let netns = File::open("/proc/thread-self/ns/net").unwrap();
        let datapath = self.node.datapath();
        datapath
            .answer_unpinned(id, netns.as_fd(), task.udp.as_fd())
            .unwrap()
    }

    fn answered(&mut self) -> u64 {
        self.node.maps().dns_counters.sum(0).unwrap().packets
    }
}

impl Task {
    fn ask(&self, message: &[u8]) -> Vec<u8> {
        self.client.send(message).unwrap();
        let mut reply = vec![0; 4096];
        let length = self.client.recv(&mut reply).unwrap();
        reply.truncate(length);
        reply
    }

    /// A question as it comes by on the loopback.
    fn packet(&self, message: &[u8]) -> Packet {
        let (from, to) = (self.client.local_addr().unwrap(), self.udp.local_addr().unwrap());
        Packet::udp(("127.0.0.1", from.port()), (RESOLVER, to.port()), message)
    }

    fn input(&self, message: &[u8]) -> Input {
        loopback(&self.packet(message))
    }
}

/// Runs a question: it becomes the reply, or passes as it is.
fn check_dns(node: &mut Node, input: &Input, reply: Option<&[u8]>) {
    let (verdict, frame) = node.verdict(input);
    assert_eq!(verdict, PASS);
    let expected = reply.map_or_else(
        || input.frame.clone(),
        |reply| {
            let port = |at: usize| u16::from_be_bytes([input.frame[at], input.frame[at + 1]]);
            let mut packet = Packet::udp((RESOLVER, port(36)), ("127.0.0.1", port(34)), reply);
            if let Payload::Udp { no_checksum, .. } = &mut packet.payload {
                *no_checksum = true;
            }
            packet.framed(NO_MAC, NO_MAC)
        },
    );
    assert_eq!(frame, expected);
}

fn loopback(packet: &Packet) -> Input {
    Input::new("dns_tc", 1, packet.framed(NO_MAC, NO_MAC))
}

fn question(name: &str, kind: u16, flags: u16, edns: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd];
    for word in [flags, 1, 0, 0, u16::from(edns.is_some())] {
        message.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message.extend(edns.unwrap_or_default());
    message
}

const EDNS: &[u8] = &[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0];
const DNSSEC: &[u8] = &[
    0, 0, 41, 2, 0, 0, 0, 0x80, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
];
const A: u16 = 1;
const PTR: u16 = 12;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;

/// Every kind of name, and whether the kernel answers for it.
const NAMES: [(&str, u16, bool); 24] = [
    ("web", A, true),
    ("web", AAAA, true),
    ("wEb.APP", A, true),
    ("tasks.web", A, true),
    ("tasks.web.app", AAAA, true),
    ("1.web", A, true),
    ("web.1", A, true),
    ("www", A, true),
    ("one", AAAA, true),
    ("alpha", A, true),
    ("0123456789ab", A, true),
    ("two", A, true),
    ("two", AAAA, true),
    ("web", 65, true),
    ("_http._tcp.web", SRV, true),
    ("2.1.0.10.in-addr.arpa", PTR, true),
    ("11.1.0.10.in-addr.arpa", PTR, true),
    // A name of more than 64 bytes, several addresses, and what does not exist.
    (
        "1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
        PTR,
        false,
    ),
    ("tasks.two", A, false),
    ("hidden", A, false),
    ("nothing", A, false),
    ("99.1.0.10.in-addr.arpa", PTR, false),
    ("_none._tcp.web", SRV, false),
    ("web", 41, false),
];

#[test]
fn the_kernel_answers_as_the_server_does_byte_for_byte() {
    let mut site = Site::new();
    let task = site.task(1, "web.1");
    let link = site.attach(&task, 1);
    for ((name, kind, by_kernel), id) in NAMES.into_iter().zip(2..) {
        // One for each name: what is handed over for one asker is bounded.
        let task = site.task(id, "web.1");
        for (flags, edns) in [
            (0x0100, None),
            (0, None),
            (0x0130, Some(EDNS)),
            (0x0120, Some(DNSSEC)),
        ] {
            let message = question(name, kind, flags, edns);
            let before = site.answered();
            let first = task.ask(&message);
            assert_eq!(
                site.answered(),
                before,
                "{name} {kind}: the server is asked first"
            );
            // In its own case and under its own number, as the server would.
            let mut again = question(&name.to_ascii_uppercase(), kind, flags, edns);
            again[..2].copy_from_slice(&[0x12, 0x34]);
            let second = task.ask(&again);
            let counted = site.answered() - before;
            assert_eq!(counted, u64::from(by_kernel), "{name} {kind} {flags:#x}");
            if by_kernel {
                let end = message.len() - edns.unwrap_or_default().len();
                let expected = [&again[..2], &first[2..12], &again[12..end], &first[end..]].concat();
                assert_eq!(second, expected, "{name} {kind} {flags:#x}");
                assert!(first.len() > end, "{name} {kind}: an answer has records");
            }
        }
    }
    drop(link);
    let before = site.answered();
    let message = question("web", A, 0x0100, None);
    task.ask(&message);
    assert_eq!(site.answered(), before, "nothing is answered without the program");
}

#[test]
fn many_sockets_at_once_are_each_answered_in_turn() {
    let mut site = Site::new();
    let task = site.task(1, "web.1");
    let _link = site.attach(&task, 1);
    let message = question("web", A, 0x0100, None);
    let reply = task.ask(&message);
    let before = site.answered();
    // Unconnected, and with the answers waiting.
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let server = task.udp.local_addr().unwrap();
    for number in 0..100_u16 {
        let message = [&number.to_be_bytes(), &message[2..]].concat();
        client.send_to(&message, server).unwrap();
    }
    for number in 0..100_u16 {
        let mut buffer = [0; 512];
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(from, server);
        assert_eq!(buffer[..length], [&number.to_be_bytes(), &reply[2..]].concat());
    }
    assert_eq!(site.answered() - before, 100);
}

#[test]
fn an_answer_is_given_while_it_counts_and_to_whom_it_was_given() {
    let mut site = Site::new();
    let (task, other) = (site.task(1, "web.1"), site.task(2, "hidden.1"));
    let message = question("web", A, 0x0100, None);
    let hidden = question("hidden", A, 0x0100, None);
    let reply = task.ask(&message);
    let hidden_reply = other.ask(&hidden);
    let answered = |node: &mut Node, task: &Task, message: &[u8], reply: Option<&[u8]>| {
        check_dns(node, &task.input(message), reply);
    };
    answered(&mut site.node, &task, &message, Some(&reply));
    answered(&mut site.node, &other, &hidden, Some(&hidden_reply));
    // What one has been told is nothing to the other, at whose socket another key is looked for.
    answered(&mut site.node, &other, &message, None);
    answered(&mut site.node, &task, &hidden, None);
    // Names changed: at once, and only the next answer counts again.
    site.renew_zone();
    answered(&mut site.node, &task, &message, None);
    task.ask(&message);
    answered(&mut site.node, &task, &message, Some(&reply));
    // Nobody has been heard of for too long: no server renews it any more.
    let Site { mut node, server, .. } = site;
    drop(server);
    let store = node.datapath().answers().unwrap();
    let state = node.maps().dns_state.read(0).unwrap();
    node.maps()
        .dns_state
        .write(0, DnsState { until: 1, ..state })
        .unwrap();
    answered(&mut node, &task, &message, None);
    store.renew(Duration::from_mins(1)).unwrap();
    answered(&mut node, &task, &message, Some(&reply));
    // Before there are names nothing counts.
    let generation = store.generation().unwrap();
    store.set_generation(0).unwrap();
    answered(&mut node, &task, &message, None);
    store.set_generation(generation).unwrap();
    answered(&mut node, &task, &message, Some(&reply));
    // An answer whose place was given away while it was read does not fit its seal.
    let (key, good) = node
        .maps()
        .dns_answers
        .entries()
        .unwrap()
        .into_iter()
        .find(|(key, answer)| {
            key.asker == 1 && answer.generation == generation && answer.seal(key) == answer.sealed
        })
        .unwrap();
    let mut torn = good;
    torn.records[1] ^= 1;
    node.maps().dns_answers.insert(&key, &torn).unwrap();
    answered(&mut node, &task, &message, None);
    for len in [0, 129, u16::MAX] {
        let mut wrong = good;
        wrong.len = len;
        wrong.sealed = wrong.seal(&key);
        node.maps().dns_answers.insert(&key, &wrong).unwrap();
        answered(&mut node, &task, &message, None);
    }
    node.maps().dns_answers.insert(&key, &good).unwrap();
    answered(&mut node, &task, &message, Some(&reply));
    // A socket at that address which is none of the resolver's.
    let stranger = UdpSocket::bind((RESOLVER, 0)).unwrap();
    let to = stranger.local_addr().unwrap().port();
    let packet = Packet::udp(("127.0.0.1", 4000), (RESOLVER, to), &message);
    check_dns(&mut node, &loopback(&packet), None);
    // And a port where there is none.
    drop(stranger);
    check_dns(&mut node, &loopback(&packet), None);
}

#[test]
fn what_is_no_plain_question_passes_untouched() {
    let mut site = Site::new();
    let task = site.task(1, "web.1");
    let message = question("web", A, 0x0100, Some(EDNS));
    let reply = task.ask(&message);
    check_dns(&mut site.node, &task.input(&message), Some(&reply));
    let packet = task.packet(&message);
    let fragment = |offset, more| Packet {
        fragment: Some(Fragment { offset, more }),
        df: false,
        ..packet.clone()
    };
    let ports = |packet: &Packet| match &packet.payload {
        Payload::Udp {
            source, destination, ..
        } => (*source, *destination),
        _ => panic!("a datagram"),
    };
    let (from, to) = ports(&packet);
    for (what, packet) in [
        (
            "another address",
            Packet::udp(("127.0.0.1", from), ("127.0.0.12", to), &message),
        ),
        (
            "another port",
            Packet::udp(("127.0.0.1", from), (RESOLVER, to ^ 1), &message),
        ),
        ("IPv6", Packet::udp(("::1", from), ("::1", to), &message)),
        ("a first fragment", fragment(0, true)),
        ("a later fragment", fragment(3, false)),
        (
            "options",
            Packet {
                options: vec![1; 4],
                ..packet.clone()
            },
        ),
        ("TCP", Packet::opening(6, ("127.0.0.1", from), (RESOLVER, to))),
        ("empty", task.packet(&[])),
        ("half a header", task.packet(&message[..6])),
        ("a header", task.packet(&message[..12])),
        ("too long", task.packet(&[&message[..], &[0; 300]].concat())),
        (
            "class ANY",
            task.packet(&{
                let mut message = question("web", A, 0x0100, None);
                let at = message.len() - 1;
                message[at] = 255;
                message
            }),
        ),
        (
            "ANY of several types",
            task.packet(&question("web", ANY, 0x0100, None)),
        ),
    ] {
        let input = loopback(&packet);
        let (verdict, frame) = site.node.verdict(&input);
        assert_eq!((verdict, frame == input.frame), (PASS, true), "{what}");
    }
    // Of a frame that stands for several.
    let several = Input {
        gso: (20, 3),
        ..task.input(&message)
    };
    check_dns(&mut site.node, &several, None);
    // Cut short, whatever the headers say: the kernel runs nothing shorter than an IP header.
    let whole = task.input(&message);
    for len in 34..whole.frame.len() {
        let mut cut = whole.clone();
        cut.frame.truncate(len);
        check_dns(&mut site.node, &cut, None);
    }
    for (at, value) in [
        (38, 0xff),
        (39, 0),
        (39, 8),
        (16, 0xff),
        (17, 20),
        (54, 0xc0),
        (58, 63),
        (58, 0xc0),
        (47, 0),
        (47, 2),
    ] {
        let mut bad = whole.clone();
        assert_ne!(bad.frame[at], value);
        bad.frame[at] = value;
        check_dns(&mut site.node, &bad, None);
    }
}

/// Frames that nobody should send: each passes, as it was or as a whole answer.
#[test]
fn mutated_questions_pass_or_are_answered_whole() {
    let mut site = Site::new();
    let task = site.task(1, "web.1");
    let mut random = Random::new();
    for (name, kind, _) in NAMES {
        let message = question(name, kind, 0x0120, Some(DNSSEC));
        task.ask(&message);
        let whole = task.input(&message);
        for _ in 0..300 {
            let mut input = whole.clone();
            for _ in 0..=random.below(3) {
                let at = 34 + random.below(input.frame.len() - 34);
                input.frame[at] = u8::try_from(random.below(256)).unwrap();
            }
            if random.below(4) == 0 {
                let len = 34 + random.below(input.frame.len() - 34);
                input.frame.truncate(len);
            }
            let (verdict, frame) = site.node.verdict(&input);
            assert_eq!(verdict, PASS);
            if frame != input.frame {
                let len = u16::from_be_bytes([frame[38], frame[39]]);
                assert_eq!(usize::from(len) + 34, frame.len());
                assert_eq!(frame[26..34], [127, 0, 0, 11, 127, 0, 0, 1]);
                assert_eq!((&frame[42..44], frame[44] & 0x80), (&input.frame[42..44], 0x80));
            }
        }
    }
}
