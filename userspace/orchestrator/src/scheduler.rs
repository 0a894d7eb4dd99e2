//! Which node each task gets.

mod failures;
mod filter;
mod node_info;
mod resources;
mod spread;

use crate::ports::host_ports_of_task;
use crate::state::is_wanted;
use crate::{Change, Cluster, Event, Now, Unit};
use essaim_objects::{GenericResource, NodeId, ServiceId, Task, TaskState, Version};
use failures::Failures;
use filter::{Refusals, Requirements};
use node_info::Nodes;
use spread::{Tree, preferences, rank};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use resources::Available;

/// Events are gathered for so long after the last one …
const DEBOUNCE: Duration = Duration::from_millis(50);
/// … and at most so long after the first.
const MAX_LATENCY: Duration = Duration::from_secs(1);

/// Places tasks that wait for a node, and says of the others why they wait.
///
/// Told of every event, it waits a moment for more and then looks at all that wait together. It changes nothing itself:
/// what [`poll`](Self::poll) returns must be committed (or not) before the next call, which looks again.
#[derive(Debug)]
pub struct Scheduler {
    failures: Failures,
    first_event: Option<Duration>,
    due: Option<Duration>,
}

impl Scheduler {
    /// That of a new leader, which looks at everything first.
    pub fn new(now: Now) -> Self {
        Self {
            failures: Failures::default(),
            first_event: None,
            due: Some(now.monotonic),
        }
    }

    /// Notes what happened.
    pub fn handle_event(&mut self, event: &Event, now: Now) {
        let is_relevant = match event {
            Event::Node(old, new) => match (old, new) {
                (Some(old), Some(new)) => {
                    (&old.spec, &old.description, old.status.state, &old.status.addr)
                        != (&new.spec, &new.description, new.status.state, &new.status.addr)
                }
                _ => true,
            },
            Event::Service(..) => false,
            Event::Task(old, new) => {
                self.failures.note(old.as_deref(), new.as_deref(), now.monotonic);
                let waits = |task: &Task| task.status.state == TaskState::Pending && is_wanted(task);
                // Waiting anew, or something on a node became free.
                new.as_deref()
                    .is_some_and(|new| waits(new) && !old.as_deref().is_some_and(waits))
                    || old.as_deref().is_some_and(|old| {
                        let is_over = |task: &Task| task.status.state.is_over();
                        !is_over(old) && new.as_deref().is_none_or(is_over)
                            || is_wanted(old) && new.as_deref().is_none_or(|new| !is_wanted(new))
                    })
            }
        };
        if is_relevant {
            let is_first = self.first_event.is_none();
            let first = *self.first_event.get_or_insert(now.monotonic);
            let due = (now.monotonic + DEBOUNCE).min(first + MAX_LATENCY);
            self.due = match self.due {
                Some(earlier) if is_first => Some(earlier.min(due)),
                Some(_) | None => Some(due),
            };
        }
    }

    /// When `poll` has something to do.
    pub const fn next_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// Decides on all tasks that wait, once it is time. Each unit is one task.
    pub fn poll<C: Cluster>(&mut self, cluster: &C, now: Now) -> Vec<Unit> {
        if self.due.is_none_or(|due| now.monotonic < due) {
            return Vec::new();
        }
        self.failures.forget(now.monotonic);
        let changes = self.decide(cluster, now);
        self.first_event = None;
        // What could not be committed is looked at again.
        self.due = (!changes.is_empty()).then(|| now.monotonic + DEBOUNCE);
        changes
            .into_iter()
            .map(|task| vec![Change::UpdateTask(Arc::new(task))])
            .collect()
    }

    fn decide<C: Cluster>(&self, cluster: &C, now: Now) -> Vec<Task> {
        let waiting: Vec<_> = cluster
            .tasks_in_state(TaskState::Pending)
            .filter(|task| is_wanted(task))
            .collect();
        if waiting.is_empty() {
            return Vec::new();
        }
        let mut nodes = Nodes::gather(cluster);
        let mut changed = Vec::new();
        let (pinned, free): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|task| task.node_id.is_some());
        for task in pinned {
            changed.extend(check_pinned(task, &mut nodes, cluster, now));
        }
        for group in alike(free) {
            self.place(&group, &mut nodes, cluster, now, &mut changed);
        }
        changed
    }

    /// Places tasks that are made alike.
    fn place<C: Cluster>(
        &self,
        group: &[&Arc<Task>],
        nodes: &mut Nodes<'_>,
        cluster: &C,
        now: Now,
        changed: &mut Vec<Task>,
    ) {
        let Some(first) = group.first() else {
            return;
        };
        let asked = Requirements::of(first, cluster);
        let preferences = preferences(&first.spec);
        let mut tree = Tree::new(preferences.len());
        let may_be_faulty = !self.failures.is_empty();
        let is_faulty = |node| may_be_faulty && self.failures.are_many(first, node, now.monotonic);
        for (place, info) in nodes.infos.iter().enumerate() {
            if asked.refuses(info).is_none() {
                let rank = rank(place, info, &asked, is_faulty(info.node.id));
                tree.add(&preferences, info, rank);
            }
        }
        let mut tasks = group.iter();
        for task in tasks.by_ref() {
            let mut given = None;
            let picked = tree.pick(&mut |place| {
                let info = nodes.infos.get_mut(place)?;
                given = info.place(&asked);
                let can_have_more = asked.refuses(info).is_none();
                can_have_more.then(|| rank(place, info, &asked, is_faulty(info.node.id)))
            });
            let Some(info) = picked.and_then(|place| nodes.infos.get(place)) else {
                let mut refusals = Refusals::default();
                for filter in nodes.infos.iter().filter_map(|info| asked.refuses(info)) {
                    refusals.count(filter);
                }
                let explained = refusals.explain();
                let why = if explained.is_empty() {
                    "no suitable node".to_owned()
                } else {
                    format!("no suitable node ({explained})")
                };
                changed.extend(waits(task, &why, now));
                changed.extend(tasks.filter_map(|task| waits(task, &why, now)));
                return;
            };
            changed.push(assigned(
                task,
                info.node.id,
                given,
                "scheduler assigned task to node",
                now,
            ));
        }
    }
}

/// A task that belongs on one node: whether it may be there.
fn check_pinned<C: Cluster>(task: &Arc<Task>, nodes: &mut Nodes<'_>, cluster: &C, now: Now) -> Option<Task> {
    // A task whose node is gone is for its orchestrator to replace.
    let info = nodes.of_mut(task.node_id?)?;
    let asked = Requirements::of(task, cluster);
    if let Some(filter) = asked.refuses(info) {
        let mut refusals = Refusals::default();
        refusals.count(filter);
        return waits(task, &refusals.explain(), now);
    }
    let given = info.place(&asked);
    let says = "scheduler confirmed task can run on preassigned node";
    Some(assigned(task, info.node.id, given, says, now))
}

/// Tasks that ask for the same.
type Group<'a> = Vec<&'a Arc<Task>>;

/// Tasks grouped by what they ask for; the groups in the order of their services, the tasks by slot.
fn alike(mut tasks: Vec<&Arc<Task>>) -> Vec<Group<'_>> {
    let mut by_service: BTreeMap<(ServiceId, Option<Version>), Vec<Group<'_>>> = BTreeMap::new();
    let mut others = Vec::new();
    tasks.sort_by_key(|task| (task.slot, task.id));
    for task in tasks {
        let Some(service) = task.service_id else {
            others.push(vec![task]);
            continue;
        };
        let groups = by_service.entry((service, task.spec_version)).or_default();
        let is_alike = |group: &&mut Group<'_>| {
            group.first().is_some_and(|first| {
                (Arc::ptr_eq(&first.spec, &task.spec) || first.spec == task.spec)
                    && host_ports_of_task(first).eq(host_ports_of_task(task))
            })
        };
        match groups.iter_mut().find(is_alike) {
            Some(group) => group.push(task),
            None => groups.push(vec![task]),
        }
    }
    by_service.into_values().flatten().chain(others).collect()
}

fn assigned(task: &Task, node: NodeId, given: Option<Vec<GenericResource>>, says: &str, now: Now) -> Task {
    let mut task = task.clone();
    task.node_id = Some(node);
    task.generic_resources = given;
    task.status.state = TaskState::Assigned;
    task.status.timestamp = Some(now.wall);
    task.status.message = Some(says.to_owned());
    task.status.err = None;
    task
}

/// The task with the reason why it waits, unless it says so already.
fn waits(task: &Task, why: &str, now: Now) -> Option<Task> {
    if task.status.err.as_deref() == Some(why) {
        return None;
    }
    let mut task = task.clone();
    task.status.timestamp = Some(now.wall);
    task.status.err = Some(why.to_owned());
    Some(task)
}
