//! Managers with real links, disks and certificates, in one process.

use essaim_ca::{
    Callee, CertificateRequest, DataKeys, Identity, LiveIdentity, NodeLife, PrivateKey, Role, RootCa, Sealer,
    Subject, SystemEntropy, client_config,
};
use essaim_manager::{Leadership, Parts, Replica, catalog_since};
use essaim_objects::{Config, ConfigId, NodeId, Task, TaskState, TaskStatus};
use essaim_protocol::{
    Assembly, Assignment, Heartbeat, Report, SessionId, SessionRequest, TaskReport, ToNode, decode, encode,
    method,
};
use essaim_raft::{Member, Settings, StateDirectory};
use essaim_rpc::{Client, Methods, Server};
use essaim_store::{MAX_CHANGES, Object, Transaction, View};
use rustls::time_provider::DefaultTimeProvider;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const WITHIN: Duration = Duration::from_secs(10);
/// Nothing comes for so long: no catalog is being made, and none has to wait for its turn.
const QUIET: Duration = Duration::from_millis(1500);

struct Authority {
    cluster: essaim_ca::ClusterId,
    ca: RootCa,
    keys: DataKeys,
}

impl Authority {
    fn member(&self, role: Role, number: u64) -> Arc<LiveIdentity> {
        let entropy = &mut SystemEntropy;
        let key = PrivateKey::generate(entropy).unwrap();
        let request = CertificateRequest::new(&key).unwrap();
        let subject = Subject {
            cluster_id: self.cluster.clone(),
            role,
            node_id: essaim_ca::NodeId::new(node_id(number).as_str()).unwrap(),
        };
        let now = essaim_ca::Timestamp::from(SystemTime::now());
        let issued = self
            .ca
            .issue(&request, &subject, NodeLife::default(), now, entropy)
            .unwrap();
        LiveIdentity::new(Identity::from_issued(key, issued).unwrap()).unwrap()
    }
}

fn node_id(number: u64) -> NodeId {
    NodeId::from_bits(number.into())
}

struct Manager {
    address: String,
    replica: Replica,
    leadership: Leadership,
}

pub(crate) struct Lab {
    authority: Authority,
    managers: Vec<Manager>,
    _directories: Vec<TempDir>,
}

impl Lab {
    pub(crate) async fn new(count: u64) -> Self {
        let entropy = &mut SystemEntropy;
        let authority = Authority {
            cluster: essaim_ca::ClusterId::random(entropy).unwrap(),
            ca: RootCa::create(essaim_ca::Timestamp::from(SystemTime::now()), entropy).unwrap(),
            keys: DataKeys::generate(entropy).unwrap(),
        };
        let (mut managers, mut directories) = (Vec::new(), Vec::new());
        for number in 1..=count {
            // On the disk that is measured, which a temporary directory may not be.
            let directory = TempDir::new_in(".").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let identity = authority.member(Role::Manager, number);
            let replica = Replica::open(Parts {
                node: number.into(),
                disk: Arc::new(StateDirectory::open(directory.path()).unwrap()),
                sealer: Arc::new(Sealer::new(authority.keys.clone(), &mut SystemEntropy).unwrap()),
                identity: identity.clone(),
                time: Arc::new(DefaultTimeProvider),
                settings: Settings::default(),
            });
            let replica = replica.await.unwrap();
            let leadership = Leadership::new(replica.clone(), Arc::new(catalog_since));
            let methods = leadership.methods(replica.methods(Methods::new()));
            let server = Server::new(&identity, methods, Arc::new(DefaultTimeProvider)).unwrap();
            tokio::spawn(server.run(listener, std::future::pending()));
            managers.push(Manager {
                address,
                replica,
                leadership,
            });
            directories.push(directory);
        }
        let member = |number: u64| Member {
            node: node_id(number).to_string(),
            address: managers[usize::try_from(number - 1).unwrap()].address.clone(),
        };
        let first = managers[0].replica.raft();
        first
            .init(essaim_raft::ClusterId::new(7), member(1))
            .await
            .unwrap();
        let mut status = first.watch();
        status
            .wait_for(|status| status.leader == Some(status.node))
            .await
            .unwrap();
        for number in 2..=count {
            first.add_learner(number.into(), member(number)).await.unwrap();
            first.promote(number.into()).await.unwrap();
        }
        Self {
            authority,
            managers,
            _directories: directories,
        }
    }

    /// From now on the leader decides, and serves nodes; gives how long it took until it did.
    pub(crate) async fn lead(&self) -> Duration {
        let begun = Instant::now();
        for manager in &self.managers {
            tokio::spawn(manager.leadership.clone().run(std::future::pending()));
        }
        while !self.managers[0].leadership.leads() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        begun.elapsed()
    }

    /// Writes all that a view holds, each service with its tasks.
    pub(crate) async fn load(&self, view: &View) {
        let mut units: Vec<Vec<Object>> = Vec::new();
        units.push(
            view.cluster()
                .into_iter()
                .map(|it| Object::Cluster(it.clone()))
                .collect(),
        );
        units.extend(view.networks().map(|it| vec![Object::Network(it.clone())]));
        units.extend(view.nodes().map(|it| vec![Object::Node(it.clone())]));
        units.extend(view.services().map(|service| {
            let tasks = view.tasks_of_service(service.id);
            let tasks = tasks.map(|task| Object::Task(task.clone()));
            std::iter::once(Object::Service(service.clone()))
                .chain(tasks)
                .collect()
        }));
        let mut transaction = Transaction::new();
        for unit in units {
            if transaction.changes.len() + unit.len() > MAX_CHANGES {
                self.write(std::mem::take(&mut transaction)).await;
            }
            for object in unit {
                transaction.create(object);
            }
        }
        self.write(transaction).await;
        let held = || {
            self.managers
                .iter()
                .map(|manager| manager.replica.view().tasks().len())
        };
        while held().any(|held| held < view.tasks().len()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn write(&self, transaction: Transaction) {
        let decide = |_: &View| Ok::<_, Infallible>(transaction.clone());
        self.managers[0].replica.update(decide).await.unwrap();
    }

    /// How long small changes take, each acknowledged before the same client's next.
    pub(crate) async fn commits(&self, clients: usize, each: usize) -> Vec<Duration> {
        let begun = Instant::now();
        let writers = (0..clients).map(|client| async move {
            let mut times = Vec::new();
            for number in 0..each {
                let bits = (clients * 1_000_000 + client * 10_000 + number) as u128;
                let spec = json!({"Name": format!("c{bits}"), "Data": "QUJD"});
                let mut transaction = Transaction::new();
                transaction.create(Config::new(
                    ConfigId::from_bits(bits),
                    serde_json::from_value(spec).unwrap(),
                ));
                let at = Instant::now();
                self.write(transaction).await;
                times.push(at.elapsed());
            }
            times
        });
        let times: Vec<_> = futures_util::future::join_all(writers).await.concat();
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
        println!("{rate:.0} commits a second by {clients} clients");
        times
    }

    /// A node's session, from the call on.
    async fn session(&self, number: u64) -> Session {
        let identity = self.authority.member(Role::Worker, number);
        let config = client_config(&identity, Arc::new(DefaultTimeProvider)).unwrap();
        let client = Client::new(&self.managers[0].address, config, &Callee::AnyManager).unwrap();
        let request = SessionRequest {
            description: self.managers[0]
                .replica
                .view()
                .node(node_id(number))
                .and_then(|node| node.description.clone())
                .unwrap_or_default(),
            data_path: Some(
                format!("192.168.{}.{}", number / 250, number % 250 + 1)
                    .parse()
                    .unwrap(),
            ),
            holds: None,
        };
        let mut messages = client
            .open(method::SESSION, encode(&request), WITHIN)
            .await
            .unwrap();
        let first = messages.next().await.unwrap().unwrap();
        let ToNode::Session { session, .. } = decode(&first).unwrap() else {
            unreachable!("the leader was asked")
        };
        let beat = client.clone();
        let heartbeats = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let beat = beat.call(method::HEARTBEAT, encode(&Heartbeat { session }), WITHIN);
                beat.await.unwrap();
            }
        });
        // As a node does: what is not read would stop the answers on the same connection, too.
        let (tell, told) = mpsc::unbounded_channel();
        let reading = tokio::spawn(async move {
            let mut assembly = Assembly::default();
            while let Some(part) = messages.next().await.unwrap() {
                if let Some(message) = assembly.take(part).unwrap() {
                    // Nobody wants to know any more.
                    let _ = tell.send(decode(&message).unwrap());
                }
            }
        });
        Session {
            client,
            told,
            id: session,
            work: [heartbeats, reading],
        }
    }

    /// From a node's call to its tasks, with the whole catalog before them.
    /// The sessions go on for as long as they are kept.
    pub(crate) async fn first_assignments(
        &self,
        nodes: std::ops::Range<u64>,
    ) -> (Vec<Duration>, Vec<Session>) {
        let (mut times, mut sessions) = (Vec::new(), Vec::new());
        for number in nodes {
            let at = Instant::now();
            let mut session = self.session(number).await;
            session.tasks().await;
            times.push(at.elapsed());
            sessions.push(session);
        }
        (times, sessions)
    }

    /// From a node's report that a task runs to the change of the catalog at another node; and how large that is.
    pub(crate) async fn reports(&self, node: u64, other: u64, count: usize) -> (Vec<Duration>, usize) {
        let mut reporter = self.session(node).await;
        let mut other = self.session(other).await;
        other.tasks().await;
        let tasks = reporter.tasks().await;
        let (mut times, mut largest) = (Vec::new(), 0);
        for task in tasks.into_iter().take(count) {
            // All that is on its way is taken before; the next catalog is made at once.
            while tokio::time::timeout(QUIET, other.next()).await.is_ok() {}
            let status = TaskStatus {
                state: TaskState::Running,
                ..TaskStatus::default()
            };
            let report = Report {
                session: reporter.id,
                tasks: vec![TaskReport {
                    task: task.id,
                    status,
                }],
            };
            let at = Instant::now();
            reporter
                .client
                .call(method::REPORT, encode(&report), WITHIN)
                .await
                .unwrap();
            loop {
                if let ToNode::Catalog(update) = other.next().await {
                    assert!(update.basis.is_some(), "only what differs");
                    largest = largest.max(update.text.len());
                    break;
                }
            }
            times.push(at.elapsed());
        }
        (times, largest)
    }
}

/// What a node has of its session.
pub(crate) struct Session {
    client: Client,
    told: mpsc::UnboundedReceiver<ToNode>,
    id: SessionId,
    work: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Session {
    fn drop(&mut self) {
        self.work.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Session {
    async fn next(&mut self) -> ToNode {
        self.told.recv().await.unwrap()
    }

    /// The first tasks that are assigned; the catalog was there before.
    async fn tasks(&mut self) -> Vec<Arc<Task>> {
        let mut has_catalog = false;
        loop {
            match self.next().await {
                ToNode::Catalog(_) => has_catalog = true,
                ToNode::Assignments(assignments) if !assignments.changed.is_empty() => {
                    assert!(has_catalog, "assignments came before any catalog");
                    let task = |it| match it {
                        Assignment::Task(task) => Some(task),
                        Assignment::Secret(_) | Assignment::Config(_) => None,
                    };
                    return assignments.changed.into_iter().filter_map(task).collect();
                }
                _ => {}
            }
        }
    }
}
