//! Which tasks there are: scale, nodes that go, restarts, jobs, history.

use crate::harness::Harness;
use crate::make::node_id;
use essaim_objects::{Availability, NodeState, TaskState};
use serde_json::{Value, json};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn replicated(replicas: u64) -> Value {
    json!({"Name": "web", "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}}})
}

fn global() -> Value {
    json!({"Name": "web", "Mode": {"Global": {}}, "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}}})
}

fn job(total: u64, most: u64) -> Value {
    json!({"Name": "job", "Mode": {"ReplicatedJob": {"MaxConcurrent": most, "TotalCompletions": total}},
        "TaskTemplate": {"ContainerSpec": {"Image": "job:1"}, "RestartPolicy": {"Delay": 0}}})
}

fn with_restart(mut spec: Value, policy: &Value) -> Value {
    spec["TaskTemplate"]["RestartPolicy"] = policy.clone();
    spec
}

fn set_availability(harness: &mut Harness, node: u128, availability: Availability) {
    harness.change_node(node, |node| node.spec.availability = Some(availability));
}

fn set_state(harness: &mut Harness, node: u128, state: NodeState) {
    harness.change_node(node, |node| node.status.state = state);
}

#[test]
fn a_service_gets_its_tasks_spread_over_the_nodes() {
    let mut harness = Harness::new(3);
    harness.create(&replicated(3));
    assert_eq!(harness.slots(), [1, 2, 3]);
    let mut places = harness.places();
    places.sort_unstable();
    assert_eq!(places, [1, 2, 3].map(node_id));
    for task in harness.wanted() {
        assert_eq!(
            (task.desired_state, task.status.state),
            (TaskState::Running, TaskState::Assigned)
        );
        assert_eq!(task.spec_version, harness.service().spec_version);
    }
}

#[test]
fn scaling_up_fills_the_gaps_and_scaling_down_takes_from_the_fullest_node_what_does_not_run_first() {
    let mut harness = Harness::new(2);
    harness.create(&replicated(4));
    harness.obey();
    harness.update(&json!({"Mode": {"Replicated": {"Replicas": 5}}}));
    assert_eq!(harness.slots(), [1, 2, 3, 4, 5]);
    // The fifth does not run yet: it goes first.
    harness.update(&json!({"Mode": {"Replicated": {"Replicas": 4}}}));
    assert_eq!(harness.slots(), [1, 2, 3, 4]);
    // Two nodes with two tasks each: one of each node stays.
    harness.update(&json!({"Mode": {"Replicated": {"Replicas": 2}}}));
    let mut places = harness.places();
    places.sort_unstable();
    assert_eq!(places, [1, 2].map(node_id));
    harness.obey();
    assert_eq!(
        harness.store.tasks.len(),
        2,
        "what was removed is gone once it has stopped"
    );
    harness.update(&json!({"Mode": {"Replicated": {"Replicas": 3}}}));
    assert_eq!(harness.slots(), [1, 2, 3]);
    harness.update(&json!({"Mode": {"Replicated": {"Replicas": 0}}}));
    harness.obey();
    assert!(harness.store.tasks.is_empty());
    assert_eq!(harness.service().update_status, None, "scaling is no update");
}

#[test]
fn a_service_that_is_removed_takes_its_tasks_with_it_once_they_have_stopped() {
    let mut harness = Harness::new(2);
    harness.create(&replicated(2));
    harness.obey();
    harness.remove_service();
    assert!(
        harness
            .store
            .tasks
            .values()
            .all(|task| task.desired_state == TaskState::Remove)
    );
    assert_eq!(harness.store.tasks.len(), 2);
    harness.obey();
    assert!(harness.store.tasks.is_empty());
}

#[test]
fn a_task_that_ends_is_replaced_after_the_delay() {
    let mut harness = Harness::new(1);
    harness.create(&replicated(1));
    harness.obey();
    let old = harness.wanted()[0].id;
    harness.report(old, TaskState::Failed);
    let new = harness.wanted();
    assert_eq!(new.len(), 1);
    assert_eq!((new[0].slot, new[0].desired_state), (Some(1), TaskState::Ready));
    assert_eq!(harness.store.tasks[&old].desired_state, TaskState::Shutdown);
    harness.obey();
    harness.pass(Duration::from_millis(4_999));
    assert_eq!(harness.wanted()[0].desired_state, TaskState::Ready);
    harness.pass(Duration::from_millis(1));
    assert_eq!(harness.wanted()[0].desired_state, TaskState::Running);
    harness.obey();
    assert_eq!(harness.running().len(), 1);
}

#[test]
fn the_delay_survives_a_new_leader() {
    let mut harness = Harness::new(1);
    harness.create(&replicated(1));
    harness.obey();
    harness.report(harness.wanted()[0].id, TaskState::Failed);
    harness.pass(3 * SECOND);
    harness.change_leader();
    harness.pass(Duration::from_millis(1_999));
    assert_eq!(harness.wanted()[0].desired_state, TaskState::Ready);
    harness.pass(Duration::from_millis(1));
    assert_eq!(harness.wanted()[0].desired_state, TaskState::Running);
}

#[test]
fn each_condition_restarts_what_it_says() {
    for (condition, ends, is_replaced) in [
        ("any", TaskState::Failed, true),
        ("any", TaskState::Complete, true),
        ("any", TaskState::Rejected, true),
        ("on-failure", TaskState::Failed, true),
        ("on-failure", TaskState::Rejected, true),
        ("on-failure", TaskState::Complete, false),
        ("none", TaskState::Failed, false),
        ("none", TaskState::Complete, false),
    ] {
        for spec in [replicated(1), global()] {
            let mut harness = Harness::new(1);
            harness.create(&with_restart(spec, &json!({"Condition": condition})));
            harness.obey();
            harness.report(harness.wanted()[0].id, ends);
            assert_eq!(
                harness.wanted().len(),
                usize::from(is_replaced),
                "{condition} {ends}"
            );
            harness.change_leader();
            harness.pass(600 * SECOND);
            assert_eq!(
                harness.wanted().len(),
                usize::from(is_replaced),
                "{condition} {ends}, later"
            );
        }
    }
}

#[test]
fn attempts_are_counted_within_their_window_whoever_leads() {
    for (policy, lives) in [
        (json!({"Delay": 0, "MaxAttempts": 3}), 4),
        (json!({"Delay": 0, "MaxAttempts": 7}), 8),
        // Ten seconds from one failure to the next: two attempts at most lie within 25.
        (
            json!({"Delay": 0, "MaxAttempts": 2, "Window": 25_000_000_000_i64}),
            3,
        ),
        (
            json!({"Delay": 0, "MaxAttempts": 3, "Window": 25_000_000_000_i64}),
            usize::MAX,
        ),
    ] {
        let mut harness = Harness::new(1);
        harness.create(&with_restart(replicated(1), &policy));
        let mut seen = 0;
        for _ in 0..20 {
            let Some(task) = harness.wanted().first().cloned() else {
                break;
            };
            seen += 1;
            harness.obey();
            harness.pass(10 * SECOND);
            harness.change_leader();
            harness.report(task.id, TaskState::Failed);
        }
        assert_eq!(seen, lives.min(20), "{policy}");
        harness.pass(600 * SECOND);
        assert_eq!(harness.wanted().is_empty(), lives < 20, "{policy}");
    }
}

#[test]
fn only_the_last_tasks_of_a_slot_are_kept() {
    for (limit, kept) in [(None, 5), (Some(2), 2), (Some(0), 1), (Some(-1), 11)] {
        let mut harness = Harness::new(1);
        harness.store.spec.orchestration = limit.map(|limit| essaim_objects::Orchestration {
            task_history_retention_limit: Some(limit),
            ..essaim_objects::Orchestration::default()
        });
        harness.create(&with_restart(replicated(1), &json!({"Delay": 0})));
        for _ in 0..10 {
            harness.obey();
            harness.pass(SECOND);
            harness.report(harness.wanted()[0].id, TaskState::Failed);
        }
        assert_eq!(harness.store.tasks.len(), kept, "limit {limit:?}");
        assert_eq!(harness.wanted().len(), 1);
    }
}

#[test]
fn draining_moves_tasks_at_once_and_pausing_moves_none() {
    let mut harness = Harness::new(2);
    harness.create(&replicated(2));
    harness.obey();
    set_availability(&mut harness, 1, Availability::Pause);
    assert_eq!(harness.running().len(), 2);
    harness.update(&json!({"Mode": {"Replicated": {"Replicas": 3}}}));
    assert_eq!(harness.wanted()[2].node_id, Some(node_id(2)));
    set_availability(&mut harness, 1, Availability::Drain);
    let moved = harness.wanted();
    assert!(
        moved.iter().all(|task| task.node_id == Some(node_id(2))),
        "{moved:?}"
    );
    // It starts as soon as the old one has stopped, without the delay of a restart.
    assert_eq!(
        moved
            .iter()
            .filter(|task| task.desired_state == TaskState::Ready)
            .count(),
        1
    );
    harness.obey();
    assert!(
        harness
            .wanted()
            .iter()
            .all(|task| task.desired_state == TaskState::Running)
    );
}

#[test]
fn a_task_waits_a_minute_at_most_for_the_one_before_it() {
    let mut harness = Harness::new(2);
    harness.create(&replicated(1));
    harness.obey();
    let place = harness.places()[0];
    let number = if place == node_id(1) { 1 } else { 2 };
    set_availability(&mut harness, number, Availability::Drain);
    harness.pass(Duration::from_millis(59_999));
    assert_eq!(harness.wanted()[0].desired_state, TaskState::Ready);
    harness.pass(Duration::from_millis(1));
    assert_eq!(harness.wanted()[0].desired_state, TaskState::Running);
}

#[test]
fn a_node_that_is_down_has_its_tasks_replaced_and_stops_them_when_it_is_back() {
    let mut harness = Harness::new(2);
    harness.create(&replicated(2));
    harness.obey();
    set_state(&mut harness, 1, NodeState::Disconnected);
    set_state(&mut harness, 1, NodeState::Unknown);
    assert_eq!(harness.running().len(), 2);
    set_state(&mut harness, 1, NodeState::Down);
    assert_eq!(harness.places(), [2, 2].map(node_id));
    harness.pass(5 * SECOND);
    assert!(
        harness
            .wanted()
            .iter()
            .all(|task| task.desired_state == TaskState::Running)
    );
    harness.obey();
    set_state(&mut harness, 1, NodeState::Ready);
    assert_eq!(harness.running().len(), 2);
    assert_eq!(
        harness.places(),
        [2, 2].map(node_id),
        "nothing moves back by itself"
    );
}

#[test]
fn a_node_that_is_removed_orphans_its_tasks() {
    let mut harness = Harness::new(2);
    harness.create(&replicated(2));
    harness.obey();
    harness.remove_node(1);
    assert_eq!(harness.places(), [2, 2].map(node_id));
    let orphans = harness
        .store
        .tasks
        .values()
        .filter(|task| task.status.state == TaskState::Orphaned);
    assert_eq!(orphans.count(), 1);
}

#[test]
fn a_global_service_follows_nodes_constraints_and_availability() {
    let mut harness = Harness::new(3);
    harness.create(&global());
    harness.obey();
    assert_eq!(harness.running().len(), 3);
    set_availability(&mut harness, 1, Availability::Drain);
    set_availability(&mut harness, 2, Availability::Pause);
    assert_eq!(harness.places(), [2, 3].map(node_id));
    harness.report(harness.wanted()[0].id, TaskState::Failed);
    assert_eq!(
        harness.places(),
        [3].map(node_id),
        "a paused node gets nothing new"
    );
    set_availability(&mut harness, 1, Availability::Active);
    set_availability(&mut harness, 2, Availability::Active);
    harness.obey();
    harness.pass(10 * SECOND);
    harness.obey();
    assert_eq!(harness.running().len(), 3);
    set_state(&mut harness, 3, NodeState::Down);
    assert_eq!(harness.places(), [1, 2].map(node_id));
    set_state(&mut harness, 3, NodeState::Ready);
    harness.obey();
    harness.pass(10 * SECOND);
    harness.obey();
    assert_eq!(harness.running().len(), 3);
    harness.update(&json!({"TaskTemplate": {"Placement": {"Constraints": ["node.hostname!=n1"]}}}));
    assert_eq!(harness.places(), [2, 3].map(node_id));
    harness.remove_node(2);
    harness.obey();
    assert_eq!(harness.places(), [3].map(node_id));
    assert!(
        harness
            .store
            .tasks
            .values()
            .all(|task| task.node_id != Some(node_id(2)))
    );
}

#[test]
fn tasks_leave_a_node_that_stops_being_what_they_need() {
    let mut harness = Harness::new(2);
    for number in [1, 2] {
        harness.change_node(number, |node| {
            node.spec
                .labels
                .get_or_insert_default()
                .insert("disk".into(), "ssd".into());
        });
    }
    let mut spec = replicated(2);
    spec["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.labels.disk==ssd"]});
    spec["TaskTemplate"]["Resources"] = json!({"Reservations": {"NanoCPUs": 2_000_000_000_i64}});
    harness.create(&spec);
    harness.obey();
    harness.change_node(1, |node| node.spec.labels = None);
    let evicted = harness
        .store
        .tasks
        .values()
        .find(|task| task.status.state == TaskState::Rejected)
        .unwrap();
    assert_eq!(
        evicted.status.message.as_deref(),
        Some("task rejected by constraint enforcer")
    );
    assert_eq!(
        evicted.status.err.as_deref(),
        Some("assigned node no longer meets constraints")
    );
    assert_eq!(harness.places(), [2, 2].map(node_id));
    harness.pass(5 * SECOND);
    harness.obey();
    // The node shrinks: only one of the two fits.
    harness.change_node(2, |node| {
        let resources = node
            .description
            .as_mut()
            .and_then(|it| it.resources.as_mut())
            .unwrap();
        resources.nano_cpus = Some(3_000_000_000);
    });
    assert_eq!(harness.running().len(), 1);
    assert_eq!(harness.wanted().len(), 2);
}

#[test]
fn a_job_runs_so_many_at_a_time_until_all_are_complete() {
    let mut harness = Harness::new(2);
    harness.create(&job(5, 2));
    for completed in 0..5 {
        let open: Vec<_> = harness.wanted();
        let open: Vec<_> = open
            .iter()
            .filter(|task| task.status.state != TaskState::Complete)
            .collect();
        assert_eq!(open.len(), 2.min(5 - completed));
        assert!(open.iter().all(|task| task.desired_state == TaskState::Complete));
        harness.report(open[0].id, TaskState::Complete);
    }
    assert_eq!(harness.slots(), [1, 2, 3, 4, 5]);
    harness.pass(600 * SECOND);
    assert!(
        harness
            .wanted()
            .iter()
            .all(|task| task.status.state == TaskState::Complete)
    );
    // Another run begins anew, and the tasks of the last one go.
    harness.update(&json!({"TaskTemplate": {"ForceUpdate": 1}}));
    harness.settle();
    assert_eq!(harness.wanted().len(), 2);
    assert_eq!(harness.store.tasks.len(), 2);
    assert_eq!(harness.service().update_status, None);
}

#[test]
fn a_jobs_task_that_fails_is_tried_again_and_given_up_after_its_attempts() {
    let mut harness = Harness::new(1);
    harness.create(&with_restart(
        job(2, 1),
        &json!({"Delay": 0, "Condition": "any", "MaxAttempts": 1}),
    ));
    for attempt in 0..2 {
        assert_eq!(harness.slots(), [1], "attempt {attempt}");
        harness.report(harness.wanted()[0].id, TaskState::Failed);
    }
    // The first slot is given up; the second has its turn.
    assert_eq!(harness.slots(), [2]);
    harness.report(harness.wanted()[0].id, TaskState::Complete);
    harness.pass(600 * SECOND);
    assert_eq!(harness.slots(), [2]);
}

#[test]
fn a_global_job_completes_once_on_every_node_that_there_is_or_comes() {
    let mut harness = Harness::new(2);
    let mut spec = job(1, 1);
    spec["Mode"] = json!({"GlobalJob": {}});
    harness.create(&spec);
    for task in harness.wanted() {
        harness.report(task.id, TaskState::Complete);
    }
    harness.pass(60 * SECOND);
    assert_eq!(harness.wanted().len(), 2);
    set_availability(&mut harness, 1, Availability::Drain);
    set_availability(&mut harness, 1, Availability::Active);
    harness.pass(60 * SECOND);
    let again = harness
        .store
        .tasks
        .values()
        .filter(|task| task.status.state < TaskState::Complete);
    assert_eq!(again.count(), 0, "what is complete is not done again");
    harness.update(&json!({"TaskTemplate": {"ForceUpdate": 1}}));
    assert_eq!(harness.wanted().len(), 2);
    assert!(
        harness
            .wanted()
            .iter()
            .all(|task| task.status.state < TaskState::Running)
    );
}

#[test]
fn a_host_port_keeps_the_second_task_waiting_with_a_reason() {
    let mut harness = Harness::new(1);
    let mut spec = replicated(2);
    spec["EndpointSpec"] =
        json!({"Ports": [{"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"}]});
    harness.create(&spec);
    harness.obey();
    assert_eq!(harness.running().len(), 1);
    let waiting = harness
        .wanted()
        .into_iter()
        .find(|task| task.node_id.is_none())
        .unwrap();
    let says = "no suitable node (host-mode port already in use on 1 node)";
    assert_eq!(waiting.status.err.as_deref(), Some(says));
}
