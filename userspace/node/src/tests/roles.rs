use super::*;
use essaim_ca::{Callee, LiveIdentity, client_config};
use essaim_rpc::{Client, Code};

async fn three(lab: &Lab, directories: &[TempDir; 3]) -> [Node; 3] {
    let first = lab.init(&directories[0]).await;
    let second = lab.join(&first, &directories[1], 2, Role::Manager).await;
    let third = lab.join(&first, &directories[2], 3, Role::Manager).await;
    [first, second, third]
}

fn directories() -> [TempDir; 3] {
    std::array::from_fn(|_| TempDir::new().unwrap())
}

fn voters(node: &Node) -> usize {
    node.replica()
        .map_or(0, |replica| replica.raft().status().voters().len())
}

fn leads(node: &Node) -> bool {
    node.replica().is_some_and(|replica| {
        let status = replica.raft().status();
        status.leader == Some(status.node)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_is_promoted_and_demoted_and_promoted_again() {
    let (lab, directories) = (Lab::new(), directories());
    let first = lab.init(&directories[0]).await;
    let other = lab.join(&first, &directories[1], 2, Role::Worker).await;
    let before = id(&other);
    for _ in 0..2 {
        ask_role(&first, before, NodeRole::Manager).await;
        eventually("it is a manager", || {
            is(&other, LocalState::Active, Role::Manager)
        })
        .await;
        eventually("with a vote", || voters(&first) == 2 && voters(&other) == 2).await;
        assert_eq!(replica(&other).read().await.unwrap().nodes().len(), 2);
        let was = LiveIdentity::new(other.identity().unwrap().current()).unwrap();
        ask_role(&first, before, NodeRole::Worker).await;
        eventually("it is a worker", || is(&other, LocalState::Active, Role::Worker)).await;
        assert!(other.replica().is_none() && !directories[1].path().join("raft").exists());
        eventually("without a vote", || voters(&first) == 1).await;
        assert_eq!(id(&other), before);
        // Neither the certificate of before nor its new one opens what is the managers'.
        for identity in [was, other.identity().unwrap()] {
            let config = client_config(&identity, lab.clock.clone()).unwrap();
            let client = Client::new(&lab.address(1), config, &Callee::AnyManager).unwrap();
            for method in [
                "Raft",
                "Propose",
                "Barrier",
                "JoinRaft",
                "JoinRaftOnBehalf",
                "LeaveOnBehalf",
            ] {
                let refused = client.call(method, bytes::Bytes::new(), SOON).await.unwrap_err();
                assert_eq!(refused.code, Code::PermissionDenied, "{method}");
                assert_eq!(refused.message, format!("not allowed to call {method}"));
            }
        }
    }
    // The last one is demoted once there is another, and not before.
    let (last, log) = (id(&first), replica(&first));
    ask_role(&first, last, NodeRole::Worker).await;
    let waits = || log.view().node(last).unwrap().certificate_role == Some(NodeRole::Manager);
    assert!(waits() && voters(&first) == 1);
    ask_role(&first, before, NodeRole::Manager).await;
    eventually("the other is a manager", || {
        is(&other, LocalState::Active, Role::Manager)
    })
    .await;
    eventually("the last one is a worker", || {
        is(&first, LocalState::Active, Role::Worker)
    })
    .await;
    eventually("the other is alone", || leads(&other) && voters(&other) == 1).await;
    for node in [other, first] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_demoted_hands_over_first() {
    let (lab, directories) = (Lab::new(), directories());
    let [first, second, third] = three(&lab, &directories).await;
    assert!(leads(&first));
    ask_role(&second, id(&first), NodeRole::Worker).await;
    eventually("it is a worker", || is(&first, LocalState::Active, Role::Worker)).await;
    eventually("another leads", || leads(&second) || leads(&third)).await;
    eventually("two are left", || voters(&second) == 2 && voters(&third) == 2).await;
    let leader = if leads(&second) { &second } else { &third };
    let view = replica(leader).read().await.unwrap();
    assert_eq!(
        view.node(id(&first)).unwrap().certificate_role,
        Some(NodeRole::Worker)
    );
    let status = replica(leader);
    eventually("it is no manager for others", || {
        status.view().node(id(&first)).unwrap().manager_status.is_none()
    })
    .await;
    for node in [first, second, third] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_leave_as_long_as_the_others_keep_their_quorum() {
    let (lab, directories) = (Lab::new(), directories());
    let [first, second, third] = three(&lab, &directories).await;
    // The leader, too.
    first.leave(false).await.unwrap();
    assert_eq!(first.local(), Local::default());
    eventually("two are left", || voters(&second) == 2 && voters(&third) == 2).await;
    lab.close(third).await;
    let error = text(second.leave(false).await);
    assert!(
        error.starts_with("You are attempting to leave the swarm on a node that is participating"),
        "{error}"
    );
    assert!(
        error.contains("reinitialize it with `--force-new-cluster`"),
        "{error}"
    );
    assert!(is(&second, LocalState::Active, Role::Manager));
    second.leave(true).await.unwrap();
    assert_eq!(second.local(), Local::default());
    for node in [first, second] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_manager_of_lost_ones_goes_on_from_a_copy_of_its_directory() {
    let (lab, directories) = (Lab::new(), directories());
    let [first, second, third] = three(&lab, &directories).await;
    let (kept, before) = (id(&second), cluster(&second).await);
    for node in [first, third, second] {
        lab.close(node).await;
    }
    let restored = TempDir::new().unwrap();
    copy(directories[1].path(), restored.path());
    let node = lab.open(restored.path()).await;
    assert_eq!(id(&node), kept);
    let mut request = lab.init_request(2);
    request.force_new_cluster = Some(true);
    request.listen_addr = None;
    assert_eq!(node.init(request).await.unwrap(), kept);
    let view = replica(&node).read().await.unwrap();
    assert_eq!((view.nodes().len(), view.cluster().unwrap().id), (3, before.id));
    assert_eq!(voters(&node), 1);
    let leader = replica(&node);
    eventually("the others are managers no more", || {
        leader
            .view()
            .nodes()
            .filter(|node| node.manager_status.is_some())
            .count()
            == 1
    })
    .await;
    // It is ready to be joined.
    let fresh = TempDir::new().unwrap();
    let joined = lab.open(fresh.path()).await;
    let mut request = lab.join_request(5, &token(&node, Role::Manager).await);
    request.remote_addrs = Some(vec![lab.address(2)]);
    joined.join(request).await.unwrap();
    eventually("there are two", || voters(&node) == 2).await;
    for node in [joined, node] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coming_in_and_changing_roles_takes_less_than_five_seconds_each() {
    const MOST: Duration = Duration::from_secs(5);
    let (lab, directories) = (Lab::new(), directories());
    let mut begun = Instant::now();
    let mut took = |what: &str| {
        let elapsed = begun.elapsed();
        println!("{what}: {elapsed:?}");
        assert!(elapsed < MOST, "{what} took {elapsed:?}");
        begun = Instant::now();
    };
    let first = lab.init(&directories[0]).await;
    took("init");
    let manager = lab.join(&first, &directories[1], 2, Role::Manager).await;
    took("join as a manager");
    let worker = lab.join(&first, &directories[2], 3, Role::Worker).await;
    took("join as a worker");
    ask_role(&first, id(&worker), NodeRole::Manager).await;
    eventually("three vote", || {
        voters(&worker) == 3 && is(&worker, LocalState::Active, Role::Manager)
    })
    .await;
    took("promote");
    ask_role(&first, id(&worker), NodeRole::Worker).await;
    eventually("it is a worker", || is(&worker, LocalState::Active, Role::Worker)).await;
    took("demote");
    manager.leave(false).await.unwrap();
    took("leave as a manager");
    for node in [worker, manager, first] {
        lab.close(node).await;
    }
}
