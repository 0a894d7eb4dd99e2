//! A node whose gossip is away for a while lives on, with all that it said, as long as its caretaker answers.

use essaim_gossip::{Event, MemberState};
use essaim_model::TaskState;
use essaim_sim::{Disk, Network, Setup, World, network, node, task};
use std::time::Duration;

const NODES: usize = 10;

fn cluster(seed: u64, loss: f64) -> World {
    let mut world = World::new(Setup::new(seed, NODES).on(Network::lossy(loss)));
    for number in 0..NODES {
        world.set_interests(number, &[network("app")]);
    }
    world.set_task(0, task("web"), TaskState::Ready, &[network("app")]);
    world.converge(Duration::from_secs(20));
    world
}

/// How often node 0 was held to be down.
fn deaths(world: &mut World) -> usize {
    let events = world.take_events();
    let down = Event::MemberDown { node: node(0) };
    events.iter().filter(|(_, _, event)| *event == down).count()
}

#[test]
fn nobody_takes_it_for_dead_at_20_percent_loss() {
    for seed in 0..20 {
        let mut world = cluster(seed, 0.2);
        world.leave(0);
        world.run_for(Duration::from_secs(30));
        assert_eq!(deaths(&mut world), 0, "seed {seed}");
        for number in 1..NODES {
            let view = world.view(number);
            assert!(
                view.task(&node(0), &task("web")).is_some(),
                "seed {seed}, n{number}"
            );
        }
        world.restart(0, Disk::Kept, 0);
        world.run_for(Duration::from_secs(5));
        assert_eq!(deaths(&mut world), 0, "seed {seed}, after it came back");
        world.converge(Duration::from_secs(20));
    }
}

#[test]
fn a_death_is_noticed_once_nobody_answers() {
    let mut world = cluster(7, 0.0);
    world.leave(0);
    world.run_for(Duration::from_secs(10));
    world.crash(0);
    let all = |world: &World| {
        (1..NODES).all(|number| world.view(number).members[&node(0)].state == MemberState::Down)
    };
    assert!(world.run_until(Duration::from_secs(3), all).is_some());
}

/// A network heals after the node's gossip has gone: the others hold it to be down, and it contradicts.
#[test]
fn what_was_said_while_it_was_cut_off_is_contradicted() {
    let mut world = cluster(9, 0.0);
    world.cut_off(&[0]);
    world.run_for(Duration::from_secs(10));
    world.leave(0);
    world.heal();
    let all = |world: &World| {
        (1..NODES).all(|number| world.view(number).members[&node(0)].state == MemberState::Alive)
    };
    assert!(world.run_until(Duration::from_secs(10), all).is_some());
}
