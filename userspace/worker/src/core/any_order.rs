//! Random orders of assignments, events, failures and restarts beside a simulated node.

use super::*;
use essaim_objects::Timestamp;
use essaim_objects::{ContainerSpec, HealthConfig, SecretReference, SecretSpec, TaskSpec};
use proptest::prelude::*;

const TASKS: u128 = 4;

/// What happens.
#[derive(Clone, Debug)]
enum Happens {
    /// A manager assigns a task, or wants more of it.
    Assign { task: u128, desired: TaskState },
    /// It takes one away.
    Unassign { task: u128 },
    /// A new session sends everything.
    Session,
    /// An operation ends.
    Finish { which: usize, well: bool },
    /// A task that runs ends by itself.
    Exit { task: u128, code: i32 },
    /// The runner's events come.
    Events,
    /// A check passes or has failed too often.
    Health { task: u128, well: bool },
    /// Time goes on.
    Time,
    /// The agent is restarted; what was under way is cut short or done.
    Restart { done: bool },
}

fn happens() -> impl Strategy<Value = Happens> {
    let task = 0..TASKS;
    let desired = prop_oneof![
        2 => Just(TaskState::Ready),
        4 => Just(TaskState::Running),
        1 => Just(TaskState::Complete),
        1 => Just(TaskState::Shutdown),
        1 => Just(TaskState::Remove),
    ];
    prop_oneof![
        4 => (task.clone(), desired).prop_map(|(task, desired)| Happens::Assign { task, desired }),
        1 => task.clone().prop_map(|task| Happens::Unassign { task }),
        1 => Just(Happens::Session),
        12 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, well)| Happens::Finish { which, well }),
        2 => (task.clone(), 0..3i32).prop_map(|(task, code)| Happens::Exit { task, code }),
        3 => Just(Happens::Events),
        2 => (task, prop::bool::weighted(0.7)).prop_map(|(task, well)| Happens::Health { task, well }),
        1 => Just(Happens::Time),
        1 => any::<bool>().prop_map(|done| Happens::Restart { done }),
    ]
}

/// A node's runner, and the managers, as far as the core sees them.
struct World {
    core: Core,
    now: Now,
    assigned: BTreeMap<TaskId, Arc<Task>>,
    runner: BTreeMap<TaskId, RunnerState>,
    events: Vec<(TaskId, End)>,
    busy: Vec<(TaskId, u64, Operation)>,
    watched: BTreeSet<TaskId>,
    gone: BTreeSet<TaskId>,
    kept: Vec<Kept>,
    highest: BTreeMap<TaskId, TaskState>,
    /// The most that was wanted of each.
    asked: BTreeMap<TaskId, TaskState>,
}

fn secret() -> Arc<Secret> {
    Arc::new(Secret::new(SecretId::from_bits(1), SecretSpec::default()))
}

/// The first has nothing, the second a check, the third a secret, the fourth both.
fn task(number: u128, desired: TaskState) -> Task {
    let mut container = ContainerSpec::default();
    if number % 2 == 1 {
        container.healthcheck = Some(HealthConfig {
            test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
            ..HealthConfig::default()
        });
    }
    if number >= 2 {
        container.secrets = Some(vec![SecretReference {
            secret_id: Some(secret().id),
            ..SecretReference::default()
        }]);
    }
    let spec = TaskSpec {
        container: Some(container),
        ..TaskSpec::default()
    };
    let mut task = Task::new(TaskId::from_bits(number), None, Arc::new(spec));
    task.status.state = TaskState::Assigned;
    task.desired_state = desired;
    task
}

impl World {
    fn new() -> Self {
        let now = Now {
            monotonic: Instant::now(),
            wall: Timestamp::UNIX_EPOCH,
        };
        Self {
            core: Core::new(Vec::new(), &BTreeMap::new(), now),
            now,
            assigned: BTreeMap::new(),
            runner: BTreeMap::new(),
            events: Vec::new(),
            busy: Vec::new(),
            watched: BTreeSet::new(),
            gone: BTreeSet::new(),
            kept: Vec::new(),
            highest: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    fn assign(&mut self, basis: Basis, changed: Vec<Assignment>, removed: Vec<AssignmentId>) {
        let assignments = Assignments {
            basis,
            number: 1,
            changed,
            removed,
        };
        self.core.assign(assignments, self.now);
    }

    fn happens(&mut self, what: &Happens) {
        match *what {
            Happens::Assign {
                task: number,
                desired,
            } => {
                let mut new = task(number, desired);
                // What a manager wants of a task only goes up.
                let asked = self.asked.entry(new.id).or_insert(desired);
                *asked = desired.max(*asked);
                new.desired_state = *asked;
                if let Some(old) = self.assigned.get(&new.id) {
                    new.status = old.status.clone();
                }
                let new = Arc::new(new);
                self.assigned.insert(new.id, Arc::clone(&new));
                let changed = vec![Assignment::Secret(secret()), Assignment::Task(new)];
                self.assign(Basis::Number(0), changed, Vec::new());
            }
            Happens::Unassign { task } => {
                let id = TaskId::from_bits(task);
                self.assigned.remove(&id);
                self.assign(Basis::Number(0), Vec::new(), vec![AssignmentId::Task(id)]);
            }
            Happens::Session => {
                self.core.session_began();
                let tasks = self.assigned.values().cloned().map(Assignment::Task);
                let all = std::iter::once(Assignment::Secret(secret()))
                    .chain(tasks)
                    .collect();
                self.assign(Basis::Nothing, all, Vec::new());
            }
            Happens::Finish { which, well } => {
                if let Some(at) = which.checked_rem(self.busy.len()) {
                    let (id, number, operation) = self.busy.remove(at);
                    let outcome = self.carry_out(id, operation, well);
                    self.core.done(id, number, outcome, self.now);
                }
            }
            Happens::Exit { task, code } => {
                let id = TaskId::from_bits(task);
                if let Some(state @ RunnerState::Running(_)) = self.runner.get_mut(&id) {
                    let end = End {
                        code: Some(code),
                        reason: None,
                    };
                    *state = RunnerState::Ended(end.clone());
                    self.events.push((id, end));
                }
            }
            Happens::Events => {
                for (id, end) in std::mem::take(&mut self.events) {
                    self.core.runner_ended(id, &end, self.now);
                }
            }
            Happens::Health { task, well } => {
                let id = TaskId::from_bits(task);
                if self.watched.contains(&id) {
                    let health = if well {
                        Ok(())
                    } else {
                        Err("3 checks have failed".to_owned())
                    };
                    self.core.health_changed(id, health, self.now);
                }
            }
            Happens::Time => {
                self.now.monotonic += LONGEST_RETRY;
                self.core.handle_timeout(self.now);
            }
            Happens::Restart { done } => {
                for (id, _, operation) in std::mem::take(&mut self.busy) {
                    if done {
                        // Nobody hears of it.
                        let _ = self.carry_out(id, operation, true);
                    }
                }
                self.events.clear();
                self.watched.clear();
                self.gone.clear();
                self.core = Core::new(self.kept.clone(), &self.runner, self.now);
            }
        }
        self.settle();
    }

    /// What the runner does.
    fn carry_out(&mut self, id: TaskId, operation: Operation, well: bool) -> Result<Done, Failure> {
        if !well {
            return Err(Failure::new("it failed"));
        }
        let launch = Launch {
            pid: 7,
            at: Timestamp::UNIX_EPOCH,
            container: None,
            health: None,
        };
        match operation {
            Operation::Prepare => {
                self.runner.entry(id).or_insert(RunnerState::Prepared);
            }
            Operation::Attach | Operation::Drain => {}
            Operation::Start => {
                assert_eq!(
                    self.runner.get(&id),
                    Some(&RunnerState::Prepared),
                    "{id} was started twice"
                );
                self.runner.insert(id, RunnerState::Running(launch.clone()));
                return Ok(Done::Started(launch));
            }
            Operation::Stop => {
                let state = self.runner.get_mut(&id).expect("only what runs is stopped");
                if let RunnerState::Running(_) = state {
                    let end = End {
                        code: Some(143),
                        reason: None,
                    };
                    *state = RunnerState::Ended(end.clone());
                    self.events.push((id, end));
                }
                let RunnerState::Ended(end) = state else {
                    panic!("{id} was stopped and never started")
                };
                return Ok(Done::Ended(end.clone()));
            }
            Operation::Remove => {
                self.runner.remove(&id);
                // The runner tells of a task's end before its removal, and no identity is given out twice.
                self.events.retain(|(of, _)| *of != id);
            }
        }
        Ok(Done::Done)
    }

    /// Takes the core's actions, and checks what must hold.
    fn settle(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Begin {
                    task,
                    number,
                    operation,
                } => {
                    assert!(
                        self.busy.iter().all(|(busy, ..)| *busy != task),
                        "two at once for {task}"
                    );
                    if operation == Operation::Start {
                        let desired = self.assigned.get(&task).map(|task| task.desired_state);
                        let is_wanted = (TaskState::Running..TaskState::Shutdown).contains(&desired.unwrap());
                        assert!(is_wanted, "{task} is started and should be {desired:?}");
                    }
                    self.busy.push((task, number, operation));
                }
                Action::Abandon { task, number } => {
                    self.busy.retain(|(busy, of, _)| (*busy, *of) != (task, number));
                }
                Action::Tell { task, word } => {
                    assert!(!self.gone.contains(&task), "{task} was gone, and is {word:?}");
                    if word == Word::Gone {
                        self.gone.insert(task);
                        let runs = matches!(self.runner.get(&task), Some(RunnerState::Running(_)));
                        assert!(!runs, "{task} runs, and is said to be gone");
                    }
                }
                Action::Watch { task, .. } => assert!(self.watched.insert(task)),
                Action::Unwatch { task } => assert!(self.watched.remove(&task)),
            }
        }
        for id in (0..TASKS).map(TaskId::from_bits) {
            let Some(entry) = self.core.tasks.get(&id) else {
                // It begins anew, if it comes again, with what the managers say.
                self.gone.remove(&id);
                self.highest.remove(&id);
                self.asked.remove(&id);
                continue;
            };
            let state = entry.status.state;
            let highest = self.highest.entry(id).or_insert(state);
            assert!(*highest <= state, "{id} went from {highest} to {state}");
            *highest = state;
            let ran = matches!(
                self.runner.get(&id),
                Some(RunnerState::Running(_) | RunnerState::Ended(_))
            );
            assert!(state != TaskState::Running || ran, "{id} is said to run");
        }
        for report in self.core.take_reports() {
            assert_eq!(Some(&report.status), self.core.status(report.task));
            let task = self.assigned.get_mut(&report.task);
            if let Some(task) = task {
                Arc::make_mut(task).status = report.status;
            }
        }
        if let Some(kept) = self.core.take_kept() {
            self.kept = kept;
        }
    }

    /// Everything goes well until nothing is left to do.
    fn heal(&mut self) {
        self.happens(&Happens::Session);
        for _ in 0..100 {
            self.happens(&Happens::Events);
            self.happens(&Happens::Finish { which: 0, well: true });
            for task in 0..TASKS {
                self.happens(&Happens::Health { task, well: true });
            }
            self.happens(&Happens::Time);
        }
        assert_eq!(self.busy, []);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn whatever_happens_every_task_ends_up_where_it_should_be(story in prop::collection::vec(happens(), 0..60)) {
        let mut world = World::new();
        for what in &story {
            world.happens(what);
        }
        world.heal();
        for (id, task) in &world.assigned {
            let state = world.core.status(*id).unwrap().state;
            let runs = matches!(world.runner.get(id), Some(RunnerState::Running(_)));
            let is_as_desired = state.is_over() || match task.desired_state {
                TaskState::Ready => state == TaskState::Ready,
                TaskState::Running | TaskState::Complete => state == TaskState::Running,
                _ => false,
            };
            prop_assert!(is_as_desired, "{id} is {state} and should be {}", task.desired_state);
            prop_assert_eq!(runs, state == TaskState::Running, "{} is {}", id, state);
        }
        for id in world.runner.keys() {
            prop_assert!(world.assigned.contains_key(id), "{} is left", id);
        }
        world.assigned.clear();
        world.heal();
        prop_assert!(world.core.is_empty());
        prop_assert!(world.runner.is_empty());
        prop_assert_eq!(world.kept, vec![]);
    }
}
