//! Which node each task gets, and what is said of those that get none.

use crate::make::{node, node_id, service_id};
use crate::memory::Memory;
use essaim_objects::{Node, NodeId, Task, TaskId, TaskSpec, TaskState, Timestamp, Version};
use essaim_orchestrator::{Event, Now, Scheduler};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn at(milliseconds: u64) -> Now {
    Now {
        wall: Timestamp::UNIX_EPOCH + Duration::from_millis(milliseconds),
        monotonic: Duration::from_millis(milliseconds),
    }
}

fn cluster(nodes: impl IntoIterator<Item = Node>) -> Memory {
    let mut store = Memory::default();
    for node in nodes {
        store.put_node(node, Timestamp::UNIX_EPOCH);
    }
    store
}

/// A task that waits for a node.
fn waiting(number: u128, service: u128, spec: &Value) -> Task {
    let spec: TaskSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut task = Task::new(
        TaskId::from_bits(number),
        Some(service_id(service)),
        Arc::new(spec),
    );
    task.slot = Some(u64::try_from(number).unwrap());
    task.status.state = TaskState::Pending;
    task
}

fn running(number: u128, service: u128, node: u128, spec: &Value) -> Task {
    let mut task = waiting(number, service, spec);
    task.status.state = TaskState::Running;
    task.node_id = Some(node_id(node));
    task
}

fn put(store: &mut Memory, tasks: impl IntoIterator<Item = Task>) {
    for task in tasks {
        store.put_task(task, Timestamp::UNIX_EPOCH);
    }
}

/// What the scheduler makes of the tasks that wait.
fn schedule(store: &mut Memory) {
    let mut scheduler = Scheduler::new(at(0));
    for unit in scheduler.poll(store, at(0)) {
        assert!(store.apply(&unit, Timestamp::UNIX_EPOCH).is_some());
    }
}

fn place_of(store: &Memory, task: u128) -> Option<NodeId> {
    let task = &store.tasks[&TaskId::from_bits(task)];
    assert_eq!(task.node_id.is_some(), task.status.state >= TaskState::Assigned);
    task.node_id
}

fn why(store: &Memory, task: u128) -> String {
    let task = &store.tasks[&TaskId::from_bits(task)];
    assert_eq!(task.status.state, TaskState::Pending);
    task.status.err.clone().unwrap_or_default()
}

fn counts(store: &Memory) -> BTreeMap<NodeId, usize> {
    let mut counts = BTreeMap::new();
    for node in store.tasks.values().filter_map(|task| task.node_id) {
        *counts.entry(node).or_default() += 1;
    }
    counts
}

#[test]
fn each_filter_refuses_a_node_and_says_so_in_swarms_words() {
    let port = json!({"TargetPort": 80, "PublishedPort": 8080, "PublishMode": "host"});
    let plain = json!({});
    for (with, spec, says) in [
        (
            json!({"Status": {"State": "down"}}),
            plain.clone(),
            "1 node not available for new tasks",
        ),
        (
            json!({"Status": {"State": "unknown"}}),
            plain.clone(),
            "1 node not available for new tasks",
        ),
        (
            json!({"Spec": {"Availability": "pause"}}),
            plain.clone(),
            "1 node not available for new tasks",
        ),
        (
            json!({"Spec": {"Availability": "drain"}}),
            plain.clone(),
            "1 node not available for new tasks",
        ),
        (
            json!({}),
            json!({"Resources": {"Reservations": {"NanoCPUs": 4_000_000_001_i64}}}),
            "insufficient resources on 1 node",
        ),
        (
            json!({}),
            json!({"Resources": {"Reservations": {"MemoryBytes": 4_000_000_001_i64}}}),
            "insufficient resources on 1 node",
        ),
        (
            json!({}),
            json!({"Resources": {"Reservations": {"GenericResources":
                [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}]}}}),
            "insufficient resources on 1 node",
        ),
        (
            json!({"Description": {"Engine": {"Plugins": [{"Type": "Volume", "Name": "local"}]}}}),
            json!({"ContainerSpec": {"Mounts": [{"Type": "volume", "Target": "/d",
                "VolumeOptions": {"DriverConfig": {"Name": "nfs"}}}]}}),
            "missing plugin on 1 node",
        ),
        (
            json!({"Description": {"Engine": {"Plugins": []}}}),
            json!({"LogDriver": {"Name": "gelf"}}),
            "missing plugin on 1 node",
        ),
        (
            json!({}),
            json!({"Placement": {"Constraints": ["node.labels.disk==ssd"]}}),
            "scheduling constraints not satisfied on 1 node",
        ),
        (
            json!({}),
            json!({"Placement": {"Platforms": [{"Architecture": "arm64", "OS": "linux"}]}}),
            "unsupported platform on 1 node",
        ),
        (
            json!({}),
            json!({"Placement": {"MaxReplicas": 1}}),
            "max replicas per node limit exceed",
        ),
        (
            json!({}),
            plain.clone(),
            "host-mode port already in use on 1 node",
        ),
    ] {
        let mut store = cluster([node(1, &with)]);
        let mut task = waiting(1, 1, &spec);
        let mut other = running(2, 1, 1, &plain);
        if says.starts_with("host") {
            let status = json!({"Ports": [port]});
            task.status.port_status = Some(serde_json::from_value(status.clone()).unwrap());
            other.status.port_status = Some(serde_json::from_value(status).unwrap());
        }
        put(&mut store, [task, other]);
        schedule(&mut store);
        assert_eq!(why(&store, 1), format!("no suitable node ({says})"), "{spec}");
    }
}

#[test]
fn what_fits_is_placed() {
    for spec in [
        json!({}),
        json!({"Resources": {"Reservations": {"NanoCPUs": 4_000_000_000_i64, "MemoryBytes": 4_000_000_000_i64}}}),
        json!({"Placement": {"Constraints": ["node.labels.disk==ssd", "node.role!=manager"]}}),
        json!({"Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}}),
        json!({"Placement": {"Platforms": [{"Architecture": "arm64"}, {"OS": "linux"}]}}),
        json!({"Placement": {"MaxReplicas": 1}}),
        json!({"LogDriver": {"Name": "json-file"}}),
    ] {
        let mut store = cluster([node(1, &json!({"Spec": {"Labels": {"disk": "ssd"}}}))]);
        put(&mut store, [waiting(1, 1, &spec)]);
        schedule(&mut store);
        assert_eq!(place_of(&store, 1), Some(node_id(1)), "{spec}");
        let status = &store.tasks[&TaskId::from_bits(1)].status;
        assert_eq!(status.message.as_deref(), Some("scheduler assigned task to node"));
    }
}

#[test]
fn a_task_without_a_place_counts_the_nodes_of_each_reason_most_first() {
    let mut store = cluster([
        node(1, &json!({})),
        node(2, &json!({})),
        node(3, &json!({"Spec": {"Labels": {"disk": "ssd"}}})),
    ]);
    let spec = json!({
        "Placement": {"Constraints": ["node.labels.disk==ssd"]},
        "Resources": {"Reservations": {"NanoCPUs": 3_000_000_000_i64}},
    });
    put(&mut store, [waiting(1, 1, &spec), waiting(2, 1, &spec)]);
    schedule(&mut store);
    assert_eq!(place_of(&store, 1), Some(node_id(3)));
    let says = "no suitable node (scheduling constraints not satisfied on 2 nodes; insufficient resources on 1 node)";
    assert_eq!(why(&store, 2), says);
    let mut empty = cluster([]);
    put(&mut empty, [waiting(1, 1, &json!({}))]);
    schedule(&mut empty);
    assert_eq!(why(&empty, 1), "no suitable node");
}

#[test]
fn tasks_go_where_the_service_has_fewest_then_where_there_are_fewest() {
    let mut store = cluster((1..=4).map(|number| node(number, &json!({}))));
    let plain = json!({});
    // Node 1 has one of the service, node 2 three others, node 3 one other.
    put(&mut store, [running(1, 1, 1, &plain)]);
    put(&mut store, (2..5).map(|number| running(number, 2, 2, &plain)));
    put(&mut store, [running(5, 2, 3, &plain)]);
    put(&mut store, (11..=14).map(|number| waiting(number, 1, &plain)));
    schedule(&mut store);
    let places: Vec<_> = (11..=14)
        .map(|number| place_of(&store, number).unwrap())
        .collect();
    assert_eq!(places, [4, 3, 2, 1].map(node_id));
}

#[test]
fn a_task_that_is_being_stopped_keeps_what_it_holds_but_counts_no_more() {
    let mut store = cluster([node(1, &json!({}))]);
    let most = json!({"Resources": {"Reservations": {"NanoCPUs": 3_000_000_000_i64}}, "Placement": {"MaxReplicas": 1}});
    let mut old = running(1, 1, 1, &most);
    old.desired_state = TaskState::Shutdown;
    put(&mut store, [old.clone(), waiting(2, 1, &most)]);
    schedule(&mut store);
    assert_eq!(
        why(&store, 2),
        "no suitable node (insufficient resources on 1 node)"
    );
    old.status.state = TaskState::Shutdown;
    put(&mut store, [old]);
    schedule(&mut store);
    assert_eq!(place_of(&store, 2), Some(node_id(1)));
}

#[test]
fn a_batch_never_takes_more_than_there_is() {
    let mut store = cluster((1..=3).map(|number| node(number, &json!({}))));
    let spec = json!({"Resources": {"Reservations": {"NanoCPUs": 1_500_000_000_i64}}});
    put(&mut store, (1..=10).map(|number| waiting(number, 1, &spec)));
    schedule(&mut store);
    assert_eq!(
        counts(&store),
        (1..=3).map(|number| (node_id(number), 2)).collect()
    );
    assert_eq!(
        why(&store, 10),
        "no suitable node (insufficient resources on 3 nodes)"
    );
}

#[test]
fn preferences_spread_over_groups_one_above_the_other() {
    // Zone a: racks 1 (two nodes) and 2 (one); zone b: rack 3 (one); one node without labels.
    let places = [(1, "a", "1"), (2, "a", "1"), (3, "a", "2"), (4, "b", "3")];
    let nodes = places
        .map(|(number, zone, rack)| node(number, &json!({"Spec": {"Labels": {"zone": zone, "rack": rack}}})));
    let mut store = cluster(nodes.into_iter().chain([node(5, &json!({}))]));
    let spread = |over: &str| json!({"Spread": {"SpreadDescriptor": over}});
    let spec =
        json!({"Placement": {"Preferences": [spread("node.labels.zone"), spread("node.labels.rack")]}});
    put(&mut store, (1..=12).map(|number| waiting(number, 1, &spec)));
    schedule(&mut store);
    let counts: Vec<_> = (1..=5).map(|number| counts(&store)[&node_id(number)]).collect();
    assert_eq!(counts, [1, 1, 2, 4, 4]);
}

#[test]
fn a_full_group_leaves_its_share_to_the_others() {
    let zones =
        [(1, "a"), (2, "b")].map(|(number, zone)| node(number, &json!({"Spec": {"Labels": {"zone": zone}}})));
    let mut store = cluster(zones);
    let spec = json!({
        "Placement": {"Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}]},
        "Resources": {"Reservations": {"NanoCPUs": 1_000_000_000_i64}},
    });
    put(
        &mut store,
        (21..=23).map(|number| running(number, 2, 1, &json!({"Resources": spec["Resources"]}))),
    );
    put(&mut store, (1..=6).map(|number| waiting(number, 1, &spec)));
    schedule(&mut store);
    let of_service: Vec<_> = (1..=6).filter_map(|number| place_of(&store, number)).collect();
    let on = |number| {
        of_service
            .iter()
            .filter(|place| **place == node_id(number))
            .count()
    };
    assert_eq!((on(1), on(2)), (1, 4));
    assert_eq!(
        why(&store, 6),
        "no suitable node (insufficient resources on 2 nodes)"
    );
}

#[test]
fn a_task_of_one_node_is_checked_there_only() {
    let mut store = cluster([
        node(1, &json!({"Spec": {"Availability": "pause"}})),
        node(2, &json!({})),
    ]);
    let pinned = |number, to| {
        let mut task = waiting(number, 1, &json!({}));
        task.slot = None;
        task.node_id = Some(node_id(to));
        task
    };
    put(&mut store, [pinned(1, 1), pinned(2, 2)]);
    schedule(&mut store);
    assert_eq!(why(&store, 1), "1 node not available for new tasks");
    let second = &store.tasks[&TaskId::from_bits(2)];
    assert_eq!(second.status.state, TaskState::Assigned);
    assert_eq!(
        second.status.message.as_deref(),
        Some("scheduler confirmed task can run on preassigned node")
    );
}

#[test]
fn a_node_where_the_service_failed_five_times_comes_last_for_five_minutes() {
    let mut store = cluster([node(1, &json!({})), node(2, &json!({}))]);
    put(&mut store, [running(99, 2, 2, &json!({}))]);
    let mut scheduler = Scheduler::new(at(0));
    scheduler.poll(&store, at(0));
    let fail = |scheduler: &mut Scheduler, from, now| {
        for number in from..from + 5 {
            let old = running(number, 1, 1, &json!({}));
            let mut new = old.clone();
            new.status.state = TaskState::Failed;
            scheduler.handle_event(&Event::Task(Some(Arc::new(old)), Some(Arc::new(new))), now);
        }
    };
    fail(&mut scheduler, 10, at(1_000));
    let place = |scheduler: &mut Scheduler, store: &mut Memory, version, now: u64| {
        let mut task = waiting(1, 1, &json!({}));
        task.spec_version = version;
        let event = store.put_task(task, Timestamp::UNIX_EPOCH);
        scheduler.handle_event(&event, at(now));
        for unit in scheduler.poll(store, at(now + 1_000)) {
            store.apply(&unit, Timestamp::UNIX_EPOCH);
        }
        let place = place_of(store, 1);
        store.put_task(waiting(1, 7, &json!({})), Timestamp::UNIX_EPOCH);
        place
    };
    assert_eq!(place(&mut scheduler, &mut store, None, 2_000), Some(node_id(2)));
    // Another spec begins anew, and so does everything after five minutes.
    assert_eq!(
        place(&mut scheduler, &mut store, Some(Version { index: 5 }), 4_000),
        Some(node_id(1))
    );
    assert_eq!(place(&mut scheduler, &mut store, None, 400_000), Some(node_id(1)));
}

#[test]
fn events_are_gathered_for_a_moment_but_not_for_ever() {
    let store = cluster([node(1, &json!({}))]);
    let mut scheduler = Scheduler::new(at(0));
    assert_eq!(scheduler.next_timeout(), Some(Duration::ZERO));
    assert!(scheduler.poll(&store, at(0)).is_empty());
    assert_eq!(scheduler.next_timeout(), None);
    let event = Event::Task(None, Some(Arc::new(waiting(1, 1, &json!({})))));
    scheduler.handle_event(&event, at(100));
    assert_eq!(scheduler.next_timeout(), Some(Duration::from_millis(150)));
    for now in (140..1_100).step_by(40) {
        scheduler.handle_event(&event, at(now));
    }
    assert_eq!(scheduler.next_timeout(), Some(Duration::from_millis(1_100)));
}

#[test]
fn what_waits_says_why_once_and_is_tried_again_when_something_changes() {
    let mut store = cluster([node(1, &json!({"Spec": {"Availability": "pause"}}))]);
    put(&mut store, [waiting(1, 1, &json!({}))]);
    let mut scheduler = Scheduler::new(at(0));
    let units = scheduler.poll(&store, at(0));
    assert_eq!(units.len(), 1);
    for event in store.apply(&units[0], Timestamp::UNIX_EPOCH).unwrap() {
        scheduler.handle_event(&event, at(0));
    }
    assert!(scheduler.poll(&store, at(60)).is_empty());
    assert_eq!(scheduler.next_timeout(), None);
    let event = store.put_node(node(1, &json!({})), Timestamp::UNIX_EPOCH);
    scheduler.handle_event(&event, at(1_000));
    assert_eq!(scheduler.poll(&store, at(1_050)).len(), 1);
    // As nothing was committed, it is decided again.
    let units = scheduler.poll(&store, at(1_200));
    for event in store.apply(&units[0], Timestamp::UNIX_EPOCH).unwrap() {
        scheduler.handle_event(&event, at(1_200));
    }
    assert_eq!(place_of(&store, 1), Some(node_id(1)));
    assert_eq!(store.tasks[&TaskId::from_bits(1)].status.err, None);
}

#[test]
fn what_should_not_run_gets_no_node() {
    let mut store = cluster([node(1, &json!({}))]);
    let mut task = waiting(1, 1, &json!({}));
    task.desired_state = TaskState::Shutdown;
    put(&mut store, [task]);
    schedule(&mut store);
    assert_eq!(place_of(&store, 1), None);
}
