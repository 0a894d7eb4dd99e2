//! Exchanges with servers on loopback that lose, lie, delay and cut.

use super::{Stored, a, name, response};
use crate::server::Shared;
use crate::testing::query;
use crate::upstream::exchange::{Asked, exchange};
use crate::upstream::{Ask, Forwarder, Patience, Servers};
use crate::wire::Query;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::sleep;

const PATIENCE: Patience = Patience {
    deadline: Duration::from_secs(2),
    retry: Duration::from_millis(100),
};

/// What a server does with the question that came so many before it: messages to send, each after a pause.
type Script = dyn Fn(&Message, usize) -> Vec<(Duration, Message)> + Send + Sync;

/// A server at a UDP port, and at the same TCP port where it is told to.
struct Fake {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Fake {
    async fn start(
        script: impl Fn(&Message, usize) -> Vec<(Duration, Message)> + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1", script).await
    }

    async fn start_at(
        address: &str,
        script: impl Fn(&Message, usize) -> Vec<(Duration, Message)> + Send + Sync + 'static,
    ) -> Self {
        let socket = Arc::new(UdpSocket::bind((address, 0)).await.unwrap());
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let number = count.fetch_add(1, Ordering::Relaxed);
                let (socket, script) = (socket.clone(), script.clone());
                tokio::spawn(async move {
                    for (pause, answer) in script(&question, number) {
                        sleep(pause).await;
                        let _ = socket.send_to(&answer.to_vec().unwrap(), peer).await;
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// The answer to a question, from the server with this number.
fn answer(question: &Message, server: u8) -> Message {
    let mut message = response(ResponseCode::NoError);
    message.metadata.id = question.metadata.id;
    message.queries.clone_from(&question.queries);
    message.add_answer(a(&question.queries[0].name.to_string(), 60, server));
    message
}

fn failure(question: &Message, code: ResponseCode) -> Message {
    let mut message = answer(question, 0);
    message.answers.clear();
    message.metadata.response_code = code;
    message
}

fn at_once(message: Message) -> Vec<(Duration, Message)> {
    vec![(Duration::ZERO, message)]
}

fn asked() -> Asked {
    Asked {
        name: (*b"\x03www\x07example\x03org\0").into(),
        kind: 1,
        checking_disabled: false,
        dnssec_ok: false,
    }
}

/// The server whose answer it is.
fn answered_by(stored: Option<Stored>) -> Option<u8> {
    stored?.message.last().copied()
}

async fn ask(servers: &[&Fake]) -> Option<u8> {
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    answered_by(exchange(&Servers::at(1, addresses), &asked(), PATIENCE).await)
}

#[tokio::test]
async fn the_first_usable_answer_wins() {
    let slow = Fake::start(|question, _| vec![(Duration::from_millis(300), answer(question, 1))]).await;
    let broken = Fake::start(|question, _| at_once(failure(question, ResponseCode::ServFail))).await;
    let refusing = Fake::start(|question, _| at_once(failure(question, ResponseCode::Refused))).await;
    let good = Fake::start(|question, _| vec![(Duration::from_millis(20), answer(question, 2))]).await;
    assert_eq!(ask(&[&slow, &broken, &refusing, &good]).await, Some(2));
    assert_eq!(ask(&[&broken, &slow]).await, Some(1));
    assert_eq!(ask(&[&broken, &refusing]).await, None);
    assert_eq!(ask(&[]).await, None);
}

#[tokio::test]
async fn a_lost_question_is_asked_again() {
    let lossy = Fake::start(|question, number| {
        if number < 2 {
            vec![]
        } else {
            at_once(answer(question, 1))
        }
    })
    .await;
    assert_eq!(ask(&[&lossy]).await, Some(1));
    assert_eq!(lossy.asked(), 3);
}

#[tokio::test]
async fn lies_are_passed_over_until_the_truth_comes() {
    let lying = Fake::start(|question, _| {
        let mut other_id = answer(question, 66);
        other_id.metadata.id ^= 1;
        let mut other_name = answer(question, 66);
        other_name.queries[0].name = name("bank.example.org");
        let mut no_response = answer(question, 66);
        no_response.metadata.message_type = hickory_proto::op::MessageType::Query;
        [other_id, other_name, no_response, answer(question, 1)]
            .map(|message| (Duration::ZERO, message))
            .to_vec()
    })
    .await;
    assert_eq!(ask(&[&lying]).await, Some(1));
}

#[tokio::test]
async fn a_server_that_only_lies_is_given_up() {
    let lying = Fake::start(|question, _| {
        let mut lie = answer(question, 66);
        lie.metadata.id ^= 1;
        vec![(Duration::ZERO, lie); 40]
    })
    .await;
    let start = Instant::now();
    assert_eq!(ask(&[&lying]).await, None);
    assert!(start.elapsed() < PATIENCE.deadline);
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let silent = Fake::start(|_, _| vec![]).await;
    let start = Instant::now();
    assert_eq!(ask(&[&silent]).await, None);
    let took = start.elapsed();
    assert!(
        took >= PATIENCE.deadline && took < 2 * PATIENCE.deadline,
        "{took:?}"
    );
}

#[tokio::test]
async fn a_server_that_is_not_there_is_known_at_once() {
    let free = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let start = Instant::now();
    assert!(
        exchange(&Servers::at(1, vec![free]), &asked(), PATIENCE)
            .await
            .is_none()
    );
    assert!(start.elapsed() < PATIENCE.deadline / 2);
}

#[tokio::test]
async fn a_server_without_edns_is_asked_without() {
    let old = Fake::start(|question, _| {
        at_once(match question.edns {
            Some(_) => failure(question, ResponseCode::FormErr),
            None => answer(question, 1),
        })
    })
    .await;
    assert_eq!(ask(&[&old]).await, Some(1));
    assert_eq!(old.asked(), 2);
}

#[tokio::test]
async fn a_cut_answer_is_fetched_over_tcp() {
    // An address that nobody else has TCP ports of.
    let cut = Fake::start_at("127.53.0.1", |question, _| {
        let mut message = answer(question, 1);
        message.metadata.truncation = true;
        at_once(message)
    })
    .await;
    let listener = TcpListener::bind(cut.address).await.unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut buffer = vec![0; usize::from(length)];
            stream.read_exact(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer).unwrap();
            let mut message = answer(&question, 1);
            message
                .answers
                .extend((2..200).map(|last| a("www.example.org", 60, last)));
            let message = message.to_vec().unwrap();
            stream
                .write_u16(u16::try_from(message.len()).unwrap())
                .await
                .unwrap();
            stream.write_all(&message).await.unwrap();
        }
    });
    assert_eq!(ask(&[&cut]).await, Some(199));
}

#[tokio::test]
async fn equal_questions_at_once_are_asked_once_and_then_known() {
    let slow = Fake::start(|question, _| vec![(Duration::from_millis(50), answer(question, 1))]).await;
    let shared = Arc::new(Shared::new());
    let forwarder = Arc::new(Forwarder::new(shared.clone(), PATIENCE));
    let servers = Arc::new(Servers::at(1, vec![slow.address]));
    let ask = |name: &str| {
        let message = query(name, RecordType::A).to_vec().unwrap();
        let ask = Ask::new(&Query::parse(&message).unwrap(), &servers);
        let forwarder = forwarder.clone();
        tokio::spawn(async move { forwarder.resolve(ask).await })
    };
    let mut together: Vec<_> = (0..50).map(|_| ask("www.example.org")).collect();
    together.extend((0..50).map(|_| ask("WWW.example.ORG")));
    together.push(ask("other.example.org"));
    for asking in together {
        assert!(asking.await.unwrap().is_some());
    }
    assert_eq!(slow.asked(), 2);
    assert!(ask("www.example.org").await.unwrap().is_some());
    assert_eq!(slow.asked(), 2);
}

#[tokio::test]
async fn a_failure_is_remembered_for_a_moment() {
    let broken = Fake::start(|question, _| at_once(failure(question, ResponseCode::ServFail))).await;
    let shared = Arc::new(Shared::new());
    let forwarder = Arc::new(Forwarder::new(shared.clone(), PATIENCE));
    let servers = Arc::new(Servers::at(1, vec![broken.address]));
    for _ in 0..3 {
        let message = query("www.example.org", RecordType::A).to_vec().unwrap();
        let ask = Ask::new(&Query::parse(&message).unwrap(), &servers);
        assert!(forwarder.resolve(ask).await.is_none());
    }
    assert_eq!(broken.asked(), 1);
}
