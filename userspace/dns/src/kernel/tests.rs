use super::*;
use crate::respond::Transport;
use crate::server::DnsServer;
use crate::testing::{CLUSTER, Scene, find, query, with_edns};
use crate::{AskerId, AskerInfo, Zone};
use essaim_abi::DnsFlags;
use essaim_model::{Catalog, Liveness};
use hickory_proto::rr::RecordType;
use std::collections::HashMap;
use std::net::{TcpListener, UdpSocket};

/// A kernel made of a map.
#[derive(Debug, Default)]
struct Fake {
    generation: AtomicU64,
    renewals: AtomicU64,
    answers: Mutex<HashMap<Vec<u8>, DnsAnswer>>,
}

impl KernelAnswers for Fake {
    fn generation(&self) -> io::Result<u64> {
        Ok(self.generation.load(Ordering::SeqCst))
    }

    fn set_generation(&self, generation: u64) -> io::Result<()> {
        self.generation.store(generation, Ordering::SeqCst);
        Ok(())
    }

    fn renew(&self, _lease: Duration) -> io::Result<()> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn insert(&self, key: &DnsKey, answer: &DnsAnswer) -> io::Result<()> {
        use essaim_abi::Pod as _;
        self.answers.lock().unwrap().insert(key.bytes().to_vec(), *answer);
        Ok(())
    }
}

impl Fake {
    /// Those that count.
    fn current(&self) -> usize {
        let now = self.generation.load(Ordering::SeqCst);
        let answers = self.answers.lock().unwrap();
        answers.values().filter(|answer| answer.generation == now).count()
    }
}

/// What is handed over for a question of the task that sees `app` and `back`.
fn handed(name: &str, kind: RecordType) -> Option<(DnsKey, DnsAnswer)> {
    let mut scene = Scene::of("q1w2");
    let message = query(name, kind).to_vec().unwrap();
    let (_, reply) = scene.respond(&message, Transport::Udp(4096));
    handed_over(3, 9, &message, &reply)
}

#[test]
fn what_exists_and_leaves_no_choice_is_handed_over() {
    for (name, kind, taken) in [
        ("web", RecordType::A, true),
        ("WEB.app", RecordType::AAAA, true),
        // Known, and nothing of this type.
        ("db", RecordType::AAAA, true),
        ("web", RecordType::MX, true),
        ("web", RecordType::HTTPS, true),
        ("1.web", RecordType::A, true),
        ("2.1.0.10.in-addr.arpa", RecordType::PTR, true),
        // Its VIP is the one target.
        ("_http._tcp.web", RecordType::SRV, true),
        // Two addresses.
        ("tasks.web", RecordType::A, false),
        // No such service, no such port, not seen from here, of the outside.
        ("nothing", RecordType::A, false),
        ("_none._tcp.web", RecordType::SRV, false),
        ("lone", RecordType::A, false),
        ("99.1.0.10.in-addr.arpa", RecordType::PTR, false),
        ("example.org", RecordType::A, false),
    ] {
        assert_eq!(handed(name, kind).is_some(), taken, "{name} {kind}");
    }
}

#[test]
fn an_answer_is_of_its_question_and_generation() {
    let (key, answer) = handed("Web", RecordType::A).unwrap();
    assert_eq!((key.asker, answer.generation), (9, 3));
    assert_eq!(answer.sealed, answer.seal(&key));
    assert_eq!(key.flags, DnsFlags::RECURSION_DESIRED);
}

#[test]
fn edns_and_dnssec_are_questions_of_their_own() {
    let mut scene = Scene::of("q1w2");
    let mut keys = Vec::new();
    for message in [
        query("web", RecordType::A),
        with_edns(query("web", RecordType::A), 1232, false),
        with_edns(query("web", RecordType::A), 1232, true),
    ] {
        let message = message.to_vec().unwrap();
        let (_, reply) = scene.respond(&message, Transport::Udp(4096));
        let (key, answer) = handed_over(1, 1, &message, &reply).unwrap();
        assert!(keys.iter().all(|(other, _)| *other != key));
        keys.push((key, answer.len));
    }
    assert_eq!(keys[1].1, keys[0].1 + 11, "our EDNS record is in the answer");
}

#[test]
fn a_budget_is_for_a_second() {
    let budget = Budget::default();
    for second in [0, 1, 5, 4] {
        let taken = (0..1000).filter(|_| budget.take(second)).count();
        assert_eq!(taken as u64, MOST_OF_ASKER, "second {second}");
    }
}

/// A server with a kernel beside it, and a task's client.
struct Site {
    server: DnsServer,
    kernel: Arc<Fake>,
    client: UdpSocket,
    catalog: Catalog,
}

impl Site {
    fn start(generation: u64) -> Self {
        let kernel = Arc::new(Fake::default());
        kernel.generation.store(generation, Ordering::SeqCst);
        let server = DnsServer::start().unwrap();
        server.answer_in_kernel(kernel.clone());
        let catalog = Catalog::parse(CLUSTER).unwrap();
        let (udp, tcp) = (
            UdpSocket::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(udp.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let site = Self {
            server,
            kernel,
            client,
            catalog,
        };
        site.server
            .add_asker(AskerId(1), site.info("q1w2"), udp, tcp)
            .unwrap();
        site
    }

    fn info(&self, task: &str) -> AskerInfo {
        let (service, task) = find(&self.catalog, task);
        AskerInfo::of(&self.catalog, service, task)
    }

    fn zone(&self) -> Arc<Zone> {
        Arc::new(Zone::new(&self.catalog, &Liveness::of(&self.catalog)))
    }

    fn ask(&self, name: &str) {
        self.client
            .send(&query(name, RecordType::A).to_vec().unwrap())
            .unwrap();
        self.client.recv(&mut [0; 512]).unwrap();
    }
}

#[test]
fn whatever_changes_an_answer_ends_those_before() {
    let site = Site::start(40);
    site.ask("web");
    let counts = || (site.kernel.generation().unwrap(), site.kernel.current());
    assert_eq!(
        counts(),
        (40, 0),
        "an earlier server's answers count until there are names"
    );
    let zone = site.zone();
    site.server.set_zone(zone.clone());
    assert_eq!(counts(), (41, 0));
    site.ask("web");
    site.ask("web");
    assert_eq!(counts(), (41, 1));
    assert_eq!(site.server.counters().handed_to_kernel, 2);
    site.server.set_zone(zone);
    assert_eq!(counts(), (41, 1), "no news");
    site.server.set_zone(site.zone());
    assert_eq!(counts(), (42, 0));
    site.ask("web");
    assert_eq!(counts(), (42, 1));
    site.server.set_asker(AskerId(1), site.info("db.1"));
    assert_eq!(counts(), (43, 0), "the asker is on other networks");
    site.server.set_asker(AskerId(2), site.info("db.1"));
    assert_eq!(counts(), (43, 0), "there is no such asker");
    site.server.set_upstreams(vec!["192.0.2.1:53".parse().unwrap()]);
    assert_eq!(counts(), (44, 0));
    assert!(site.kernel.renewals.load(Ordering::SeqCst) >= 4);
}

#[test]
fn an_asker_fills_no_more_than_its_part() {
    let site = Site::start(0);
    site.server.set_zone(site.zone());
    let start = Instant::now();
    for number in 0..500_u16 {
        // Every type is another question, and known to be empty.
        let mut message = query("web", RecordType::A).to_vec().unwrap();
        let at = message.len() - 4;
        message[at..at + 2].copy_from_slice(&(2000 + number).to_be_bytes());
        site.client.send(&message).unwrap();
        site.client.recv(&mut [0; 512]).unwrap();
    }
    let seconds = start.elapsed().as_secs() + 2;
    let handed = site.kernel.current() as u64;
    assert!(
        handed >= MOST_OF_ASKER && handed <= MOST_OF_ASKER * seconds,
        "{handed}"
    );
}
