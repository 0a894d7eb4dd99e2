//! How soon the dead are noticed, and how often the living are taken for dead.

use crate::world::node;
use crate::{Samples, Setup, World};
use essaim_gossip::{Event, MemberState};
use rand::RngExt;
use std::time::Duration;

/// Kills the last node at any moment, and times how long each of the others takes to be told.
///
/// # Panics
/// One of them is not told within 20 seconds.
pub fn detection(setup: Setup) -> Samples {
    let mut samples = Samples::default();
    let mut world = settled(setup);
    let pause = Duration::from_millis(world.random().random_range(0..1_000));
    world.run_for(pause);
    let victim = world.size() - 1;
    world.crash(victim);
    let mut lacking: Vec<usize> = (0..victim).collect();
    let died = world.now();
    world.run_until(Duration::from_secs(20), |world| {
        lacking.retain(|number| {
            let is_down = world.view(*number).members[&node(victim)].state == MemberState::Down;
            if is_down {
                samples.add(world.now().saturating_sub(died));
            }
            !is_down
        });
        lacking.is_empty()
    });
    assert!(lacking.is_empty(), "{lacking:?} are not told");
    samples
}

/// The same for so many seeds.
pub fn detections(setup: &Setup, runs: u64) -> Samples {
    let mut all = Samples::default();
    for run in 0..runs {
        let seed = setup.seed + run;
        all.extend(detection(Setup {
            seed,
            ..setup.clone()
        }));
    }
    all
}

/// What was said of nodes that were alive all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FalseAlarms {
    /// How many times a node was told that another is suspected.
    pub suspected: usize,
    /// How many times a node was told that another is down.
    pub down: usize,
}

/// Lets a cluster be for so long, and counts what is said of nodes that are alive.
pub fn false_alarms(setup: Setup, time: Duration) -> FalseAlarms {
    let mut world = settled(setup);
    world.take_events();
    world.run_for(time);
    let events = world.take_events();
    let count = |wanted: fn(&Event) -> bool| events.iter().filter(|(_, _, event)| wanted(event)).count();
    FalseAlarms {
        suspected: count(|event| matches!(event, Event::MemberSuspect { .. })),
        down: count(|event| matches!(event, Event::MemberDown { .. })),
    }
}

fn settled(setup: Setup) -> World {
    let mut world = World::new(setup);
    world.run_for(Duration::from_millis(300));
    world.converge(Duration::from_secs(20));
    world
}
