//! Managers of the tests' own, which say and answer what they are told to.

use crate::within;
use bytes::Bytes;
use essaim_ca::{
    CertificateRequest, ClusterId, Identity, LiveIdentity, NodeLife, PrivateKey, Role, RootCa, Subject,
    SystemEntropy, Timestamp,
};
use essaim_objects::{Node, NodeId, NodeSpec, TaskId, TaskState, TaskStatus};
use essaim_protocol::{
    Assignment, Assignments, Basis, Heartbeat, HeartbeatReply, LogBatch, ManagerAddress, Report, SessionId,
    SessionRequest, ToNode, decode, encode, method, parts,
};
use essaim_rpc::{Admission, CallError, Code, Methods, Server};
use futures_util::StreamExt as _;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

pub(crate) struct Authority {
    cluster: ClusterId,
    ca: RootCa,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let entropy = &mut SystemEntropy;
        Self {
            cluster: ClusterId::random(entropy).unwrap(),
            ca: RootCa::create(Timestamp::from(SystemTime::now()), entropy).unwrap(),
        }
    }

    pub(crate) fn member(&self, role: Role) -> Arc<LiveIdentity> {
        LiveIdentity::new(self.identity(role, essaim_ca::NodeId::random(&mut SystemEntropy).unwrap()))
            .unwrap()
    }

    pub(crate) fn identity(&self, role: Role, node_id: essaim_ca::NodeId) -> Identity {
        let entropy = &mut SystemEntropy;
        let key = PrivateKey::generate(entropy).unwrap();
        let request = CertificateRequest::new(&key).unwrap();
        let subject = Subject {
            cluster_id: self.cluster.clone(),
            role,
            node_id,
        };
        let now = Timestamp::from(SystemTime::now());
        let issued = self
            .ca
            .issue(&request, &subject, NodeLife::default(), now, entropy)
            .unwrap();
        Identity::from_issued(key, issued).unwrap()
    }

    pub(crate) async fn manager(&self, address: &str) -> Manager {
        let listener = within(bind(address)).await;
        let address = listener.local_addr().unwrap().to_string();
        let (saw, seen) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            saw,
            ways: Mutex::new(Ways {
                leader: None,
                refuses: None,
                lost_reports: 0,
                heartbeat_ms: 60_000,
            }),
            says: Mutex::new(None),
        });
        let server = Server::new(&self.member(Role::Manager), methods(&state), clock()).unwrap();
        let server = tokio::spawn(async move {
            let _ = server.run(listener, std::future::pending()).await;
        });
        Manager {
            address,
            state,
            seen,
            server,
        }
    }
}

/// One that was killed a moment ago may still hold its port.
async fn bind(address: &str) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// What a manager was told by a node.
#[derive(Debug)]
pub(crate) enum Saw {
    Session(Box<SessionRequest>),
    Heartbeat,
    Report(Report),
    Logs(LogBatch),
}

/// How a manager answers.
pub(crate) struct Ways {
    /// Another one leads.
    pub(crate) leader: Option<ManagerAddress>,
    pub(crate) refuses: Option<Code>,
    /// So many reports arrive, and their answers do not.
    pub(crate) lost_reports: u32,
    pub(crate) heartbeat_ms: u64,
}

struct State {
    saw: mpsc::UnboundedSender<Saw>,
    ways: Mutex<Ways>,
    says: Mutex<Option<mpsc::UnboundedSender<Bytes>>>,
}

pub(crate) struct Manager {
    pub(crate) address: String,
    state: Arc<State>,
    seen: mpsc::UnboundedReceiver<Saw>,
    server: JoinHandle<()>,
}

const SESSION: SessionId = SessionId(5);

fn methods(state: &Arc<State>) -> Methods {
    let worker = Admission::Members(Role::Worker);
    let state = || Arc::clone(state);
    let (sessions, heartbeats, reports, logs) = (state(), state(), state(), state());
    Methods::new()
        .many(method::SESSION, worker, move |caller, message: Bytes| {
            let state = Arc::clone(&sessions);
            async move {
                let node: NodeId = caller.peer.unwrap().node_id.as_str().parse().unwrap();
                let first = {
                    let ways = state.ways.lock().unwrap();
                    if let Some(code) = ways.refuses {
                        return Err(CallError::new(code, "join again"));
                    }
                    match &ways.leader {
                        Some(leader) => ToNode::Managers(vec![leader.clone()]),
                        None => ToNode::Session {
                            session: SESSION,
                            node: Arc::new(Node::new(node, NodeSpec::default())),
                            heartbeat_ms: ways.heartbeat_ms,
                        },
                    }
                };
                let (says, said) = mpsc::unbounded_channel();
                let leads = matches!(first, ToNode::Session { .. });
                says.send(encode(&first)).unwrap();
                if leads {
                    *state.says.lock().unwrap() = Some(says);
                    let request = Box::new(decode(&message).unwrap());
                    let _ = state.saw.send(Saw::Session(request));
                }
                let messages = futures_util::stream::unfold(said, |mut said| async move {
                    let message: Bytes = said.recv().await?;
                    Some((Ok(message), said))
                });
                Ok(messages.boxed())
            }
        })
        .one(method::HEARTBEAT, worker, move |_, message: Bytes| {
            let state = Arc::clone(&heartbeats);
            async move {
                let heartbeat: Heartbeat = decode(&message).unwrap();
                assert_eq!(heartbeat.session, SESSION);
                let next_ms = state.ways.lock().unwrap().heartbeat_ms;
                let _ = state.saw.send(Saw::Heartbeat);
                Ok(encode(&HeartbeatReply { next_ms }))
            }
        })
        .one(method::REPORT, worker, move |_, message: Bytes| {
            let state = Arc::clone(&reports);
            async move {
                let _ = state.saw.send(Saw::Report(decode(&message).unwrap()));
                let mut ways = state.ways.lock().unwrap();
                if ways.lost_reports > 0 {
                    ways.lost_reports -= 1;
                    return Err(CallError::new(Code::Unavailable, "the connection broke"));
                }
                Ok(Bytes::new())
            }
        })
        .one(method::LOGS, worker, move |_, message: Bytes| {
            let state = Arc::clone(&logs);
            async move {
                let _ = state.saw.send(Saw::Logs(decode(&message).unwrap()));
                Ok(Bytes::new())
            }
        })
}

impl Manager {
    pub(crate) fn named(&self) -> ManagerAddress {
        ManagerAddress {
            node: NodeId::from_bits(1),
            address: self.address.clone(),
        }
    }

    pub(crate) fn goes(&self, change: impl FnOnce(&mut Ways)) {
        change(&mut self.state.ways.lock().unwrap());
    }

    /// Says something in the session that there is.
    pub(crate) fn says(&self, message: &ToNode) {
        parts(1, encode(message)).for_each(|part| self.sends(part));
    }

    /// Sends bytes in the session that there is.
    pub(crate) fn sends(&self, message: Bytes) {
        self.state
            .says
            .lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .send(message)
            .unwrap();
    }

    pub(crate) fn assigns(&self, basis: Basis, number: u64, changed: Vec<Assignment>) {
        self.says(&ToNode::Assignments(Assignments {
            basis,
            number,
            changed,
            removed: Vec::new(),
        }));
    }

    /// Ends the session.
    pub(crate) fn cuts(&self) {
        *self.state.says.lock().unwrap() = None;
    }

    async fn next(&mut self) -> Saw {
        within(self.seen.recv()).await.unwrap()
    }

    pub(crate) async fn session(&mut self) -> SessionRequest {
        loop {
            if let Saw::Session(request) = self.next().await {
                return *request;
            }
        }
    }

    pub(crate) async fn heartbeat(&mut self) {
        while !matches!(self.next().await, Saw::Heartbeat) {}
    }

    pub(crate) async fn report(&mut self) -> Report {
        loop {
            if let Saw::Report(report) = self.next().await {
                assert_eq!(report.session, SESSION);
                return report;
            }
        }
    }

    pub(crate) async fn logs(&mut self) -> LogBatch {
        loop {
            if let Saw::Logs(batch) = self.next().await {
                return batch;
            }
        }
    }

    /// Waits until a task is reported in this state.
    pub(crate) async fn hears(&mut self, task: TaskId, state: TaskState) -> TaskStatus {
        loop {
            let mut tasks = self.report().await.tasks;
            tasks.retain(|report| report.task == task);
            if let Some(report) = tasks.pop() {
                if report.status.state == state {
                    return report.status;
                }
                assert!(report.status.state < state, "{task} is {:?}", report.status);
            }
        }
    }

    /// As if its process were killed; where it was.
    pub(crate) async fn kill(self) -> String {
        self.cuts();
        self.server.abort();
        let _ = self.server.await;
        self.address
    }
}
