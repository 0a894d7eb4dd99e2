//! The store with 10,000 services and 100,000 tasks: applying, views, snapshots, allocation, memory.
//!
//! `cargo bench -p essaim-store`. The size of the state is printed first. Its memory is the process's resident memory
//! after the log was applied, less that before: objects, tables, indexes, and what the allocator did not give back.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{BatchSize, Criterion, Throughput};
use essaim_objects::{
    Cluster, ClusterId, Network, NetworkId, Node, NodeId, NodeSpec, Service, ServiceId, ServiceSpec, Task,
    TaskId, TaskState, Timestamp,
};
use essaim_store::{Store, Transaction, View, allocate, audit};
use serde_json::json;
use std::hint::black_box;

const NETWORKS: u128 = 20;
const NODES: u128 = 1000;
const SERVICES: u128 = 10_000;
const TASKS_PER_SERVICE: u128 = 10;
/// Changes of a transaction of the bench.
const BATCH: usize = 200;

fn service(bits: u128) -> Service {
    let network = NetworkId::from_bits(1 + bits % NETWORKS);
    let spec: ServiceSpec = serde_json::from_value(json!({
        "Name": format!("service-{bits}"),
        "Labels": {"com.docker.stack.namespace": "bench", "com.docker.stack.image": "nginx:1.27"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "nginx:1.27@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "Env": ["LEVEL=info", "REGION=eu", format!("SERVICE={bits}"), "SLOT={{.Task.Slot}}"],
                "Labels": {"com.docker.stack.namespace": "bench"},
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5_000_000_000_i64},
            },
            "Resources": {"Limits": {"MemoryBytes": 67_108_864}, "Reservations": {"MemoryBytes": 8_388_608}},
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000_i64, "MaxAttempts": 0},
            "Placement": {"Constraints": ["node.role==worker"]},
            "Networks": [{"Target": network, "Aliases": [format!("alias-{bits}")]}],
            "ForceUpdate": 0,
        },
        "Mode": {"Replicated": {"Replicas": u64::try_from(TASKS_PER_SERVICE).unwrap()}},
        "EndpointSpec": {"Mode": "vip"},
    }))
    .unwrap();
    Service::new(ServiceId::from_bits(spread(bits)), spec.into())
}

/// Identities as random as real ones, but the same in each run.
fn spread(bits: u128) -> u128 {
    (bits + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn running(service: &Service, slot: u128) -> Task {
    let bits = spread(
        u128::from_str_radix(service.id.as_str(), 36)
            .unwrap()
            .wrapping_add(slot),
    );
    let mut task = Task::new(
        TaskId::from_bits(bits),
        Some(service.id),
        service.spec.task_template.clone(),
    );
    task.slot = Some(u64::try_from(slot).unwrap());
    task.node_id = Some(NodeId::from_bits(1 + bits % NODES));
    task.status.state = TaskState::Running;
    task.status.message = Some("started".to_owned());
    task.status.timestamp = Some(Timestamp::UNIX_EPOCH);
    task
}

/// A store, and the transactions that come next.
struct Log {
    store: Store,
    index: u64,
}

impl Log {
    /// Applies a transaction that holds as much as it may.
    fn apply_full(&mut self, transaction: &mut Transaction) {
        if transaction.changes.len() == BATCH {
            self.apply(transaction);
        }
    }

    fn apply(&mut self, transaction: &mut Transaction) {
        if transaction.changes.is_empty() {
            return;
        }
        let allotted = allocate(self.store.view(), transaction).unwrap();
        assert!(allotted.waiting.is_empty());
        // As every manager does: it reads what the log has.
        let read = Transaction::decode(&transaction.encode().unwrap()).unwrap();
        self.index += 1;
        self.store
            .apply(self.index, &read, Timestamp::UNIX_EPOCH)
            .unwrap();
        transaction.changes.clear();
    }
}

/// The cluster, its networks and nodes, and the services.
fn without_tasks() -> Log {
    let mut log = Log {
        store: Store::new(),
        index: 0,
    };
    let mut transaction = Transaction::new();
    transaction.create(Cluster::new(
        ClusterId::from_bits(1),
        essaim_objects::ClusterSpec::default(),
    ));
    for bits in 1..=NETWORKS {
        let subnet = format!("10.{bits}.0.0/16");
        let spec =
            json!({"Name": format!("network-{bits}"), "IPAMOptions": {"Configs": [{"Subnet": subnet}]}});
        transaction.create(Network::new(
            NetworkId::from_bits(bits),
            serde_json::from_value(spec).unwrap(),
        ));
    }
    log.apply(&mut transaction);
    for bits in 1..=NODES {
        transaction.create(Node::new(NodeId::from_bits(bits), NodeSpec::default()));
        log.apply_full(&mut transaction);
    }
    for bits in 0..SERVICES {
        transaction.create(service(bits));
        log.apply_full(&mut transaction);
    }
    log.apply(&mut transaction);
    log
}

/// The tasks of all services.
fn add_tasks(log: &mut Log) {
    let mut transaction = Transaction::new();
    let view = log.store.view().clone();
    for service in view.services() {
        for slot in 1..=TASKS_PER_SERVICE {
            transaction.create(running(service, slot));
            log.apply_full(&mut transaction);
        }
    }
    log.apply(&mut transaction);
}

/// Resident memory of the process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// A status report of the first so many tasks.
fn reports(view: &View, count: usize) -> Transaction {
    let mut transaction = Transaction::new();
    for task in view.tasks().take(count) {
        let mut report = task.as_ref().clone();
        report.status.message = Some("healthy".to_owned());
        transaction.update(report);
    }
    transaction
}

#[expect(clippy::print_stdout, reason = "the figures that are not times")]
fn main() {
    let empty = resident();
    let mut log = without_tasks();
    let services = resident();
    add_tasks(&mut log);
    let tasks = resident();
    let view = log.store.view().clone();
    let bytes = view.encode().unwrap();
    let count = view.tasks().len() as u64;
    println!(
        "state: {} services, {} nodes, {count} tasks; resident {} MiB for services and nodes, {} MiB more for tasks: \
         {} bytes each; snapshot {} MiB",
        view.services().len(),
        view.nodes().len(),
        (services - empty) >> 20,
        (tasks - services) >> 20,
        (tasks - services) / count,
        bytes.len() >> 20,
    );
    assert_eq!(audit(&view), []);
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    apply(&mut criterion, &log);
    let mut group = criterion.benchmark_group("view");
    group.bench_function("clone", |bench| bench.iter(|| black_box(view.clone())));
    group.bench_function("tasks_of_service", |bench| {
        let service = view.services().nth(5000).unwrap().id;
        bench.iter(|| black_box(view.tasks_of_service(service).count()));
    });
    group.bench_function("audit", |bench| bench.iter(|| black_box(audit(&view))));
    group.finish();
    let mut group = criterion.benchmark_group("snapshot");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("encode", |bench| bench.iter(|| black_box(view.encode().unwrap())));
    group.bench_function("decode", |bench| {
        bench.iter(|| black_box(View::decode(&bytes).unwrap()));
    });
    group.finish();
    criterion.final_summary();
}

fn apply(criterion: &mut Criterion, log: &Log) {
    let view = log.store.view();
    let next = log.index + 1;
    let mut group = criterion.benchmark_group("apply");
    for count in [1, BATCH] {
        let transaction = reports(view, count);
        let encoded = transaction.encode().unwrap();
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(format!("reports/{count}"), |bench| {
            bench.iter_batched(
                || log.store.clone(),
                |mut store| {
                    store.apply(next, &transaction, Timestamp::UNIX_EPOCH).unwrap();
                    store
                },
                BatchSize::LargeInput,
            );
        });
        group.bench_function(format!("decode/{count}"), |bench| {
            bench.iter(|| black_box(Transaction::decode(&encoded).unwrap()));
        });
        group.bench_function(format!("encode/{count}"), |bench| {
            bench.iter(|| black_box(transaction.encode().unwrap()));
        });
    }
    let mut new = Transaction::new();
    let service = view.services().next().unwrap();
    for slot in 0..BATCH as u128 {
        let mut task = running(service, 1000 + slot);
        task.status.state = TaskState::New;
        new.create(task);
    }
    group.bench_function(format!("allocate/{BATCH}"), |bench| {
        bench.iter_batched(
            || new.clone(),
            |mut new| {
                allocate(view, &mut new).unwrap();
                new
            },
            BatchSize::LargeInput,
        );
    });
    let mut completed = new.clone();
    allocate(view, &mut completed).unwrap();
    group.bench_function(format!("create/{BATCH}"), |bench| {
        bench.iter_batched(
            || log.store.clone(),
            |mut store| {
                store.apply(next, &completed, Timestamp::UNIX_EPOCH).unwrap();
                store
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}
