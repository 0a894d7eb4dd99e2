//! The changes whose way to every node is timed: those of the peer's own benchmark, by its names.
//!
//! As there: the cluster is quiet and agrees before the clock starts, one change is made, and the sample ends when
//! every node has it. Under churn every 20 ms a node (not the writer, not the last) writes eight entries nobody waits for,
//! up to 2,000, and every fifth time the last node leaves or joins the network; the sample ends when all but that
//! one have the writer's entry. Here the churn runs for a while before the clock starts, there it starts with the clock.

use crate::world::{network, node, task};
use crate::{Samples, Setup, World};
use essaim_gossip::OwnTask;
use essaim_model::TaskState;
use rand::RngExt;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How long a change may take at all.
const CEILING: Duration = Duration::from_mins(3);
const SETTLE: Duration = Duration::from_mins(1);

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perturbation {
    /// The first node says something of a new task.
    CreateEntry,
    /// The first node says something else of its task.
    UpdateEntry,
    /// The first node takes back what it said of a task.
    DeleteEntry,
    /// The last node joins the network.
    JoinNetwork,
    /// The last node joins the network and says something of a task on it.
    WriteAfterJoin,
    /// The last node joins the network, where the first has said something of a task.
    JoinPopulatedNetwork,
    /// The last node, which has said something of a task, leaves the network.
    LeaveNetwork,
}

impl Perturbation {
    /// All of them, in the peer's order.
    pub const ALL: [Self; 7] = [
        Self::CreateEntry,
        Self::UpdateEntry,
        Self::DeleteEntry,
        Self::JoinNetwork,
        Self::WriteAfterJoin,
        Self::JoinPopulatedNetwork,
        Self::LeaveNetwork,
    ];

    /// The least cluster that shows it.
    pub const fn least_nodes(self) -> usize {
        match self {
            Self::CreateEntry | Self::UpdateEntry | Self::DeleteEntry => 2,
            Self::JoinNetwork | Self::WriteAfterJoin | Self::JoinPopulatedNetwork | Self::LeaveNetwork => 3,
        }
    }

    /// Times it once.
    ///
    /// # Panics
    /// The cluster does not settle, or the change does not arrive.
    pub fn sample(self, setup: Setup) -> Duration {
        let (nw, entry, last) = (network("nw0"), task("entry"), setup.nodes - 1);
        let mut world = World::new(setup);
        let comes_late = matches!(
            self,
            Self::JoinNetwork | Self::WriteAfterJoin | Self::JoinPopulatedNetwork
        );
        for number in 0..world.size() {
            if !(comes_late && number == last) {
                world.set_interests(number, std::slice::from_ref(&nw));
            }
        }
        let on = [nw.clone()];
        match self {
            Self::UpdateEntry | Self::DeleteEntry | Self::JoinPopulatedNetwork => {
                world.set_task(0, entry.clone(), TaskState::Starting, &on);
            }
            Self::LeaveNetwork => world.set_task(last, entry.clone(), TaskState::Starting, &on),
            Self::CreateEntry | Self::JoinNetwork | Self::WriteAfterJoin => {}
        }
        settle(&mut world);
        match self {
            Self::CreateEntry | Self::UpdateEntry => world.set_task(0, entry.clone(), TaskState::Ready, &on),
            Self::DeleteEntry => world.remove_task(0, &entry),
            Self::JoinNetwork | Self::JoinPopulatedNetwork => world.set_interests(last, &on),
            Self::WriteAfterJoin => {
                world.set_interests(last, &on);
                world.set_task(last, entry.clone(), TaskState::Ready, &on);
            }
            Self::LeaveNetwork => {
                world.remove_task(last, &entry);
                world.set_interests(last, &[]);
            }
        }
        let (first_name, last_name) = (node(0), node(last));
        let has = |world: &World, number: usize| {
            let view = world.view(number);
            let state = |owner| view.task(owner, &entry).map(|fact| fact.state);
            let takes_part = || {
                view.members
                    .get(&last_name)
                    .is_some_and(|member| member.interests.contains(&nw))
            };
            match self {
                Self::CreateEntry | Self::UpdateEntry => state(&first_name) == Some(TaskState::Ready),
                Self::DeleteEntry => state(&first_name).is_none(),
                Self::JoinNetwork => takes_part(),
                Self::WriteAfterJoin => state(&last_name) == Some(TaskState::Ready),
                Self::JoinPopulatedNetwork => state(&first_name) == Some(TaskState::Starting),
                Self::LeaveNetwork => !takes_part() && state(&last_name).is_none(),
            }
        };
        wait(&mut world, (0..=last).collect(), has)
    }

    /// Times it so many times, each time with another seed.
    pub fn samples(self, setup: &Setup, runs: u64) -> Samples {
        let mut samples = Samples::default();
        for run in 0..runs {
            let seed = setup.seed + run;
            samples.add(self.sample(Setup {
                seed,
                ..setup.clone()
            }));
        }
        samples
    }
}

impl fmt::Display for Perturbation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CreateEntry => "create-entry",
            Self::UpdateEntry => "update-entry",
            Self::DeleteEntry => "delete-entry",
            Self::JoinNetwork => "join-network",
            Self::WriteAfterJoin => "write-after-join",
            Self::JoinPopulatedNetwork => "join-populated-network",
            Self::LeaveNetwork => "leave-network",
        })
    }
}

/// A cluster that is kept busy.
pub struct Churn {
    world: World,
    junk: Vec<BTreeMap<essaim_model::TaskId, OwnTask>>,
    steps: usize,
    written: usize,
    next: Duration,
}

impl Churn {
    const STEP: Duration = Duration::from_millis(20);
    const WRITES: usize = 8;
    const MOST_WRITES: usize = 2_000;
    const STEPS_PER_FLAP: usize = 5;
    const WARM_UP: Duration = Duration::from_millis(500);

    /// Times the way of an entry under churn, and how many bytes a node sent a second meanwhile.
    ///
    /// # Panics
    /// The cluster does not settle, or the entry does not arrive.
    pub fn sample(setup: Setup) -> (Duration, f64) {
        let (nw, entry) = (network("nw0"), task("tracked"));
        let mut world = World::new(setup);
        let (size, last) = (world.size(), world.size() - 1);
        for number in 0..size {
            world.set_interests(number, std::slice::from_ref(&nw));
        }
        settle(&mut world);
        let (bytes, start) = (world.bytes_sent(), world.now());
        let mut churn = Self {
            junk: vec![BTreeMap::new(); size],
            steps: 0,
            written: 0,
            next: world.now(),
            world,
        };
        let warm_up = Self::WARM_UP + Self::STEP.mul_f64(churn.world.random().random());
        churn.run_until(start + warm_up, |_| false);
        let written_at = churn.world.now();
        churn
            .world
            .set_task(0, entry.clone(), TaskState::Ready, std::slice::from_ref(&nw));
        let mut lacking: Vec<usize> = (1..last).collect();
        churn.run_until(written_at + CEILING, |world| {
            lacking.retain(|number| world.view(*number).task(&node(0), &entry).is_none());
            lacking.is_empty()
        });
        assert!(lacking.is_empty(), "{lacking:?} lack the entry");
        let took = churn.world.now().saturating_sub(written_at);
        let sent = churn.world.bytes_sent() - bytes;
        let seconds = churn.world.now().saturating_sub(start).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let rate = sent as f64 / size as f64 / seconds;
        (took, rate)
    }

    fn run_until(&mut self, end: Duration, mut holds: impl FnMut(&World) -> bool) {
        while self.world.now() < end {
            if self.world.now() >= self.next {
                self.step();
                self.next += Self::STEP;
            }
            let within = self.next.min(end).saturating_sub(self.world.now());
            if self.world.run_until(within, &mut holds).is_some() {
                return;
            }
        }
    }

    fn step(&mut self) {
        let (nw, last) = (network("nw0"), self.world.size() - 1);
        if self.written < Self::MOST_WRITES {
            let source = 1 + self.steps % (last - 1);
            for _ in 0..Self::WRITES {
                let own = OwnTask {
                    state: TaskState::Ready,
                    networks: [nw.clone()].into(),
                };
                self.junk[source].insert(task(&format!("junk-{}", self.written)), own);
                self.written += 1;
            }
            self.world.set_tasks(source, self.junk[source].clone());
        }
        if self.steps % Self::STEPS_PER_FLAP == Self::STEPS_PER_FLAP - 1 {
            let joins = self.steps / Self::STEPS_PER_FLAP % 2 == 1;
            let networks = if joins { vec![nw] } else { Vec::new() };
            self.world.set_interests(last, &networks);
        }
        self.steps += 1;
    }
}

fn settle(world: &mut World) {
    world.run_for(Duration::from_millis(300));
    world.converge(SETTLE);
    // All that was to be pushed has been, and the change comes at any moment of the nodes' own rhythms.
    let pause = Duration::from_millis(500 + world.random().random_range(0..400));
    world.run_for(pause);
}

fn wait(world: &mut World, mut lacking: Vec<usize>, has: impl Fn(&World, usize) -> bool) -> Duration {
    let arrived = world.run_until(CEILING, |world| {
        lacking.retain(|number| !has(world, *number));
        lacking.is_empty()
    });
    arrived.unwrap_or_else(|| panic!("{lacking:?} lack the change"))
}
