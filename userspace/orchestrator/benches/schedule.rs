//! 10,000 tasks on 1,000 nodes: of one service, of a thousand, and spread over zones.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[path = "../tests/cluster/make.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod make;
#[path = "../tests/cluster/memory.rs"]
#[expect(dead_code, reason = "shared with the tests")]
mod memory;

use criterion::{Criterion, criterion_group, criterion_main};
use essaim_objects::{Task, TaskId, TaskSpec, TaskState, Timestamp};
use essaim_orchestrator::{Now, Scheduler};
use memory::Memory;
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const NODES: u128 = 1_000;
const TASKS: u128 = 10_000;

/// A cluster whose tasks all wait.
fn cluster(services: u128, spec: &serde_json::Value) -> Memory {
    let mut store = Memory::default();
    for number in 1..=NODES {
        let zone = format!("z{}", number % 7);
        let labels = json!({"Spec": {"Labels": {"zone": zone, "disk": "ssd"}}});
        store.put_node(make::node(number, &labels), Timestamp::UNIX_EPOCH);
    }
    let spec: Arc<TaskSpec> = Arc::new(serde_json::from_value(spec.clone()).unwrap());
    for number in 0..TASKS {
        let service = make::service_id(number % services);
        let mut task = Task::new(TaskId::from_bits(number), Some(service), spec.clone());
        task.slot = u64::try_from(number).ok();
        task.status.state = TaskState::Pending;
        store.put_task(task, Timestamp::UNIX_EPOCH);
    }
    store
}

fn schedule(criterion: &mut Criterion) {
    let now = Now {
        wall: Timestamp::UNIX_EPOCH,
        monotonic: Duration::ZERO,
    };
    let asked = json!({
        "Resources": {"Reservations": {"NanoCPUs": 100_000_000, "MemoryBytes": 100_000_000}},
        "Placement": {"Constraints": ["node.labels.disk==ssd"]},
    });
    let mut spread = asked.clone();
    spread["Placement"]["Preferences"] = json!([{"Spread": {"SpreadDescriptor": "node.labels.zone"}}]);
    let mut group = criterion.benchmark_group("schedule/10000-tasks/1000-nodes");
    group.sample_size(10);
    for (name, services, spec) in [
        ("1-service", 1, &asked),
        ("1000-services", 1_000, &asked),
        ("spread", 1, &spread),
    ] {
        let store = cluster(services, spec);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let units = Scheduler::new(now).poll(black_box(&store), now);
                assert_eq!(units.len(), 10_000);
                units
            });
        });
    }
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
