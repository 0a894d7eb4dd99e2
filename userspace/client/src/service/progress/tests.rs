use super::*;
use essaim_objects::{ServiceId, ServiceSpec, TaskId, Version};
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(1_767_225_600_000 + milliseconds).unwrap()
}

fn node(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

fn up() -> BTreeSet<NodeId> {
    [node(1), node(2)].into()
}

fn service(mode: &Value, update: Value) -> Service {
    let spec: ServiceSpec = serde_json::from_value(json!({"Name": "web", "Mode": mode})).unwrap();
    let mut service = Service::new(ServiceId::from_bits(7), spec.into());
    service.update_status = serde_json::from_value(update).unwrap();
    service
}

fn replicated(replicas: u64) -> Service {
    service(&json!({"Replicated": {"Replicas": replicas}}), Value::Null)
}

fn task(slot: u64, on: u128, state: TaskState) -> Task {
    let mut task = Task::new(
        TaskId::from_bits(u128::from(slot) * 100 + on),
        None,
        std::sync::Arc::default(),
    );
    task.slot = Some(slot).filter(|slot| *slot != 0);
    task.node_id = Some(node(on));
    task.status.state = state;
    task
}

fn lines(frame: &Frame) -> Vec<String> {
    frame.text(false)
}

#[test]
fn a_service_must_stay_as_it_is_for_five_seconds() {
    let mut progress = Progress::default();
    let service = replicated(2);
    let mut tasks = vec![task(1, 1, TaskState::Running), task(2, 2, TaskState::Preparing)];
    let (step, frame) = progress.observe(&service, &tasks, &up(), at(0));
    assert_eq!(step, Step::Going);
    assert_eq!(
        lines(&frame),
        [
            "overall progress: 1 out of 2 tasks",
            "1/2: running",
            "2/2: preparing"
        ]
    );
    tasks[1].status.state = TaskState::Running;
    let (step, frame) = progress.observe(&service, &tasks, &up(), at(1000));
    assert_eq!(step, Step::Going);
    assert_eq!(
        lines(&frame).last().unwrap(),
        "verify: Waiting 5 seconds to verify that tasks are stable..."
    );
    let (step, _) = progress.observe(&service, &tasks, &up(), at(5999));
    assert_eq!(step, Step::Going);
    let (step, frame) = progress.observe(&service, &tasks, &up(), at(6000));
    assert_eq!(step, Step::Converged(None));
    assert_eq!(
        lines(&frame).last().unwrap(),
        &format!("verify: Service {} converged", service.id)
    );
}

#[test]
fn a_task_that_fails_starts_the_wait_anew() {
    let mut progress = Progress::default();
    let service = replicated(1);
    let running = [task(1, 1, TaskState::Running)];
    let mut failed = task(1, 1, TaskState::Failed);
    failed.status.err = Some("exit 1".to_owned());
    assert_eq!(progress.observe(&service, &running, &up(), at(0)).0, Step::Going);
    let (step, frame) = progress.observe(&service, &[failed], &up(), at(4000));
    assert_eq!(step, Step::Going);
    assert_eq!(
        lines(&frame),
        [
            "overall progress: 0 out of 1 tasks",
            "1/1: exit 1",
            "verify: Detected task failure"
        ]
    );
    assert_eq!(
        progress.observe(&service, &running, &up(), at(5000)).0,
        Step::Going
    );
    assert_eq!(
        progress.observe(&service, &running, &up(), at(9999)).0,
        Step::Going
    );
    assert_eq!(
        progress.observe(&service, &running, &up(), at(10_000)).0,
        Step::Converged(None)
    );
}

#[test]
fn a_task_counts_where_its_node_is_up_and_it_should_run() {
    let count = |tasks: &[Task]| {
        lines(&Progress::default().observe(&replicated(2), tasks, &up(), at(0)).1)[0].clone()
    };
    let on_lost_node = task(1, 9, TaskState::Running);
    let mut stopping = task(2, 1, TaskState::Running);
    stopping.desired_state = TaskState::Shutdown;
    assert_eq!(
        count(&[on_lost_node.clone(), stopping.clone()]),
        "overall progress: 0 out of 2 tasks"
    );
    let next = task(2, 2, TaskState::Running);
    for tasks in [[stopping.clone(), next.clone()], [next, stopping]] {
        assert_eq!(count(&tasks), "overall progress: 1 out of 2 tasks");
    }
}

#[test]
fn the_clusters_word_on_an_update_counts() {
    let observe = |state: &str| {
        let service = service(
            &json!({"Replicated": {"Replicas": 0}}),
            json!({"State": state, "Message": "m"}),
        );
        let mut progress = Progress::default();
        let first = progress.observe(&service, &[], &up(), at(0));
        (first, progress.observe(&service, &[], &up(), at(5000)).0)
    };
    assert_eq!(observe("updating").1, Step::Converged(None));
    assert_eq!(observe("completed").1, Step::Converged(None));
    assert_eq!(
        observe("paused").0.0,
        Step::Failed("service update paused: m".to_owned())
    );
    assert_eq!(
        observe("rollback_paused").0.0,
        Step::Failed("service rollback paused: m".to_owned())
    );
    assert_eq!(
        observe("rollback_completed").1,
        Step::Converged(Some("rolled back: m".to_owned()))
    );
    let ((step, frame), _) = observe("rollback_started");
    assert_eq!((step, lines(&frame)[0].as_str()), (Step::Going, "rollback: m"));
}

#[test]
fn a_global_service_waits_for_its_tasks_and_counts_nodes() {
    let service = service(&json!({"Global": {}}), Value::Null);
    let mut progress = Progress::default();
    let (step, frame) = progress.observe(&service, &[], &up(), at(0));
    assert_eq!(
        (step, lines(&frame)),
        (
            Step::Going,
            vec!["overall progress: waiting for new tasks".to_owned()]
        )
    );
    let tasks = [task(0, 1, TaskState::Running), task(0, 2, TaskState::Starting)];
    assert_eq!(
        lines(&progress.observe(&service, &tasks, &up(), at(0)).1)[0],
        "overall progress: 1 out of 2 tasks"
    );
}

#[test]
fn a_job_is_done_once_enough_tasks_of_its_run_are_complete() {
    let mut service = service(
        &json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 2}}),
        Value::Null,
    );
    service.job_status = serde_json::from_value(json!({"JobIteration": {"Index": 5}})).unwrap();
    let of_run = |slot: u64, index: u64| {
        let mut task = task(slot, 9, TaskState::Complete);
        task.job_iteration = Some(Version { index });
        task
    };
    let mut progress = Progress::default();
    let (step, frame) = progress.observe(&service, &[of_run(1, 4), of_run(2, 5)], &up(), at(0));
    assert_eq!(
        (step, lines(&frame)[0].as_str()),
        (Step::Going, "job progress: 1 out of 2 complete")
    );
    assert_eq!(
        progress
            .observe(&service, &[of_run(1, 5), of_run(2, 5)], &up(), at(0))
            .0,
        Step::Converged(None)
    );
}

#[test]
fn a_terminal_gets_bars_and_many_tasks_get_no_lines() {
    let frame = Progress::default()
        .observe(&replicated(1), &[task(1, 1, TaskState::Running)], &up(), at(0))
        .1;
    assert_eq!(frame.text(true)[1], format!("1/1: Running [{}>]", "=".repeat(36)));
    let many: Vec<_> = (1..=21).map(|slot| task(slot, 1, TaskState::New)).collect();
    assert_eq!(
        lines(
            &Progress::default()
                .observe(&replicated(21), &many, &up(), at(0))
                .1
        ),
        ["overall progress: 0 out of 21 tasks"]
    );
}

fn states() -> impl Strategy<Value = TaskState> {
    proptest::sample::select(TaskState::ALL.to_vec())
}

proptest! {
    /// The order in which the daemon lists tasks does not matter, and the count is that of a plain model.
    #[test]
    fn the_count_is_the_models(found in proptest::collection::vec((1_u64..4, 1_u128..4, states(), states()), 0..12), replicas in 0_u64..5) {
        let tasks: Vec<Task> = found
            .iter()
            .enumerate()
            .map(|(id, (slot, on, state, desired))| {
                let mut task = task(*slot, *on, *state);
                task.id = TaskId::from_bits(id as u128);
                task.desired_state = *desired;
                task
            })
            .collect();
        let slot_runs = |slot: u64| {
            let on_up = |found: &&(u64, u128, TaskState, TaskState)| found.0 == slot && found.1 < 3;
            let least = found.iter().filter(on_up).map(|found| found.3).min();
            least.is_some_and(|least| {
                let state = found.iter().filter(on_up).filter(|found| found.3 == least).map(|found| found.2).max();
                least <= TaskState::Running && state == Some(TaskState::Running)
            })
        };
        let expected = (1..4).filter(|slot| slot_runs(*slot)).count().min(usize::try_from(replicas).unwrap());
        let text = |tasks: &[Task]| lines(&Progress::default().observe(&replicated(replicas), tasks, &up(), at(0)).1)[0].clone();
        let mut turned = tasks.clone();
        turned.reverse();
        prop_assert_eq!(text(&tasks), format!("overall progress: {expected} out of {replicas} tasks"));
        prop_assert_eq!(text(&tasks), text(&turned));
    }
}
