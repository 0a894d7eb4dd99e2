//! Which tasks there are: every service gets the tasks that it asks for, and loses the others.
//!
//! Decisions are made from what the store holds, service by service, so that they can be made again at any time: after a
//! commit that failed, by a new leader, or after anything else. Only times are kept beside it.

mod context;
mod copy;
mod enforcer;
mod global;
mod job;
mod reaper;
mod replicated;
mod restart;
mod update;

use crate::{Change, Cluster, Event, Now, Unit};
use context::Context;
use copy::{Copy, Instance};
use essaim_objects::{Mode, Node, NodeId, ServiceId, TaskState};
use restart::Starts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use update::Progress;

/// Kept of every slot where the cluster says nothing.
const HISTORY: i64 = 5;

/// The leader's orchestrator of all services.
///
/// Told of every event, it says what is to change when polled. What [`poll`](Self::poll) returns must be committed (or
/// not) before the next call, which looks at the same services again and finds nothing more to do, or what is left.
#[derive(Debug)]
pub struct Orchestrator {
    services: BTreeSet<ServiceId>,
    nodes: BTreeSet<NodeId>,
    timers: BTreeMap<ServiceId, Duration>,
    starts: Starts,
    updates: BTreeMap<ServiceId, Progress>,
}

impl Orchestrator {
    /// That of a new leader, which looks at everything.
    pub fn new<C: Cluster>(cluster: &C) -> Self {
        let of_tasks = cluster.tasks().filter_map(|task| task.service_id);
        Self {
            services: cluster
                .services()
                .map(|service| service.id)
                .chain(of_tasks)
                .collect(),
            nodes: cluster.nodes().map(|node| node.id).collect(),
            timers: BTreeMap::new(),
            starts: Starts::default(),
            updates: BTreeMap::new(),
        }
    }

    /// Notes what happened; `cluster` holds it already.
    pub fn handle_event<C: Cluster>(&mut self, event: &Event, cluster: &C) {
        match event {
            Event::Service(old, new) => self
                .services
                .extend(old.iter().chain(new).map(|service| service.id)),
            Event::Task(old, new) => {
                self.services
                    .extend(old.iter().chain(new).filter_map(|task| task.service_id));
                let started = new
                    .as_ref()
                    .is_none_or(|task| task.desired_state != TaskState::Ready);
                if let Some(task) = old.as_ref().or(new.as_ref()).filter(|_| started) {
                    self.starts.forget(task.id);
                }
            }
            Event::Node(old, new) => {
                if let (Some(old), Some(new)) = (old, new)
                    && !is_other(old, new)
                {
                    return;
                }
                for node in old.iter().chain(new) {
                    self.nodes.insert(node.id);
                    self.services
                        .extend(cluster.tasks_on_node(node.id).filter_map(|task| task.service_id));
                }
                let global = cluster
                    .services()
                    .filter(|service| service.spec.mode().is_global());
                self.services.extend(global.map(|service| service.id));
            }
        }
    }

    /// When `poll` has something to do that no event tells.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.nodes.is_empty() && self.services.is_empty() {
            self.timers.values().min().copied()
        } else {
            Some(Duration::ZERO)
        }
    }

    /// What is to change now. `random` gives the bits of new tasks' identities.
    pub fn poll<C: Cluster>(&mut self, cluster: &C, now: Now, random: &mut dyn FnMut() -> u128) -> Vec<Unit> {
        let mut evictions = Vec::new();
        self.nodes.retain(|id| {
            let changes = cluster
                .node(*id)
                .map(|node| enforcer::evict(node, cluster, now))
                .unwrap_or_default();
            let is_done = changes.is_empty();
            evictions.extend(changes.into_iter().map(|change| vec![change]));
            !is_done
        });
        if !evictions.is_empty() {
            // Their replacement is decided from what they become.
            return evictions;
        }
        let due = self
            .timers
            .extract_if(.., |_, at| *at <= now.monotonic)
            .map(|(id, _)| id);
        self.services.extend(due);
        let mut units = Vec::new();
        for id in std::mem::take(&mut self.services) {
            let before = units.len();
            self.reconcile(id, cluster, now, random, &mut units);
            if units.len() > before {
                self.services.insert(id);
            }
        }
        units
    }

    fn reconcile<C: Cluster>(
        &mut self,
        id: ServiceId,
        cluster: &C,
        now: Now,
        random: &mut dyn FnMut() -> u128,
        units: &mut Vec<Unit>,
    ) {
        self.timers.remove(&id);
        let mut copies = copies_of(id, cluster);
        let mut wake = None;
        if let Some(service) = cluster.service(id) {
            let mut context = Context {
                cluster,
                service,
                now,
                random,
            };
            let kept = match service.spec.mode() {
                Mode::Replicated { replicas } => Some(replicated::scale(&mut copies, replicas, &mut context)),
                Mode::Global => Some(global::spread(&mut copies, &mut context)),
                Mode::ReplicatedJob {
                    max_concurrent,
                    total_completions,
                } => {
                    job::remove_earlier_runs(&mut copies, &context);
                    job::run(&mut copies, max_concurrent, total_completions, &mut context);
                    None
                }
                Mode::GlobalJob => {
                    job::remove_earlier_runs(&mut copies, &context);
                    global::spread(&mut copies, &mut context);
                    None
                }
            };
            if let Some(kept) = kept {
                let mut progress = self.updates.remove(&id);
                let updated = update::update(&mut copies, &kept, &mut progress, &mut context);
                self.updates.extend(progress.map(|progress| (id, progress)));
                wake = updated.wake;
                units.extend(
                    updated
                        .service
                        .map(|service| vec![Change::UpdateService(Arc::new(service))]),
                );
            }
            for copy in copies.values_mut() {
                let at = self.starts.start(copy, &context);
                wake = [wake, at].into_iter().flatten().min();
            }
        } else {
            self.updates.remove(&id);
            for copy in copies.values_mut() {
                copy.remove_all();
            }
        }
        let limit = cluster
            .spec()
            .map_or(HISTORY, essaim_objects::ClusterSpec::task_history_limit);
        for copy in copies.values_mut() {
            copy.orphan(cluster, now);
            reaper::reap(copy, limit, cluster);
        }
        self.timers.extend(wake.map(|at| (id, at)));
        let changes = copies.into_values().map(Copy::into_changes);
        units.extend(changes.filter(|changes| !changes.is_empty()));
    }
}

/// Whether what tasks depend on differs.
fn is_other(old: &Node, new: &Node) -> bool {
    let of = |node: &Node| {
        (
            node.spec.clone(),
            node.description.clone(),
            node.status.state,
            node.status.addr.clone(),
        )
    };
    of(old) != of(new)
}

/// A service's tasks, by copy. One that belongs to no copy is taken for that of slot 0, which there is not.
fn copies_of<C: Cluster>(id: ServiceId, cluster: &C) -> BTreeMap<Instance, Copy> {
    let mut tasks: BTreeMap<Instance, Vec<_>> = BTreeMap::new();
    for task in cluster.tasks_of_service(id) {
        let instance = Instance::of(task).unwrap_or(Instance::Slot(0));
        tasks.entry(instance).or_default().push(task.clone());
    }
    let copies = tasks
        .into_iter()
        .map(|(instance, tasks)| (instance, Copy::new(instance, tasks)));
    copies.collect()
}
