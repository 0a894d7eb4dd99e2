//! A drain waits for those that must know, and for nobody else.

use essaim_model::TaskState;
use essaim_sim::{Network, Setup, World, network, node, task};
use std::collections::BTreeSet;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

fn cluster(seed: u64, nodes: usize, wire: Network) -> World {
    let mut world = World::new(Setup::new(seed, nodes).on(wire));
    for number in 0..nodes / 2 {
        world.set_interests(number, &[network("app")]);
    }
    world.set_task(0, task("web"), TaskState::Ready, &[network("app")]);
    world.run_for(Duration::from_secs(1));
    world.converge(Duration::from_secs(5));
    world
}

fn drain(world: &mut World) {
    world.set_task(0, task("web"), TaskState::Draining, &[network("app")]);
    world.request_acks(0, &task("web"), PATIENCE);
}

fn names(numbers: std::ops::Range<usize>) -> BTreeSet<essaim_model::NodeName> {
    numbers.map(node).collect()
}

#[test]
fn a_drain_waits_for_the_nodes_of_its_network_only() {
    let mut world = cluster(1, 10, Network::quiet());
    drain(&mut world);
    assert_eq!(world.pending_acks(0, &task("web")), names(1..5));
    let took = world.run_until(PATIENCE, |world| world.pending_acks(0, &task("web")).is_empty());
    assert!(took.unwrap() < Duration::from_millis(100), "{took:?}");
}

#[test]
fn a_drain_at_a_fifth_lost_is_acknowledged_within_a_second() {
    for seed in 0..20 {
        let mut world = cluster(seed, 10, Network::lossy(0.2));
        drain(&mut world);
        let took = world.run_until(PATIENCE, |world| world.pending_acks(0, &task("web")).is_empty());
        assert!(took.unwrap() < Duration::from_secs(1), "seed {seed}: {took:?}");
    }
}

#[test]
fn a_drain_does_not_wait_for_the_dead() {
    let mut world = cluster(3, 6, Network::quiet());
    world.crash(2);
    drain(&mut world);
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.pending_acks(0, &task("web")), names(2..3));
    let took = world.run_until(PATIENCE, |world| world.pending_acks(0, &task("web")).is_empty());
    assert!(took.unwrap() < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_drain_waits_for_who_cannot_be_reached_and_is_not_down_yet() {
    let mut world = cluster(4, 6, Network::quiet());
    world.cut_off(&[1]);
    drain(&mut world);
    world.run_for(Duration::from_millis(300));
    assert_eq!(world.pending_acks(0, &task("web")), names(1..2));
    world.heal();
    let took = world.run_until(PATIENCE, |world| world.pending_acks(0, &task("web")).is_empty());
    assert!(took.unwrap() < Duration::from_millis(300), "{took:?}");
}
