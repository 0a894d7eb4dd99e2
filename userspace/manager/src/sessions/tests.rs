//! Managers and nodes in one process, with real links, disks and certificates.

mod logs;

use super::{CatalogOf, Leadership};
use crate::tests::{Authority, SOON, clock, directories};
use crate::{Parts, Replica, catalog_of, catalog_since};
use bytes::Bytes;
use essaim_ca::{Callee, LiveIdentity, Role, Sealer, SystemEntropy, client_config};
use essaim_model::{Catalog, CatalogDelta, ServiceName};
use essaim_objects::{
    Cluster, ClusterId, ClusterSpec, Data, Network, NetworkId, Node, NodeDescription, NodeId, NodeSpec,
    NodeState, Service, ServiceId, Task, TaskState, TaskStatus, TlsInfo, Version,
};
use essaim_protocol::{
    Assembly, Assignment, CatalogUpdate, Heartbeat, HeartbeatReply, ManagerAddress, Report, SessionId,
    SessionRequest, TaskReport, ToNode, decode, encode, method,
};
use essaim_raft::{Member, Settings, StateDirectory};
use essaim_rpc::{CallError, Client, Code, LARGEST_MESSAGE, Messages, Methods, Server};
use essaim_store::{Transaction, View};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

fn node_id(number: u64) -> NodeId {
    NodeId::from_bits(number.into())
}

fn identity(authority: &Authority, role: Role, number: u64) -> Arc<LiveIdentity> {
    let id = essaim_ca::NodeId::new(node_id(number).as_str()).unwrap();
    authority.member_as(role, id)
}

struct Manager {
    number: u64,
    address: String,
    replica: Replica,
    leadership: Leadership,
    /// The server ends with it.
    _stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), essaim_rpc::ServerError>>,
    leads: JoinHandle<()>,
}

impl Manager {
    async fn open(authority: &Authority, number: u64, directory: &TempDir) -> Self {
        Self::showing(authority, number, directory, Arc::new(catalog_since)).await
    }

    /// One whose nodes get this catalog.
    async fn showing(authority: &Authority, number: u64, directory: &TempDir, catalog: CatalogOf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let identity = identity(authority, Role::Manager, number);
        let replica = Replica::open(Parts {
            node: number.into(),
            disk: Arc::new(StateDirectory::open(directory.path()).unwrap()),
            sealer: Arc::new(Sealer::new(authority.keys.clone(), &mut SystemEntropy).unwrap()),
            identity: identity.clone(),
            time: clock(),
            settings: Settings::default(),
        });
        let replica = replica.await.unwrap();
        let leadership = Leadership::new(replica.clone(), catalog);
        let methods = leadership.methods(replica.methods(Methods::new()));
        let server = Server::new(&identity, methods, clock()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        let leads = tokio::spawn(leadership.clone().run(std::future::pending()));
        Self {
            number,
            address,
            replica,
            leadership,
            _stop: stop,
            server,
            leads,
        }
    }

    fn member(&self) -> Member {
        Member {
            node: node_id(self.number).to_string(),
            address: self.address.clone(),
        }
    }

    /// As if its process were killed.
    async fn kill(self) {
        self.server.abort();
        self.leads.abort();
        self.replica.close().await;
    }
}

/// A condition, waited for with a deadline.
async fn until<T>(what: &str, mut is: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = is() {
            return found;
        }
        assert!(begun.elapsed() < SOON, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Managers; the first has made the cluster and leads it.
async fn managers(authority: &Authority, directories: &[TempDir]) -> Vec<Manager> {
    let mut managers = Vec::new();
    for (number, directory) in (1..).zip(directories) {
        managers.push(Manager::open(authority, number, directory).await);
    }
    lead(&managers).await;
    managers
}

/// The first makes the cluster, and the others join it.
async fn lead(managers: &[Manager]) {
    let first = managers[0].replica.raft();
    first
        .init(essaim_raft::ClusterId::new(7), managers[0].member())
        .await
        .unwrap();
    until("nobody leads", || managers[0].leadership.leads().then_some(())).await;
    for other in &managers[1..] {
        first
            .add_learner(other.number.into(), other.member())
            .await
            .unwrap();
        first.promote(other.number.into()).await.unwrap();
    }
}

async fn write(manager: &Manager, transaction: Transaction) -> View {
    let decide = |_: &View| Ok::<_, Infallible>(transaction.clone());
    manager.replica.update(decide).await.unwrap()
}

/// A cluster with a network, and nodes from 11 on.
async fn found(manager: &Manager, nodes: u64) {
    let mut transaction = Transaction::new();
    let mut cluster = Cluster::new(ClusterId::from_bits(1), ClusterSpec::default());
    let keys = json!(["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="]).to_string();
    cluster
        .private
        .insert("gossip-keys".to_owned(), Data::from(keys.into_bytes()));
    cluster.tls_info = Some(TlsInfo {
        trust_root: Some("the roots".to_owned()),
        ..TlsInfo::default()
    });
    cluster.default_addr_pool = Some(vec!["10.0.0.0/8".to_owned()]);
    cluster.subnet_size = Some(24);
    transaction.create(cluster);
    for (number, spec) in [
        (
            1,
            json!({"Name": "ingress", "Driver": "overlay", "Ingress": true}),
        ),
        (2, json!({"Name": "front", "Driver": "overlay"})),
    ] {
        transaction.create(Network::new(
            NetworkId::from_bits(number),
            serde_json::from_value(spec).unwrap(),
        ));
    }
    for number in 11..11 + nodes {
        transaction.create(Node::new(node_id(number), NodeSpec::default()));
    }
    write(manager, transaction).await;
}

async fn serve(manager: &Manager, name: &str, replicas: u64) {
    let spec = json!({"Name": name, "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {"ContainerSpec": {"Image": "web"},
            "Networks": [{"Target": NetworkId::from_bits(2)}]}});
    let mut service = Service::new(
        ServiceId::from_bits(5),
        Arc::new(serde_json::from_value(spec).unwrap()),
    );
    service.spec_version = Some(Version { index: 1 });
    let mut transaction = Transaction::new();
    transaction.create(service);
    write(manager, transaction).await;
}

/// A node without anything but its session.
struct Fake {
    number: u64,
    identity: Arc<LiveIdentity>,
    managers: Vec<String>,
}

struct Session {
    client: Client,
    messages: Messages,
    assembly: Assembly,
    id: SessionId,
}

impl Fake {
    fn new(authority: &Authority, number: u64, managers: &[Manager]) -> Self {
        Self {
            number,
            identity: identity(authority, Role::Worker, number),
            managers: managers.iter().map(|manager| manager.address.clone()).collect(),
        }
    }

    fn client(&self, address: &str) -> Client {
        let config = client_config(&self.identity, clock()).unwrap();
        Client::new(address, config, &Callee::AnyManager).unwrap()
    }

    async fn ask(&self, address: &str) -> Result<(Client, Messages), CallError> {
        let request = SessionRequest {
            description: NodeDescription {
                hostname: Some(format!("host{}", self.number)),
                ..NodeDescription::default()
            },
            data_path: Some(format!("192.0.2.{}", self.number).parse().unwrap()),
            holds: None,
        };
        let client = self.client(address);
        let messages = client
            .open(method::SESSION, encode(&request), Duration::from_secs(1))
            .await?;
        Ok((client, messages))
    }

    /// Asks one after the other until one leads.
    async fn session(&self) -> Session {
        let begun = Instant::now();
        loop {
            for address in &self.managers {
                let Ok((client, mut messages)) = self.ask(address).await else {
                    continue;
                };
                if let Ok(Some(first)) = messages.next().await
                    && let ToNode::Session { session, .. } = decode(&first).unwrap()
                {
                    return Session {
                        client,
                        messages,
                        assembly: Assembly::default(),
                        id: session,
                    };
                }
            }
            assert!(begun.elapsed() < SOON, "no session");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Session {
    async fn next(&mut self) -> ToNode {
        loop {
            let next = timeout(SOON, self.messages.next()).await.expect("no message");
            let part = next.unwrap().expect("the session ended");
            if let Some(message) = self.assembly.take(part).unwrap() {
                return decode(&message).unwrap();
            }
        }
    }

    /// The tasks of the next assignments that have any, with the catalog that came before them.
    async fn tasks(&mut self, mut catalog: Option<Catalog>) -> (Vec<Arc<Task>>, Catalog) {
        loop {
            match self.next().await {
                ToNode::Catalog(update) => catalog = Some(updated(catalog, &update)),
                ToNode::Assignments(assignments) => {
                    let of = |it: Assignment| match it {
                        Assignment::Task(task) => Some(task),
                        Assignment::Secret(_) | Assignment::Config(_) => None,
                    };
                    let tasks: Vec<_> = assignments.changed.into_iter().filter_map(of).collect();
                    let catalog = catalog.as_ref().expect("assignments came before any catalog");
                    if !tasks.is_empty() {
                        return (tasks, catalog.clone());
                    }
                }
                _ => {}
            }
        }
    }

    async fn report(&self, task: &Task, state: TaskState) -> Result<(), CallError> {
        let status = TaskStatus {
            state,
            ..TaskStatus::default()
        };
        let report = Report {
            session: self.id,
            tasks: vec![TaskReport {
                task: task.id,
                status,
            }],
        };
        self.client
            .call(method::REPORT, encode(&report), SOON)
            .await
            .map(drop)
    }
}

fn updated(catalog: Option<Catalog>, update: &CatalogUpdate) -> Catalog {
    match update.basis {
        None => Catalog::parse(&update.text).unwrap(),
        Some(basis) => {
            let catalog = catalog.expect("a difference to nothing");
            assert_eq!(catalog.revision, basis);
            CatalogDelta::parse(&update.text)
                .unwrap()
                .apply(&catalog)
                .unwrap()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_told_all_that_they_need_and_what_they_report_reaches_the_others() {
    let (authority, directories) = (Authority::new(), directories());
    let managers = managers(&authority, &directories).await;
    found(&managers[1], 2).await;
    let fakes = [11, 12].map(|number| Fake::new(&authority, number, &managers));
    let mut sessions = [fakes[0].session().await, fakes[1].session().await];
    // The order of the first messages is what a node relies on.
    let session = &mut sessions[1];
    let ToNode::Managers(known) = session.next().await else {
        panic!("expected the managers")
    };
    let expected = managers.iter().map(|manager| ManagerAddress {
        node: node_id(manager.number),
        address: manager.address.clone(),
    });
    assert_eq!(known, expected.collect::<Vec<_>>(), "the leader first");
    assert!(matches!(session.next().await, ToNode::GossipKeys(keys) if keys[0].key.as_bytes() == [7; 32]));
    assert!(matches!(session.next().await, ToNode::TrustRoots(roots) if roots == "the roots"));
    assert!(matches!(session.next().await, ToNode::DataKeys(keys) if keys.is_empty()));

    serve(&managers[2], "web", 2).await;
    let [one, other] = &mut sessions;
    let (tasks, _) = one.tasks(None).await;
    let (others, catalog) = other.tasks(None).await;
    assert_eq!((tasks.len(), others.len()), (1, 1), "one task each");
    let shown = |catalog: &Catalog| {
        catalog
            .services
            .iter()
            .map(|service| service.tasks.len())
            .sum::<usize>()
    };
    assert!(
        shown(&catalog) >= 1,
        "the catalog is as new as the assignments: {catalog:?}"
    );

    // Where the node is, as it said and as it was seen.
    let view = managers[0].replica.view();
    let status = &view.node(node_id(12)).unwrap().status;
    assert_eq!(status.state, NodeState::Ready);
    assert_eq!(status.addr.as_deref(), Some("127.0.0.1"));
    assert_eq!(status.data_path_addr.as_deref(), Some("192.0.2.12"));

    let begun = Instant::now();
    one.report(&tasks[0], TaskState::Running).await.unwrap();
    let mut catalog = catalog;
    let running = |catalog: &Catalog| {
        let tasks = catalog.services.iter().flat_map(|service| &service.tasks);
        tasks
            .filter(|task| task.state == essaim_model::TaskState::Ready)
            .count()
    };
    while running(&catalog) == 0 {
        if let ToNode::Catalog(update) = other.next().await {
            assert!(update.basis.is_some(), "only what differs");
            catalog = updated(Some(catalog), &update);
        }
    }
    println!(
        "from the report to the other node's catalog: {:?}",
        begun.elapsed()
    );
    let stored = managers[0].replica.view().task(tasks[0].id).unwrap().status.state;
    assert_eq!(stored, TaskState::Running);

    // A node speaks for itself only.
    let error = one.report(&others[0], TaskState::Failed).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    let stranger = Session {
        client: fakes[0].client(&managers[0].address),
        messages: fakes[0].ask(&managers[1].address).await.unwrap().1,
        assembly: Assembly::default(),
        id: other.id,
    };
    let error = stranger.report(&others[0], TaskState::Failed).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition, "another node's session");
    let heartbeat = encode(&Heartbeat { session: one.id });
    let reply = one.client.call(method::HEARTBEAT, heartbeat, SOON).await.unwrap();
    let HeartbeatReply { next_ms } = decode(&reply).unwrap();
    assert!((4_500..5_500).contains(&next_ms), "{next_ms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_is_longer_than_a_message_may_be_reaches_a_node_and_changes_are_small() {
    let (authority, directories) = (Authority::new(), directories());
    // As that of the store, with so many services beside that it is longer than the port takes at once.
    let padded: CatalogOf = Arc::new(|view, _| {
        let mut catalog = catalog_of(view);
        let extra = (0..300_000).map(|number| format!("z{number:06}"));
        let extra = extra.map(|name| essaim_model::Service::new(ServiceName::new(&name).unwrap()));
        catalog.services.extend(extra);
        Arc::new(catalog)
    });
    let manager = Manager::showing(&authority, 1, &directories[0], padded).await;
    let managers = [manager];
    lead(&managers).await;
    found(&managers[0], 1).await;
    let mut session = Fake::new(&authority, 11, &managers).session().await;
    let catalog = loop {
        if let ToNode::Catalog(update) = session.next().await {
            assert!(update.text.len() > LARGEST_MESSAGE, "{}", update.text.len());
            break update;
        }
    };
    assert_eq!(catalog.basis, None);
    serve(&managers[0], "web", 1).await;
    let (mut revision, mut known) = (catalog.revision, String::new());
    // What is assigned comes after the catalog that has it.
    loop {
        match session.next().await {
            ToNode::Catalog(update) => {
                assert_eq!(update.basis, Some(revision), "only what differs");
                assert!(update.text.len() < 4096, "{}", update.text);
                (revision, known) = (update.revision, known + &update.text);
            }
            ToNode::Assignments(assignments) => {
                if let Some(Assignment::Task(task)) = assignments.changed.first() {
                    assert!(known.contains(task.id.as_str()), "{known}");
                    break;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_does_not_lead_says_who_does() {
    let (authority, directories) = (Authority::new(), directories());
    let managers = managers(&authority, &directories).await;
    found(&managers[0], 1).await;
    let fake = Fake::new(&authority, 11, &managers);
    let (client, mut messages) = fake.ask(&managers[2].address).await.unwrap();
    let first = messages.next().await.unwrap().unwrap();
    let ToNode::Managers(known) = decode(&first).unwrap() else {
        panic!("expected the managers")
    };
    assert_eq!(known[0].address, managers[0].address);
    assert_eq!(known.len(), 3);
    assert_eq!(messages.next().await.unwrap(), None, "nothing more");
    let heartbeat = encode(&Heartbeat {
        session: SessionId(1),
    });
    let error = client.call(method::HEARTBEAT, heartbeat, SOON).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    // A node that is no member gets no session, and a worker nothing that is of managers.
    let nobody = Fake::new(&authority, 99, &managers);
    let error = nobody.ask(&managers[0].address).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    for name in ["ReadLogs", "Propose", "Barrier"] {
        let client = fake.client(&managers[0].address);
        let error = client.call(name, Bytes::new(), SOON).await.unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_found_again_within_three_seconds_of_the_leaders_death() {
    let (authority, directories) = (Authority::new(), directories());
    let mut managers = managers(&authority, &directories).await;
    found(&managers[0], 2).await;
    let fakes = [11, 12].map(|number| Fake::new(&authority, number, &managers));
    let mut sessions = [fakes[0].session().await, fakes[1].session().await];
    serve(&managers[0], "web", 2).await;
    let [one, other] = &mut sessions;
    let (tasks, _) = one.tasks(None).await;
    other.tasks(None).await;
    one.report(&tasks[0], TaskState::Running).await.unwrap();
    managers.remove(0).kill().await;
    let begun = Instant::now();
    while let Ok(Some(_)) = one.messages.next().await {}
    let mut again = [fakes[0].session().await, fakes[1].session().await];
    let took = begun.elapsed();
    println!("sessions again after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    // The same task as before, and reports count.
    let (same, _) = again[0].tasks(None).await;
    assert_eq!(same[0].id, tasks[0].id);
    again[0].report(&tasks[0], TaskState::Failed).await.unwrap();
    let replica = managers[0].replica.clone();
    until("the report does not count", || {
        let state = replica.view().task(tasks[0].id)?.status.state;
        (state == TaskState::Failed).then_some(())
    })
    .await;
}
