//! Partitions of any length heal, and both sides then know what the other said meanwhile.

use essaim_gossip::Event;
use essaim_model::TaskState;
use essaim_sim::{Setup, World, network, task};
use std::time::Duration;

fn parted(seed: u64, nodes: usize, length: Duration) -> World {
    let mut world = World::new(Setup::new(seed, nodes));
    for node in 0..nodes {
        world.set_interests(node, &[network("app")]);
        world.set_task(
            node,
            task(&format!("t{node}")),
            TaskState::Starting,
            &[network("app")],
        );
    }
    world.run_for(Duration::from_secs(1));
    world.take_events();
    let island: Vec<usize> = (0..nodes / 3).collect();
    world.cut_off(&island);
    world.run_for(length / 2);
    for node in 0..nodes {
        world.set_task(
            node,
            task(&format!("t{node}")),
            TaskState::Ready,
            &[network("app")],
        );
    }
    world.run_for(length / 2);
    world
}

fn told_down(world: &mut World) -> bool {
    let events = world.take_events();
    events
        .iter()
        .any(|(_, _, event)| matches!(event, Event::MemberDown { .. }))
}

#[test]
fn half_a_second_apart_is_not_even_noticed() {
    for (seed, nodes) in [(1, 3), (2, 10), (3, 25)] {
        let mut world = parted(seed, nodes, Duration::from_millis(500));
        world.heal();
        let took = world.converge(Duration::from_secs(2));
        assert!(took < Duration::from_secs(2), "{nodes} nodes: {took:?}");
        assert!(!told_down(&mut world), "{nodes} nodes");
    }
}

#[test]
fn ten_seconds_apart_are_noticed_and_healed_in_two() {
    for (seed, nodes) in [(1, 3), (2, 10), (3, 25)] {
        let mut world = parted(seed, nodes, Duration::from_secs(10));
        assert!(told_down(&mut world), "{nodes} nodes");
        world.heal();
        let took = world.converge(Duration::from_secs(5));
        assert!(took < Duration::from_secs(2), "{nodes} nodes: {took:?}");
    }
}

#[test]
fn a_minute_apart_is_healed_in_two_seconds() {
    for (seed, nodes) in [(1, 3), (2, 10), (3, 25)] {
        let mut world = parted(seed, nodes, Duration::from_mins(1));
        world.heal();
        let took = world.converge(Duration::from_secs(5));
        assert!(took < Duration::from_secs(2), "{nodes} nodes: {took:?}");
    }
}

/// Each side comes back with the other's members down: what it tells of them is doubted by those who hear them.
#[test]
fn nobody_is_told_down_because_a_partition_ends() {
    for seed in 0..20 {
        for nodes in [3, 10, 25] {
            let mut world = parted(seed, nodes, Duration::from_secs(10));
            world.take_events();
            world.heal();
            world.converge(Duration::from_secs(5));
            assert!(!told_down(&mut world), "{nodes} nodes, seed {seed}");
        }
    }
}
