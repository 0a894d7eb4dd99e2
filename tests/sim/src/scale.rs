//! The life of a large cluster in short: it finds itself, hears of a task, and notices a death.

use crate::world::{network, node, task};
use crate::{Setup, World};
use essaim_gossip::MemberState;
use essaim_model::TaskState;
use std::time::Duration;

/// How long each of these took until it was so on every node, to within 50 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// All have heard of all, from a cold start of the whole cluster at once.
    pub found: Duration,
    /// A task is known.
    pub spread: Duration,
    /// A death is known.
    pub noticed: Duration,
}

/// Lives it; only some nodes are checked.
///
/// # Panics
/// Something takes longer than a minute, or a living node is told down.
pub fn life(seed: u64, nodes: usize) -> Life {
    let mut world = World::new(Setup {
        check_one_in: 50,
        ..Setup::new(seed, nodes)
    });
    let found = wait(&mut world, |world, number| {
        let view = world.view(number);
        view.members.len() == nodes && view.members.values().all(|member| member.epoch.is_heard())
    });
    world.set_task(0, task("web"), TaskState::Ready, &[network("ingress")]);
    let spread = wait(&mut world, |world, number| {
        world.view(number).task(&node(0), &task("web")).is_some()
    });
    let victim = nodes - 1;
    world.crash(victim);
    let noticed = wait(&mut world, |world, number| {
        number == victim || world.view(number).members[&node(victim)].state == MemberState::Down
    });
    assert!(
        world.told_down().is_empty(),
        "seed {seed}: the living are told down"
    );
    Life {
        found,
        spread,
        noticed,
    }
}

fn wait(world: &mut World, holds: impl Fn(&World, usize) -> bool) -> Duration {
    let start = world.now();
    while !(0..world.size()).all(|number| holds(world, number)) {
        world.run_for(Duration::from_millis(50));
        assert!(
            world.now().saturating_sub(start) < Duration::from_mins(1),
            "it takes too long"
        );
    }
    world.now().saturating_sub(start)
}
