//! Real TLS over loopback, with identities of a real authority.

use crate::{Admission, CallError, Caller, Client, Code, LARGEST_MESSAGE, Methods, Server};
use bytes::Bytes;
use essaim_ca::{
    Callee, CertificateRequest, ClusterId, Identity, LiveIdentity, NodeId, NodeLife, PrivateKey, Role,
    RootCa, Subject, SystemEntropy, Timestamp, client_config, joining_client_config,
    root_fetch_client_config,
};
use futures_util::StreamExt as _;
use rustls::pki_types::UnixTime;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const WITHIN: Duration = Duration::from_secs(10);

fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

struct Cluster {
    id: ClusterId,
    ca: RootCa,
}

impl Cluster {
    fn new() -> Self {
        let entropy = &mut SystemEntropy;
        Self {
            id: ClusterId::random(entropy).unwrap(),
            ca: RootCa::create(Timestamp::from(SystemTime::now()), entropy).unwrap(),
        }
    }

    fn identity(&self, role: Role, issued: Timestamp) -> Identity {
        let entropy = &mut SystemEntropy;
        let key = PrivateKey::generate(entropy).unwrap();
        let request = CertificateRequest::new(&key).unwrap();
        let subject = Subject {
            cluster_id: self.id.clone(),
            role,
            node_id: NodeId::random(entropy).unwrap(),
        };
        let issued = self
            .ca
            .issue(&request, &subject, NodeLife::default(), issued, entropy)
            .unwrap();
        Identity::from_issued(key, issued).unwrap()
    }

    fn member(&self, role: Role) -> Arc<LiveIdentity> {
        LiveIdentity::new(self.identity(role, Timestamp::from(SystemTime::now()))).unwrap()
    }

    fn client(&self, role: Role, address: SocketAddr) -> Client {
        let config = client_config(&self.member(role), clock()).unwrap();
        Client::new(&address.to_string(), config, &Callee::AnyManager).unwrap()
    }

    async fn serve(&self, methods: Methods) -> Running {
        self.serve_at(methods, clock()).await
    }

    async fn serve_at(&self, methods: Methods, time: Arc<dyn TimeProvider>) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(&self.member(Role::Manager), methods, time).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        Running { address, stop, task }
    }
}

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), crate::ServerError>>,
}

fn who(caller: &Caller) -> String {
    caller
        .peer
        .as_ref()
        .map_or("nobody".to_owned(), |peer| peer.role.to_string())
}

fn methods() -> Methods {
    let echo = |caller: Caller, message: Bytes| async move {
        Ok(Bytes::from(format!(
            "{} said {}",
            who(&caller),
            String::from_utf8_lossy(&message)
        )))
    };
    Methods::new()
        .one("Root", Admission::Anybody, echo)
        .one("Report", Admission::Members(Role::Worker), echo)
        .one("Append", Admission::Members(Role::Manager), echo)
        .one("Size", Admission::Anybody, |_, message: Bytes| async move {
            Ok(Bytes::from(message.len().to_string()))
        })
        .one("Fail", Admission::Anybody, |_, _| async {
            Err(CallError::new(
                Code::FailedPrecondition,
                "found no quorum, expected one",
            ))
        })
        .one("Hang", Admission::Anybody, |_, _| std::future::pending())
        .many(
            "Count",
            Admission::Members(Role::Worker),
            |_, message: Bytes| async move {
                let most: u32 = String::from_utf8_lossy(&message).parse().unwrap();
                let numbers = (0..most).map(|number| Ok(Bytes::from(number.to_string())));
                let end = std::iter::once(Err(CallError::new(Code::ResourceExhausted, "no more")));
                Ok(futures_util::stream::iter(numbers.chain(end)).boxed())
            },
        )
}

async fn said(client: &Client, method: &str) -> Result<String, Code> {
    let answer = client.call(method, Bytes::from_static(b"hello"), WITHIN).await;
    answer
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| error.code)
}

#[tokio::test]
async fn each_role_may_call_what_its_methods_admit() {
    let cluster = Cluster::new();
    let server = cluster.serve(methods()).await;
    let config = joining_client_config(
        cluster.member(Role::Worker).current().trust().clone(),
        None,
        clock(),
    );
    let joining = Client::new(&server.address.to_string(), config.unwrap(), &Callee::AnyManager).unwrap();
    let denied = Err(Code::PermissionDenied);
    for (client, role, may_report, may_append) in [
        (
            cluster.client(Role::Manager, server.address),
            "swarm-manager",
            true,
            true,
        ),
        (
            cluster.client(Role::Worker, server.address),
            "swarm-worker",
            true,
            false,
        ),
        (joining, "nobody", false, false),
    ] {
        let role = if role == "nobody" {
            role.to_owned()
        } else {
            role_name(role)
        };
        let expected = |may: bool| {
            if may {
                Ok(format!("{role} said hello"))
            } else {
                denied.clone()
            }
        };
        assert_eq!(said(&client, "Root").await, expected(true), "{role}");
        assert_eq!(said(&client, "Report").await, expected(may_report), "{role}");
        assert_eq!(said(&client, "Append").await, expected(may_append), "{role}");
        assert_eq!(said(&client, "Absent").await, Err(Code::Unimplemented), "{role}");
    }
}

#[tokio::test]
async fn a_guard_is_asked_before_each_call_of_a_member_and_for_nothing_else() {
    let cluster = Cluster::new();
    let methods = methods().guarded(|peer, role, _| match (peer.role, role) {
        (Role::Manager, Role::Manager) => Err(format!("{} was demoted", peer.node_id)),
        (Role::Worker | Role::Manager, Role::Worker | Role::Manager) => Ok(()),
    });
    let running = cluster.serve(methods).await;
    let manager = cluster.client(Role::Manager, running.address);
    let error = manager.call("Append", Bytes::new(), WITHIN).await.unwrap_err();
    assert_eq!(
        error,
        CallError::new(Code::PermissionDenied, "not allowed to call Append")
    );
    for method in ["Root", "Report"] {
        said(&manager, method).await.unwrap();
    }
}

fn role_name(unit: &str) -> String {
    let role = if unit == Role::Manager.unit() {
        Role::Manager
    } else {
        Role::Worker
    };
    role.to_string()
}

#[tokio::test]
async fn members_of_another_cluster_get_no_link() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let server = cluster.serve(methods()).await;
    assert_eq!(
        said(&other.client(Role::Manager, server.address), "Root").await,
        Err(Code::Unavailable)
    );
    // Whoever checks the root afterwards may fetch it from anybody.
    let config = root_fetch_client_config(clock()).unwrap();
    let fetching = Client::new(&server.address.to_string(), config, &Callee::AnyManager).unwrap();
    assert_eq!(said(&fetching, "Root").await, Ok("nobody said hello".to_owned()));
}

#[tokio::test]
async fn errors_and_their_kinds_arrive() {
    let cluster = Cluster::new();
    let server = cluster.serve(methods()).await;
    let client = cluster.client(Role::Worker, server.address);
    let error = client.call("Fail", Bytes::new(), WITHIN).await.unwrap_err();
    assert_eq!(
        error,
        CallError::new(Code::FailedPrecondition, "found no quorum, expected one")
    );
    let error = client
        .call("Hang", Bytes::new(), Duration::from_millis(100))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    assert!(
        error.message.contains("Hang") && error.message.contains("100ms"),
        "{error}"
    );
    let error = client.call("no name\n", Bytes::new(), WITHIN).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument);
}

#[tokio::test]
async fn messages_up_to_the_limit_pass_and_larger_ones_are_refused() {
    let cluster = Cluster::new();
    let server = cluster.serve(methods()).await;
    let client = cluster.client(Role::Worker, server.address);
    let size = |length: usize| client.call("Size", vec![7; length].into(), WITHIN);
    assert_eq!(size(0).await.unwrap(), "0");
    assert_eq!(size(LARGEST_MESSAGE).await.unwrap(), LARGEST_MESSAGE.to_string());
    size(LARGEST_MESSAGE + 1).await.unwrap_err();
    assert_eq!(size(5).await.unwrap(), "5", "the connection serves on");
}

#[tokio::test]
async fn an_answer_that_goes_on_ends_with_its_error() {
    let cluster = Cluster::new();
    let server = cluster.serve(methods()).await;
    let client = cluster.client(Role::Worker, server.address);
    let mut messages = client
        .open("Count", Bytes::from_static(b"1000"), WITHIN)
        .await
        .unwrap();
    for number in 0..1000 {
        assert_eq!(messages.next().await.unwrap().unwrap(), number.to_string());
    }
    assert_eq!(
        messages.next().await.unwrap_err(),
        CallError::new(Code::ResourceExhausted, "no more")
    );
    let joining = joining_client_config(
        cluster.member(Role::Worker).current().trust().clone(),
        None,
        clock(),
    );
    let joining = Client::new(&server.address.to_string(), joining.unwrap(), &Callee::AnyManager).unwrap();
    let error = joining
        .open("Count", Bytes::from_static(b"1"), WITHIN)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
}

#[tokio::test]
async fn a_client_finds_a_manager_that_comes_back_at_its_address() {
    let cluster = Cluster::new();
    let server = cluster.serve(methods()).await;
    let client = cluster.client(Role::Worker, server.address);
    said(&client, "Report").await.unwrap();
    let Running { address, stop, task } = server;
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
    assert_eq!(said(&client, "Report").await, Err(Code::Unavailable));
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server::new(&cluster.member(Role::Manager), methods(), clock()).unwrap();
    tokio::spawn(server.run(listener, std::future::pending()));
    let begun = std::time::Instant::now();
    while said(&client, "Report").await.is_err() {
        assert!(begun.elapsed() < WITHIN, "the manager is back");
    }
}

/// A clock that is ahead.
#[derive(Debug)]
struct Ahead(Duration);

impl TimeProvider for Ahead {
    fn current_time(&self) -> Option<UnixTime> {
        let now = DefaultTimeProvider.current_time()?;
        Some(UnixTime::since_unix_epoch(
            Duration::from_secs(now.as_secs()) + self.0,
        ))
    }
}

#[tokio::test]
async fn a_link_ends_with_the_certificate_that_it_was_made_with() {
    let cluster = Cluster::new();
    let life = NodeLife::default().duration();
    // For the server, what is issued now has two or three seconds left.
    let server = cluster
        .serve_at(
            methods(),
            Arc::new(Ahead(life.saturating_sub(Duration::from_secs(3)))),
        )
        .await;
    let client = cluster.client(Role::Worker, server.address);
    said(&client, "Report").await.unwrap();
    let begun = std::time::Instant::now();
    // Certificates are valid to the second, and so are links: a new one may still come up in the last.
    let mut refused = 0;
    while refused < 50 {
        assert!(begun.elapsed() < WITHIN, "the certificate has expired");
        match said(&client, "Report").await {
            Ok(_) => refused = 0,
            Err(code) => {
                assert_eq!(code, Code::Unavailable);
                refused += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "it ended before its time"
    );
}

#[tokio::test]
async fn peers_that_say_nothing_are_in_nobodys_way() {
    let cluster = Cluster::new();
    let server = cluster.serve(methods()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(tokio::net::TcpStream::connect(server.address).await.unwrap());
    }
    let begun = std::time::Instant::now();
    said(&cluster.client(Role::Worker, server.address), "Report")
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
