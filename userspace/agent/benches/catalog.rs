//! The catalog of a large cluster on its way to a node's plan: 10,000 services with 100,000 tasks on 1,000 nodes.
//!
//! `cargo bench -p essaim-agent --bench catalog`; with `--test`, as the test runner calls it, everything is small.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark prints, and ends where something is amiss"
)]

use essaim_agent::Follower;
use essaim_model::{
    Catalog, CatalogDelta, Cluster, Endpoint, Liveness, Network, NetworkName, Node, NodeName, NodeState,
    Port, Service, ServiceName, ServiceNetwork, Task, TaskId, TaskState, Vni,
};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Networks that the services are spread over.
const NETWORKS: usize = 20;
/// Of so many services one publishes a port.
const PUBLISHED: usize = 19;
/// Each operation is done so often; the median is shown.
const ROUNDS: usize = 5;

/// An identity as random as real ones, but the same in each run: 25 characters.
fn identity(kind: usize, number: usize) -> String {
    let mut bits = u128::try_from(kind * 1_000_000 + number + 1)
        .unwrap()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let digit = |_| {
        let digit = u32::try_from(bits % 36).unwrap();
        bits /= 36;
        char::from_digit(digit, 36).unwrap()
    };
    (0..25).map(digit).collect()
}

fn address(base: [u8; 2], number: usize) -> IpAddr {
    let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
    Ipv4Addr::new(base[0], base[1], high, low).into()
}

fn catalog(services: usize, tasks: usize, nodes: usize) -> Catalog {
    let ingress = vec!["10.0.0.0/16".parse().unwrap()];
    let node = |number| Node {
        name: NodeName::new(&identity(1, number)).unwrap(),
        address: address([192, 168], number + 1),
        overlay: vec![address([10, 0], number + 2)],
        state: NodeState::Up,
    };
    let mut nodes: Vec<Node> = (0..nodes).map(node).collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let network = |number: usize| {
        let name = NetworkName::new(&format!("network-{number:02}")).unwrap();
        let vni = Vni::try_from(u32::try_from(5_000 + number).unwrap()).unwrap();
        Network::new(
            name,
            vni,
            vec![format!("10.{}.0.0/16", number + 1).parse().unwrap()],
        )
    };
    let networks: Vec<Network> = (0..NETWORKS).map(network).collect();
    // The next address of each network.
    let mut next = [2; NETWORKS];
    let mut made = Vec::new();
    for number in 0..services {
        let at = number % NETWORKS;
        let mut take = || {
            next[at] += 1;
            address([10, u8::try_from(at + 1).unwrap()], next[at])
        };
        let mut service = Service::new(ServiceName::new(&format!("service-{number:05}")).unwrap());
        let on = networks[at].name.clone();
        service
            .networks
            .push(ServiceNetwork::new(on.clone(), vec![take()]));
        for slot in 0..tasks / services {
            let task = number * (tasks / services) + slot;
            let id = identity(2, task);
            let name = nodes[task % nodes.len()].name.clone();
            let mut made = Task::new(TaskId::new(&id).unwrap(), name, format!("es-{id}"));
            made.state = TaskState::Ready;
            made.slot = Some(u32::try_from(slot + 1).unwrap());
            made.endpoints.push(Endpoint::new(on.clone(), vec![take()]));
            service.tasks.push(made);
        }
        if number.is_multiple_of(PUBLISHED) {
            let published = u16::try_from(20_000 + number / PUBLISHED).unwrap();
            service.ports.push(Port::new(published, 80));
            service
                .history
                .push(service.tasks.iter().map(|task| task.id.clone()).collect());
        }
        made.push(service);
    }
    Catalog {
        revision: 7,
        cluster: Cluster::new(ingress),
        nodes,
        networks,
        services: made,
    }
}

/// The same with one task that starts anew.
fn changed(catalog: &Catalog) -> Catalog {
    let mut changed = catalog.clone();
    changed.revision += 1;
    let at = changed.services.len() / 2;
    let mut service = Service::clone(&changed.services[at]);
    service.tasks[0].state = TaskState::Draining;
    changed.services[at] = service;
    changed
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// How long it takes, made ready anew each time outside of what is measured.
fn time<I, O>(what: &str, rounds: usize, mut ready: impl FnMut() -> I, mut act: impl FnMut(I) -> O) {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let input = ready();
        let begun = Instant::now();
        let output = black_box(act(input));
        times.push(begun.elapsed());
        drop(output);
    }
    println!("{what}: {:.2?}", median(times));
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let (services, tasks, nodes, rounds) = if is_test {
        (40, 400, 10, 1)
    } else {
        (10_000, 100_000, 1_000, ROUNDS)
    };
    let old = Arc::new(catalog(services, tasks, nodes));
    old.check().unwrap();
    let new = changed(&old);
    let text = old.to_toml();
    println!(
        "{services} services, {tasks} tasks, {nodes} nodes: {} KiB",
        text.len() >> 10
    );
    time("whole/write", rounds, || (), |()| old.to_toml());
    time("whole/parse", rounds, || (), |()| Catalog::parse(&text).unwrap());
    time("whole/check", rounds, || (), |()| old.check().unwrap());
    let name = old.nodes[0].name.clone();
    let follow = || Follower::new(name.clone());
    time("whole/plan", rounds, follow, |mut follower| {
        assert!(follower.follow(&old).unwrap());
        follower
    });
    let delta = CatalogDelta::between(&old, &new);
    let difference = delta.to_toml();
    println!("one task/size: {} bytes", difference.len());
    time(
        "one task/compare",
        rounds,
        || (),
        |()| CatalogDelta::between(&old, &new),
    );
    time(
        "one task/parse",
        rounds,
        || (),
        |()| CatalogDelta::parse(&difference).unwrap(),
    );
    time("one task/apply", rounds, || (), |()| delta.apply(&old).unwrap());
    let following = || {
        let mut follower = Follower::new(name.clone());
        follower.follow(&old).unwrap();
        (follower, Arc::new(delta.apply(&old).unwrap()))
    };
    time("one task/plan", rounds, following, |(mut follower, next)| {
        assert!(follower.follow(&next).unwrap());
        follower
    });
    let hearing = || {
        let mut follower = Follower::new(name.clone());
        follower.follow(&old).unwrap();
        let mut reported = Liveness::default();
        let task = old.services[services / 2].tasks[0].id.clone();
        reported.tasks.insert(task, TaskState::Draining);
        (follower, reported)
    };
    time("one task/heard", rounds, hearing, |(mut follower, reported)| {
        assert!(follower.hear(reported).unwrap());
        follower
    });
}
