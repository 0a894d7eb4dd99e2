//! What holds after every step, and what holds in the end.

use essaim_objects::{
    Availability, Mode, PublishMode, RestartCondition, Service, ServiceId, Task, TaskState, UpdateOrder,
    UpdateState,
};
use essaim_orchestrator::{Cluster, Event, may_desire};
use std::collections::BTreeMap;
use std::sync::Arc;

fn is_wanted(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

/// What happened to a task is forwards.
pub(crate) fn check_event(event: &Event) {
    if let Event::Task(Some(old), Some(new)) = event {
        assert!(
            new.status.state >= old.status.state,
            "task went back: {old:?} to {new:?}"
        );
        let desired = (old.desired_state, new.desired_state);
        assert!(
            desired.0 == desired.1 || may_desire(desired.0, desired.1),
            "task wanted back: {old:?} to {new:?}"
        );
        assert!(
            old.node_id.is_none() || old.node_id == new.node_id,
            "task moved: {old:?} to {new:?}"
        );
    }
}

/// Most tasks of a slot that should work.
fn most_per_slot(service: &Service) -> usize {
    let orders = [service.spec.update().order, service.spec.rollback().order];
    1 + usize::from(orders.contains(&UpdateOrder::StartFirst))
}

/// What holds whenever the leader's parts have come to rest.
pub(crate) fn check(store: &impl Cluster) {
    check_always(store);
    for task in store.tasks().filter(|task| is_wanted(task)) {
        let service = store.service(task.service_id.unwrap());
        assert!(service.is_some(), "a task is wanted of a service that is gone");
        if let Some(node) = task.node_id {
            let node = store.node(node).expect("a task is wanted on a node that is gone");
            let is_drained = node.spec.availability() == Availability::Drain;
            let is_done = task.status.state == TaskState::Complete;
            assert!(
                !is_drained || is_done,
                "a task is wanted on a drained node: {task:?}"
            );
        }
    }
}

/// What holds after every transaction.
pub(crate) fn check_always(store: &impl Cluster) {
    let mut slots: BTreeMap<(ServiceId, Option<u64>, _), usize> = BTreeMap::new();
    for task in store.tasks().filter(|task| is_wanted(task)) {
        let Some(service) = store.service(task.service_id.unwrap()) else {
            continue;
        };
        let node = task.node_id.filter(|_| task.slot.is_none());
        let count = slots.entry((service.id, task.slot, node)).or_default();
        *count += 1;
        assert!(
            *count <= most_per_slot(service),
            "{count} tasks of slot {:?} of {}",
            task.slot,
            service.spec.name()
        );
    }
    for node in store.nodes() {
        check_node(store, node.id);
    }
}

fn check_node(store: &impl Cluster, node: essaim_objects::NodeId) {
    let mut cpus = 0;
    let mut ports = Vec::new();
    let mut of_service: BTreeMap<ServiceId, u64> = BTreeMap::new();
    let description = store.node(node).and_then(|node| node.description.as_ref());
    let resources = description.and_then(|description| description.resources.as_ref());
    let has = resources
        .and_then(|resources| resources.nano_cpus)
        .unwrap_or_default();
    for task in store.tasks_on_node(node) {
        let state = task.status.state;
        if !(TaskState::Assigned..=TaskState::Running).contains(&state) {
            continue;
        }
        cpus += task
            .spec
            .reservations()
            .and_then(|it| it.nano_cpus)
            .unwrap_or_default();
        if !is_wanted(task) {
            continue;
        }
        let published = task
            .status
            .port_status
            .iter()
            .flat_map(|it| it.ports.iter().flatten());
        for port in published.filter(|port| port.publish_mode() == PublishMode::Host) {
            assert!(
                !ports.contains(&port.published()),
                "port {} twice on {node}",
                port.published()
            );
            ports.push(port.published());
        }
        let placement = task.spec.placement.as_ref();
        if let Some(most) = placement.and_then(|it| it.max_replicas) {
            let count = of_service.entry(task.service_id.unwrap()).or_default();
            *count += 1;
            assert!(
                *count <= most,
                "{count} tasks of a service on {node}, at most {most}"
            );
        }
    }
    assert!(cpus <= has, "{cpus} of {has} reserved on {node}");
}

/// Why the cluster is not yet what was asked for.
pub(crate) fn unmet(store: &impl Cluster) -> Option<String> {
    for task in store.tasks() {
        // What can never run begins and fails for ever.
        if store
            .service(task.service_id.unwrap())
            .is_some_and(|service| is_bad(service))
        {
            continue;
        }
        let stops =
            !is_wanted(task) && !task.status.state.is_over() && task.status.state >= TaskState::Assigned;
        if stops
            || task.desired_state == TaskState::Remove
            || store.service(task.service_id.unwrap()).is_none()
        {
            return Some(format!("task {} is still to stop or to go", task.id));
        }
        if is_wanted(task) && task.desired_state == TaskState::Ready && task.status.state > TaskState::Pending
        {
            return Some(format!("task {} is still to start", task.id));
        }
    }
    store.services().find_map(|service| unmet_of(store, service))
}

/// Whether what a service now asks for can never run.
fn is_bad(service: &Service) -> bool {
    let image = service
        .spec
        .task_template
        .container
        .as_ref()
        .and_then(|container| container.image.as_ref());
    image.is_some_and(|image| image.starts_with("bad"))
}

fn unmet_of(store: &impl Cluster, service: &Arc<Service>) -> Option<String> {
    let name = service.spec.name();
    let tasks: Vec<_> = store.tasks_of_service(service.id).collect();
    let wanted: Vec<_> = tasks.iter().filter(|task| is_wanted(task)).collect();
    let is_waiting =
        |task: &&&&Arc<Task>| task.status.state <= TaskState::Pending && task.status.err.is_some();
    let waiting = wanted.iter().filter(is_waiting).count();
    let state = service.update_status.as_ref().and_then(|status| status.state);
    if matches!(state, Some(UpdateState::Updating | UpdateState::RollbackStarted)) && waiting == 0 {
        return Some(format!("{name}: {state:?} without waiting for a node"));
    }
    let is_bad = is_bad(service);
    let running = wanted
        .iter()
        .filter(|task| task.status.state == TaskState::Running)
        .count();
    let mut copies: BTreeMap<_, Vec<&Arc<Task>>> = BTreeMap::new();
    for task in &tasks {
        copies
            .entry((task.slot, task.node_id.filter(|_| task.slot.is_none())))
            .or_default()
            .push(task);
    }
    let is_complete =
        |copy: &&Vec<&Arc<Task>>| copy.iter().any(|task| task.status.state == TaskState::Complete);
    let complete = copies.values().filter(is_complete).count();
    // Copies whose policy leaves them ended.
    let ended = copies.iter().filter(|((_, node), copy)| {
        let has_place = node.is_none_or(|node| store.node(node).is_some_and(|node| meets(node, service)));
        has_place && copy.iter().all(|task| !is_wanted(task))
    });
    let may_end = service.spec.task_template.restart().condition != RestartCondition::Any
        || service.spec.task_template.restart().max_attempts > 0
        || tasks
            .iter()
            .any(|task| task.spec.restart().condition != RestartCondition::Any);
    let ended = if may_end { ended.count() } else { 0 };
    let asked = match service.spec.mode() {
        Mode::Replicated { replicas } => usize::try_from(replicas).unwrap(),
        Mode::Global => store.nodes().filter(|node| meets(node, service)).count(),
        Mode::ReplicatedJob {
            total_completions, ..
        } => {
            let total = usize::try_from(total_completions).unwrap();
            let is_met = is_bad || complete + ended >= total || waiting > 0;
            return (!is_met).then(|| format!("{name}: {complete} of {total} complete"));
        }
        Mode::GlobalJob => {
            let total = store.nodes().filter(|node| meets(node, service)).count();
            let is_met = is_bad || complete + ended >= total || waiting > 0;
            return (!is_met).then(|| format!("{name}: {complete} of {total} complete"));
        }
    };
    if is_bad || matches!(state, Some(UpdateState::Paused | UpdateState::RollbackPaused)) {
        // Never settled: tasks begin and fail for ever, but no more than were asked for.
        let most = asked * most_per_slot(service);
        return (wanted.len() > most).then(|| format!("{name}: {} tasks of {asked}", wanted.len()));
    }
    let found = running + waiting + ended;
    // One that waits beside the one it is to replace stands for no copy more.
    let is_met = found == asked || waiting > 0 && found > asked && found <= asked * 2;
    (!is_met).then(|| format!("{name}: {running} run, {waiting} wait, {ended} ended, {asked} asked for"))
}

fn meets(node: &essaim_objects::Node, service: &Service) -> bool {
    let constraints = service.spec.task_template.constraints();
    constraints
        .iter()
        .all(|it| it.parse::<essaim_objects::Constraint>().unwrap().is_met_by(node))
}
