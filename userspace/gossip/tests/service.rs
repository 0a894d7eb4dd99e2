//! Services on real sockets of the loopback interface.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test ends at the first surprise"
)]

use essaim_gossip::{
    Config, DropReason, Epoch, Event, GossipHandle, GossipService, Key, KeyRing, MemberState, OwnTask,
    Sockets, Start, View,
};
use essaim_ipsec::{Generation, Said, Salt};
use essaim_model::{NetworkName, NodeName, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    name: NodeName,
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
    running: Option<(GossipHandle, JoinHandle<()>)>,
}

fn node_name(number: usize) -> NodeName {
    NodeName::new(&format!("n{number}")).unwrap()
}

fn app() -> BTreeSet<NetworkName> {
    [NetworkName::new("app").unwrap()].into()
}

fn web() -> TaskId {
    TaskId::new("web.1").unwrap()
}

fn tasks(state: TaskState) -> BTreeMap<TaskId, OwnTask> {
    let networks = app();
    [(web(), OwnTask { state, networks })].into()
}

fn ring(byte: u8) -> KeyRing {
    KeyRing::new(key(byte))
}

fn key(byte: u8) -> Key {
    Key::new([byte; 32])
}

impl Node {
    /// Opens the sockets and keeps them, as a holder would.
    fn bind(number: usize) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        Self {
            name: node_name(number),
            address,
            udp: UdpSocket::bind(address).unwrap(),
            tcp,
            running: None,
        }
    }

    fn start(&mut self, last_epoch: Epoch) {
        let start = Start {
            name: self.name.clone(),
            last_epoch,
            wall_clock_ms: 1,
            seed: [u8::try_from(last_epoch.number() % 256).unwrap(); 32],
            keys: ring(1),
            config: Config::default(),
        };
        let sockets = Sockets::from_open(self.udp.try_clone().unwrap(), self.tcp.try_clone().unwrap());
        let (service, handle) = GossipService::new(start, sockets).unwrap();
        self.running = Some((handle, tokio::spawn(service.run())));
    }

    fn stop(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
    }

    fn handle(&self) -> &GossipHandle {
        &self.running.as_ref().unwrap().0
    }

    async fn until(&self, what: &str, holds: impl Fn(&View) -> bool) -> Arc<View> {
        let mut view = self.handle().view();
        let found = tokio::time::timeout(PATIENCE, view.wait_for(|view| holds(view))).await;
        let found = found.unwrap_or_else(|_| panic!("{}: {what}", self.name)).unwrap();
        Arc::clone(&found)
    }
}

fn shows(view: &View, owner: usize, state: TaskState) -> bool {
    view.task(&node_name(owner), &web())
        .is_some_and(|fact| fact.state == state)
}

fn state(view: &View, node: usize) -> MemberState {
    view.members[&node_name(node)].state
}

async fn cluster(size: usize) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..size).map(Node::bind).collect();
    let peers: BTreeMap<NodeName, SocketAddr> = nodes
        .iter()
        .map(|node| (node.name.clone(), node.address))
        .collect();
    for node in &mut nodes {
        node.start(Epoch::UNHEARD);
        node.handle().set_interests(app()).await.unwrap();
        node.handle().set_peers(peers.clone()).await.unwrap();
    }
    for node in &nodes {
        node.until("hears of all", |view| {
            view.members.values().all(|member| member.epoch.is_heard())
        })
        .await;
    }
    nodes
}

#[tokio::test]
async fn a_task_is_known_everywhere_and_its_draining_acknowledged() {
    let nodes = cluster(3).await;
    let mut events = nodes[1].handle().events().unwrap();
    nodes[0]
        .handle()
        .set_tasks(tasks(TaskState::Ready))
        .await
        .unwrap();
    for node in &nodes {
        node.until("knows the task", |view| shows(view, 0, TaskState::Ready))
            .await;
    }
    let event = tokio::time::timeout(PATIENCE, events.recv())
        .await
        .unwrap()
        .unwrap();
    let expected = Event::TaskChanged {
        node: node_name(0),
        task: web(),
        state: Some(TaskState::Ready),
    };
    assert_eq!(event, expected);

    nodes[0]
        .handle()
        .set_tasks(tasks(TaskState::Draining))
        .await
        .unwrap();
    let view = nodes[1]
        .until("knows it drains", |view| shows(view, 0, TaskState::Draining))
        .await;
    nodes[1].handle().set_applied(view.version).await.unwrap();
    let pending = nodes[0]
        .handle()
        .wait_acks(web(), Duration::from_millis(400))
        .await
        .unwrap();
    assert_eq!(pending, [node_name(2)].into(), "the third has applied nothing");

    let view = nodes[2]
        .until("knows it drains", |view| shows(view, 0, TaskState::Draining))
        .await;
    let wait = nodes[0].handle().wait_acks(web(), PATIENCE);
    nodes[2].handle().set_applied(view.version).await.unwrap();
    assert_eq!(wait.await.unwrap(), BTreeSet::new());
}

#[tokio::test]
async fn a_dead_node_is_told_down_and_its_next_run_up() {
    let mut nodes = cluster(3).await;
    nodes[2]
        .handle()
        .set_tasks(tasks(TaskState::Ready))
        .await
        .unwrap();
    nodes[0]
        .until("knows the task", |view| shows(view, 2, TaskState::Ready))
        .await;
    let epoch = *nodes[2].handle().epoch().borrow();
    nodes[2].stop();
    for node in &nodes[..2] {
        node.until("tells it down", |view| state(view, 2) == MemberState::Down)
            .await;
    }
    nodes[2].start(epoch);
    nodes[2]
        .handle()
        .set_tasks(tasks(TaskState::Starting))
        .await
        .unwrap();
    let peers = nodes
        .iter()
        .map(|node| (node.name.clone(), node.address))
        .collect();
    nodes[2].handle().set_peers(peers).await.unwrap();
    for node in &nodes[..2] {
        node.until("tells it up", |view| {
            state(view, 2) == MemberState::Alive && shows(view, 2, TaskState::Starting)
        })
        .await;
    }
}

#[tokio::test]
async fn a_run_that_lost_its_disk_takes_a_later_epoch() {
    let mut nodes = cluster(2).await;
    let epoch = *nodes[1].handle().epoch().borrow();
    nodes[1].stop();
    nodes[1].start(epoch);
    let peers: BTreeMap<NodeName, SocketAddr> = nodes
        .iter()
        .map(|node| (node.name.clone(), node.address))
        .collect();
    nodes[1].handle().set_peers(peers.clone()).await.unwrap();
    let second = *nodes[1].handle().epoch().borrow();
    assert!(second > epoch);
    nodes[0]
        .until("hears of the second run", |view| {
            view.members[&node_name(1)].epoch == second
        })
        .await;
    nodes[1].stop();
    nodes[1].start(Epoch::UNHEARD);
    nodes[1]
        .handle()
        .set_tasks(tasks(TaskState::Ready))
        .await
        .unwrap();
    nodes[1].handle().set_peers(peers).await.unwrap();
    nodes[0]
        .until("knows the third run's task", |view| {
            shows(view, 1, TaskState::Ready)
        })
        .await;
    let mut third = nodes[1].handle().epoch();
    tokio::time::timeout(PATIENCE, third.wait_for(|third| *third > second))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_does_not_fit_datagrams_is_exchanged_over_tcp() {
    let nodes = cluster(2).await;
    let own = |number| {
        let task = TaskId::new(&format!("{number}-{}", "x".repeat(100))).unwrap();
        let networks = app();
        (
            task,
            OwnTask {
                state: TaskState::Ready,
                networks,
            },
        )
    };
    nodes[0]
        .handle()
        .set_tasks((0..2_000).map(own).collect())
        .await
        .unwrap();
    nodes[1]
        .until("knows them all", |view| {
            view.members[&node_name(0)].tasks.len() == 2_000
        })
        .await;
    assert!(nodes[1].handle().counters().frames_received > 0);
}

#[tokio::test]
async fn keys_are_changed_while_tasks_change() {
    let nodes = cluster(3).await;
    let steps = [ring(1).with_next(key(2)), ring(2).with_previous(key(1)), ring(2)];
    let states = [TaskState::Starting, TaskState::Ready, TaskState::Draining];
    for (step, state) in steps.into_iter().zip(states) {
        for (number, node) in nodes.iter().enumerate() {
            node.handle().set_keys(step.clone()).await.unwrap();
            if number == 1 {
                nodes[0].handle().set_tasks(tasks(state)).await.unwrap();
            }
        }
        for node in &nodes {
            node.until("knows the task", |view| shows(view, 0, state)).await;
        }
    }
    for node in &nodes {
        assert_eq!(node.handle().counters().dropped(DropReason::Sealed), 0);
    }
}

#[tokio::test]
async fn what_a_node_holds_of_encrypted_networks_is_known_everywhere_and_taken_back() {
    let nodes = cluster(3).await;
    let salt = |byte| Salt([byte; 16]);
    let said = |own, newest, heard: &[(usize, u8)]| Said {
        salt: salt(own),
        held: Some((Generation(1), Generation(newest))),
        heard: heard
            .iter()
            .map(|(node, theirs)| (node_name(*node), salt(*theirs)))
            .collect(),
    };
    // The second peer goes, then all go with another salt, then they come back.
    for step in [
        said(1, 1, &[]),
        said(1, 2, &[(1, 7), (2, 8)]),
        said(1, 3, &[(1, 7)]),
        said(2, 3, &[]),
        said(2, 3, &[(1, 7), (2, 9)]),
    ] {
        nodes[0].handle().set_ipsec(step.clone()).await.unwrap();
        for node in &nodes {
            node.until("knows what it holds", |view| {
                view.members[&node_name(0)].ipsec.as_ref() == Some(&step)
            })
            .await;
        }
    }
}

#[tokio::test]
async fn rubbish_is_dropped_and_counted() {
    let nodes = cluster(2).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(b"rubbish", nodes[0].address).unwrap();
    let long_name = [&[1, 1, 60][..], &[b'x'; 20]].concat();
    stranger.send_to(&long_name, nodes[0].address).unwrap();
    let counters = nodes[0].handle().clone();
    let counted = async {
        while counters.counters().dropped(DropReason::Version) == 0
            || counters.counters().dropped(DropReason::Truncated) == 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
}

#[tokio::test]
async fn a_service_ends_with_its_last_handle() {
    let mut node = Node::bind(0);
    node.start(Epoch::UNHEARD);
    let (handle, task) = node.running.take().unwrap();
    let mut view = handle.view();
    drop(handle);
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    assert!(view.changed().await.is_err());
}
