use super::DnsServer;
use crate::testing::{CLUSTER, Scene, find, line, query};
use crate::{AskerId, AskerInfo, Outside, Zone};
use essaim_model::{Catalog, Liveness};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod floods;

/// Longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server with the test cluster's names.
struct Site {
    server: DnsServer,
    catalog: Catalog,
}

/// Where a task asks.
struct Task {
    id: AskerId,
    udp: SocketAddr,
    tcp: SocketAddr,
    /// Duplicates, as a holder keeps them.
    kept: (UdpSocket, TcpListener),
}

impl Site {
    fn start() -> Self {
        let catalog = Catalog::parse(CLUSTER).unwrap();
        let server = DnsServer::start().unwrap();
        server.set_zone(Arc::new(Zone::new(&catalog, &Liveness::of(&catalog))));
        Self { server, catalog }
    }

    fn info(&self, task: &str) -> AskerInfo {
        let (service, task) = find(&self.catalog, task);
        AskerInfo::of(&self.catalog, service, task)
    }

    fn task(&self, id: u64, info: AskerInfo) -> Task {
        let (udp, tcp) = sockets();
        let task = Task {
            id: AskerId(id),
            udp: udp.local_addr().unwrap(),
            tcp: tcp.local_addr().unwrap(),
            kept: (udp.try_clone().unwrap(), tcp.try_clone().unwrap()),
        };
        self.server.add_asker(task.id, info, udp, tcp).unwrap();
        task
    }
}

fn sockets() -> (UdpSocket, TcpListener) {
    (
        UdpSocket::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    )
}

/// A socket of a client, connected.
fn client(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> io::Result<Message> {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer)?;
    Ok(Message::from_vec(&buffer[..length]).unwrap())
}

fn ask_message(server: SocketAddr, name: &str) -> Message {
    let socket = client(server);
    socket
        .send(&query(name, RecordType::A).to_vec().unwrap())
        .unwrap();
    receive(&socket).unwrap()
}

fn ask(server: SocketAddr, name: &str) -> String {
    line(&ask_message(server, name))
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn framed(message: &Message) -> Vec<u8> {
    let message = message.to_vec().unwrap();
    let mut bytes = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(message);
    bytes
}

fn read_framed(stream: &mut TcpStream) -> io::Result<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(Message::from_vec(&message).unwrap())
}

/// A server of the outside: answers names that begin with `good` at once, with `slow` after 200 ms, no others.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            count.fetch_add(1, Ordering::Relaxed);
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            let name = message.queries[0].name.clone();
            message.metadata.message_type = MessageType::Response;
            message.metadata.recursion_available = true;
            let address = RData::A(A(Ipv4Addr::new(192, 0, 2, 1)));
            message.add_answer(Record::from_rdata(name.clone(), 60, address));
            let message = message.to_vec().unwrap();
            if name.to_string().starts_with("good") {
                socket.send_to(&message, peer).unwrap();
            } else if name.to_string().starts_with("slow") {
                let socket = socket.clone();
                std::thread::spawn(move || {
                    std::thread::park_timeout(Duration::from_millis(200));
                    socket.send_to(&message, peer).unwrap();
                });
            }
        }
    });
    (address, asked)
}

#[test]
fn a_task_is_answered_over_udp_and_tcp() {
    let site = Site::start();
    let task = site.task(1, site.info("q1w2"));
    assert_eq!(ask(task.udp, "web"), "NoError 10.0.1.2");
    let mut stream = connect(task.tcp);
    for name in ["tasks.web", "web"] {
        stream.write_all(&framed(&query(name, RecordType::A))).unwrap();
    }
    assert_eq!(
        line(&read_framed(&mut stream).unwrap()),
        "NoError 10.0.1.11 10.0.1.12"
    );
    assert_eq!(line(&read_framed(&mut stream).unwrap()), "NoError 10.0.1.2");
    let counters = site.server.counters();
    assert_eq!(
        (counters.queries_udp, counters.queries_tcp, counters.no_error),
        (1, 2, 3)
    );
}

#[test]
fn every_task_has_its_own_view() {
    let site = Site::start();
    let web = site.task(1, site.info("q1w2"));
    let lone = site.task(2, site.info("lone.1"));
    assert_eq!(ask(web.udp, "web"), "NoError 10.0.1.2");
    // Without an upstream server nobody knows it.
    assert_eq!(ask(lone.udp, "web"), "ServFail");
    assert_eq!(ask(lone.udp, "lone"), "NoError 10.0.3.2");
    site.server.set_asker(lone.id, site.info("q1w2"));
    assert_eq!(ask(lone.udp, "web"), "NoError 10.0.1.2");
    let closed = AskerInfo {
        outside: Outside::Closed,
        ..site.info("q1w2")
    };
    site.server.set_asker(web.id, closed);
    assert_eq!(ask(web.udp, "good.example.org"), "NXDomain");
}

#[test]
fn a_new_zone_counts_at_once() {
    let mut scene = Scene::of("db.1");
    let site = Site::start();
    let task = site.task(1, site.info("db.1"));
    assert_eq!(ask(task.udp, "db"), "NoError 10.0.2.21");
    scene
        .liveness
        .tasks
        .insert("db.1".parse().unwrap(), essaim_model::TaskState::Gone);
    site.server
        .set_zone(Arc::new(Zone::new(&scene.catalog, &scene.liveness)));
    assert_eq!(ask(task.udp, "db"), "NoError");
}

#[test]
fn a_connection_carries_many_questions_and_slow_answers_hold_none_up() {
    let site = Site::start();
    let task = site.task(1, site.info("q1w2"));
    site.server.set_upstreams(vec![upstream().0]);
    let mut stream = connect(task.tcp);
    let mut bytes = Vec::new();
    for id in 0..40_u16 {
        let mut message = query(if id == 0 { "slow.example.org" } else { "web" }, RecordType::A);
        message.metadata.id = id;
        bytes.extend(framed(&message));
    }
    stream.write_all(&bytes).unwrap();
    // It has asked all it wanted to.
    stream.shutdown(Shutdown::Write).unwrap();
    let answers: Vec<Message> = (0..40).map(|_| read_framed(&mut stream).unwrap()).collect();
    let ids: Vec<u16> = answers.iter().map(|answer| answer.metadata.id).collect();
    assert_eq!(ids, (1..40).chain([0]).collect::<Vec<_>>());
    assert_eq!(line(answers.last().unwrap()), "NoError 192.0.2.1");
    assert_eq!(stream.read(&mut [0]).unwrap(), 0, "then it is closed");
}

#[test]
fn a_connection_out_of_step_is_cut() {
    let site = Site::start();
    let task = site.task(1, site.info("q1w2"));
    let mut stream = connect(task.tcp);
    stream.write_all(b"\0\x03abc").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    let mut stream = connect(task.tcp);
    let mut response = query("web", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    stream.write_all(&framed(&response)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    let counters = site.server.counters();
    assert_eq!((counters.dropped_short, counters.dropped_response), (1, 1));
}

#[test]
fn a_task_has_so_many_connections_and_no_more() {
    let site = Site::start();
    let task = site.task(1, site.info("q1w2"));
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(task.tcp)).collect();
    let mut answered = 0;
    for stream in &mut streams {
        let _ = stream.write_all(&framed(&query("web", RecordType::A)));
        answered += usize::from(read_framed(stream).is_ok());
    }
    assert_eq!(answered, 32);
    drop(streams);
    // Their places are given back.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut stream = connect(task.tcp);
        let sent = stream.write_all(&framed(&query("web", RecordType::A)));
        if sent.is_ok() && read_framed(&mut stream).is_ok() {
            break;
        }
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn names_of_the_outside_are_asked_once_and_kept() {
    let site = Site::start();
    let (address, asked) = upstream();
    site.server.set_upstreams(vec![address]);
    let tasks = [1, 2].map(|id| site.task(id, site.info("q1w2")));
    for task in &tasks {
        assert_eq!(ask(task.udp, "GOOD.example.org"), "NoError 192.0.2.1");
        let mut stream = connect(task.tcp);
        stream
            .write_all(&framed(&query("good.EXAMPLE.org", RecordType::A)))
            .unwrap();
        assert_eq!(line(&read_framed(&mut stream).unwrap()), "NoError 192.0.2.1");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let counters = site.server.counters();
    assert_eq!(
        (counters.forwards, counters.exchanges, counters.cache_hits),
        (1, 1, 3)
    );
    // What another server said is not what this one says.
    let (address, asked) = upstream();
    site.server.set_upstreams(vec![address]);
    assert_eq!(ask(tasks[0].udp, "good.example.org"), "NoError 192.0.2.1");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[test]
fn sockets_outlive_the_server_where_somebody_keeps_them() {
    let site = Site::start();
    let task = site.task(1, site.info("q1w2"));
    assert_eq!(ask(task.udp, "web"), "NoError 10.0.1.2");
    drop(site);
    // A question while nobody serves waits in the socket for the next server.
    let waiting = client(task.udp);
    waiting
        .send(&query("web", RecordType::A).to_vec().unwrap())
        .unwrap();
    let mut stream = connect(task.tcp);
    stream.write_all(&framed(&query("web", RecordType::A))).unwrap();
    let next = Site::start();
    let (udp, tcp) = (task.kept.0.try_clone().unwrap(), task.kept.1.try_clone().unwrap());
    next.server
        .add_asker(AskerId(9), next.info("q1w2"), udp, tcp)
        .unwrap();
    assert_eq!(line(&receive(&waiting).unwrap()), "NoError 10.0.1.2");
    assert_eq!(line(&read_framed(&mut stream).unwrap()), "NoError 10.0.1.2");
}

#[test]
fn a_removed_task_is_not_answered_though_its_sockets_are_kept() {
    let site = Site::start();
    let task = site.task(1, site.info("q1w2"));
    assert_eq!(ask(task.udp, "web"), "NoError 10.0.1.2");
    site.server.remove_asker(task.id);
    site.server.remove_asker(task.id);
    let socket = client(task.udp);
    socket.send(b"for the keeper").unwrap();
    task.kept.0.set_nonblocking(false).unwrap();
    task.kept.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    let length = task.kept.0.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"for the keeper");
}

#[test]
fn an_id_given_again_takes_the_place_of_the_former() {
    let site = Site::start();
    let former = site.task(1, site.info("q1w2"));
    let task = site.task(1, site.info("lone.1"));
    assert_eq!(ask(task.udp, "lone"), "NoError 10.0.3.2");
    let socket = client(former.udp);
    socket
        .send(&query("web", RecordType::A).to_vec().unwrap())
        .unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(receive(&socket).is_err());
    drop(former);
}
