//! A large state in a store, with a leader on it.

use essaim_manager::{Effect, Leader, Outcome, catalog_of};
use essaim_objects::{
    Cluster, ClusterId, ClusterSpec, Network, NetworkId, Node, NodeId, NodeState, Service, ServiceId,
    TaskState, Timestamp, Version,
};
use essaim_orchestrator::{Now, Registration};
use essaim_store::{MAX_CHANGES, Object, Store, Transaction, View, allocate};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODES: u128 = 1_000;

/// Bytes of memory of this process.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

pub(crate) fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

fn put(store: &mut Store, objects: &[Object]) {
    for objects in objects.chunks(MAX_CHANGES) {
        let mut transaction = Transaction::new();
        for object in objects {
            transaction.create(object.clone());
        }
        allocate(store.view(), &mut transaction).unwrap();
        let index = store.view().index() + 1;
        store.apply(index, &transaction, Timestamp::UNIX_EPOCH).unwrap();
    }
}

fn objects(services: u128, tasks: u128) -> Vec<Object> {
    let mut objects = Vec::new();
    // Most nodes have no session here, and are to count as living all the same.
    let spec: ClusterSpec =
        serde_json::from_value(json!({"Dispatcher": {"HeartbeatPeriod": 3_600_000_000_000_i64}})).unwrap();
    let mut cluster = Cluster::new(ClusterId::from_bits(1), spec);
    cluster.default_addr_pool = Some(vec!["10.0.0.0/8".to_owned()]);
    cluster.subnet_size = Some(14);
    objects.push(Object::from(cluster));
    for (number, spec) in [
        (
            1,
            json!({"Name": "ingress", "Driver": "overlay", "Ingress": true}),
        ),
        (2, json!({"Name": "front", "Driver": "overlay"})),
    ] {
        objects.push(
            Network::new(
                NetworkId::from_bits(number),
                serde_json::from_value(spec).unwrap(),
            )
            .into(),
        );
    }
    for number in 1..=NODES {
        let mut node = Node::new(NodeId::from_bits(number), essaim_objects::NodeSpec::default());
        node.status.state = NodeState::Ready;
        node.status.addr = Some(format!("192.168.{}.{}", number / 250, number % 250 + 1));
        let description = json!({"Hostname": format!("n{number}"),
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 8_000_000_000_i64, "MemoryBytes": 8_000_000_000_i64}});
        node.description = Some(serde_json::from_value(description).unwrap());
        objects.push(node.into());
    }
    for number in 1..=services {
        let spec = json!({"Name": format!("s{number}"),
            "Mode": {"Replicated": {"Replicas": u64::try_from(tasks / services).unwrap()}},
            "TaskTemplate": {"ContainerSpec": {"Image": "web", "Env": ["A=1", "B=2"]},
                "Networks": [{"Target": NetworkId::from_bits(2)}]}});
        let mut service = Service::new(
            ServiceId::from_bits(number),
            Arc::new(serde_json::from_value(spec).unwrap()),
        );
        service.spec_version = Some(Version { index: 1 });
        objects.push(service.into());
    }
    objects
}

/// All nodes have a session, so that they are ready.
fn register(store: &Store, leader: &mut Leader, now: Now, bits: &mut u128) {
    for node in store.view().nodes() {
        let registration = Registration {
            node: node.id,
            description: node.description.clone().unwrap_or_default(),
            addr: node.status.addr.clone(),
            data_path_addr: None,
        };
        let mut random = || {
            *bits += 1;
            *bits
        };
        leader.register(registration, now, &mut random).unwrap();
    }
}

/// Everything that the leader asks for is done at once.
fn settle(store: &mut Store, leader: &mut Leader, begun: Instant, bits: &mut u128) {
    let mut waited = Duration::ZERO;
    loop {
        let now = Now {
            wall: Timestamp::UNIX_EPOCH,
            monotonic: begun.elapsed() + waited,
        };
        let effects = leader.poll(now, &mut || {
            *bits += 1;
            *bits
        });
        if effects.is_empty() {
            match leader.next_timeout() {
                // What comes later is none of this.
                Some(next) if next > now.monotonic && next < now.monotonic + Duration::from_millis(500) => {
                    waited += next.saturating_sub(now.monotonic);
                    continue;
                }
                _ => return,
            }
        }
        for effect in effects {
            if let Effect::Propose { id, command } = effect {
                let transaction = Transaction::decode(&command).unwrap();
                let index = store.view().index() + 1;
                let events = store.apply(index, &transaction, Timestamp::UNIX_EPOCH);
                let outcome = if events.is_ok() {
                    Outcome::Applied
                } else {
                    Outcome::Conflict
                };
                leader.handle_events(&events.unwrap_or_default(), store.view().clone(), now);
                leader.handle_outcome(id, outcome, now);
            }
        }
    }
}

/// Has a leader place all tasks, and says what that and a change cost; gives the state as it was then.
pub(crate) fn measure(services: u128, tasks: u128) -> View {
    let before = resident();
    let (begun, mut bits) = (Instant::now(), 1_u128 << 100);
    let mut store = Store::new();
    put(&mut store, &objects(services, tasks));
    let now = Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic: begun.elapsed(),
    };
    println!(
        "{services} services: {:.2?} to put into the store",
        begun.elapsed()
    );
    let mut leader = Leader::new(store.view().clone(), now);
    register(&store, &mut leader, now, &mut bits);
    let at = Instant::now();
    settle(&mut store, &mut leader, begun, &mut bits);
    let placed = store.view().tasks_in_state(TaskState::Assigned).count();
    println!(
        "{placed} of {tasks} tasks made, allotted and placed on {NODES} nodes in {:.2?}, proposals written and read",
        at.elapsed()
    );
    let whole = resident();
    println!(
        "memory with all of it and a leader: {} MiB",
        mebibytes(whole - before)
    );
    let at = Instant::now();
    let catalog = catalog_of(store.view());
    let made = at.elapsed();
    let text = catalog.to_toml();
    println!(
        "catalog: {made:.2?} to make, {:.2?} to write, {} KiB",
        at.elapsed().saturating_sub(made),
        text.len() >> 10
    );
    let view = store.view().clone();
    let at = Instant::now();
    let snapshot = view.encode().unwrap();
    let written = at.elapsed();
    let at = Instant::now();
    assert_eq!(View::decode(&snapshot).unwrap().tasks().len(), view.tasks().len());
    println!(
        "snapshot: {written:.2?} to write, {:.2?} to read, {} KiB",
        at.elapsed(),
        snapshot.len() >> 10
    );
    // A new leader looks at everything once.
    let at = Instant::now();
    let now = Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic: begun.elapsed(),
    };
    let mut next = Leader::new(store.view().clone(), now);
    register(&store, &mut next, now, &mut bits);
    settle(&mut store, &mut next, begun, &mut bits);
    println!("a new leader has looked at everything in {:.2?}", at.elapsed());
    // One task fails: what follows from it.
    let count = 100;
    let mut took = Vec::new();
    for task in store
        .view()
        .clone()
        .tasks_in_state(TaskState::Assigned)
        .take(count)
    {
        let mut failed = essaim_objects::Task::clone(task);
        failed.status.state = TaskState::Failed;
        let mut transaction = Transaction::new();
        transaction.update(failed);
        let index = store.view().index() + 1;
        let events = store.apply(index, &transaction, Timestamp::UNIX_EPOCH).unwrap();
        let at = Instant::now();
        let now = Now {
            wall: Timestamp::UNIX_EPOCH,
            monotonic: begun.elapsed(),
        };
        next.handle_events(&events, store.view().clone(), now);
        let effects = next.poll(now, &mut || {
            bits += 1;
            bits
        });
        took.push(at.elapsed());
        for effect in effects {
            if let Effect::Propose { id, .. } = effect {
                next.handle_outcome(id, Outcome::NotTried, now);
            }
        }
    }
    super::show("one task's event, handled and decided on", took);
    view
}
