//! What a question costs without its system calls, and what a change of the cluster costs.
#![allow(missing_docs, reason = "criterion's macros")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use essaim_dns::{Bench, Zone};
use essaim_model::{
    Catalog, Endpoint, Liveness, NetworkName, NodeName, Service, ServiceName, ServiceNetwork, Task, TaskId,
    TaskState, example,
};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

/// The example's network with this many services of this many tasks.
fn cluster(services: u32, tasks: u32) -> Option<Catalog> {
    let mut catalog = Catalog::parse(example()).ok()?;
    let network = NetworkName::new("app").ok()?;
    let node = NodeName::new("n1").ok()?;
    let mut addresses = (0x0a80_0000_u32..).map(|address| IpAddr::from(Ipv4Addr::from(address)));
    for service in 0..services {
        let name = format!("service-{service}");
        let mut made = Service::new(ServiceName::new(&name).ok()?);
        made.networks = vec![ServiceNetwork::new(
            network.clone(),
            addresses.by_ref().take(1).collect(),
        )];
        for slot in 1..=tasks {
            made.tasks.push(Task {
                slot: Some(slot),
                endpoints: vec![Endpoint::new(
                    network.clone(),
                    addresses.by_ref().take(1).collect(),
                )],
                ..Task::new(
                    TaskId::new(&format!("{name}-{slot}x1y2z3")).ok()?,
                    node.clone(),
                    "x",
                )
            });
        }
        catalog.services.push(made);
    }
    Some(catalog)
}

/// A question, by hand.
fn question(name: &str, kind: u16, edns: bool) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    for label in name.split('.') {
        message.extend(u8::try_from(label.len()));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if edns {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    message
}

fn answers(criterion: &mut Criterion) {
    let Some(catalog) = cluster(1000, 10) else { return };
    let mut bench = Bench::new(&catalog, &Liveness::of(&catalog));
    let cached = question("cached.example.org", 1, false);
    let mut answer = cached.clone();
    answer.splice(2..8, [0x81, 0x80, 0, 1, 0, 1]);
    answer.extend(*b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\xc0\0\x02\x01");
    assert!(bench.learn(&cached, &answer) && bench.answer(&cached) == answer.len());
    let mut group = criterion.benchmark_group("answer");
    group.throughput(Throughput::Elements(1));
    for (id, name, kind, edns) in [
        ("vip/A", "service-500", 1, false),
        ("vip/A-edns", "service-500", 1, true),
        ("vip.network/A", "service-500.app", 1, false),
        ("tasks-of-10/A", "tasks.service-500", 1, false),
        ("task/PTR", "5.0.128.10.in-addr.arpa", 12, false),
        ("empty/AAAA", "service-500", 28, false),
        ("cached/A", "cached.example.org", 1, false),
        ("miss-of-cache/A", "www.example.org", 1, false),
    ] {
        let message = question(name, kind, edns);
        group.bench_function(id, |bencher| bencher.iter(|| bench.answer(black_box(&message))));
    }
    group.finish();
}

fn changes(criterion: &mut Criterion) {
    let Some(catalog) = cluster(1000, 10) else { return };
    let liveness = Liveness::of(&catalog);
    let zone = Zone::new(&catalog, &liveness);
    let mut one_gone = liveness.clone();
    let victim = catalog
        .services
        .get(500)
        .and_then(|service| service.tasks.first());
    one_gone
        .tasks
        .extend(victim.map(|task| (task.id.clone(), TaskState::Gone)));
    let mut replaced = catalog.clone();
    if let Some(task) = replaced
        .services
        .get_mut(500)
        .and_then(|service| service.tasks.first_mut())
        && let Ok(id) = TaskId::new("another")
    {
        task.id = id;
    }
    let mut group = criterion.benchmark_group("zone/1000x10");
    group.sample_size(20);
    group.bench_function("new", |bencher| bencher.iter(|| Zone::new(&catalog, &liveness)));
    group.bench_function("task-dies", |bencher| {
        bencher.iter_batched(
            || zone.clone(),
            |zone| zone.rebuild((&catalog, &liveness), (&catalog, &one_gone)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("task-is-replaced", |bencher| {
        bencher.iter_batched(
            || zone.clone(),
            |zone| zone.rebuild((&catalog, &liveness), (&replaced, &liveness)),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, answers, changes);
criterion_main!(benches);
