//! A daemon for tests: one real manager in a temporary directory, without orchestration, and a client.
#![allow(dead_code, reason = "each suite uses its own part")]

use bytes::Bytes;
use essaim_api::{Engine, EngineError, Local, LocalState, LogStream, Rotate, Socket, serve};
use essaim_ca::{
    CertificateRequest, ClusterId, DataKeys, Identity, LiveIdentity, NodeLife, PrivateKey, Role, RootCa,
    Sealer, Subject, SystemEntropy, Timestamp,
};
use essaim_manager::{Parts, Replica};
use essaim_objects::{
    Cluster, ClusterSpec, InitRequest, JoinRequest, JoinTokens, Network, NetworkId, Node, NodeId, NodeRole,
    NodeSpec, NodeState, Sensitive, Version,
};
use essaim_protocol::{LogMessage, LogSubscription, ManagerAddress};
use essaim_raft::{Member, Settings, StateDirectory};
use essaim_store::Transaction;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::time_provider::DefaultTimeProvider;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const KEY: &str = "SWMKEY-1-key";
const MANAGER_ADDRESS: &str = "127.0.0.1:2377";

/// What the daemon is and was asked.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) local: Local,
    pub(crate) replica: Option<Replica>,
    /// The calls, one line each.
    pub(crate) calls: Vec<String>,
    /// What the next request for logs gives.
    pub(crate) logs: Vec<Result<LogMessage, EngineError>>,
    pub(crate) log_request: Option<LogSubscription>,
    /// The cluster's networks that containers can be on, by what they are asked for as: what the engine calls them.
    pub(crate) prepared: std::collections::BTreeMap<String, String>,
    directory: Option<TempDir>,
}

#[derive(Clone, Default)]
pub(crate) struct TestEngine(Arc<Mutex<State>>);

impl TestEngine {
    /// A node in no cluster.
    pub(crate) fn inactive() -> Self {
        let engine = Self::default();
        engine.state().local = Local {
            hostname: "n1".to_owned(),
            version: "0.1.0".to_owned(),
            platform: serde_json::from_value(json!({"Architecture": "x86_64", "OS": "linux"})).unwrap(),
            resources: serde_json::from_value(json!({"NanoCPUs": 2_000_000_000_u64, "MemoryBytes": 1 << 30}))
                .unwrap(),
            operating_system: "Debian GNU/Linux 12".to_owned(),
            kernel_version: "6.18".to_owned(),
            state_dir: "/var/lib/essaim".to_owned(),
            docker_socket: "/nonexistent/docker.sock".into(),
            ..Local::default()
        };
        engine
    }

    /// The only manager of a cluster.
    pub(crate) async fn manager() -> Self {
        let engine = Self::inactive();
        engine.init(InitRequest::default()).await.unwrap();
        engine.state().calls.clear();
        engine
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn called(&self, call: String) {
        self.state().calls.push(call);
    }

    pub(crate) fn store(&self) -> Replica {
        self.state().replica.clone().unwrap()
    }

    /// Adds or changes objects.
    pub(crate) async fn change(&self, transaction: Transaction) {
        self.store()
            .update(|_| Ok::<_, Infallible>(transaction.clone()))
            .await
            .unwrap();
    }
}

/// A manager's copy of an empty store, and its node.
async fn open(directory: &TempDir) -> (Replica, NodeId) {
    let entropy = &mut SystemEntropy;
    let ca = RootCa::create(Timestamp::from(SystemTime::now()), entropy).unwrap();
    let key = PrivateKey::generate(entropy).unwrap();
    let request = CertificateRequest::new(&key).unwrap();
    let subject = Subject {
        cluster_id: ClusterId::random(entropy).unwrap(),
        role: Role::Manager,
        node_id: essaim_ca::NodeId::random(entropy).unwrap(),
    };
    let now = Timestamp::from(SystemTime::now());
    let issued = ca
        .issue(&request, &subject, NodeLife::default(), now, entropy)
        .unwrap();
    let node: NodeId = subject.node_id.to_string().parse().unwrap();
    let replica = Replica::open(Parts {
        node: 1.into(),
        disk: Arc::new(StateDirectory::open(directory.path()).unwrap()),
        sealer: Arc::new(Sealer::new(DataKeys::generate(entropy).unwrap(), entropy).unwrap()),
        identity: LiveIdentity::new(Identity::from_issued(key, issued).unwrap()).unwrap(),
        time: Arc::new(DefaultTimeProvider),
        settings: Settings::default(),
    });
    let replica = replica.await.unwrap();
    let member = Member {
        node: node.to_string(),
        address: MANAGER_ADDRESS.to_owned(),
    };
    replica
        .raft()
        .init(essaim_raft::ClusterId::new(7), member)
        .await
        .unwrap();
    let mut status = replica.raft().watch();
    let led = status.wait_for(|status| status.leader.is_some());
    tokio::time::timeout(SOON, led).await.unwrap().unwrap();
    (replica, node)
}

pub(crate) fn ready_node(id: NodeId, hostname: &str, role: NodeRole) -> Node {
    let spec: NodeSpec =
        serde_json::from_value(json!({"Role": role, "Availability": "active", "Labels": {}})).unwrap();
    let mut node = Node::new(id, spec);
    node.certificate_role = Some(role);
    node.status.state = NodeState::Ready;
    node.status.addr = Some("127.0.0.1".to_owned());
    node.description = serde_json::from_value(json!({
        "Hostname": hostname, "Platform": {"Architecture": "x86_64", "OS": "linux"},
        "Resources": {"NanoCPUs": 2_000_000_000_u64, "MemoryBytes": 1 << 30},
        "Engine": {"EngineVersion": "0.1.0", "Labels": {"disk": "ssd"}},
    }))
    .unwrap();
    node
}

impl Engine for TestEngine {
    fn local(&self) -> Local {
        self.state().local.clone()
    }

    fn replica(&self) -> Option<Replica> {
        self.state().replica.clone()
    }

    async fn init(&self, request: InitRequest) -> Result<NodeId, EngineError> {
        self.called("init".to_owned());
        let directory = TempDir::new().unwrap();
        let (replica, node) = open(&directory).await;
        let mut cluster = Cluster::new(
            essaim_objects::ClusterId::from_bits(9),
            request.spec.unwrap_or_default(),
        );
        cluster.join_tokens = Some(JoinTokens {
            worker: Some(Sensitive("SWMTKN-1-worker".to_owned())),
            manager: Some(Sensitive("SWMTKN-1-manager".to_owned())),
            ..JoinTokens::default()
        });
        cluster.tls_info =
            serde_json::from_value(json!({"TrustRoot": "-----BEGIN CERTIFICATE-----\n"})).unwrap();
        cluster
            .private
            .insert("root key".to_owned(), b"hunter2".to_vec().into());
        let ingress =
            serde_json::from_value(json!({"Name": "ingress", "Ingress": true, "Labels": {}})).unwrap();
        let mut transaction = Transaction::new();
        transaction
            .create(cluster)
            .create(Network::new(NetworkId::from_bits(1), ingress))
            .create(ready_node(node, "n1", NodeRole::Manager));
        replica
            .update(|_| Ok::<_, Infallible>(transaction.clone()))
            .await
            .unwrap();
        let mut state = self.state();
        state.directory = Some(directory);
        state.replica = Some(replica);
        state.local.node_id = Some(node);
        state.local.state = LocalState::Active;
        state.local.control_available = true;
        state.local.node_addr = Some("127.0.0.1".to_owned());
        state.local.remote_managers = vec![ManagerAddress {
            node,
            address: MANAGER_ADDRESS.to_owned(),
        }];
        Ok(node)
    }

    async fn join(&self, request: JoinRequest) -> Result<(), EngineError> {
        self.called(format!("join {:?}", request.remote_addrs.unwrap_or_default()));
        if request
            .join_token
            .is_some_and(|token| token.0.starts_with("SWMTKN-1-"))
        {
            self.state().local.state = LocalState::Active;
            return Ok(());
        }
        Err(EngineError::wrong_token())
    }

    async fn leave(&self, force: bool) -> Result<(), EngineError> {
        self.called(format!("leave {force}"));
        let mut state = self.state();
        state.local.state = LocalState::Inactive;
        state.local.control_available = false;
        state.local.node_id = None;
        state.replica = None;
        Ok(())
    }

    async fn unlock(&self, key: Sensitive) -> Result<(), EngineError> {
        if key.0 != KEY {
            return Err(EngineError::wrong_key());
        }
        self.state().local.state = LocalState::Active;
        Ok(())
    }

    async fn unlock_key(&self) -> Result<Sensitive, EngineError> {
        Ok(Sensitive(KEY.to_owned()))
    }

    async fn update_swarm(
        &self,
        version: Version,
        spec: ClusterSpec,
        rotate: Rotate,
    ) -> Result<(), EngineError> {
        self.called(format!("update_swarm {rotate:?}"));
        let store = self.store();
        let changed = store.update(|view| {
            let mut cluster = Cluster::clone(view.cluster().unwrap());
            if cluster.version != version {
                return Err(EngineError::out_of_sequence());
            }
            cluster.spec = spec.clone();
            let mut transaction = Transaction::new();
            transaction.update(cluster);
            Ok(transaction)
        });
        changed.await.map(drop).map_err(EngineError::internal)
    }

    async fn remove_node(&self, id: NodeId, force: bool) -> Result<(), EngineError> {
        self.called(format!("remove_node {force}"));
        let store = self.store();
        let removed = store.update(|view| {
            let mut transaction = Transaction::new();
            transaction.remove(view.node(id).unwrap().clone());
            Ok::<_, Infallible>(transaction)
        });
        removed.await.unwrap();
        Ok(())
    }

    async fn prepare_network(&self, name: &str) -> Result<Option<String>, EngineError> {
        self.called(format!("prepare_network {name}"));
        Ok(self.state().prepared.get(name).cloned())
    }

    async fn logs(&self, what: LogSubscription) -> Result<LogStream, EngineError> {
        let mut state = self.state();
        state.log_request = Some(what);
        Ok(Box::pin(futures_util::stream::iter(std::mem::take(
            &mut state.logs,
        ))))
    }
}

/// A server on a socket of its own.
pub(crate) struct Server {
    pub(crate) path: PathBuf,
    pub(crate) engine: TestEngine,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _directory: TempDir,
}

impl Server {
    pub(crate) fn start(engine: TestEngine) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("essaim.sock");
        let socket = Socket::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(socket, engine.clone(), async {
            let _ = stopped.await;
        }));
        Self {
            path,
            engine,
            stop: Some(stop),
            task,
            _directory: directory,
        }
    }

    /// A server for the only manager of a cluster, and a client.
    pub(crate) async fn manager() -> (Self, Client) {
        let server = Self::start(TestEngine::manager().await);
        let client = server.client().await;
        (server, client)
    }

    pub(crate) async fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.path).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(SOON, &mut self.task).await.unwrap().unwrap();
    }
}

/// One connection, kept alive.
pub(crate) struct Client {
    pub(crate) sender: SendRequest<Full<Bytes>>,
}

/// An answer that has been read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status < 300, "{} {:?}", self.status, self.body);
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    /// Asserts a failure's status and a part of its message.
    #[track_caller]
    pub(crate) fn fails(&self, status: u16, says: &str) {
        let message = self.json()["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(self.status, status, "{message}");
        assert!(message.contains(says), "{message:?} does not say {says:?}");
    }
}

impl Client {
    pub(crate) async fn send(&mut self, method: &str, uri: &str, body: impl Into<Bytes>) -> Answer {
        self.send_with(method, uri, &[], body).await
    }

    /// As [`Client::send`], with more headers.
    pub(crate) async fn send_with(
        &mut self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "docker")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.sender.ready().await.unwrap();
        let (head, body) = self.sender.send_request(request).await.unwrap().into_parts();
        let body = tokio::time::timeout(SOON, body.collect()).await.unwrap().unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
        }
    }

    pub(crate) async fn get(&mut self, uri: &str) -> Answer {
        self.send("GET", uri, "").await
    }

    pub(crate) async fn delete(&mut self, uri: &str) -> Answer {
        self.send("DELETE", uri, "").await
    }

    pub(crate) async fn post(&mut self, uri: &str, body: &Value) -> Answer {
        self.send("POST", uri, body.to_string()).await
    }

    /// A list, filtered.
    pub(crate) async fn list(&mut self, path: &str, filters: &Value) -> Answer {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("filters", &filters.to_string())
            .finish();
        self.get(&format!("{path}?{query}")).await
    }
}

/// The names in a list.
pub(crate) fn names(list: &Value) -> Vec<String> {
    let name = |it: &Value| {
        let name = it["Spec"]["Name"].as_str().or(it["Name"].as_str());
        name.or(it["Description"]["Hostname"].as_str())
            .unwrap_or_default()
            .to_owned()
    };
    let mut names: Vec<_> = list.as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

/// The version that an update names.
pub(crate) fn version(object: &Value) -> u64 {
    object["Version"]["Index"].as_u64().unwrap()
}

/// The smallest service.
pub(crate) fn service(name: &str) -> Value {
    json!({"Name": name, "TaskTemplate": {"ContainerSpec": {"Image": "alpine:3.10"}}})
}
