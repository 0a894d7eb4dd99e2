//! Managers in one process, with real links, disks and certificates.

use crate::{Notice, Parts, Replica, UpdateError};
use essaim_ca::{
    CertificateRequest, ClusterId, DataKeys, Identity, LiveIdentity, NodeId, NodeLife, PrivateKey, Role,
    RootCa, Sealer, Subject, SystemEntropy, Timestamp, client_config,
};
use essaim_objects::{Config, ConfigId};
use essaim_raft::{Member, Settings, StateDirectory};
use essaim_rpc::{Client, Code, Methods, Server};
use essaim_store::{Event, Transaction, View};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

pub(crate) struct Authority {
    cluster: ClusterId,
    ca: RootCa,
    pub(crate) keys: DataKeys,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let entropy = &mut SystemEntropy;
        Self {
            cluster: ClusterId::random(entropy).unwrap(),
            ca: RootCa::create(Timestamp::from(SystemTime::now()), entropy).unwrap(),
            keys: DataKeys::generate(entropy).unwrap(),
        }
    }

    fn member(&self, role: Role) -> Arc<LiveIdentity> {
        self.member_as(role, NodeId::random(&mut SystemEntropy).unwrap())
    }

    pub(crate) fn member_as(&self, role: Role, node_id: NodeId) -> Arc<LiveIdentity> {
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
        LiveIdentity::new(Identity::from_issued(key, issued).unwrap()).unwrap()
    }

    /// A manager with an empty directory, or with what it left there.
    async fn manager(&self, number: u64, directory: &TempDir, address: &str) -> Manager {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let identity = self.member(Role::Manager);
        let replica = Replica::open(Parts {
            node: number.into(),
            disk: Arc::new(StateDirectory::open(directory.path()).unwrap()),
            sealer: Arc::new(Sealer::new(self.keys.clone(), &mut SystemEntropy).unwrap()),
            identity: identity.clone(),
            time: clock(),
            settings: Settings::default(),
        });
        let replica = replica.await.unwrap();
        let server = Server::new(&identity, replica.methods(Methods::new()), clock()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        Manager {
            number,
            address,
            replica,
            _stop: stop,
            server,
        }
    }
}

struct Manager {
    number: u64,
    address: String,
    replica: Replica,
    /// The server ends with it.
    _stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), essaim_rpc::ServerError>>,
}

impl Manager {
    fn member(&self) -> Member {
        Member {
            node: self.number.to_string(),
            address: self.address.clone(),
        }
    }

    /// As if its process were killed.
    async fn kill(self) -> String {
        self.server.abort();
        self.replica.close().await;
        self.address
    }
}

/// Three managers; the first has made the cluster.
async fn three(authority: &Authority, directories: &[TempDir; 3]) -> Vec<Manager> {
    let mut managers = Vec::new();
    for (number, directory) in (1..).zip(directories) {
        managers.push(authority.manager(number, directory, "127.0.0.1:0").await);
    }
    let first = managers[0].replica.raft();
    first
        .init(essaim_raft::ClusterId::new(7), managers[0].member())
        .await
        .unwrap();
    led(&managers[0]).await;
    for other in &managers[1..] {
        first
            .add_learner(other.number.into(), other.member())
            .await
            .unwrap();
        first.promote(other.number.into()).await.unwrap();
    }
    managers
}

async fn led(manager: &Manager) {
    let mut status = manager.replica.raft().watch();
    let led = status.wait_for(|status| status.leader.is_some());
    tokio::time::timeout(SOON, led).await.unwrap().unwrap();
}

pub(crate) fn directories() -> [TempDir; 3] {
    std::array::from_fn(|_| TempDir::new().unwrap())
}

fn config(number: u128) -> Config {
    let spec = serde_json::json!({"Name": format!("config{number}"), "Data": "QUJD"});
    Config::new(ConfigId::from_bits(number), serde_json::from_value(spec).unwrap())
}

fn creates(number: u128) -> impl FnMut(&View) -> Result<Transaction, Infallible> {
    move |_| {
        let mut transaction = Transaction::new();
        transaction.create(config(number));
        Ok(transaction)
    }
}

/// Names the config anew, by what it is named: every change counts.
fn counts(of: u128) -> impl FnMut(&View) -> Result<Transaction, String> {
    move |view| {
        let config = view
            .config(ConfigId::from_bits(of))
            .ok_or("there is no counter")?;
        let mut config = Config::clone(config);
        let label = config
            .spec
            .labels
            .get_or_insert_default()
            .entry("count".to_owned())
            .or_default();
        *label = (label.parse::<u32>().unwrap_or(0) + 1).to_string();
        let mut transaction = Transaction::new();
        transaction.update(config);
        Ok(transaction)
    }
}

fn count(view: &View, of: u128) -> Option<String> {
    view.config(ConfigId::from_bits(of))?
        .spec
        .labels
        .as_ref()?
        .get("count")
        .cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_at_one_manager_is_read_at_all() {
    let (authority, directories) = (Authority::new(), directories());
    let managers = three(&authority, &directories).await;
    let mut notices = managers[2].replica.notices();
    for (number, manager) in (1..).zip(&managers) {
        // Its own copy holds it at once, whoever leads.
        let view = manager.replica.update(creates(number)).await.unwrap();
        assert!(view.config(ConfigId::from_bits(number)).is_some());
        for reader in &managers {
            let view = reader.replica.read().await.unwrap();
            assert_eq!(view.configs().len(), usize::try_from(number).unwrap());
        }
    }
    for number in 1..=3 {
        let Notice::Changed { events, .. } = notices.recv().await.unwrap() else {
            panic!("nothing was restored")
        };
        let [Event::Created(object)] = &*events else {
            panic!("{events:?}")
        };
        assert_eq!(object.id(), config(number).id.into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_one_object_at_all_managers_at_once_all_count() {
    const EACH: u32 = 10;
    let (authority, directories) = (Authority::new(), directories());
    let managers = three(&authority, &directories).await;
    managers[0].replica.update(creates(1)).await.unwrap();
    let writers = managers.iter().map(|manager| {
        let replica = manager.replica.clone();
        async move {
            for _ in 0..EACH {
                replica.update(counts(1)).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    let expected = Some((3 * EACH).to_string());
    for manager in &managers {
        assert_eq!(count(&manager.replica.read().await.unwrap(), 1), expected);
    }
    // What a decision refuses changes nothing, and says so in its own words.
    let refused = managers[1].replica.update(counts(2)).await.unwrap_err();
    assert!(
        matches!(&refused, UpdateError::Refused(why) if why == "there is no counter"),
        "{refused}"
    );
    // What can never apply is given up, with the reason.
    let taken = managers[1].replica.update(creates(1)).await.unwrap_err();
    assert!(taken.to_string().contains("exists already"), "{taken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_the_leader_and_it_comes_back() {
    let (authority, directories) = (Authority::new(), directories());
    let mut managers = three(&authority, &directories).await;
    let mut written = 0;
    for _ in 0..3 {
        let leader = managers[0].replica.raft().status().leader.unwrap().number();
        written += 1;
        managers[0].replica.update(creates(written)).await.unwrap();
        let at = managers
            .iter()
            .position(|manager| manager.number == leader)
            .unwrap();
        let address = managers.remove(at).kill().await;
        let begun = Instant::now();
        written += 1;
        let mut last = None;
        while let Err(error) = managers[0].replica.update(creates(written)).await {
            // It may be done though nobody could say so.
            if managers[0]
                .replica
                .view()
                .config(ConfigId::from_bits(written))
                .is_some()
            {
                break;
            }
            last = Some(error);
            assert!(begun.elapsed() < SOON, "{last:?}");
        }
        println!(
            "a change after {:?} without the leader ({last:?})",
            begun.elapsed()
        );
        let directory = &directories[usize::try_from(leader - 1).unwrap()];
        let back = authority.manager(leader, directory, &address).await;
        let view = back.replica.read().await.unwrap();
        assert_eq!(view.configs().len(), usize::try_from(written).unwrap());
        managers.push(back);
        led(&managers[0]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_written_and_it_is_said() {
    let (authority, directories) = (Authority::new(), directories());
    let mut managers = three(&authority, &directories).await;
    managers[0].replica.update(creates(1)).await.unwrap();
    for manager in managers.split_off(1) {
        manager.kill().await;
    }
    let error = managers[0].replica.update(creates(2)).await.unwrap_err();
    assert!(
        matches!(error, UpdateError::NoLeader(_) | UpdateError::Unknown(_)),
        "{error}"
    );
    managers[0].replica.read().await.unwrap_err();
    // What it holds can be seen all the same.
    assert_eq!(managers[0].replica.view().configs().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_may_send_nothing_that_is_of_raft() {
    let (authority, directories) = (Authority::new(), directories());
    let manager = authority.manager(1, &directories[0], "127.0.0.1:0").await;
    manager
        .replica
        .raft()
        .init(essaim_raft::ClusterId::new(7), manager.member())
        .await
        .unwrap();
    let config = client_config(&authority.member(Role::Worker), clock()).unwrap();
    let worker = Client::new(&manager.address, config, &essaim_ca::Callee::AnyManager).unwrap();
    for method in [crate::links::RAFT, "Propose", "Barrier"] {
        let error = worker.call(method, vec![0; 10].into(), SOON).await.unwrap_err();
        assert_eq!(error.code, Code::PermissionDenied, "{method}");
    }
    assert_eq!(manager.replica.view().index(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_opened_with_other_keys_is_refused() {
    let (authority, directories) = (Authority::new(), directories());
    let manager = authority.manager(1, &directories[0], "127.0.0.1:0").await;
    manager
        .replica
        .raft()
        .init(essaim_raft::ClusterId::new(7), manager.member())
        .await
        .unwrap();
    led(&manager).await;
    manager.replica.update(creates(1)).await.unwrap();
    manager.kill().await;
    let other = DataKeys::generate(&mut SystemEntropy).unwrap();
    let opened = Replica::open(Parts {
        node: 1.into(),
        disk: Arc::new(StateDirectory::open(directories[0].path()).unwrap()),
        sealer: Arc::new(Sealer::new(other, &mut SystemEntropy).unwrap()),
        identity: authority.member(Role::Manager),
        time: clock(),
        settings: Settings::default(),
    });
    let Err(error) = opened.await else {
        panic!("it was opened with other keys")
    };
    let text = essaim_rpc::chain(&error);
    assert!(text.contains("does not authenticate"), "{text}");
    // With its own, everything is there.
    let manager = authority.manager(1, &directories[0], "127.0.0.1:0").await;
    assert_eq!(manager.replica.read().await.unwrap().configs().len(), 1);
}
