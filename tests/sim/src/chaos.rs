//! All that can happen to a cluster, drawn from the world's seed.

use crate::world::{network, task};
use crate::{Disk, World};
use essaim_model::{NetworkName, TaskState};
use rand::RngExt;
use rand::seq::IndexedRandom;
use std::time::Duration;

/// How long a node that can be reached may be told to be down.
const PATIENCE: Duration = Duration::from_secs(8);
const NETWORKS: [&str; 3] = ["app", "db", "ingress"];
const STATES: [TaskState; 4] = [
    TaskState::Starting,
    TaskState::Ready,
    TaskState::Draining,
    TaskState::Gone,
];

/// Crashes, restarts, partitions and changes, one after the other.
#[derive(Debug)]
pub struct Chaos {
    revision: u64,
    last_task: u64,
}

impl Default for Chaos {
    fn default() -> Self {
        Self::new()
    }
}

impl Chaos {
    /// Nothing has happened yet.
    pub const fn new() -> Self {
        Self {
            revision: 0,
            last_task: 0,
        }
    }

    /// Lets so many things happen, then heals everything and waits until all nodes agree.
    ///
    /// # Panics
    /// An invariant is broken, a node that can be reached is told down for long, or the nodes do not come to agree.
    pub fn run(&mut self, world: &mut World, steps: usize) {
        for _ in 0..steps {
            self.step(world);
            let pause = Duration::from_millis(world.random().random_range(1..400));
            world.run_for(pause);
            if world.undisturbed_for() > PATIENCE {
                let told_down = world.told_down();
                assert!(told_down.is_empty(), "told to be down: {told_down:?}");
            }
        }
        world.network().loss = 0.0;
        world.heal();
        for node in 0..world.size() {
            if !world.is_running(node) {
                world.restart(node, Disk::Kept, 0);
            }
        }
        world.converge(Duration::from_secs(15));
    }

    fn step(&mut self, world: &mut World) {
        let nodes = world.size();
        let node = world.random().random_range(0..nodes);
        match world.random().random_range(0..100) {
            0..3 => world.crash(node),
            3..7 => {
                let disk = if world.random().random_bool(0.3) {
                    Disk::Lost
                } else {
                    Disk::Kept
                };
                let jump = world.random().random_range(-3_600_000..3_600_000);
                world.restart(node, disk, jump);
            }
            7..9 => {
                let size = world.random().random_range(1..=nodes / 2);
                let group: Vec<usize> = (0..size).map(|number| (node + number) % nodes).collect();
                world.cut_off(&group);
            }
            9..13 => world.heal(),
            13..25 => {
                let chosen = NETWORKS.iter().filter(|_| world.random().random_bool(0.5));
                let networks: Vec<NetworkName> = chosen.map(|name| network(name)).collect();
                world.set_interests(node, &networks);
            }
            25..35 => {
                self.revision += 1;
                world.set_catalog_applied(node, self.revision);
            }
            35..45 => remove_task(world, node),
            45..50 => drain_task(world, node),
            _ => self.change_task(world, node),
        }
    }

    fn change_task(&mut self, world: &mut World, node: usize) {
        let own: Vec<_> = world.tasks(node).keys().cloned().collect();
        let chosen = if world.random().random_bool(0.3) {
            own.choose(world.random())
        } else {
            None
        };
        let chosen = chosen.cloned().unwrap_or_else(|| {
            self.last_task += 1;
            task(&format!("t{}", self.last_task))
        });
        let state = STATES[world.random().random_range(0..STATES.len())];
        let count = world.random().random_range(1..=2);
        let networks: Vec<NetworkName> = (0..count)
            .map(|_| network(NETWORKS[world.random().random_range(0..NETWORKS.len())]))
            .collect();
        world.set_task(node, chosen, state, &networks);
    }
}

fn remove_task(world: &mut World, node: usize) {
    let own: Vec<_> = world.tasks(node).keys().cloned().collect();
    if let Some(chosen) = own.choose(world.random()) {
        world.remove_task(node, chosen);
    }
}

fn drain_task(world: &mut World, node: usize) {
    let Some((chosen, own)) = world.tasks(node).iter().next() else {
        return;
    };
    let (chosen, networks) = (chosen.clone(), own.networks.iter().cloned().collect::<Vec<_>>());
    world.set_task(node, chosen.clone(), TaskState::Draining, &networks);
    if world.is_running(node) {
        world.request_acks(node, &chosen, Duration::from_secs(5));
    }
}
