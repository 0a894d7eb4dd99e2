use crate::fakes::{FakeDataplane, FakeRunner};
use crate::manager::{Authority, Manager, clock};
use crate::within;
use essaim_ca::{LiveIdentity, Role};
use essaim_objects::{Task, TaskId, TaskState};
use essaim_protocol::{Assignment, Basis, CatalogUpdate, GossipKey, PART, ToNode, encode, parts};
use essaim_rpc::Code;
use essaim_worker::{Dataplane as _, Describe, LeaderLink, Notice, Word, WorkerOptions, run_worker};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

struct Worker {
    notices: mpsc::Receiver<Notice>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

/// What outlives a worker.
struct Machine {
    identity: Arc<LiveIdentity>,
    directory: TempDir,
    runner: Arc<FakeRunner>,
    dataplane: Arc<FakeDataplane>,
}

impl Machine {
    fn new(authority: &Authority) -> Self {
        Self {
            identity: authority.member(Role::Worker),
            directory: TempDir::new().unwrap(),
            runner: Arc::default(),
            dataplane: Arc::new(FakeDataplane {
                resolv_conf: "/etc/resolv.conf".into(),
                ..FakeDataplane::default()
            }),
        }
    }

    fn worker(&self, managers: &[&Manager]) -> Worker {
        let (_, events) = mpsc::channel(1);
        let options = WorkerOptions {
            identity: Arc::clone(&self.identity),
            time: clock(),
            managers: managers.iter().map(|manager| manager.address.clone()).collect(),
            directory: self.directory.path().join("worker"),
            describe: Describe {
                hostname: Some("one".to_owned()),
                ..Describe::default()
            },
            data_path: None,
            runner: Arc::clone(&self.runner),
            events,
            dataplane: Arc::clone(&self.dataplane),
            leader: LeaderLink::default(),
        };
        let (tell, notices) = mpsc::channel(100);
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            run_worker(options, tell, stopped).await.unwrap();
        });
        Worker {
            notices,
            stop,
            running,
        }
    }

    fn runs(&self, number: u128) -> bool {
        let tasks = self.runner.tasks.lock().unwrap();
        let name = essaim_model::TaskId::new(TaskId::from_bits(number).as_str()).unwrap();
        matches!(tasks.get(&name), Some(essaim_runner::TaskState::Running(_)))
    }
}

impl Worker {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        within(self.running).await.unwrap();
    }

    async fn notice(&mut self) -> Notice {
        within(self.notices.recv()).await.unwrap()
    }

    async fn notices_until(&mut self, wanted: &Notice) {
        while self.notice().await != *wanted {}
    }
}

fn task(number: u128, desired: TaskState) -> Task {
    let spec = serde_json::json!({"ContainerSpec": {"Image": "host", "Args": ["sleep", "1000"]}});
    let spec = serde_json::from_value(spec).unwrap();
    let mut task = Task::new(TaskId::from_bits(number), None, Arc::new(spec));
    task.status.state = TaskState::Assigned;
    task.desired_state = desired;
    task
}

fn tasks(all: &[(u128, TaskState)]) -> Vec<Assignment> {
    let tasks = all.iter().map(|(number, desired)| task(*number, *desired));
    tasks.map(|task| Assignment::Task(Arc::new(task))).collect()
}

fn id(number: u128) -> TaskId {
    TaskId::from_bits(number)
}

const UP: TaskState = TaskState::Running;

#[tokio::test]
async fn the_leader_is_found_and_all_it_says_arrives() {
    let authority = Authority::new();
    let (other, mut leader) = (
        authority.manager("127.0.0.1:0").await,
        authority.manager("127.0.0.1:0").await,
    );
    other.goes(|ways| ways.leader = Some(leader.named()));
    let machine = Machine::new(&authority);
    let mut worker = machine.worker(&[&other]);
    let request = leader.session().await;
    assert_eq!(request.holds, None);
    assert_eq!(request.description.hostname.as_deref(), Some("one"));
    let tls = request.description.tls_info.unwrap();
    assert_eq!(tls.trust_root, Some(machine.identity.current().trust().to_pem()));
    assert!(request.description.resources.unwrap().memory_bytes.unwrap() > 1 << 20);
    assert_eq!(worker.notice().await, Notice::Managers(vec![leader.named()]));
    assert_eq!(worker.notice().await, Notice::Connected(true));
    assert!(matches!(worker.notice().await, Notice::Node(_)));
    leader.says(&ToNode::TrustRoots("roots".to_owned()));
    assert_eq!(worker.notice().await, Notice::TrustRoots("roots".to_owned()));
    let keys = vec![GossipKey {
        key: vec![7; 32].into(),
    }];
    leader.says(&ToNode::GossipKeys(keys.clone()));
    leader.assigns(Basis::Nothing, 1, tasks(&[(1, UP), (2, TaskState::Ready)]));
    leader.hears(id(1), UP).await;
    assert_eq!(*machine.dataplane.keys.lock().unwrap(), keys);
    assert_eq!(
        *machine.dataplane.told.lock().unwrap().last().unwrap(),
        (id(1), Word::Running { pid: 42 })
    );
    leader.assigns(Basis::Number(1), 2, tasks(&[(2, UP), (1, TaskState::Shutdown)]));
    let mut left = std::collections::BTreeMap::from([(id(1), TaskState::Shutdown), (id(2), UP)]);
    while !left.is_empty() {
        for report in leader.report().await.tasks {
            if left.get(&report.task) == Some(&report.status.state) {
                left.remove(&report.task);
            }
        }
    }
    assert!(machine.runs(2) && !machine.runs(1));
    worker.stop().await;
    assert!(machine.runs(2), "a task ended with the worker");
}

#[tokio::test]
async fn a_cut_a_gap_and_a_lost_answer_each_end_well() {
    let authority = Authority::new();
    let mut leader = authority.manager("127.0.0.1:0").await;
    let machine = Machine::new(&authority);
    let mut worker = machine.worker(&[&leader]);
    leader.session().await;
    leader.goes(|ways| ways.lost_reports = 1);
    leader.assigns(Basis::Nothing, 1, tasks(&[(1, UP)]));
    let first = leader.report().await;
    assert_eq!(first.tasks.len(), 1);
    leader.hears(id(1), UP).await;
    // The session is cut: the next one learns how the task is, and nothing happens to it.
    worker.notices_until(&Notice::Connected(true)).await;
    leader.cuts();
    worker.notices_until(&Notice::Connected(false)).await;
    leader.session().await;
    leader.hears(id(1), UP).await;
    // A message is missing.
    leader.assigns(Basis::Nothing, 1, tasks(&[(1, UP)]));
    leader.assigns(Basis::Number(2), 3, tasks(&[(1, TaskState::Shutdown)]));
    leader.session().await;
    assert!(machine.runs(1), "a message out of order was obeyed");
    // Part of the catalog is missing: the next session sends all of it.
    let catalog = |basis, revision| {
        ToNode::Catalog(CatalogUpdate {
            revision,
            basis,
            text: String::new(),
        })
    };
    leader.says(&catalog(None, 7));
    leader.says(&catalog(Some(6), 8));
    assert_eq!(leader.session().await.holds, None);
    leader.says(&catalog(None, 9));
    leader.says(&catalog(Some(9), 10));
    leader.says(&ToNode::TrustRoots("marker".to_owned()));
    worker
        .notices_until(&Notice::TrustRoots("marker".to_owned()))
        .await;
    leader.cuts();
    assert_eq!(leader.session().await.holds, Some(10));
    worker.stop().await;
}

#[tokio::test]
async fn a_catalog_in_parts_is_taken_whole_or_not_at_all() {
    let authority = Authority::new();
    let mut leader = authority.manager("127.0.0.1:0").await;
    let machine = Machine::new(&authority);
    let mut worker = machine.worker(&[&leader]);
    leader.session().await;
    let catalog = |revision, length| {
        encode(&ToNode::Catalog(CatalogUpdate {
            revision,
            basis: None,
            text: "x".repeat(length),
        }))
    };
    // More than the port takes at once.
    parts(1, catalog(7, 25 << 20)).for_each(|part| leader.sends(part));
    leader.says(&ToNode::TrustRoots("marker".to_owned()));
    worker
        .notices_until(&Notice::TrustRoots("marker".to_owned()))
        .await;
    assert_eq!(machine.dataplane.revision(), Some(7));
    // One is lost, comes twice, or another message comes between: what was held holds on, and a new session is begun.
    let whole: Vec<_> = parts(2, catalog(8, 3 * PART)).collect();
    let next = encode(&ToNode::TrustRoots("between".to_owned()));
    for faulty in [
        vec![whole[0].clone(), whole[2].clone()],
        vec![whole[0].clone(), whole[0].clone()],
        vec![whole[0].clone(), whole[1].clone(), next],
    ] {
        for part in faulty {
            leader.sends(part);
        }
        assert_eq!(leader.session().await.holds, Some(7));
    }
    // What an earlier session has left unfinished is no part of the next.
    leader.sends(whole[0].clone());
    leader.cuts();
    assert_eq!(leader.session().await.holds, Some(7));
    for part in whole {
        leader.sends(part);
    }
    leader.says(&ToNode::TrustRoots("done".to_owned()));
    worker.notices_until(&Notice::TrustRoots("done".to_owned())).await;
    assert_eq!(machine.dataplane.revision(), Some(8));
    worker.stop().await;
}

#[tokio::test]
async fn managers_that_are_away_change_nothing_and_are_found_again_by_a_restarted_worker() {
    let authority = Authority::new();
    let (mut first, second) = (
        authority.manager("127.0.0.1:0").await,
        authority.manager("127.0.0.1:0").await,
    );
    let machine = Machine::new(&authority);
    let mut worker = machine.worker(&[&first]);
    first.session().await;
    first.says(&ToNode::Managers(vec![first.named(), second.named()]));
    first.assigns(Basis::Nothing, 1, tasks(&[(1, UP), (2, UP)]));
    worker
        .notices_until(&Notice::Managers(vec![first.named(), second.named()]))
        .await;
    let mut up = std::collections::BTreeSet::new();
    while up.len() < 2 {
        let reports = first.report().await.tasks.into_iter();
        up.extend(
            reports
                .filter(|report| report.status.state == UP)
                .map(|report| report.task),
        );
    }
    // Both go away, then the worker; one task ends meanwhile, and is reported to the one that is back.
    first.kill().await;
    let address = second.kill().await;
    worker.notices_until(&Notice::Connected(false)).await;
    worker.stop().await;
    let name = essaim_model::TaskId::new(id(2).as_str()).unwrap();
    essaim_runner::Runner::stop(&*machine.runner, &name, None, None)
        .await
        .unwrap();
    let worker = machine.worker(&[]);
    let mut back = authority.manager(&address).await;
    back.session().await;
    let mut reports = std::collections::BTreeMap::new();
    while reports.len() < 2 {
        let tasks = back.report().await.tasks.into_iter();
        reports.extend(tasks.map(|report| (report.task, report.status)));
    }
    assert_eq!(reports[&id(1)].state, UP);
    assert_eq!(reports[&id(2)].state, TaskState::Failed);
    assert_eq!(reports[&id(2)].err.as_deref(), Some("task: non-zero exit (143)"));
    assert!(machine.runs(1));
    worker.stop().await;
}

#[tokio::test]
async fn a_node_that_is_no_member_any_more_is_told_so_once() {
    let authority = Authority::new();
    let mut manager = authority.manager("127.0.0.1:0").await;
    manager.goes(|ways| ways.refuses = Some(Code::NotFound));
    let machine = Machine::new(&authority);
    let mut worker = machine.worker(&[&manager]);
    assert_eq!(worker.notice().await, Notice::Removed);
    manager.goes(|ways| ways.refuses = None);
    manager.session().await;
    assert_eq!(worker.notice().await, Notice::Connected(true));
    worker.stop().await;
}

#[tokio::test]
async fn another_cluster_is_no_leader() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (mut right, wrong) = (
        authority.manager("127.0.0.1:0").await,
        other.manager("127.0.0.1:0").await,
    );
    let machine = Machine::new(&authority);
    let mut worker = machine.worker(&[&wrong, &right]);
    right.session().await;
    assert_eq!(worker.notice().await, Notice::Connected(true));
    worker.stop().await;
}

#[tokio::test]
async fn heartbeats_come_when_they_are_due_and_a_new_certificate_begins_a_new_session() {
    let authority = Authority::new();
    let mut leader = authority.manager("127.0.0.1:0").await;
    leader.goes(|ways| ways.heartbeat_ms = 5);
    let machine = Machine::new(&authority);
    let worker = machine.worker(&[&leader]);
    let before = leader.session().await;
    for _ in 0..3 {
        leader.heartbeat().await;
    }
    // Of another root, so that what the node says of itself differs.
    let node = machine.identity.current().peer().node_id.clone();
    let next = authority.identity(Role::Worker, node);
    let both = next.trust().with(
        Authority::new()
            .identity(Role::Worker, next.peer().node_id.clone())
            .trust(),
    );
    machine.identity.replace(next.with_trust(both).unwrap()).unwrap();
    let after = leader.session().await;
    assert_ne!(before.description.tls_info, after.description.tls_info);
    worker.stop().await;
}
