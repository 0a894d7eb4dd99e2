use super::*;
use essaim_raft::memory::{DiskFaults, MemoryDisk};
use essaim_raft::{StateDirectory, Tuning};
use std::io::ErrorKind;
use std::path::PathBuf;

const FULL: DiskFaults = DiskFaults {
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    fail_after: Some((0, ErrorKind::StorageFull)),
};

/// What becomes of a file.
type Damage = dyn Fn(&mut Vec<u8>);

/// A node whose log lies on this disk.
async fn opened(lab: &Lab, directory: &TempDir, disk: &MemoryDisk) -> Node {
    let disk = disk.clone();
    let options = NodeOptions {
        disk: Arc::new(move |_| Ok(Arc::new(disk.clone()))),
        ..lab.options(directory.path())
    };
    let node = Node::open(options).await.unwrap();
    lab.nodes.lock().unwrap().push(node.clone());
    node
}

async fn label(node: &Node, value: &str) -> Result<(), NodeError> {
    // As it is known here: a manager whose disk is full answers no read.
    let view = replica(node).view();
    let cluster = view.cluster().unwrap();
    let mut spec = cluster.spec.clone();
    let labels = spec.labels.get_or_insert_default();
    labels.insert("label".to_owned(), value.to_owned());
    node.update_swarm(cluster.version, &spec, Rotate::default()).await
}

fn labelled(node: &Node) -> Option<String> {
    let view = node.replica()?.view();
    view.cluster()?.spec.labels.as_ref()?.get("label").cloned()
}

fn error(node: &Node) -> String {
    node.local().error.unwrap_or_default()
}

/// Changes the label until that is done.
async fn label_at_last(node: &Node, value: &str) {
    let deadline = Instant::now() + SOON;
    while label(node, value).await.is_err() {
        assert!(Instant::now() < deadline, "{}", error(node));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_only_manager_until_there_is_room_and_loses_nothing() {
    let (lab, directory, disk) = (Lab::new(), TempDir::new().unwrap(), MemoryDisk::new(1));
    let node = opened(&lab, &directory, &disk).await;
    node.init(lab.init_request(1)).await.unwrap();
    label_at_last(&node, "before").await;
    disk.set_faults(FULL);
    assert!(
        label(&node, "while it is full").await.is_err(),
        "it is not acknowledged"
    );
    eventually("it says why", || error(&node).contains("no space left to")).await;
    assert!(error(&node).contains("make room"), "{}", error(&node));
    disk.set_faults(DiskFaults::default());
    eventually("it goes on", || {
        is(&node, LocalState::Active, Role::Manager) && error(&node).is_empty()
    })
    .await;
    assert_ne!(labelled(&node), None, "what was acknowledged is there");
    label_at_last(&node, "after").await;
    assert_eq!(labelled(&node).as_deref(), Some("after"));
    lab.close(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_whose_disk_is_full_holds_up_no_other_and_catches_up() {
    let (lab, directories) = (Lab::new(), [(); 3].map(|()| TempDir::new().unwrap()));
    let disk = MemoryDisk::new(1);
    let first = lab.init(&directories[0]).await;
    let second = lab.join(&first, &directories[1], 2, Role::Manager).await;
    let third = opened(&lab, &directories[2], &disk).await;
    let token = token(&first, Role::Manager).await;
    third.join(lab.join_request(3, &token)).await.unwrap();
    disk.set_faults(FULL);
    for value in ["a", "b", "c"] {
        label_at_last(&first, value).await;
    }
    eventually("the second follows", || labelled(&second).as_deref() == Some("c")).await;
    eventually("the third says why not", || {
        error(&third).contains("no space left to")
    })
    .await;
    disk.set_faults(DiskFaults::default());
    eventually("the third catches up", || {
        labelled(&third).as_deref() == Some("c")
    })
    .await;
    eventually("and has no more to say", || error(&third).is_empty()).await;
    for node in [first, second, third] {
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_go_by_the_cluster_s_raft_values_at_once_and_after_a_restart() {
    let (lab, directory, disk) = (Lab::new(), TempDir::new().unwrap(), MemoryDisk::new(1));
    let node = opened(&lab, &directory, &disk).await;
    node.init(lab.init_request(1)).await.unwrap();
    assert_eq!(replica(&node).raft().tuning(), Tuning::default());
    update(&node, Rotate::default(), |spec| {
        let raft = spec.raft.get_or_insert_default();
        raft.snapshot_interval = Some(5);
        raft.keep_old_snapshots = Some(2);
        raft.log_entries_for_slow_followers = Some(3);
    })
    .await;
    let asked = Tuning {
        snapshot_interval: 5,
        entries_kept: 3,
        snapshots_kept: 2,
    };
    let goes_by = |node: &Node| node.replica().map(|replica| replica.raft().tuning());
    eventually("it goes by them", || goes_by(&node) == Some(asked)).await;
    for number in 0..40 {
        label_at_last(&node, &number.to_string()).await;
    }
    let snapshots = || {
        let names = disk.files();
        names.keys().filter(|name| name.starts_with("snapshot-")).count()
    };
    eventually("two stay beside the newest", || snapshots() == 3).await;
    eventually("the log is short", || {
        replica(&node).raft().metrics().log_entries < 20
    })
    .await;
    lab.close(node).await;
    let node = opened(&lab, &directory, &disk).await;
    eventually("it goes by them again", || goes_by(&node) == Some(asked)).await;
    assert_eq!((snapshots(), labelled(&node).as_deref()), (3, Some("39")));
    lab.close(node).await;
}

/// A manager's directory with a label in the log and in a snapshot, and the snapshot's name.
async fn kept(lab: &Lab) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let node = lab.init(&directory).await;
    label_at_last(&node, "in the snapshot").await;
    let raft = replica(&node).raft().clone();
    raft.make_snapshot().await.unwrap();
    eventually("there is a snapshot", || raft.status().snapshot.is_some()).await;
    label_at_last(&node, "in the log").await;
    lab.close(node).await;
    let files = std::fs::read_dir(directory.path().join("raft")).unwrap();
    let names = files.map(|file| PathBuf::from(file.unwrap().file_name()));
    let snapshot = names.filter(|name| name.to_string_lossy().starts_with("snapshot-"));
    let snapshot = snapshot.max().unwrap();
    (directory, snapshot)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_or_a_torn_snapshot_is_refused_by_its_name_and_left_as_it_is() {
    let lab = Lab::new();
    let (directory, snapshot) = kept(&lab).await;
    let damage_log = |content: &mut Vec<u8>| {
        for byte in content.iter_mut().skip(4096).step_by(97) {
            *byte ^= 0x55;
        }
    };
    let tear = |content: &mut Vec<u8>| content.truncate(content.len() / 2);
    let damages: [(PathBuf, &Damage); 2] = [("log.redb".into(), &damage_log), (snapshot, &tear)];
    for (name, damage) in damages {
        let image = TempDir::new().unwrap();
        copy(directory.path(), image.path());
        let file = image.path().join("raft").join(&name);
        let mut content = std::fs::read(&file).unwrap();
        let whole = content.clone();
        damage(&mut content);
        assert_ne!(content, whole);
        std::fs::write(&file, &content).unwrap();
        let refused = text(Node::open(lab.options(image.path())).await.map(drop));
        let begin = format!("{} is damaged and was left as it is; restore", file.display());
        assert!(
            refused.starts_with(&begin) && refused.contains("join again"),
            "{refused}"
        );
        // With that one file as it was, nothing is missing.
        std::fs::write(&file, &whole).unwrap();
        let node = lab.open(image.path()).await;
        eventually("it leads", || labelled(&node).as_deref() == Some("in the log")).await;
        lab.close(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_was_not_finished_is_passed_over() {
    let lab = Lab::new();
    let (directory, _) = kept(&lab).await;
    let unfinished = directory.path().join("raft/unfinished-snapshot");
    std::fs::write(&unfinished, b"essaim snap").unwrap();
    let node = lab.open(directory.path()).await;
    eventually("nothing is missing", || {
        labelled(&node).as_deref() == Some("in the log")
    })
    .await;
    assert!(!unfinished.exists());
    lab.close(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_used_is_named() {
    let (lab, directory) = (Lab::new(), TempDir::new().unwrap());
    let node = lab.init(&directory).await;
    lab.close(node).await;
    let raft = directory.path().join("raft");
    std::fs::rename(&raft, directory.path().join("elsewhere")).unwrap();
    std::fs::write(&raft, b"no directory").unwrap();
    assert!(StateDirectory::open(&raft).is_err());
    let refused = text(Node::open(lab.options(directory.path())).await.map(drop));
    assert!(
        refused.contains(&format!("{} cannot be used", raft.display())),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_whose_clock_is_an_hour_ahead_serves_and_renews_nothing() {
    let (lab, directories) = (Lab::new(), [(); 4].map(|()| TempDir::new().unwrap()));
    let first = lab.init(&directories[0]).await;
    let second = lab.join(&first, &directories[1], 2, Role::Manager).await;
    let clock = Arc::new(Clock::default());
    clock.advance(Duration::from_hours(1));
    let options = NodeOptions {
        time: clock,
        ..lab.options(directories[2].path())
    };
    let ahead = Node::open(options).await.unwrap();
    lab.nodes.lock().unwrap().push(ahead.clone());
    let managers = token(&first, Role::Manager).await;
    ahead.join(lab.join_request(3, &managers)).await.unwrap();
    let serial = |node: &Node| {
        let identity = node.identity().unwrap();
        identity.current().certificate().to_pem()
    };
    let before = [&first, &second, &ahead].map(serial);
    // Whatever is to be done is done by the time that another has joined through it, which it asks the leader for.
    let worker = lab.open(directories[3].path()).await;
    let mut request = lab.join_request(4, &token(&ahead, Role::Worker).await);
    request.remote_addrs = Some(vec![lab.address(3)]);
    worker.join(request).await.unwrap();
    label_at_last(&ahead, "by the one ahead").await;
    label_at_last(&first, "by another").await;
    eventually("all follow", || {
        [&first, &second, &ahead].map(labelled) == [(); 3].map(|()| Some("by another".to_owned()))
    })
    .await;
    assert_eq!(
        [&first, &second, &ahead].map(serial),
        before,
        "nobody has renewed"
    );
    // It goes on when the leader goes.
    lab.close(first).await;
    lab.close(worker).await;
    label_at_last(&ahead, "without the first").await;
    assert_eq!(
        [&second, &ahead].map(serial),
        [before[1].clone(), before[2].clone()]
    );
    for node in [second, ahead] {
        lab.close(node).await;
    }
}
