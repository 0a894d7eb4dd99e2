//! The dead are noticed in time, and the living are not taken for dead.

use essaim_gossip::{Config, Event, MemberState};
use essaim_sim::{Network, Samples, Setup, World, node};
use std::time::Duration;

fn settled(setup: Setup) -> World {
    println!("seed {}", setup.seed);
    let mut world = World::new(setup);
    world.run_for(Duration::from_millis(300));
    world.converge(Duration::from_secs(10));
    world
}

/// How long each of the others takes to be told that a node has died, from the first node's death at any moment.
fn detection(setup: Setup) -> Samples {
    let mut samples = Samples::default();
    let mut world = settled(setup);
    let pause = Duration::from_millis(world.now().as_micros() as u64 % 1_000);
    world.run_for(pause);
    let victim = world.size() - 1;
    world.crash(victim);
    let mut lacking: Vec<usize> = (0..victim).collect();
    let died = world.now();
    world.run_until(Duration::from_secs(20), |world| {
        lacking.retain(|number| {
            let is_down = world.view(*number).members[&node(victim)].state == MemberState::Down;
            if is_down {
                samples.add(world.now() - died);
            }
            !is_down
        });
        lacking.is_empty()
    });
    assert!(lacking.is_empty(), "{lacking:?} do not notice");
    samples
}

fn detections(nodes: usize, runs: u64, network: &Network, config: Config) -> Samples {
    let mut all = Samples::default();
    for seed in 0..runs {
        let setup = Setup {
            config,
            check_one_in: nodes,
            ..Setup::new(seed, nodes).on(network.clone())
        };
        all.extend(detection(setup));
    }
    println!(
        "{nodes} nodes: p50 {:?} p99 {:?} max {:?}",
        all.quantile(0.5),
        all.quantile(0.99),
        all.max()
    );
    all
}

#[test]
fn a_dead_node_is_known_everywhere_within_three_seconds() {
    for (nodes, runs) in [(2, 40), (3, 40), (5, 20), (25, 20), (100, 2)] {
        let all = detections(nodes, runs, &Network::quiet(), Config::default());
        assert!(
            all.max() < Duration::from_secs(3),
            "{nodes} nodes: {:?}",
            all.max()
        );
    }
}

#[test]
fn a_dead_node_is_known_everywhere_within_three_seconds_at_a_fifth_lost() {
    for (nodes, runs) in [(3, 40), (25, 20), (100, 2)] {
        let all = detections(nodes, runs, &Network::lossy(0.2), Config::default());
        assert!(
            all.max() < Duration::from_secs(3),
            "{nodes} nodes: {:?}",
            all.max()
        );
    }
}

#[test]
fn a_dead_node_is_known_within_a_second_at_the_fast_pace() {
    for (nodes, runs) in [(3, 40), (25, 20)] {
        let all = detections(nodes, runs, &Network::quiet(), Config::fast());
        assert!(
            all.max() < Duration::from_secs(1),
            "{nodes} nodes: {:?}",
            all.max()
        );
    }
}

fn false_alarms(nodes: usize, seed: u64, loss: f64, config: Config, time: Duration) -> (usize, usize) {
    let setup = Setup {
        check_one_in: nodes,
        config,
        ..Setup::new(seed, nodes).on(Network::lossy(loss))
    };
    let mut world = settled(setup);
    world.take_events();
    world.run_for(time);
    let events = world.take_events();
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|(_, _, event)| wanted(event)).count();
    let down = count(|event| matches!(event, Event::MemberDown { .. }));
    let suspect = count(|event| matches!(event, Event::MemberSuspect { .. }));
    println!("{nodes} nodes, {loss} lost, {time:?}: {suspect} times suspected, {down} times down");
    (suspect, down)
}

#[test]
fn no_living_node_is_told_down_at_a_fifth_lost() {
    for (nodes, minutes) in [(2, 30), (3, 30), (5, 15), (25, 4)] {
        let (_, down) = false_alarms(nodes, 1, 0.2, Config::default(), Duration::from_mins(minutes));
        assert_eq!(down, 0, "{nodes} nodes");
    }
}
