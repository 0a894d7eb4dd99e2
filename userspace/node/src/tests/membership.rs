use super::*;
use essaim_ca::RootCa;
use essaim_objects::{Availability, Reachability};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_made_as_swarm_makes_it() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let node = lab.init(&directory).await;
    let view = replica(&node).read().await.unwrap();
    let cluster = view.cluster().unwrap();
    assert_eq!(
        cluster.default_addr_pool.as_deref(),
        Some(&["10.0.0.0/8".to_owned()][..])
    );
    assert_eq!(
        (cluster.subnet_size, cluster.data_path_port),
        (Some(24), Some(4789))
    );
    assert_eq!(cluster.spec.name.as_deref(), Some("default"));
    assert_eq!(cluster.spec.task_history_limit(), 5);
    assert!(!cluster.spec.auto_lock_managers() && !cluster.root_rotation_in_progress);
    let ingress = view.ingress().unwrap();
    assert_eq!(
        (ingress.name(), ingress.subnets().next().unwrap().net.to_string()),
        ("ingress", "10.0.0.0/24".to_owned())
    );
    let own = view.node(id(&node)).unwrap();
    let status = own.manager_status.as_ref().unwrap();
    assert_eq!(
        (status.leader, status.reachability),
        (Some(true), Reachability::Reachable)
    );
    assert_eq!(status.addr, Some(lab.address(1)));
    assert_eq!(own.spec.availability(), Availability::Active);
    // Nothing secret is shown.
    let shown = serde_json::to_string(&cluster.to_public()).unwrap();
    assert!(!shown.contains("PRIVATE KEY") && !shown.contains("\"Private\""));
    assert!(matches!(
        node.init(lab.init_request(1)).await,
        Err(NodeError::AlreadyMember)
    ));
    lab.close(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let node = lab.open(directory.path()).await;
    let request = lab.init_request(1);
    for (request, expected) in [
        (
            InitRequest {
                subnet_size: Some(30),
                ..request.clone()
            },
            "SubnetSize",
        ),
        (
            InitRequest {
                data_path_port: Some(80),
                ..request.clone()
            },
            "DataPathPort",
        ),
        (
            InitRequest {
                availability: Some("asleep".into()),
                ..request.clone()
            },
            "Availability",
        ),
        (
            InitRequest {
                default_addr_pool: Some(vec!["ten".into()]),
                ..request.clone()
            },
            "DefaultAddrPool",
        ),
        (
            InitRequest {
                listen_addr: Some("nonsense0".into()),
                ..request.clone()
            },
            "listen address",
        ),
        (
            InitRequest {
                listen_addr: Some("192.0.2.1".into()),
                ..request.clone()
            },
            "cannot listen at 192.0.2.1:2377",
        ),
    ] {
        let error = text(node.init(request).await);
        assert!(error.contains(expected), "{error}");
        assert_eq!(node.local(), Local::default());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
    let local = node.local();
    assert_eq!(local.state, LocalState::Inactive);
    assert!(matches!(node.leave(true).await, Err(NodeError::NotMember)));
    assert!(matches!(node.unlock_key().await, Err(NodeError::Inactive)));
    assert!(matches!(node.unlock("x").await, Err(NodeError::NotMember)));
    node.init(request).await.unwrap();
    lab.close(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_managers_join_with_their_tokens_and_with_no_other() {
    let lab = Lab::new();
    let directories: [TempDir; 4] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.init(&directories[0]).await;
    let worker = lab.join(&first, &directories[1], 2, Role::Worker).await;
    let second = lab.join(&first, &directories[2], 3, Role::Manager).await;
    assert!(worker.replica().is_none());
    assert!(matches!(worker.unlock_key().await, Err(NodeError::Worker)));
    let view = replica(&second).read().await.unwrap();
    assert_eq!(view.nodes().len(), 3);
    assert_eq!(view.node(id(&worker)).unwrap().spec.role(), NodeRole::Worker);
    let leader = replica(&first);
    eventually("both are reachable managers", || {
        leader
            .view()
            .nodes()
            .filter(|node| node.manager_status.is_some())
            .count()
            == 2
    })
    .await;

    let other = lab.open(directories[3].path()).await;
    let good = token(&first, Role::Worker).await;
    let foreign = RootCa::create(
        essaim_ca::Timestamp::from(SystemTime::now()),
        &mut essaim_ca::SystemEntropy,
    )
    .unwrap();
    let wrong_secret = format!("{}-{}", good.rsplit_once('-').unwrap().0, "0".repeat(25));
    for (token, expected) in [
        ("", "invalid join token"),
        ("SWMTKN-1-x-y", "invalid join token"),
        (wrong_secret.as_str(), "the manager has refused it"),
        (
            foreign.token(Role::Worker).reveal().as_str(),
            "the join token is for the root",
        ),
    ] {
        let error = text(other.join(lab.join_request(4, token)).await);
        assert!(
            error.starts_with("invalid join token") && error.contains(expected),
            "{error}"
        );
        assert_eq!(other.local(), Local::default());
    }
    let mut nobody = lab.join_request(4, &good);
    nobody.remote_addrs = Some(vec![lab.address(9)]);
    let error = text(other.join(nobody).await);
    assert!(
        error.contains("no manager could be asked") && error.contains("2377 is open"),
        "{error}"
    );

    // A token that was replaced opens nothing; those who have joined stay.
    let rotate = Rotate {
        worker_token: true,
        ..Rotate::default()
    };
    update(&second, rotate, |_| {}).await;
    let error = text(other.join(lab.join_request(4, &good)).await);
    assert!(error.contains("the manager has refused it"), "{error}");
    let new = token(&first, Role::Worker).await;
    assert_ne!(new, good);
    other.join(lab.join_request(4, &new)).await.unwrap();
    assert_eq!(worker.local().state, LocalState::Active);
    // A manager that does not lead hands the way into the consensus on to the one that does.
    let directory = TempDir::new().unwrap();
    let third = lab.open(directory.path()).await;
    let mut request = lab.join_request(5, &token(&first, Role::Manager).await);
    request.remote_addrs = Some(vec![lab.address(9), lab.address(3)]);
    third.join(request).await.unwrap();
    assert_eq!(replica(&third).read().await.unwrap().nodes().len(), 5);
    for node in [third, other, worker, second, first] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_come_back_as_what_they_were() {
    let lab = Lab::new();
    let directories: [TempDir; 3] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.init(&directories[0]).await;
    let second = lab.join(&first, &directories[1], 2, Role::Manager).await;
    let worker = lab.join(&first, &directories[2], 3, Role::Worker).await;
    let ids = [&first, &second, &worker].map(id);
    for node in [first, second, worker] {
        lab.close(node).await;
    }
    let [first, second, worker] = [
        lab.open(directories[0].path()).await,
        lab.open(directories[1].path()).await,
        lab.open(directories[2].path()).await,
    ];
    assert_eq!([&first, &second, &worker].map(id), ids);
    assert!(is(&worker, LocalState::Active, Role::Worker));
    assert!(is(&first, LocalState::Active, Role::Manager));
    assert_eq!(replica(&second).read().await.unwrap().nodes().len(), 3);
    for node in [first, second, worker] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_is_down_and_a_removed_one_is_refused() {
    let lab = Lab::new();
    let directories: [TempDir; 3] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.init(&directories[0]).await;
    let error = text(first.leave(false).await);
    assert!(
        error.contains("Removing the last manager erases all current state"),
        "{error}"
    );
    let leaver = lab.join(&first, &directories[1], 2, Role::Worker).await;
    let removed = lab.join(&first, &directories[2], 3, Role::Worker).await;
    let (gone, victim) = (id(&leaver), id(&removed));
    leaver.leave(false).await.unwrap();
    assert_eq!(leaver.local(), Local::default());
    assert_eq!(std::fs::read_dir(directories[1].path()).unwrap().count(), 0);
    let view = replica(&first).read().await.unwrap();
    assert_eq!(view.node(gone).unwrap().status.state, NodeState::Down);

    set_state(&first, victim, NodeState::Ready).await;
    let error = text(first.remove_node(victim, false).await);
    assert!(error.contains("is not down and can't be removed"), "{error}");
    let error = text(first.remove_node(id(&first), true).await);
    assert!(
        error.contains("must be demoted to worker before removal"),
        "{error}"
    );
    let error = text(first.remove_node(NodeId::MIN, true).await);
    assert!(error.contains("not found"), "{error}");
    first.remove_node(victim, true).await.unwrap();
    first.remove_node(gone, false).await.unwrap();
    // Its certificate opens nothing any more, not even a renewal, and it learns so.
    let managers = removed
        .inner
        .managers(member(&mut *removed.inner.state.lock().await));
    let request = essaim_protocol::Leave { force: true };
    let refused = managers
        .ask(essaim_protocol::method::LEAVE, &request, SOON)
        .await
        .unwrap_err();
    assert_eq!(refused.code, essaim_rpc::Code::PermissionDenied);
    assert_eq!(refused.message, "not allowed to call Leave");
    removed.learn(Told::Refused);
    eventually("the node knows", || removed.local().state == LocalState::Error).await;
    assert!(removed.local().error.unwrap().contains("leave it, and join anew"));
    removed.leave(false).await.unwrap();
    let token = token(&first, Role::Worker).await;
    removed.join(lab.join_request(3, &token)).await.unwrap();
    assert_ne!(id(&removed), victim);
    for node in [removed, leaver, first] {
        lab.close(node).await;
    }
}

fn member(state: &mut crate::node::State) -> &crate::member::Member {
    match state {
        crate::node::State::Member(member) => member,
        _ => panic!("the node is no member"),
    }
}
