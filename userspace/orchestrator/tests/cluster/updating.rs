//! Rolling updates and rollbacks.

use crate::harness::Harness;
use essaim_objects::{Task, TaskState, UpdateState};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn service(replicas: u64, update: &Value) -> Value {
    json!({"Name": "web", "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}, "RestartPolicy": {"Delay": 1_000_000_000}},
        "UpdateConfig": update, "RollbackConfig": {"Parallelism": 0, "Monitor": 1_000_000_000}})
}

fn image(version: u32) -> Value {
    json!({"TaskTemplate": {"ContainerSpec": {"Image": format!("web:{version}")}}})
}

fn is_of(task: &Task, version: u32) -> bool {
    let container = task.spec.container.as_ref();
    container.and_then(|it| it.image.clone()) == Some(format!("web:{version}"))
}

/// How many that should work are of each of two versions.
fn counts(harness: &Harness, versions: [u32; 2]) -> [usize; 2] {
    versions.map(|version| {
        harness
            .wanted()
            .iter()
            .filter(|task| is_of(task, version))
            .count()
    })
}

fn status(harness: &Harness) -> (Option<UpdateState>, String) {
    let status = harness.service().update_status.clone().unwrap_or_default();
    (status.state, status.message.unwrap_or_default())
}

fn of(harness: &Harness, version: u32, is_it: impl Fn(&Task) -> bool) -> Vec<Arc<Task>> {
    let mut wanted = harness.wanted();
    wanted.retain(|task| is_of(task, version) && is_it(task));
    wanted
}

#[test]
fn other_credentials_alone_replace_only_what_has_not_its_image() {
    let auth =
        |auth: &str| json!({"TaskTemplate": {"ContainerSpec": {"PullOptions": {"RegistryAuth": auth}}}});
    let mut harness = Harness::new(2);
    harness.create(&service(2, &json!({"Parallelism": 1})));
    harness.obey();
    let first: Vec<_> = harness.wanted().iter().map(|task| task.id).collect();
    harness.update(&auth("a"));
    harness.obey();
    let second: Vec<_> = harness.wanted().iter().map(|task| task.id).collect();
    assert_eq!(first, second);
    harness.update(&image(2));
    harness.update(&auth("b"));
    harness.obey();
    let wanted = harness.wanted();
    assert_eq!(wanted.len(), 2);
    for task in wanted {
        let container = task.spec.container.as_ref().unwrap();
        assert_eq!(container.registry_auth(), Some("b"), "{task:?}");
    }
}

#[test]
fn one_after_the_other_is_stopped_replaced_and_watched() {
    let mut harness = Harness::new(2);
    harness.create(&service(3, &json!({"Parallelism": 1, "Delay": 2_000_000_000})));
    harness.obey();
    harness.update(&image(2));
    assert_eq!(
        status(&harness),
        (Some(UpdateState::Updating), "update in progress".into())
    );
    for done in 1..=3 {
        assert_eq!(counts(&harness, [1, 2]), [3 - done, done]);
        let new = of(&harness, 2, |task| task.status.state < TaskState::Running);
        assert_eq!(new.len(), 1);
        assert_eq!(
            new[0].desired_state,
            TaskState::Ready,
            "the old one has not stopped"
        );
        harness.obey();
        assert_eq!(harness.running().len(), 3);
        harness.pass(Duration::from_millis(1_999));
        assert_eq!(counts(&harness, [1, 2]), [3 - done, done], "the delay is kept");
        harness.pass(Duration::from_millis(1));
    }
    harness.pass(Duration::from_millis(2_999));
    assert_eq!(
        status(&harness).0,
        Some(UpdateState::Updating),
        "the last is watched for 5 s"
    );
    harness.pass(Duration::from_millis(1));
    assert_eq!(
        status(&harness),
        (Some(UpdateState::Completed), "update completed".into())
    );
    assert!(
        harness
            .service()
            .update_status
            .as_ref()
            .unwrap()
            .completed_at
            .is_some()
    );
}

#[test]
fn parallelism_bounds_how_many_are_under_way_and_nought_is_all() {
    for (parallelism, at_once) in [(1, 1), (2, 2), (0, 5), (9, 5)] {
        for order in ["stop-first", "start-first"] {
            let mut harness = Harness::new(2);
            harness.create(&service(5, &json!({"Parallelism": parallelism, "Order": order})));
            harness.obey();
            harness.update(&image(2));
            assert_eq!(of(&harness, 2, |_| true).len(), at_once, "{parallelism} {order}");
        }
    }
}

#[test]
fn started_first_the_old_one_stops_only_when_the_new_one_runs() {
    let mut harness = Harness::new(2);
    harness.create(&service(1, &json!({"Parallelism": 1, "Order": "start-first"})));
    harness.obey();
    harness.update(&image(2));
    assert_eq!(counts(&harness, [1, 2]), [1, 1]);
    let new = of(&harness, 2, |_| true).remove(0);
    assert_eq!(new.desired_state, TaskState::Running);
    for state in [TaskState::Preparing, TaskState::Starting] {
        harness.report(new.id, state);
        assert_eq!(counts(&harness, [1, 2]), [1, 1]);
    }
    harness.report(new.id, TaskState::Running);
    assert_eq!(counts(&harness, [1, 2]), [0, 1]);
}

#[test]
fn a_newer_update_midway_replaces_both_and_never_runs_three_of_a_slot() {
    for order in ["stop-first", "start-first"] {
        let mut harness = Harness::new(2);
        harness.create(&service(2, &json!({"Parallelism": 1, "Order": order})));
        harness.obey();
        harness.update(&image(2));
        harness.update(&image(3));
        let most = if order == "start-first" { 2 } else { 1 };
        for _ in 0..12 {
            for slot in [1, 2] {
                let count = harness
                    .wanted()
                    .iter()
                    .filter(|task| task.slot == Some(slot))
                    .count();
                assert!((1..=most).contains(&count), "{count} of slot {slot}, {order}");
            }
            harness.obey();
            harness.pass(SECOND);
        }
        assert_eq!(counts(&harness, [2, 3]), [0, 2], "{order}");
        assert_eq!(status(&harness).0, Some(UpdateState::Completed));
    }
}

#[test]
fn a_failure_pauses_the_update_by_default() {
    let mut harness = Harness::new(2);
    harness.create(&service(3, &json!({"Parallelism": 1})));
    harness.obey();
    harness.update(&image(2));
    harness.obey();
    let failed = of(&harness, 2, |_| true)[0].id;
    harness.pass(Duration::from_millis(500));
    harness.report(failed, TaskState::Failed);
    let says = format!("update paused due to failure or early termination of task {failed}");
    assert_eq!(status(&harness), (Some(UpdateState::Paused), says));
    let before = counts(&harness, [1, 2]);
    harness.pass(60 * SECOND);
    harness.obey();
    assert_eq!(counts(&harness, [1, 2]), before, "nothing more is replaced");
    // The operator's next update begins anew.
    harness.update(&image(3));
    assert_eq!(status(&harness).0, Some(UpdateState::Updating));
}

#[test]
fn a_failure_after_the_watch_is_no_matter_of_the_update() {
    let mut harness = Harness::new(2);
    harness.create(&service(
        2,
        &json!({"Parallelism": 1, "Monitor": 2_000_000_000, "Delay": 10_000_000_000_i64}),
    ));
    harness.obey();
    harness.update(&image(2));
    harness.obey();
    harness.pass(3 * SECOND);
    let first = of(&harness, 2, |_| true)[0].id;
    harness.report(first, TaskState::Failed);
    assert_eq!(status(&harness).0, Some(UpdateState::Updating));
    for _ in 0..30 {
        harness.obey();
        harness.pass(SECOND);
    }
    assert_eq!(status(&harness).0, Some(UpdateState::Completed));
}

#[test]
fn the_ratio_says_how_many_may_fail_and_continue_bears_all() {
    for (ratio, action, fails, ends) in [
        (0.0, "pause", 1, UpdateState::Paused),
        (0.25, "pause", 1, UpdateState::Completed),
        (0.25, "pause", 2, UpdateState::Paused),
        (0.0, "continue", 4, UpdateState::Completed),
        (0.0, "rollback", 0, UpdateState::Completed),
    ] {
        let mut harness = Harness::new(2);
        let update = json!({"Parallelism": 4, "MaxFailureRatio": ratio, "FailureAction": action});
        harness.create(&service(4, &update));
        harness.obey();
        harness.update(&image(2));
        harness.obey();
        for task in of(&harness, 2, |_| true).into_iter().take(fails) {
            harness.report(task.id, TaskState::Failed);
        }
        for _ in 0..10 {
            harness.obey();
            harness.pass(SECOND);
        }
        assert_eq!(status(&harness).0, Some(ends), "{ratio} {action} {fails}");
    }
}

#[test]
fn an_update_that_bore_failures_does_not_begin_again() {
    let mut harness = Harness::new(1);
    let update = json!({"Parallelism": 0, "Order": "start-first", "FailureAction": "continue"});
    harness.create(&service(2, &update));
    harness.obey();
    harness.update(&image(2));
    let started = harness
        .service()
        .update_status
        .as_ref()
        .and_then(|it| it.started_at);
    for _ in 0..20 {
        for task in of(&harness, 2, |task| task.desired_state == TaskState::Running) {
            harness.report(task.id, TaskState::Failed);
        }
        harness.pass(SECOND);
        let old = of(&harness, 1, |task| task.status.state == TaskState::Running);
        assert_eq!(old.len(), 2, "the old ones work on");
    }
    assert_eq!(status(&harness).0, Some(UpdateState::Completed));
    assert_eq!(
        harness
            .service()
            .update_status
            .as_ref()
            .and_then(|it| it.started_at),
        started
    );
    // Once the new ones run after all, the old ones stop.
    harness.obey();
    harness.pass(2 * SECOND);
    harness.obey();
    assert_eq!(counts(&harness, [1, 2]), [0, 2]);
}

#[test]
fn a_failure_rolls_back_to_the_spec_before_by_the_policy_of_rollbacks() {
    let mut harness = Harness::new(2);
    harness.create(&service(
        3,
        &json!({"Parallelism": 1, "FailureAction": "rollback"}),
    ));
    harness.obey();
    let version = harness.service().spec_version;
    harness.update(&image(2));
    harness.obey();
    let failed = of(&harness, 2, |_| true)[0].id;
    harness.report(failed, TaskState::Failed);
    let says = format!("update rolled back due to failure or early termination of task {failed}");
    assert_eq!(status(&harness), (Some(UpdateState::RollbackStarted), says));
    let service = harness.service();
    assert_eq!(
        (service.spec_version, service.previous_spec.is_some()),
        (version, false)
    );
    for _ in 0..4 {
        harness.obey();
        harness.pass(SECOND);
    }
    assert_eq!(counts(&harness, [1, 2]), [3, 0]);
    assert_eq!(
        status(&harness),
        (Some(UpdateState::RollbackCompleted), "rollback completed".into())
    );
}

#[test]
fn a_rollback_is_never_rolled_back() {
    let mut harness = Harness::new(2);
    let mut spec = service(2, &json!({"Parallelism": 1, "FailureAction": "rollback"}));
    spec["RollbackConfig"] = json!({"Parallelism": 1, "FailureAction": "rollback"});
    harness.create(&spec);
    harness.obey();
    harness.update(&image(2));
    harness.obey();
    harness.report(of(&harness, 2, |_| true)[0].id, TaskState::Failed);
    harness.obey();
    harness.pass(2 * SECOND);
    harness.obey();
    let started = harness
        .service()
        .update_status
        .as_ref()
        .and_then(|it| it.started_at)
        .unwrap();
    let new = of(&harness, 1, |task| task.created_at >= started).remove(0);
    harness.report(new.id, TaskState::Failed);
    let says = format!(
        "rollback paused due to failure or early termination of task {}",
        new.id
    );
    assert_eq!(status(&harness), (Some(UpdateState::RollbackPaused), says));
}

#[test]
fn only_some_differences_replace_tasks() {
    let port = |mode: &str| json!({"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080, "PublishMode": mode}]}});
    for (with, is_dirty) in [
        (json!({"TaskTemplate": {"ForceUpdate": 1}}), true),
        (image(2), true),
        (
            json!({"TaskTemplate": {"Resources": {"Limits": {"Pids": 5}}}}),
            true,
        ),
        (json!({"TaskTemplate": {"Placement": {"MaxReplicas": 9}}}), true),
        (
            json!({"TaskTemplate": {"Placement": {"Constraints": ["node.hostname!=none"]}}}),
            false,
        ),
        (
            json!({"TaskTemplate": {"Placement": {"Constraints": ["node.hostname==n1"]}}}),
            true,
        ),
        (json!({"Labels": {"a": "b"}}), false),
        (json!({"Mode": {"Replicated": {"Replicas": 3}}}), false),
        (json!({"UpdateConfig": {"Parallelism": 7}}), false),
        (port("ingress"), false),
        (port("host"), true),
    ] {
        let mut harness = Harness::new(2);
        harness.create(&service(2, &json!({"Parallelism": 1})));
        harness.obey();
        harness.attach_all();
        let before: Vec<_> = harness.wanted().iter().map(|task| task.id).collect();
        harness.update(&with);
        harness.settle();
        let kept = harness
            .wanted()
            .iter()
            .filter(|task| before.contains(&task.id))
            .count();
        assert_eq!(kept, if is_dirty { 1 } else { 2 }, "{with}");
        let expected = is_dirty.then_some(UpdateState::Updating);
        assert_eq!(status(&harness).0, expected, "{with}");
    }
}

#[test]
fn tasks_without_an_address_are_replaced_once_their_service_publishes() {
    let mut harness = Harness::new(2);
    harness.create(&service(2, &json!({"Parallelism": 2})));
    harness.obey();
    let before: Vec<_> = harness.wanted().iter().map(|task| task.id).collect();
    harness.update(&json!({"EndpointSpec": {"Ports": [{"TargetPort": 80, "PublishedPort": 8080}]}}));
    harness.settle();
    let after = harness.wanted();
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|task| !before.contains(&task.id)), "{after:?}");
}

#[test]
fn an_update_goes_on_under_a_new_leader_and_keeps_its_pace() {
    let mut harness = Harness::new(2);
    harness.create(&service(4, &json!({"Parallelism": 1})));
    harness.obey();
    harness.pass(SECOND);
    harness.update(&image(2));
    for _ in 0..40 {
        harness.change_leader();
        let coming = of(&harness, 2, |task| task.status.state < TaskState::Running).len();
        assert!(coming <= 1, "{coming} under way");
        harness.obey();
        harness.pass(SECOND);
        if counts(&harness, [1, 2]) == [0, 4] {
            break;
        }
    }
    assert_eq!(counts(&harness, [1, 2]), [0, 4]);
    harness.pass(6 * SECOND);
    assert_eq!(status(&harness).0, Some(UpdateState::Completed));
}

#[test]
fn a_global_service_is_updated_node_by_node() {
    let mut harness = Harness::new(3);
    let mut spec = service(1, &json!({"Parallelism": 1}));
    spec["Mode"] = json!({"Global": {}});
    harness.create(&spec);
    harness.obey();
    harness.update(&image(2));
    assert_eq!(counts(&harness, [1, 2]), [2, 1]);
    for _ in 0..10 {
        harness.obey();
        harness.pass(SECOND);
    }
    assert_eq!(counts(&harness, [1, 2]), [0, 3]);
    assert_eq!(status(&harness).0, Some(UpdateState::Completed));
}

#[test]
fn tasks_that_ended_for_good_are_updated_too() {
    let mut harness = Harness::new(1);
    let mut spec = service(1, &json!({"Parallelism": 1}));
    spec["TaskTemplate"]["RestartPolicy"] = json!({"Condition": "none"});
    harness.create(&spec);
    harness.obey();
    harness.report(harness.wanted()[0].id, TaskState::Complete);
    assert!(harness.wanted().is_empty());
    harness.update(&image(2));
    harness.obey();
    assert_eq!(counts(&harness, [1, 2]), [0, 1]);
}
