//! The dead are noticed in time, and the living are not taken for dead.

use essaim_gossip::{Config, Event};
use essaim_sim::{Disk, Network, Setup, World, detections, false_alarms};
use std::time::Duration;

fn setup(nodes: usize, network: Network, config: Config) -> Setup {
    Setup {
        config,
        check_one_in: nodes,
        ..Setup::new(1, nodes).on(network)
    }
}

fn slowest(nodes: usize, runs: u64, network: Network, config: Config) -> Duration {
    detections(&setup(nodes, network, config), runs).max()
}

#[test]
fn a_dead_node_is_known_everywhere_within_three_seconds() {
    for (nodes, runs) in [(2, 30), (3, 30), (5, 20), (25, 10)] {
        let slowest = slowest(nodes, runs, Network::quiet(), Config::default());
        assert!(slowest < Duration::from_secs(3), "{nodes} nodes: {slowest:?}");
    }
}

#[test]
fn a_dead_node_is_known_everywhere_within_three_seconds_at_a_fifth_lost() {
    for (nodes, runs) in [(3, 30), (25, 10)] {
        let slowest = slowest(nodes, runs, Network::lossy(0.2), Config::default());
        assert!(slowest < Duration::from_secs(3), "{nodes} nodes: {slowest:?}");
    }
}

#[test]
fn a_dead_node_is_known_everywhere_within_a_second_at_the_fast_pace() {
    for (nodes, runs) in [(3, 30), (25, 10)] {
        let slowest = slowest(nodes, runs, Network::quiet(), Config::fast());
        assert!(slowest < Duration::from_secs(1), "{nodes} nodes: {slowest:?}");
    }
}

#[test]
fn no_living_node_is_told_down_at_a_fifth_lost() {
    for (nodes, minutes) in [(2, 20), (3, 20), (5, 10), (25, 2)] {
        let time = Duration::from_mins(minutes);
        let alarms = false_alarms(setup(nodes, Network::lossy(0.2), Config::default()), time);
        assert_eq!(alarms.down, 0, "{nodes} nodes");
        assert!(
            alarms.suspected > 0,
            "{nodes} nodes: the loss must be felt for this to say anything"
        );
    }
}

#[test]
fn half_the_nodes_that_die_together_are_known_everywhere() {
    let mut world = World::new(setup(20, Network::quiet(), Config::default()));
    world.run_for(Duration::from_secs(2));
    for node in 0..10 {
        world.crash(node);
    }
    let took = world.converge(Duration::from_secs(15));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn a_restart_faster_than_suspicion_is_never_told_down() {
    let mut world = World::new(setup(5, Network::quiet(), Config::default()));
    world.run_for(Duration::from_secs(2));
    world.take_events();
    for round in 0..10 {
        world.crash(round % 5);
        world.run_for(Duration::from_millis(500));
        world.restart(round % 5, Disk::Kept, 0);
        world.converge(Duration::from_secs(2));
        world.run_for(Duration::from_secs(3));
    }
    let events = world.take_events();
    assert!(
        !events
            .iter()
            .any(|(_, _, event)| matches!(event, Event::MemberDown { .. }))
    );
}
