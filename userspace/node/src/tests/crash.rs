use super::*;

/// What a crash may leave: the directory as it was at some moment.
async fn opened(lab: &Lab, image: &Path) -> (LocalState, Option<Role>) {
    let node = Node::open(lab.options(image)).await.unwrap_or_else(|error| {
        panic!("{}", essaim_rpc::chain(&error));
    });
    let local = node.local();
    node.shutdown().await;
    (local.state, local.role)
}

/// Takes copies of a directory as fast as can be until it is stopped.
struct Images {
    into: TempDir,
    stop: Arc<std::sync::atomic::AtomicBool>,
    taker: std::thread::JoinHandle<u32>,
}

impl Images {
    fn of(directory: &Path) -> Self {
        let images = TempDir::new().unwrap();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (from, to, stopped) = (directory.to_owned(), images.path().to_owned(), stop.clone());
        let taker = std::thread::spawn(move || {
            let mut taken = 0;
            // The last is of when it is done, if the machine had time for no other.
            loop {
                let last = stopped.load(Ordering::Relaxed);
                copy(&from, &to.join(taken.to_string()));
                taken += 1;
                if last {
                    return taken;
                }
            }
        });
        Self {
            into: images,
            stop,
            taker,
        }
    }

    fn taken(self) -> (TempDir, u32) {
        self.stop.store(true, Ordering::Relaxed);
        (self.into, self.taker.join().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_cut_off_anywhere_is_refused_with_what_to_do() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let node = lab.init(&directory).await;
    lab.close(node).await;
    let path = directory.path().join("node.json");
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let Err(error) = Node::open(lab.options(directory.path())).await else {
            panic!("{length} bytes of a record were taken for one")
        };
        let error = essaim_rpc::chain(&error);
        assert!(
            error.contains("restore the whole directory from a copy"),
            "{error}"
        );
    }
    // What was being written beside it does not matter.
    std::fs::write(&path, &whole).unwrap();
    std::fs::write(directory.path().join("node.json.new"), b"{").unwrap();
    assert_eq!(
        opened(&lab, directory.path()).await,
        (LocalState::Active, Some(Role::Manager))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_left_of_an_init_or_a_leave_is_removed() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let node = lab.init(&directory).await;
    lab.close(node).await;
    let record = std::fs::read_to_string(directory.path().join("node.json")).unwrap();
    for phase in ["Entering", "Leaving"] {
        for lost in [&[][..], &["raft"], &["certificates"], &["raft", "certificates"]] {
            let image = TempDir::new().unwrap();
            copy(directory.path(), image.path());
            let begun = record.replace("\"Member\"", &format!("\"{phase}\""));
            assert_ne!(begun, record);
            std::fs::write(image.path().join("node.json"), begun).unwrap();
            for lost in lost {
                std::fs::remove_dir_all(image.path().join(lost)).unwrap();
            }
            assert_eq!(opened(&lab, image.path()).await, (LocalState::Inactive, None));
            assert_eq!(
                std::fs::read_dir(image.path()).unwrap().count(),
                0,
                "{phase}, without {lost:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_new_cluster_that_was_interrupted_is_made_when_it_comes_back() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let node = lab.init(&directory).await;
    lab.close(node).await;
    let path = directory.path().join("node.json");
    let record = std::fs::read_to_string(&path).unwrap();
    for _ in 0..2 {
        std::fs::write(&path, record.replace("\"Member\"", "{\"ForcingNewCluster\": 5}")).unwrap();
        let node = lab.open(directory.path()).await;
        assert_eq!(replica(&node).read().await.unwrap().nodes().len(), 1);
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_is_killed_at_any_moment_leaves_a_manager_or_nothing() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let images = Images::of(directory.path());
    let node = lab.init(&directory).await;
    lab.close(node).await;
    let (images, taken) = images.taken();
    let mut begun = 0;
    for image in 0..taken {
        let image = images.path().join(image.to_string());
        let record = std::fs::read_to_string(image.join("node.json")).unwrap_or_default();
        // A copy is not of one moment: that of a log in use is no crash's. The log's own tests see to those.
        if record.contains("\"Member\"") {
            continue;
        }
        begun += 1;
        assert_eq!(opened(&lab, &image).await, (LocalState::Inactive, None));
    }
    assert!(
        begun > 0,
        "none of {taken} images is of the time before it was done"
    );
    // Done, it is a manager.
    assert_eq!(
        opened(&lab, directory.path()).await,
        (LocalState::Active, Some(Role::Manager))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_role_that_is_killed_is_the_old_or_the_new_role() {
    let lab = Lab::new();
    let directories: [TempDir; 2] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.init(&directories[0]).await;
    let other = lab.join(&first, &directories[1], 2, Role::Worker).await;
    let worker = TempDir::new().unwrap();
    copy(directories[1].path(), worker.path());
    ask_role(&first, id(&other), NodeRole::Manager).await;
    eventually("it is a manager", || {
        is(&other, LocalState::Active, Role::Manager)
    })
    .await;
    let of = id(&other);
    lab.close(other).await;
    // Killed after its certificate was a manager's, before it was told of to anybody: it goes on by itself.
    let image = TempDir::new().unwrap();
    copy(directories[1].path(), image.path());
    std::fs::remove_dir_all(image.path().join("raft")).unwrap();
    let (state, role) = opened(&lab, image.path()).await;
    assert_eq!((state, role), (LocalState::Pending, Some(Role::Manager)));
    // Killed after its certificate was a worker's, before its log was gone.
    let image = TempDir::new().unwrap();
    copy(worker.path(), image.path());
    copy(&directories[1].path().join("raft"), &image.path().join("raft"));
    let record = std::fs::read_to_string(directories[1].path().join("node.json")).unwrap();
    std::fs::write(image.path().join("node.json"), record).unwrap();
    assert_eq!(
        opened(&lab, image.path()).await,
        (LocalState::Active, Some(Role::Worker))
    );
    assert!(!image.path().join("raft").exists());
    let back = lab.open(directories[1].path()).await;
    assert_eq!(id(&back), of);
    eventually("it goes on", || is(&back, LocalState::Active, Role::Manager)).await;
    for node in [back, first] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_that_is_killed_at_any_moment_leaves_a_worker_or_nothing() {
    let lab = Lab::new();
    let directories: [TempDir; 2] = std::array::from_fn(|_| TempDir::new().unwrap());
    let first = lab.init(&directories[0]).await;
    let images = Images::of(directories[1].path());
    let worker = lab.join(&first, &directories[1], 2, Role::Worker).await;
    lab.close(worker).await;
    let (images, taken) = images.taken();
    let mut seen = std::collections::BTreeMap::new();
    for image in 0..taken {
        let found = opened(&lab, &images.path().join(image.to_string())).await;
        *seen.entry(format!("{found:?}")).or_insert(0) += 1;
    }
    let possible = [
        (LocalState::Inactive, None),
        (LocalState::Active, Some(Role::Worker)),
    ];
    let possible = possible.map(|one| format!("{one:?}"));
    assert!(seen.keys().all(|found| possible.contains(found)), "{seen:?}");
    // Done, it is a worker.
    let done = opened(&lab, directories[1].path()).await;
    assert_eq!(done, (LocalState::Active, Some(Role::Worker)));
    lab.close(first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_dropped_gives_its_port_and_its_log_back() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    for round in 0..3 {
        let node = if round == 0 {
            lab.init(&directory).await
        } else {
            let deadline = Instant::now() + SOON;
            loop {
                match Node::open(lab.options(directory.path())).await {
                    Ok(node) => break node,
                    Err(error) => assert!(Instant::now() < deadline, "{}", essaim_rpc::chain(&error)),
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        eventually("it is a manager", || is(&node, LocalState::Active, Role::Manager)).await;
        assert_eq!(replica(&node).read().await.unwrap().nodes().len(), 1);
        lab.nodes.lock().unwrap().clear();
        drop(node);
    }
}
