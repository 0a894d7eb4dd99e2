//! The pure parts.

use super::lead::{DATA_KEY_LIFE, GOSSIP_KEY_LIFE, tended};
use super::private::{data_keys, gossip_rotated, removed, rotate_data_keys, rotate_gossip_keys};
use super::roles::Damper;
use super::*;
use essaim_ca::{
    CertificateRequest, Identity, NodeLife, PrivateKey, Root, RootCa, Subject, SystemEntropy, UnlockKey,
};
use essaim_objects::{
    CaConfig, Cluster, ClusterId, DispatcherConfig, EncryptionConfig, ExternalCa, InitRequest, ManagerStatus,
    Nanoseconds, Node, NodeState, Orchestration, Reachability, Sensitive, Version,
};
use essaim_store::{Object, Store, Transaction, allocate};
use std::time::Duration;

/// 2026-11-28T20:33:00Z.
const NOW: Timestamp = Timestamp::from_unix(1_795_897_980);

/// A store with a cluster, and what applies to it.
struct Made {
    store: Store,
    ca: RootCa,
}

impl Made {
    fn new(request: &InitRequest) -> Self {
        let ca = new_root_ca(&request.spec.clone().unwrap_or_default(), NOW, &mut SystemEntropy).unwrap();
        let first = FirstManager {
            node: NodeId::from_bits(1),
            raft_id: 7,
            address: "192.0.2.1:2377".to_owned(),
        };
        let id = ClusterId::from_bits(9);
        let made = new_cluster(request, id, &first, &ca, None, NOW, &mut SystemEntropy).unwrap();
        let mut it = Self {
            store: Store::new(),
            ca,
        };
        it.apply(made);
        it
    }

    fn apply(&mut self, mut transaction: Transaction) {
        allocate(self.store.view(), &mut transaction).unwrap();
        let index = self.store.view().index() + 1;
        self.store
            .apply(index, &transaction, essaim_objects::Timestamp::UNIX_EPOCH)
            .unwrap();
    }

    fn cluster(&self) -> &Cluster {
        self.store.view().cluster().unwrap()
    }

    fn try_update(&mut self, spec: &ClusterSpec, rotate: Rotate) -> Result<(), UpdateClusterError> {
        let (view, version) = (self.store.view(), self.cluster().version);
        let transaction = update_cluster(view, version, spec, rotate, NOW, &mut SystemEntropy)?;
        self.apply(transaction);
        Ok(())
    }

    fn update(&mut self, spec: &ClusterSpec, rotate: Rotate) {
        self.try_update(spec, rotate).unwrap();
    }

    fn ca(&self) -> RootCa {
        root_ca(self.cluster()).unwrap()
    }

    /// A worker in this state.
    fn worker(&mut self, number: u128, state: NodeState) -> NodeId {
        let mut node = Node::new(NodeId::from_bits(number), essaim_objects::NodeSpec::default());
        node.certificate_role = Some(NodeRole::Worker);
        node.status.state = state;
        let id = node.id;
        let mut transaction = Transaction::new();
        transaction.create(node);
        self.apply(transaction);
        id
    }

    /// Has a node report what it would show after a renewal.
    fn reports(&mut self, id: NodeId) {
        let key = PrivateKey::generate(&mut SystemEntropy).unwrap();
        let request = CertificateRequest::new(&key).unwrap();
        let subject = Subject {
            cluster_id: essaim_ca::ClusterId::new(self.cluster().id.as_str()).unwrap(),
            role: Role::Worker,
            node_id: essaim_ca::NodeId::new(id.as_str()).unwrap(),
        };
        let issued = self
            .ca()
            .issue(&request, &subject, NodeLife::default(), NOW, &mut SystemEntropy);
        let identity = Identity::from_issued(key, issued.unwrap()).unwrap();
        let mut node = Node::clone(self.store.view().node(id).unwrap());
        node.certificate = Some(report(&identity));
        let mut transaction = Transaction::new();
        transaction.update(node);
        self.apply(transaction);
    }

    fn tended(&self, now: Timestamp) -> Option<Cluster> {
        tended(self.cluster(), self.store.view(), now.unix())
    }
}

fn with_ca(ca: CaConfig) -> ClusterSpec {
    ClusterSpec {
        ca_config: Some(ca),
        ..ClusterSpec::default()
    }
}

fn forced(count: u64) -> ClusterSpec {
    with_ca(CaConfig {
        force_rotate: Some(count),
        ..CaConfig::default()
    })
}

fn locks(on: bool) -> ClusterSpec {
    ClusterSpec {
        encryption_config: Some(EncryptionConfig {
            auto_lock_managers: Some(on),
            ..EncryptionConfig::default()
        }),
        ..ClusterSpec::default()
    }
}

#[test]
fn a_new_cluster_has_what_was_asked_and_swarms_defaults_elsewhere() {
    let made = Made::new(&InitRequest {
        default_addr_pool: Some(vec!["20.20.0.0/16".to_owned()]),
        subnet_size: Some(26),
        data_path_port: Some(7777),
        ..InitRequest::default()
    });
    let view = made.store.view();
    let subnet = view.ingress().unwrap().subnets().next().unwrap().net;
    assert_eq!(subnet.to_string(), "20.20.0.0/26");
    let cluster = made.cluster();
    assert_eq!(cluster.data_path_port, Some(7777));
    assert_eq!(cluster.spec.node_cert_expiry(), Nanoseconds::from_secs(7_776_000));
    let raft = cluster.spec.raft.as_ref().unwrap();
    assert_eq!(
        (raft.snapshot_interval, raft.election_tick, raft.heartbeat_tick),
        (Some(10_000), Some(10), Some(1))
    );
    let tokens = cluster.join_tokens.as_ref().unwrap();
    assert_eq!(
        tokens.worker,
        Some(Sensitive(made.ca.token(Role::Worker).reveal()))
    );
    assert_eq!(
        tokens.manager,
        Some(Sensitive(made.ca.token(Role::Manager).reveal()))
    );
    assert_eq!(
        cluster.tls_info.as_ref().unwrap().trust_root,
        Some(made.ca.root().to_pem())
    );
    assert_eq!(gossip_keys(cluster).unwrap().len(), 3);
    // The first manager has its address on the ingress network.
    assert_eq!(view.nodes().next().unwrap().attachments.len(), 1);
    assert!(!format!("{cluster:?}").contains("PRIVATE"));
}

#[test]
fn what_is_not_said_stays_as_it_was() {
    let mut made = Made::new(&InitRequest::default());
    let before = made.cluster().clone();
    made.update(&ClusterSpec::default(), Rotate::default());
    assert_eq!(made.cluster().spec, before.spec);
    assert_eq!(made.cluster().private, before.private);
    made.update(
        &ClusterSpec {
            orchestration: Some(Orchestration {
                task_history_retention_limit: Some(2),
                ..Orchestration::default()
            }),
            dispatcher: Some(DispatcherConfig {
                heartbeat_period: Some(Nanoseconds::from_secs(9)),
                ..DispatcherConfig::default()
            }),
            ..ClusterSpec::default()
        },
        Rotate::default(),
    );
    let spec = &made.cluster().spec;
    assert_eq!(
        (spec.task_history_limit(), spec.heartbeat_period()),
        (2, Nanoseconds::from_secs(9))
    );
    assert_eq!(spec.raft, before.spec.raft);
    // What the client has read and sends back changes nothing.
    let read = made.cluster().to_public().spec;
    let expected = made.cluster().spec.clone();
    made.update(&read, Rotate::default());
    assert_eq!(made.cluster().spec, expected);
    assert!(!made.cluster().root_rotation_in_progress);
}

#[test]
fn each_token_is_replaced_alone() {
    let mut made = Made::new(&InitRequest::default());
    for (worker, manager) in [(true, false), (false, true), (true, true), (false, false)] {
        let before = made.cluster().join_tokens.clone().unwrap();
        let rotate = Rotate {
            worker_token: worker,
            manager_token: manager,
            unlock_key: false,
        };
        made.update(&ClusterSpec::default(), rotate);
        let after = made.cluster().join_tokens.clone().unwrap();
        assert_eq!(
            (before.worker != after.worker, before.manager != after.manager),
            (worker, manager)
        );
        assert_eq!(made.ca().token(Role::Worker).reveal(), after.worker.unwrap().0);
    }
}

#[test]
fn the_unlock_key_comes_and_goes_with_autolock() {
    let mut made = Made::new(&InitRequest::default());
    let key = |made: &Made| unlock_key(made.store.view()).unwrap().map(|key| key.reveal());
    let again = Rotate {
        unlock_key: true,
        ..Rotate::default()
    };
    made.update(&ClusterSpec::default(), again);
    assert_eq!(key(&made), None, "there is none to replace");
    made.update(&locks(true), Rotate::default());
    let first = key(&made);
    assert!(first.as_ref().unwrap().parse::<UnlockKey>().is_ok());
    made.update(&ClusterSpec::default(), Rotate::default());
    assert_eq!(key(&made), first);
    made.update(&ClusterSpec::default(), again);
    let second = key(&made);
    assert!(second.is_some() && second != first);
    made.update(&locks(false), Rotate::default());
    assert_eq!(key(&made), None);
}

fn external() -> ExternalCa {
    ExternalCa {
        protocol: Some("cfssl".to_owned()),
        url: Some("https://ca.example/".to_owned()),
        ..ExternalCa::default()
    }
}

#[test]
fn an_external_authority_is_kept_with_its_root_and_goes_with_it() {
    let mut made = Made::new(&InitRequest::default());
    let root = made.ca().root().to_pem();
    let asked = with_ca(CaConfig {
        external_cas: Some(vec![external()]),
        ..CaConfig::default()
    });
    made.update(&asked, Rotate::default());
    let named = |made: &Made| {
        made.cluster()
            .spec
            .ca_config
            .clone()
            .unwrap()
            .external_cas
            .unwrap()
    };
    let [kept] = &named(&made)[..] else {
        panic!("it is kept")
    };
    assert_eq!(kept.ca_cert.as_ref(), Some(&root));
    // What is read is sent back, and more with it: another root, made here.
    let mut again = made.cluster().spec.clone();
    again.ca_config.as_mut().unwrap().force_rotate = Some(1);
    made.update(&again, Rotate::default());
    assert_eq!(named(&made).len(), 1, "it may be called off");
    made.reports(NodeId::from_bits(1));
    let done = made.tended(NOW).unwrap();
    assert_eq!(done.spec.ca_config.unwrap().external_cas, Some(Vec::new()));
}

#[test]
fn a_cluster_that_is_made_with_an_authority_elsewhere_rotates_to_its_root() {
    let elsewhere = RootCa::create(NOW, &mut SystemEntropy).unwrap();
    let authority = ExternalCa {
        ca_cert: Some(elsewhere.root().to_pem()),
        ..external()
    };
    let made = Made::new(&InitRequest {
        spec: Some(with_ca(CaConfig {
            external_cas: Some(vec![authority]),
            ..CaConfig::default()
        })),
        ..InitRequest::default()
    });
    let ca = made.ca();
    assert_eq!((ca.root(), ca.issuer()), (made.ca.root(), elsewhere.root()));
    assert!(!ca.issues_here() && made.cluster().root_rotation_in_progress);
}

#[test]
fn what_cannot_be_asked_is_refused_and_changes_nothing() {
    let mut made = Made::new(&InitRequest::default());
    let given = Root::create(NOW, &mut SystemEntropy).unwrap();
    let certificate = given.certificate().to_pem();
    let before = made.cluster().clone();
    for (spec, expected) in [
        (
            with_ca(CaConfig {
                node_cert_expiry: Some(Nanoseconds::from_secs(60)),
                ..CaConfig::default()
            }),
            "CAConfig.NodeCertExpiry is 60000000000 ns, expected 1 hour or more",
        ),
        (
            with_ca(CaConfig {
                external_cas: Some(vec![ExternalCa {
                    ca_cert: Some(certificate.clone()),
                    ..external()
                }]),
                ..CaConfig::default()
            }),
            "CAConfig.ExternalCAs[0].CACert is another certificate, expected the current root certificate",
        ),
        (
            with_ca(CaConfig {
                external_cas: Some(vec![ExternalCa {
                    ca_cert: Some("nonsense".to_owned()),
                    ..external()
                }]),
                ..CaConfig::default()
            }),
            "CAConfig.ExternalCAs[0].CACert is found no certificate in PEM",
        ),
        (
            with_ca(CaConfig {
                external_cas: Some(vec![ExternalCa {
                    url: Some("https://a b/".to_owned()),
                    ..external()
                }]),
                ..CaConfig::default()
            }),
            "CAConfig.ExternalCAs[0].URL is \"https://a b/\" is no URL",
        ),
        (
            with_ca(CaConfig {
                signing_ca_cert: Some(certificate.clone()),
                ..CaConfig::default()
            }),
            "neither SigningCAKey nor one of ExternalCAs with this CACert is given",
        ),
        (
            with_ca(CaConfig {
                signing_ca_key: Some(Sensitive("key".to_owned())),
                ..CaConfig::default()
            }),
            "without SigningCACert",
        ),
        (
            with_ca(CaConfig {
                signing_ca_cert: Some(certificate),
                signing_ca_key: Some(Sensitive("nonsense".to_owned())),
                ..CaConfig::default()
            }),
            "CAConfig.SigningCACert cannot be used",
        ),
    ] {
        let error = made.try_update(&spec, Rotate::default()).unwrap_err();
        assert!(essaim_rpc::chain(&error).contains(expected), "{error}");
        assert_eq!(*made.cluster(), before);
    }
    let view = made.store.view();
    let stale = Version { index: 77 };
    let error = update_cluster(
        view,
        stale,
        &forced(1),
        Rotate::default(),
        NOW,
        &mut SystemEntropy,
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("update out of sequence")
    );
    let empty = Store::new();
    let error = update_cluster(
        empty.view(),
        stale,
        &forced(1),
        Rotate::default(),
        NOW,
        &mut SystemEntropy,
    );
    assert!(matches!(error, Err(UpdateClusterError::NoCluster)));
}

#[test]
fn the_roots_rotation_ends_when_every_node_has_reported() {
    let mut made = Made::new(&InitRequest::default());
    let first = NodeId::from_bits(1);
    let worker = made.worker(2, NodeState::Ready);
    made.reports(first);
    made.reports(worker);
    let old = made.ca();
    made.update(&forced(1), Rotate::default());
    assert!(made.cluster().root_rotation_in_progress);
    // Both, until all have the new one.
    let shown = made.cluster().tls_info.clone().unwrap();
    assert_eq!(shown.trust_root, Some(made.ca().trust().to_pem()));
    assert_ne!(shown.trust_root, Some(old.root().to_pem()));
    // Asked for once more with the same count, it goes on.
    made.update(&forced(1), Rotate::default());
    assert_eq!(made.ca().issuer(), made.ca().rotation().unwrap().next());
    assert_eq!(made.tended(NOW), None);
    made.reports(worker);
    assert_eq!(made.tended(NOW), None, "the manager has not renewed");
    made.reports(first);
    let done = made.tended(NOW).unwrap();
    assert!(!done.root_rotation_in_progress);
    let ca = root_ca(&done).unwrap();
    assert_ne!(ca.root(), old.root());
    assert_ne!(ca.token(Role::Worker).reveal(), old.token(Role::Worker).reveal());
    assert_eq!(done.tls_info.unwrap().trust_root, Some(ca.root().to_pem()));
}

#[test]
fn a_root_that_is_given_is_taken_and_its_key_is_kept_by_the_authority_alone() {
    let mut made = Made::new(&InitRequest::default());
    let given = RootCa::create(NOW, &mut SystemEntropy).unwrap();
    // The authority's own form shows the key where it is meant to.
    let root: serde_json::Value = serde_json::to_value(&given).unwrap();
    let key = root["root"]["key"].as_str().unwrap();
    let der = data_encoding::BASE64.decode(key.as_bytes()).unwrap();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        data_encoding::BASE64.encode(&der)
    );
    let asked = with_ca(CaConfig {
        signing_ca_cert: Some(given.root().to_pem()),
        signing_ca_key: Some(Sensitive(pem.clone())),
        ..CaConfig::default()
    });
    made.update(&asked, Rotate::default());
    assert_eq!(made.ca().rotation().unwrap().next(), given.root());
    assert_eq!(
        made.cluster().spec.ca_config.as_ref().unwrap().signing_ca_key,
        None
    );
    // A cluster is made with it, too.
    let request = InitRequest {
        spec: Some(asked),
        ..InitRequest::default()
    };
    assert_eq!(Made::new(&request).ca().root(), given.root());
}

#[test]
fn nodes_are_removed_when_they_are_down_or_by_force_and_stay_known_as_removed() {
    let mut made = Made::new(&InitRequest::default());
    let (up, down) = (made.worker(2, NodeState::Ready), made.worker(3, NodeState::Down));
    let view = made.store.view().clone();
    let first = NodeId::from_bits(1);
    for (id, force, expected) in [
        (up, false, "is not down and can't be removed"),
        (
            first,
            false,
            "is a cluster manager and is a member of the raft cluster",
        ),
        (
            first,
            true,
            "is a cluster manager and is a member of the raft cluster",
        ),
        (NodeId::from_bits(8), true, "not found"),
    ] {
        let error = remove_node(&view, id, force, NOW).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    for (id, force) in [(down, false), (up, true)] {
        let transaction = remove_node(made.store.view(), id, force, NOW).unwrap();
        made.apply(transaction);
        assert!(made.store.view().node(id).is_none());
    }
    let view = made.store.view();
    assert!(is_removed(view, up) && is_removed(view, down) && !is_removed(view, first));
    let peer = |id: NodeId, role| Peer {
        node_id: essaim_ca::NodeId::new(id.as_str()).unwrap(),
        role,
        cluster_id: essaim_ca::ClusterId::new(made.cluster().id.as_str()).unwrap(),
        expires: NOW,
    };
    for (id, role, method, counts) in [
        (up, Role::Worker, Role::Worker, false),
        (down, Role::Manager, Role::Manager, false),
        (first, Role::Manager, Role::Manager, true),
        (NodeId::from_bits(5), Role::Worker, Role::Worker, true),
    ] {
        assert_eq!(
            still_counts(view, &peer(id, role), method, false).is_ok(),
            counts,
            "{id}"
        );
    }
    // They are forgotten once no certificate of theirs can be valid.
    let longest = Duration::from_hours(24 * 97);
    let list = |cluster: &Cluster| removed(cluster).unwrap().nodes.len();
    assert_eq!(list(&made.tended(NOW.after(longest)).unwrap()), 2);
    assert_eq!(
        list(&made.tended(NOW.after(longest + Duration::from_secs(1))).unwrap()),
        0
    );
}

#[test]
fn a_removed_node_is_kept_for_the_longest_life_that_there_ever_was() {
    let mut made = Made::new(&InitRequest::default());
    let life = |seconds| {
        with_ca(CaConfig {
            node_cert_expiry: Some(Nanoseconds::from_secs(seconds)),
            ..CaConfig::default()
        })
    };
    made.update(&life(200 * 24 * 3600), Rotate::default());
    made.update(&life(3600), Rotate::default());
    let node = made.worker(2, NodeState::Down);
    let transaction = remove_node(made.store.view(), node, false, NOW).unwrap();
    made.apply(transaction);
    let until = removed(made.cluster()).unwrap().nodes[&node];
    assert_eq!(until - NOW.unix(), 207 * 24 * 3600);
}

#[test]
fn a_demoted_managers_certificate_opens_no_managers_call() {
    let mut made = Made::new(&InitRequest::default());
    let id = made.worker(2, NodeState::Ready);
    let peer = Peer {
        node_id: essaim_ca::NodeId::new(id.as_str()).unwrap(),
        role: Role::Manager,
        cluster_id: essaim_ca::ClusterId::new(made.cluster().id.as_str()).unwrap(),
        expires: NOW,
    };
    let view = made.store.view();
    assert!(
        still_counts(view, &peer, Role::Manager, false)
            .unwrap_err()
            .contains("was demoted")
    );
    assert!(
        still_counts(view, &peer, Role::Worker, false).is_ok(),
        "it has to renew"
    );
    // By a copy that is behind: it may be the leader that the copy would learn the rest from.
    assert!(still_counts(view, &peer, Role::Manager, true).is_ok());
}

#[test]
fn managers_are_demoted_only_where_the_others_keep_a_quorum() {
    let mut made = Made::new(&InitRequest::default());
    let first = NodeId::from_bits(1);
    let error = may_demote(made.store.view(), first).unwrap_err().to_string();
    assert!(
        error.starts_with("attempting to demote the last manager of the swarm"),
        "{error}"
    );
    for (number, reachability) in [(2, Reachability::Reachable), (3, Reachability::Unreachable)] {
        let id = made.worker(number, NodeState::Ready);
        let mut node = Node::clone(made.store.view().node(id).unwrap());
        node.manager_status = Some(ManagerStatus {
            reachability,
            ..ManagerStatus::default()
        });
        let mut transaction = Transaction::new();
        transaction.update(node);
        made.apply(transaction);
    }
    let view = made.store.view();
    assert!(may_demote(view, NodeId::from_bits(3)).is_ok());
    let error = may_demote(view, first).unwrap_err().to_string();
    assert!(error.contains("this would result in a loss of quorum"), "{error}");
}

#[test]
fn a_new_key_of_gossip_is_handed_out_before_it_is_sent_with() {
    let made = Made::new(&InitRequest::default());
    let mut cluster = made.cluster().clone();
    assert_eq!(
        made.tended(NOW.after(GOSSIP_KEY_LIFE.saturating_sub(Duration::from_secs(1)))),
        None
    );
    let due = made.tended(NOW.after(GOSSIP_KEY_LIFE)).unwrap();
    assert_eq!(gossip_rotated(&due), NOW.after(GOSSIP_KEY_LIFE).unix());
    for round in 1..5 {
        let before = gossip_keys(&cluster).unwrap();
        rotate_gossip_keys(&mut cluster, round, &mut SystemEntropy).unwrap();
        let after = gossip_keys(&cluster).unwrap();
        assert_eq!(after.len(), 3);
        // Sent with now is what all had as the next one; understood still is what was sent with.
        assert_eq!((&after[0], &after[2]), (&before[1], &before[0]));
        assert!(!before.contains(&after[1]));
        assert!(after.iter().all(|key| key.as_bytes().len() == 32));
    }
}

#[test]
fn keys_of_encrypted_networks_are_added_as_often_as_the_cluster_says() {
    let made = Made::new(&InitRequest::default());
    let keys = data_keys(made.cluster()).unwrap();
    assert_eq!(keys.iter().map(|key| key.generation).collect::<Vec<_>>(), [1]);
    let second = Duration::from_secs(1);
    assert_eq!(made.tended(NOW.after(DATA_KEY_LIFE.saturating_sub(second))), None);
    let due = made.tended(NOW.after(DATA_KEY_LIFE)).unwrap();
    assert_eq!(data_keys(&due).unwrap().len(), 2);
    let mut cluster = made.cluster().clone();
    for round in 2..9 {
        let before = data_keys(&cluster).unwrap();
        rotate_data_keys(&mut cluster, round, &mut SystemEntropy).unwrap();
        let after = data_keys(&cluster).unwrap();
        let newest = after.last().unwrap();
        assert_eq!(newest.generation, round);
        assert!(newest.key.as_bytes().len() == 32 && !before.iter().any(|key| key.key == newest.key));
        // Those before stand as they were, the newest three of them.
        assert_eq!(after.len(), 4.min(before.len() + 1));
        assert!(before.ends_with(&after[..after.len() - 1]));
    }
}

#[test]
fn a_manager_that_comes_and_goes_writes_nothing() {
    let mut damper = Damper::default();
    let status = |reachability, leader| ManagerStatus {
        reachability,
        leader,
        ..ManagerStatus::default()
    };
    let mut node = Node::new(NodeId::from_bits(1), essaim_objects::NodeSpec::default());
    let ms = Duration::from_millis;
    let up = Some(status(Reachability::Reachable, None));
    let down = Some(status(Reachability::Unreachable, None));
    assert_eq!(damper.settled(&node, None, ms(0)), None);
    assert_eq!(damper.settled(&node, up.as_ref(), ms(0)), up);
    node.manager_status.clone_from(&up);
    for at in [0, 900, 1_800] {
        assert_eq!(damper.settled(&node, down.as_ref(), ms(at)), up);
        assert_eq!(damper.settled(&node, up.as_ref(), ms(at + 450)), up);
    }
    // A leader that does not know yet says nothing.
    let unknown = status(Reachability::Unknown, None);
    assert_eq!(damper.settled(&node, Some(&unknown), ms(5_000)), up);
    assert_eq!(damper.settled(&node, up.as_ref(), ms(5_500)), up);
    assert_eq!(damper.settled(&node, down.as_ref(), ms(6_000)), up);
    assert_eq!(damper.settled(&node, down.as_ref(), ms(7_000)), down);
    // Who leads is written at once, and who is no manager any more, too.
    let leads = Some(status(Reachability::Reachable, Some(true)));
    assert_eq!(damper.settled(&node, leads.as_ref(), ms(7_000)), leads);
    assert_eq!(damper.settled(&node, None, ms(7_000)), None);
    // One that the leader never hears of it does not reach.
    let reached = |damper: &mut Damper, at| {
        damper
            .settled(&node, Some(&unknown), ms(at))
            .unwrap()
            .reachability
    };
    assert_eq!(reached(&mut damper, 8_000), Reachability::Reachable);
    assert_eq!(reached(&mut damper, 10_900), Reachability::Reachable);
    assert_eq!(reached(&mut damper, 11_000), Reachability::Unreachable);
}

#[test]
fn a_cluster_object_that_is_damaged_is_told_and_shows_nothing() {
    let mut made = Made::new(&InitRequest::default());
    let mut cluster = made.cluster().clone();
    for name in ["ca", "removed-nodes"] {
        cluster
            .private
            .insert(name.to_owned(), essaim_objects::Data::from(b"hunter2".to_vec()));
    }
    let error = root_ca(&cluster).unwrap_err().to_string();
    assert_eq!(error, "the cluster object's private entry ca cannot be read");
    cluster.private.remove("gossip-keys");
    assert!(
        gossip_keys(&cluster)
            .unwrap_err()
            .to_string()
            .contains("no private entry gossip-keys")
    );
    let mut transaction = Transaction::new();
    transaction.update(Object::from(cluster));
    made.apply(transaction);
    // Who was removed cannot be told, so nobody is let in.
    assert!(is_removed(made.store.view(), NodeId::from_bits(1)));
}
