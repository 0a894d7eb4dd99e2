use super::*;
use essaim_objects::{ContainerSpec, HealthConfig, SecretReference, SecretSpec, TaskSpec, Timestamp};

fn now() -> Now {
    Now {
        monotonic: Instant::now(),
        wall: Timestamp::UNIX_EPOCH,
    }
}

const ID: u128 = 1;
const LAUNCH: Launch = Launch {
    pid: 42,
    at: Timestamp::UNIX_EPOCH,
    container: None,
    health: None,
};

fn id() -> TaskId {
    TaskId::from_bits(ID)
}

fn task(desired: TaskState, container: ContainerSpec) -> Task {
    let spec = TaskSpec {
        container: Some(container),
        ..TaskSpec::default()
    };
    let mut task = Task::new(id(), None, Arc::new(spec));
    task.status.state = TaskState::Assigned;
    task.desired_state = desired;
    task
}

fn checked() -> ContainerSpec {
    ContainerSpec {
        healthcheck: Some(HealthConfig {
            test: Some(vec!["CMD".to_owned(), "true".to_owned()]),
            ..HealthConfig::default()
        }),
        ..ContainerSpec::default()
    }
}

fn all(tasks: Vec<Task>) -> Assignments {
    Assignments {
        basis: Basis::Nothing,
        number: 1,
        changed: tasks
            .into_iter()
            .map(|task| Assignment::Task(Arc::new(task)))
            .collect(),
        removed: Vec::new(),
    }
}

fn core() -> Core {
    Core::new(Vec::new(), &BTreeMap::new(), now())
}

/// Takes the actions; operations are answered as they are expected, in order.
#[track_caller]
fn goes(core: &mut Core, steps: Vec<(Operation, Result<Done, Failure>)>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut steps = steps.into_iter();
    while let Some(action) = core.poll_action() {
        match action {
            Action::Begin {
                task,
                number,
                operation,
            } => {
                let Some((expected, outcome)) = steps.next() else {
                    panic!("{operation:?} is begun, and nothing was expected")
                };
                assert_eq!(operation, expected);
                core.done(task, number, outcome, now());
            }
            Action::Tell { word, .. } => words.push(word),
            Action::Abandon { .. } | Action::Watch { .. } | Action::Unwatch { .. } => {}
        }
    }
    assert_eq!(steps.next(), None, "was not begun");
    words
}

fn up() -> Vec<(Operation, Result<Done, Failure>)> {
    vec![
        (Operation::Prepare, Ok(Done::Done)),
        (Operation::Attach, Ok(Done::Done)),
        (Operation::Start, Ok(Done::Started(LAUNCH))),
    ]
}

fn down(code: i32) -> Vec<(Operation, Result<Done, Failure>)> {
    vec![
        (Operation::Drain, Ok(Done::Done)),
        (Operation::Stop, Ok(Done::Ended(end(Some(code), None)))),
    ]
}

fn end(code: Option<i32>, reason: Option<&str>) -> End {
    End {
        code,
        reason: reason.map(str::to_owned),
    }
}

#[track_caller]
fn is(core: &Core, state: TaskState, error: Option<&str>) {
    let status = core.status(id()).unwrap();
    assert_eq!((status.state, status.err.as_deref()), (state, error));
}

#[test]
fn a_task_goes_its_way_from_assigned_to_removed() {
    let mut core = core();
    let container = ContainerSpec::default();
    core.assign(all(vec![task(TaskState::Ready, container.clone())]), now());
    is(&core, TaskState::Preparing, None);
    let words = goes(&mut core, up().into_iter().take(2).collect());
    assert_eq!(words, [Word::Starting]);
    is(&core, TaskState::Ready, None);
    core.assign(all(vec![task(TaskState::Running, container.clone())]), now());
    let words = goes(&mut core, up().into_iter().skip(2).collect());
    assert_eq!(words, [Word::Running { pid: 42 }]);
    is(&core, TaskState::Running, None);
    let container_status = core.status(id()).unwrap().container_status.clone().unwrap();
    assert_eq!(container_status.pid, Some(42));
    assert_eq!(container_status.container_id, Some(id().to_string()));
    core.assign(all(vec![task(TaskState::Shutdown, container)]), now());
    assert_eq!(goes(&mut core, down(143)), [Word::Gone]);
    is(&core, TaskState::Shutdown, None);
    let container_status = core.status(id()).unwrap().container_status.clone().unwrap();
    assert_eq!(container_status.exit_code, Some(143));
    // Its logs stay as long as it is assigned.
    assert_eq!(core.with_logs().count(), 1);
    core.assign(all(Vec::new()), now());
    goes(&mut core, vec![(Operation::Remove, Ok(Done::Done))]);
    assert!(core.is_empty());
    assert_eq!(core.take_kept(), Some(Vec::new()));
}

#[test]
fn what_ends_by_itself_says_how_in_swarms_words() {
    for (end, state, error) in [
        (end(Some(0), None), TaskState::Complete, None),
        (
            end(Some(3), None),
            TaskState::Failed,
            Some("task: non-zero exit (3)"),
        ),
        (
            end(Some(137), Some("out of memory")),
            TaskState::Failed,
            Some("task: non-zero exit (137): out of memory"),
        ),
        (
            end(None, Some("the machine stopped")),
            TaskState::Failed,
            Some("task: the machine stopped"),
        ),
    ] {
        let mut core = core();
        core.assign(
            all(vec![task(TaskState::Running, ContainerSpec::default())]),
            now(),
        );
        goes(&mut core, up());
        core.runner_ended(id(), &end, now());
        assert_eq!(goes(&mut core, Vec::new()), [Word::Gone]);
        is(&core, state, error);
    }
}

#[test]
fn what_fails_before_it_starts_is_rejected_and_removed_and_what_fails_to_start_has_failed() {
    let why = || Err(Failure::new("no room"));
    let remove = (Operation::Remove, Ok(Done::Done));
    for (steps, state) in [
        (vec![(Operation::Prepare, why())], TaskState::Rejected),
        (
            vec![
                (Operation::Prepare, Ok(Done::Done)),
                (Operation::Attach, why()),
                remove.clone(),
            ],
            TaskState::Rejected,
        ),
        (
            vec![
                (Operation::Prepare, Ok(Done::Done)),
                (Operation::Attach, Ok(Done::Done)),
                (Operation::Start, why()),
                remove,
            ],
            TaskState::Failed,
        ),
    ] {
        let mut core = core();
        core.assign(
            all(vec![task(TaskState::Running, ContainerSpec::default())]),
            now(),
        );
        goes(&mut core, steps);
        is(&core, state, Some("no room"));
    }
}

/// The start of a task that its runner checks.
fn launched(health: TaskHealth) -> (Operation, Result<Done, Failure>) {
    let launch = Launch {
        health: Some(health),
        ..LAUNCH
    };
    (Operation::Start, Ok(Done::Started(launch)))
}

#[test]
fn a_task_that_its_runner_checks_is_as_that_says() {
    // The check may be the image's own, of which the spec says nothing.
    for container in [ContainerSpec::default(), checked()] {
        let mut core = core();
        core.assign(all(vec![task(TaskState::Running, container)]), now());
        let mut steps = up();
        steps.pop();
        steps.push(launched(TaskHealth::Starting));
        assert_eq!(goes(&mut core, steps), [Word::Starting]);
        is(&core, TaskState::Starting, None);
        core.runner_health(id(), TaskHealth::Healthy, now());
        is(&core, TaskState::Running, None);
        core.runner_health(id(), TaskHealth::Unhealthy { failures: 3 }, now());
        let words = goes(&mut core, down(143));
        assert_eq!(words, [Word::Running { pid: 42 }, Word::Unhealthy, Word::Gone]);
        let error = "task: non-zero exit (143): unhealthy container: 3 checks in a row have failed";
        is(&core, TaskState::Failed, Some(error));
    }
}

#[test]
fn a_task_may_be_healthy_when_its_start_is_told() {
    let mut core = core();
    core.assign(
        all(vec![task(TaskState::Running, ContainerSpec::default())]),
        now(),
    );
    let mut steps = up();
    steps.pop();
    steps.push(launched(TaskHealth::Healthy));
    let words = goes(&mut core, steps);
    assert_eq!(words, [Word::Starting, Word::Running { pid: 42 }]);
    is(&core, TaskState::Running, None);
}

#[test]
fn a_task_with_a_check_runs_once_it_is_healthy_and_fails_once_it_is_not() {
    let mut core = core();
    core.assign(all(vec![task(TaskState::Running, checked())]), now());
    assert_eq!(goes(&mut core, up()), [Word::Starting]);
    is(&core, TaskState::Starting, None);
    core.health_changed(id(), Ok(()), now());
    assert_eq!(goes(&mut core, Vec::new()), [Word::Running { pid: 42 }]);
    is(&core, TaskState::Running, None);
    core.health_changed(id(), Err("3 checks failed".to_owned()), now());
    assert_eq!(goes(&mut core, down(143)), [Word::Unhealthy, Word::Gone]);
    let error = "task: non-zero exit (143): unhealthy container: 3 checks failed";
    is(&core, TaskState::Failed, Some(error));
}

#[test]
fn a_restart_disturbs_nothing_that_runs() {
    let mut core = core();
    core.assign(all(vec![task(TaskState::Running, checked())]), now());
    goes(&mut core, up());
    core.health_changed(id(), Ok(()), now());
    goes(&mut core, Vec::new());
    let kept = core.take_kept().unwrap();
    let found = BTreeMap::from([(id(), RunnerState::Running(LAUNCH))]);
    let mut core = Core::new(kept, &found, now());
    // It keeps its traffic, and its endpoints are looked after; that this fails changes nothing.
    let words = goes(
        &mut core,
        vec![(Operation::Attach, Err(Failure::new("no catalog yet")))],
    );
    assert_eq!(words, [Word::Running { pid: 42 }]);
    is(&core, TaskState::Running, None);
    core.session_began();
    assert_eq!(core.take_reports().len(), 1);
    assert_eq!(core.take_reports(), []);
    core.session_began();
    assert_eq!(core.take_reports().len(), 1);
}

#[test]
fn what_nobody_assigned_goes_on_until_a_leader_says_what_is() {
    let found = BTreeMap::from([(id(), RunnerState::Running(LAUNCH))]);
    let mut core = Core::new(Vec::new(), &found, now());
    assert_eq!(core.poll_action(), None);
    core.session_began();
    assert_eq!(core.take_reports(), []);
    let mut other = Core::new(Vec::new(), &found, now());
    core.assign(
        all(vec![task(TaskState::Running, ContainerSpec::default())]),
        now(),
    );
    goes(&mut core, vec![(Operation::Attach, Ok(Done::Done))]);
    is(&core, TaskState::Running, None);
    other.assign(all(Vec::new()), now());
    let mut steps = down(143);
    steps.push((Operation::Remove, Ok(Done::Done)));
    goes(&mut other, steps);
    assert!(other.is_empty());
}

#[test]
fn a_task_that_is_lost_with_the_nodes_disk_has_failed_and_is_not_started_again() {
    let mut core = core();
    let mut lost = task(TaskState::Running, ContainerSpec::default());
    lost.status.state = TaskState::Running;
    core.assign(all(vec![lost]), now());
    goes(&mut core, Vec::new());
    let error = "task: it was started, and nothing of it is left on this node";
    is(&core, TaskState::Failed, Some(error));
}

#[test]
fn a_task_waits_for_its_secrets_only_as_long_as_they_may_come() {
    let container = ContainerSpec {
        secrets: Some(vec![SecretReference {
            secret_id: Some(SecretId::from_bits(5)),
            ..SecretReference::default()
        }]),
        ..ContainerSpec::default()
    };
    let mut assigned = task(TaskState::Running, container);
    assigned.status.state = TaskState::Ready;
    let status = assigned.status.clone();
    let kept = vec![Kept {
        task: Arc::new(assigned.clone()),
        status,
        is_assigned: true,
        is_ending: false,
    }];
    let found = BTreeMap::from([(id(), RunnerState::Prepared)]);
    let mut core = Core::new(kept, &found, now());
    assert_eq!(core.poll_action(), None);
    let secret = Secret::new(SecretId::from_bits(5), SecretSpec::default());
    let mut assignments = all(vec![assigned]);
    assignments
        .changed
        .insert(0, Assignment::Secret(Arc::new(secret)));
    core.assign(assignments, now());
    assert_eq!(core.secrets().len(), 1);
    goes(&mut core, up());
    is(&core, TaskState::Running, None);
}

#[test]
fn what_is_not_wanted_any_more_is_not_waited_for() {
    let mut core = core();
    core.assign(
        all(vec![task(TaskState::Running, ContainerSpec::default())]),
        now(),
    );
    let Some(Action::Begin { number, .. }) = core.poll_action() else {
        panic!("it is not prepared")
    };
    core.done(id(), number, Ok(Done::Done), now());
    core.assign(
        all(vec![task(TaskState::Shutdown, ContainerSpec::default())]),
        now(),
    );
    let mut seen = Vec::new();
    let mut attach = None;
    while let Some(action) = core.poll_action() {
        if let Action::Begin {
            number,
            operation: Operation::Attach,
            ..
        } = action
        {
            attach = Some(number);
        }
        seen.push(action);
    }
    let attach = attach.unwrap();
    assert!(
        seen.contains(&Action::Abandon {
            task: id(),
            number: attach
        }),
        "{seen:?}"
    );
    // That it ended after all is passed over.
    core.done(id(), attach, Err(Failure::new("no catalog")), now());
    is(&core, TaskState::Preparing, None);
    let Some(Action::Begin {
        number,
        operation: Operation::Remove,
        ..
    }) = seen.last()
    else {
        panic!("{seen:?}")
    };
    core.done(id(), *number, Ok(Done::Done), now());
    is(&core, TaskState::Shutdown, None);
}

#[test]
fn a_stop_that_fails_is_tried_again_ever_more_slowly() {
    let mut core = core();
    core.assign(
        all(vec![task(TaskState::Running, ContainerSpec::default())]),
        now(),
    );
    goes(&mut core, up());
    core.assign(all(Vec::new()), now());
    let mut time = now();
    let mut steps = vec![(Operation::Drain, Ok(Done::Done))];
    for expected in [1, 2, 4, 8, 16, 30, 30] {
        steps.push((Operation::Stop, Err(Failure::new("no"))));
        let before = Instant::now();
        goes(&mut core, std::mem::take(&mut steps));
        let wait = core.poll_timeout().unwrap().duration_since(before).as_secs_f64();
        assert!((wait - f64::from(expected)).abs() < 0.9, "{wait} for {expected}");
        time.monotonic = core.poll_timeout().unwrap();
        core.handle_timeout(time);
        assert_eq!(core.poll_timeout(), None);
    }
}
