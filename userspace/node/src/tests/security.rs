use super::*;
use essaim_objects::{EncryptionConfig, Nanoseconds};

fn autolock(spec: &mut ClusterSpec, on: bool) {
    spec.encryption_config = Some(EncryptionConfig {
        auto_lock_managers: Some(on),
        ..EncryptionConfig::default()
    });
}

fn is_locked_on_disk(directory: &TempDir) -> bool {
    let key = std::fs::read(directory.path().join("certificates/node.key")).unwrap();
    String::from_utf8_lossy(&key)
        .lines()
        .next()
        .unwrap()
        .ends_with(" locked")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_autolock_a_manager_that_restarts_waits_for_its_key() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let mut node = lab.init(&directory).await;
    assert_eq!(node.unlock_key().await.unwrap(), None);
    assert!(matches!(node.unlock("x").await, Err(NodeError::NotLocked)));
    update(&node, Rotate::default(), |spec| autolock(spec, true)).await;
    let mut key = node.unlock_key().await.unwrap().unwrap();
    eventually("the key file is locked", || is_locked_on_disk(&directory)).await;
    for round in 0..2 {
        lab.close(node).await;
        node = lab.open(directory.path()).await;
        let local = node.local();
        assert_eq!(local.state, LocalState::Locked);
        assert!(local.error.unwrap().contains("docker swarm unlock"));
        assert!(matches!(node.unlock_key().await, Err(NodeError::Locked)));
        assert!(matches!(
            node.init(lab.init_request(1)).await,
            Err(NodeError::Locked)
        ));
        assert!(matches!(node.leave(false).await, Err(NodeError::Locked)));
        let wrong = essaim_ca::UnlockKey::generate(&mut essaim_ca::SystemEntropy).unwrap();
        for wrong in ["nonsense", &wrong.reveal()] {
            let error = text(node.unlock(wrong).await);
            assert_eq!(error, "swarm could not be unlocked: invalid key provided");
        }
        node.unlock(&key).await.unwrap();
        eventually("it goes on", || is(&node, LocalState::Active, Role::Manager)).await;
        assert_eq!(node.unlock_key().await.unwrap().as_ref(), Some(&key));
        if round == 0 {
            let before = std::fs::read(directory.path().join("certificates/node.key")).unwrap();
            let rotate = Rotate {
                unlock_key: true,
                ..Rotate::default()
            };
            update(&node, rotate, |_| {}).await;
            let new = node.unlock_key().await.unwrap().unwrap();
            assert_ne!(new, key);
            key = new;
            eventually("the file is another", || {
                std::fs::read(directory.path().join("certificates/node.key")).unwrap() != before
            })
            .await;
        }
    }
    update(&node, Rotate::default(), |spec| autolock(spec, false)).await;
    eventually("the key file is open", || !is_locked_on_disk(&directory)).await;
    lab.close(node).await;
    let node = lab.open(directory.path()).await;
    eventually("it is active", || is(&node, LocalState::Active, Role::Manager)).await;
    assert_eq!(node.unlock_key().await.unwrap(), None);
    lab.close(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_made_with_autolock_locks_every_manager() {
    let lab = Lab::new();
    let directories: [TempDir; 2] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.open(directories[0].path()).await;
    let mut request = lab.init_request(1);
    request.auto_lock_managers = Some(true);
    first.init(request).await.unwrap();
    assert!(is_locked_on_disk(&directories[0]));
    let second = lab.join(&first, &directories[1], 2, Role::Manager).await;
    eventually("the other one is locked too", || {
        is_locked_on_disk(&directories[1])
    })
    .await;
    let key = first.unlock_key().await.unwrap().unwrap();
    lab.close(second).await;
    let second = lab.open(directories[1].path()).await;
    assert_eq!(second.local().state, LocalState::Locked);
    second.unlock(&key).await.unwrap();
    eventually("it goes on", || is(&second, LocalState::Active, Role::Manager)).await;
    for node in [second, first] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_replaced_on_every_node_while_calls_go_on() {
    let lab = Lab::new();
    let directories: [TempDir; 3] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.init(&directories[0]).await;
    let second = lab.join(&first, &directories[1], 2, Role::Manager).await;
    let worker = lab.join(&first, &directories[2], 3, Role::Worker).await;
    let before = cluster(&first).await;
    let root_of = |node: &Node| node.identity().unwrap().current().trust().to_pem();
    let old = root_of(&worker);
    update(&second, Rotate::default(), |spec| {
        spec.ca_config.get_or_insert_default().force_rotate = Some(1);
    })
    .await;
    assert!(cluster(&first).await.root_rotation_in_progress);
    // Written and read all the while, at the manager that does not lead, which calls the other one.
    let deadline = Instant::now() + SOON;
    while cluster(&second).await.root_rotation_in_progress {
        set_state(&second, id(&worker), NodeState::Ready).await;
        set_state(&second, id(&worker), NodeState::Unknown).await;
        assert!(Instant::now() < deadline, "the rotation does not end");
    }
    let after = cluster(&first).await;
    assert_ne!(after.tls_info, before.tls_info);
    assert_ne!(after.join_tokens, before.join_tokens);
    for node in [&first, &second, &worker] {
        eventually("it trusts the new root alone", || {
            Some(root_of(node)) == after.tls_info.as_ref().unwrap().trust_root
        })
        .await;
        assert_ne!(root_of(node), old);
        assert_eq!(node.identity().unwrap().current().chain().count(), 1);
    }
    for node in [worker, second, first] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_in_time_and_for_a_while_after_their_end() {
    const HOUR: Duration = Duration::from_hours(1);
    let lab = Lab::new();
    let directories: [TempDir; 2] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.open(directories[0].path()).await;
    let mut request = lab.init_request(1);
    let spec = request.spec.get_or_insert_default();
    spec.ca_config.get_or_insert_default().node_cert_expiry = Some(Nanoseconds::from_secs(3600));
    first.init(request).await.unwrap();
    let worker = lab.join(&first, &directories[1], 2, Role::Worker).await;
    let end = |node: &Node| node.identity().unwrap().current().certificate().not_after();
    let ends = [end(&first), end(&worker)];
    // Past 80 % of their life.
    lab.clock.advance(HOUR / 60 * 50);
    eventually("both have new ones", || {
        end(&first) > ends[0] && end(&worker) > ends[1]
    })
    .await;

    // The worker is off until its certificate has expired, and the manager, which has nobody to ask.
    let expired = [end(&first), end(&worker)];
    for node in [worker, first] {
        lab.close(node).await;
    }
    lab.clock.advance(HOUR * 5);
    let first = lab.open(directories[0].path()).await;
    let worker = lab.open(directories[1].path()).await;
    eventually("the manager has a new one", || end(&first) > expired[0]).await;
    eventually("the worker has a new one", || end(&worker) > expired[1]).await;
    eventually("both go on", || {
        is(&first, LocalState::Active, Role::Manager) && is(&worker, LocalState::Active, Role::Worker)
    })
    .await;

    // Past the grace a node has to join anew.
    lab.close(worker).await;
    lab.clock.advance(HOUR * 24 * 9);
    eventually("the manager goes on", || {
        is(&first, LocalState::Active, Role::Manager)
    })
    .await;
    let worker = lab.open(directories[1].path()).await;
    eventually("it is told why", || worker.local().error.is_some()).await;
    assert_eq!(worker.local().state, LocalState::Error);
    for node in [worker, first] {
        lab.close(node).await;
    }
}
