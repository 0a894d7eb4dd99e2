//! Nodes in one process, with real links, disks and certificates, each at an address of its own.

mod crash;
mod disk;
mod membership;
mod roles;
mod security;

use crate::{Local, LocalState, Node, NodeError, NodeOptions, Rotate, Told};
use essaim_ca::Role;
use essaim_manager::Replica;
use essaim_objects::{
    Cluster, ClusterSpec, InitRequest, JoinRequest, NodeId, NodeRole, NodeState, Sensitive,
};
use essaim_protocol::ManagerAddress;
use essaim_store::{Transaction, View};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(40);

/// A clock that is ahead of the system's.
#[derive(Debug, Default)]
struct Clock {
    ahead: AtomicU64,
}

impl Clock {
    fn advance(&self, by: Duration) {
        self.ahead.fetch_add(by.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let ahead = Duration::from_secs(self.ahead.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(now + ahead))
    }
}

/// The next network of addresses on the loopback interface.
static NETWORK: AtomicU8 = AtomicU8::new(1);

/// Nodes, and what their sessions would tell them.
struct Lab {
    network: u8,
    clock: Arc<Clock>,
    nodes: Arc<Mutex<Vec<Node>>>,
    sessions: AbortHandle,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.sessions.abort();
    }
}

impl Lab {
    fn new() -> Self {
        let nodes: Arc<Mutex<Vec<Node>>> = Arc::default();
        let known = nodes.clone();
        let sessions = tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(100)).await;
                let known = known.lock().unwrap().clone();
                tell(&known);
            }
        });
        Self {
            network: NETWORK.fetch_add(1, Ordering::Relaxed),
            clock: Arc::default(),
            nodes,
            sessions: sessions.abort_handle(),
        }
    }

    fn address(&self, number: u8) -> String {
        format!("127.77.{}.{number}:2377", self.network)
    }

    fn options(&self, directory: &Path) -> NodeOptions {
        NodeOptions {
            time: self.clock.clone(),
            ..NodeOptions::new(directory)
        }
    }

    async fn open(&self, directory: &Path) -> Node {
        let node = Node::open(self.options(directory)).await.unwrap();
        self.nodes.lock().unwrap().push(node.clone());
        node
    }

    /// Forgets a node, which then goes as if it were killed.
    async fn close(&self, node: Node) {
        self.nodes
            .lock()
            .unwrap()
            .retain(|known| !Arc::ptr_eq(&known.inner, &node.inner));
        node.shutdown().await;
    }

    fn init_request(&self, number: u8) -> InitRequest {
        InitRequest {
            listen_addr: Some(self.address(number)),
            ..InitRequest::default()
        }
    }

    /// A cluster of this one manager.
    async fn init(&self, directory: &TempDir) -> Node {
        let node = self.open(directory.path()).await;
        node.init(self.init_request(1)).await.unwrap();
        assert_eq!(node.local().state, LocalState::Active);
        node
    }

    fn join_request(&self, number: u8, token: &str) -> JoinRequest {
        JoinRequest {
            listen_addr: Some(self.address(number)),
            remote_addrs: Some(vec![self.address(1)]),
            join_token: Some(Sensitive(token.to_owned())),
            ..JoinRequest::default()
        }
    }

    async fn join(&self, first: &Node, directory: &TempDir, number: u8, role: Role) -> Node {
        let node = self.open(directory.path()).await;
        let token = token(first, role).await;
        node.join(self.join_request(number, &token)).await.unwrap();
        let local = node.local();
        assert_eq!((local.state, local.role), (LocalState::Active, Some(role)));
        node
    }
}

/// What the sessions of these nodes would tell them now.
fn tell(nodes: &[Node]) {
    let views = nodes.iter().filter_map(Node::replica).map(|replica| {
        let status = replica.raft().status();
        (status.leader == Some(status.node), replica.view())
    });
    let Some(view) = views
        .filter(|(leads, _)| *leads)
        .map(|(_, view)| view)
        .max_by_key(View::index)
    else {
        return;
    };
    let Some(cluster) = view.cluster() else { return };
    let roots = cluster.tls_info.clone().unwrap().trust_root.unwrap();
    let managers: Vec<_> = view
        .nodes()
        .filter_map(|node| {
            let address = node.manager_status.as_ref()?.addr.clone()?;
            Some(ManagerAddress {
                node: node.id,
                address,
            })
        })
        .collect();
    for node in nodes {
        let local = node.local();
        let Some(id) = local.node.filter(|_| local.cluster == Some(cluster.id)) else {
            continue;
        };
        match view.node(id) {
            Some(object) => {
                node.learn(Told::Node(object.clone()));
                node.learn(Told::Managers(managers.clone()));
                node.learn(Told::TrustRoots(roots.clone()));
            }
            None if essaim_manager::authority::is_removed(&view, id) => node.learn(Told::Removed),
            None => {}
        }
    }
}

fn replica(node: &Node) -> Replica {
    node.replica().unwrap()
}

fn id(node: &Node) -> NodeId {
    node.local().node.unwrap()
}

async fn cluster(node: &Node) -> Arc<Cluster> {
    replica(node).read().await.unwrap().cluster().unwrap().clone()
}

async fn token(manager: &Node, role: Role) -> String {
    let tokens = cluster(manager).await.join_tokens.clone().unwrap();
    match role {
        Role::Worker => tokens.worker.unwrap().0,
        Role::Manager => tokens.manager.unwrap().0,
    }
}

/// Changes what is asked of the cluster.
async fn update(manager: &Node, rotate: Rotate, change: impl Fn(&mut ClusterSpec)) {
    let deadline = Instant::now() + SOON;
    loop {
        let cluster = cluster(manager).await;
        let mut spec = cluster.spec.clone();
        change(&mut spec);
        match manager.update_swarm(cluster.version, &spec, rotate).await {
            Ok(()) => return,
            // The leader has changed it meanwhile.
            Err(error) if error.to_string().contains("out of sequence") => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline);
    }
}

async fn ask_role(manager: &Node, of: NodeId, role: NodeRole) {
    let replica = replica(manager);
    let changed = replica.update(|view| {
        let mut node = essaim_objects::Node::clone(view.node(of).ok_or("gone".to_owned())?);
        node.spec.role = Some(role);
        let mut transaction = Transaction::new();
        transaction.update(node);
        Ok::<_, String>(transaction)
    });
    changed.await.unwrap();
}

async fn set_state(manager: &Node, of: NodeId, state: NodeState) {
    let replica = replica(manager);
    let changed = replica.update(|view| {
        let mut node = essaim_objects::Node::clone(view.node(of).ok_or("gone".to_owned())?);
        node.status.state = state;
        let mut transaction = Transaction::new();
        transaction.update(node);
        Ok::<_, String>(transaction)
    });
    changed.await.unwrap();
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn is(node: &Node, state: LocalState, role: Role) -> bool {
    let Local {
        state: found,
        role: has,
        ..
    } = node.local();
    (found, has) == (state, Some(role))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = std::fs::read_dir(from).unwrap().map(Result::unwrap).collect();
    // The record first: what it says is done, is done.
    entries.sort_by_key(|entry| entry.file_name() != "node.json");
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            // A file may be replaced meanwhile, as at any moment of a crash.
            if std::fs::copy(entry.path(), &target).is_err() {
                let _ = std::fs::remove_file(&target);
            }
        }
    }
}

#[track_caller]
fn text<T: std::fmt::Debug>(result: Result<T, NodeError>) -> String {
    essaim_rpc::chain(&result.unwrap_err())
}
