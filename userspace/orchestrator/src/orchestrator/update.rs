//! Rolling updates and rollbacks.

use super::context::Context;
use super::copy::{Copy, Instance};
use crate::Cluster;
use essaim_objects::{
    FailureAction, Service, Task, TaskId, TaskState, Timestamp, UpdateOrder, UpdatePolicy, UpdateState,
    UpdateStatus, Version,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How the replacement of one copy's task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The new task has not come up yet.
    Coming,
    /// It runs since then.
    Up(Duration),
    /// It failed, then: before it ran, or while it was watched.
    Failed(Duration),
    /// It ended later than that, which is no matter of the update.
    Past(Duration),
}

/// A copy's new task.
#[derive(Clone, Copy, Debug)]
struct Replacement {
    task: TaskId,
    phase: Phase,
}

/// What is known of an update beyond what the store holds. A new leader makes it anew from the tasks' ages.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// The update that it belongs to: its spec and its beginning.
    of: (Option<Version>, Option<Timestamp>),
    copies: BTreeMap<Instance, Replacement>,
}

/// What an update asks for beyond the changes of tasks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Updated {
    /// What the service becomes.
    pub(crate) service: Option<Service>,
    /// When there is more to do.
    pub(crate) wake: Option<Duration>,
}

impl Updated {
    fn wake_at(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }
}

fn state_of(service: &Service) -> Option<UpdateState> {
    service.update_status.as_ref().and_then(|status| status.state)
}

fn key_of(service: &Service) -> (Option<Version>, Option<Timestamp>) {
    let started = service
        .update_status
        .as_ref()
        .and_then(|status| status.started_at);
    (service.spec_version, started)
}

/// Whether a copy is to be replaced: one of its tasks is of another spec, or it has ended and was.
fn is_outdated<C: Cluster>(copy: &Copy, context: &Context<'_, C>) -> bool {
    if copy.is_wanted() {
        copy.wanted().any(|task| context.is_dirty(task))
    } else {
        copy.newest().is_some_and(|task| context.is_dirty(task))
    }
}

/// A copy's task of the current spec that should work, the furthest first.
fn clean_task<'a, C: Cluster>(copy: &'a Copy, context: &Context<'_, C>) -> Option<&'a Arc<Task>> {
    let clean = copy.wanted().filter(|task| !context.is_dirty(task));
    clean.max_by_key(|task| {
        (
            task.status.state == TaskState::Running,
            task.desired_state,
            task.status.state,
        )
    })
}

/// Where a task of the current spec runs, the others stop.
fn settle<C: Cluster>(copy: &mut Copy, context: &Context<'_, C>) {
    let running = clean_task(copy, context).filter(|task| task.status.state == TaskState::Running);
    if let Some(id) = running.map(|task| task.id) {
        copy.shut_down_all_but(Some(id));
    }
}

/// Carries an update on, for the copies that stay.
pub(crate) fn update<C: Cluster>(
    copies: &mut BTreeMap<Instance, Copy>,
    kept: &BTreeSet<Instance>,
    progress: &mut Option<Progress>,
    context: &mut Context<'_, C>,
) -> Updated {
    let service = context.service;
    let mut updated = Updated::default();
    for copy in copies.values_mut().filter(|copy| kept.contains(&copy.instance)) {
        settle(copy, context);
    }
    let outdated = copies
        .values()
        .filter(|copy| kept.contains(&copy.instance) && is_outdated(copy, context));
    let outdated: BTreeSet<_> = outdated.map(|copy| copy.instance).collect();
    let policy = match state_of(service) {
        None | Some(UpdateState::Completed | UpdateState::RollbackCompleted) => {
            *progress = None;
            // An update that bore failures is done, though old tasks work on where the new ones fail.
            let is_untried = |instance: &Instance| {
                let copy = copies.get(instance);
                copy.is_some_and(|copy| copy.tasks().iter().all(|task| context.is_dirty(task)))
            };
            let is_new = state_of(service).is_none() && !outdated.is_empty();
            if is_new || outdated.iter().any(is_untried) {
                updated.service = Some(started(service, context.now.wall));
            }
            return updated;
        }
        Some(UpdateState::Paused | UpdateState::RollbackPaused) => return updated,
        Some(UpdateState::Updating) => service.spec.update(),
        Some(UpdateState::RollbackStarted) => service.spec.rollback(),
    };
    if progress
        .as_ref()
        .is_none_or(|progress| progress.of != key_of(service))
    {
        *progress = Some(Progress::read(copies, kept, context));
    }
    let Some(progress) = progress.as_mut() else {
        return updated;
    };
    progress.advance(copies, kept, &policy, context);
    if let Some(failed) = progress.too_many_failures(&outdated, &policy) {
        updated.service = failed_service(service, failed, &policy, context.now.wall);
        if updated.service.is_some() {
            return updated;
        }
    }
    progress.replace(copies, &outdated, &policy, context, &mut updated);
    if outdated.iter().all(|instance| progress.is_through(*instance)) {
        match progress.done_at(&policy) {
            Some(at) if at <= context.now.monotonic => {
                updated.service = Some(completed(service, context.now.wall));
            }
            Some(at) => updated.wake_at(at),
            None => {}
        }
    }
    updated
}

impl Progress {
    /// What is to be seen of an update that another leader began: the first task of the current spec, made since then,
    /// of each copy that had another before.
    fn read<C: Cluster>(
        copies: &BTreeMap<Instance, Copy>,
        kept: &BTreeSet<Instance>,
        context: &Context<'_, C>,
    ) -> Self {
        let of = key_of(context.service);
        let mut progress = Self {
            of,
            copies: BTreeMap::new(),
        };
        let (_, Some(since)) = of else {
            return progress;
        };
        for copy in copies.values().filter(|copy| kept.contains(&copy.instance)) {
            let is_new = |task: &&Arc<Task>| task.created_at >= since && !context.is_dirty(task);
            let first = copy.tasks().iter().find(is_new);
            let had_other = copy.tasks().iter().any(|task| !is_new(&task));
            if let Some(first) = first.filter(|_| had_other) {
                let replacement = Replacement {
                    task: first.id,
                    phase: Phase::Coming,
                };
                progress.copies.insert(copy.instance, replacement);
            }
        }
        progress
    }

    /// Follows the new tasks.
    fn advance<C: Cluster>(
        &mut self,
        copies: &BTreeMap<Instance, Copy>,
        kept: &BTreeSet<Instance>,
        policy: &UpdatePolicy,
        context: &Context<'_, C>,
    ) {
        let now = context.now.monotonic;
        let monitor = policy.monitor.to_duration();
        self.copies.retain(|instance, replacement| {
            let Some(copy) = copies.get(instance).filter(|_| kept.contains(instance)) else {
                return false;
            };
            let task = copy.task(replacement.task);
            let state = task.map(|task| task.status.state);
            let has_failed = matches!(
                state,
                Some(TaskState::Failed | TaskState::Rejected | TaskState::Complete)
            );
            match replacement.phase {
                Phase::Coming if has_failed => replacement.phase = Phase::Failed(now),
                Phase::Coming if state == Some(TaskState::Running) => replacement.phase = Phase::Up(now),
                Phase::Coming if task.is_none_or(|task| task.desired_state > TaskState::Complete) => {
                    // Its node was lost: another takes its part.
                    match clean_task(copy, context) {
                        Some(other) => replacement.task = other.id,
                        None => return false,
                    }
                }
                Phase::Up(since) if has_failed => {
                    let is_watched = now.saturating_sub(since) <= monitor;
                    replacement.phase = if is_watched {
                        Phase::Failed(now)
                    } else {
                        Phase::Past(since)
                    };
                }
                Phase::Coming | Phase::Up(_) | Phase::Failed(_) | Phase::Past(_) => {}
            }
            true
        });
    }

    /// One of the tasks that failed, if they are more than the policy bears.
    fn too_many_failures(&self, outdated: &BTreeSet<Instance>, policy: &UpdatePolicy) -> Option<TaskId> {
        let mut failed = self
            .copies
            .values()
            .filter(|copy| matches!(copy.phase, Phase::Failed(_)));
        let last = failed.next_back()?.task;
        let to_come = outdated
            .iter()
            .filter(|instance| !self.copies.contains_key(instance))
            .count();
        let share = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let total = self.copies.len() + to_come;
        (share(failed.count() + 1) / share(total) > policy.max_failure_ratio).then_some(last)
    }

    /// Replaces as many of the outdated copies as may be under way.
    fn replace<C: Cluster>(
        &mut self,
        copies: &mut BTreeMap<Instance, Copy>,
        outdated: &BTreeSet<Instance>,
        policy: &UpdatePolicy,
        context: &mut Context<'_, C>,
        updated: &mut Updated,
    ) {
        let now = context.now.monotonic;
        let delay = policy.delay.to_duration();
        let most = usize::try_from(policy.parallelism)
            .ok()
            .filter(|most| *most > 0)
            .unwrap_or(usize::MAX);
        let mut under_way = 0;
        for replacement in self.copies.values() {
            match replacement.phase {
                Phase::Coming => under_way += 1,
                Phase::Up(at) | Phase::Failed(at) | Phase::Past(at) if now < at + delay => {
                    under_way += 1;
                    updated.wake_at(at + delay);
                }
                Phase::Up(_) | Phase::Failed(_) | Phase::Past(_) => {}
            }
        }
        for instance in outdated {
            if under_way >= most {
                break;
            }
            let Some(copy) = copies.get_mut(instance) else {
                continue;
            };
            if self.copies.contains_key(instance) {
                continue;
            }
            let task = replace(copy, policy.order, context);
            let phase = Phase::Coming;
            self.copies.insert(*instance, Replacement { task, phase });
            under_way += 1;
        }
    }

    /// Whether an outdated copy has had its turn: its new task failed, and the update goes on without it.
    fn is_through(&self, instance: Instance) -> bool {
        let phase = self.copies.get(&instance).map(|copy| copy.phase);
        matches!(phase, Some(Phase::Failed(_) | Phase::Past(_)))
    }

    /// When the last new task has been watched long enough; `None` while one is coming.
    fn done_at(&self, policy: &UpdatePolicy) -> Option<Duration> {
        let span = match policy.failure_action {
            FailureAction::Continue => policy.delay.to_duration(),
            FailureAction::Pause | FailureAction::Rollback | FailureAction::Unset => {
                policy.delay.to_duration().max(policy.monitor.to_duration())
            }
        };
        let mut done = Duration::ZERO;
        for replacement in self.copies.values() {
            match replacement.phase {
                Phase::Coming => return None,
                Phase::Up(at) | Phase::Failed(at) | Phase::Past(at) => done = done.max(at + span),
            }
        }
        Some(done)
    }
}

/// Has a copy's task replaced; says by which.
fn replace<C: Cluster>(copy: &mut Copy, order: UpdateOrder, context: &mut Context<'_, C>) -> TaskId {
    // On one node the old task's ports keep the new one out, so that it could never start first.
    let holds_ports = crate::ports::host_ports_of_service(context.service).is_some();
    let is_start_first = match order {
        UpdateOrder::StartFirst => !(holds_ports && matches!(copy.instance, Instance::Node(_))),
        UpdateOrder::StopFirst | UpdateOrder::Unset => false,
    };
    let clean = clean_task(copy, context).map(|task| task.id);
    if is_start_first {
        // The best of the old ones works on meanwhile.
        let old = copy.wanted().filter(|task| Some(task.id) != clean);
        let best = old.max_by_key(|task| (task.status.state == TaskState::Running, task.created_at, task.id));
        let best = best.map(|task| task.id);
        let others = copy
            .wanted()
            .map(|task| task.id)
            .filter(|id| Some(*id) != best && Some(*id) != clean);
        for id in others.collect::<Vec<_>>() {
            copy.desire(id, TaskState::Shutdown);
        }
    } else {
        copy.shut_down_all_but(clean);
    }
    clean.unwrap_or_else(|| context.create(copy))
}

fn with_status(service: &Service, status: UpdateStatus) -> Service {
    let mut service = service.clone();
    service.update_status = Some(status);
    service
}

fn started(service: &Service, now: Timestamp) -> Service {
    let status = UpdateStatus {
        state: Some(UpdateState::Updating),
        started_at: Some(now),
        message: Some("update in progress".to_owned()),
        ..UpdateStatus::default()
    };
    with_status(service, status)
}

fn completed(service: &Service, now: Timestamp) -> Service {
    let is_rollback = state_of(service) == Some(UpdateState::RollbackStarted);
    let (state, message) = if is_rollback {
        (UpdateState::RollbackCompleted, "rollback completed")
    } else {
        (UpdateState::Completed, "update completed")
    };
    let status = UpdateStatus {
        state: Some(state),
        completed_at: Some(now),
        message: Some(message.to_owned()),
        ..service.update_status.clone().unwrap_or_default()
    };
    with_status(service, status)
}

/// What too many failures make of a service; nothing where the update goes on regardless.
fn failed_service(
    service: &Service,
    failed: TaskId,
    policy: &UpdatePolicy,
    now: Timestamp,
) -> Option<Service> {
    let is_rollback = state_of(service) == Some(UpdateState::RollbackStarted);
    let of = service.update_status.clone().unwrap_or_default();
    let paused = |state, what: &str| {
        let message = format!("{what} paused due to failure or early termination of task {failed}");
        let status = UpdateStatus {
            state: Some(state),
            message: Some(message),
            ..of.clone()
        };
        Some(with_status(service, status))
    };
    match (policy.failure_action, &service.previous_spec) {
        (FailureAction::Continue, _) => None,
        // A rollback is never rolled back.
        (_, _) if is_rollback => paused(UpdateState::RollbackPaused, "rollback"),
        (FailureAction::Rollback, Some(previous)) => {
            let message = format!("update rolled back due to failure or early termination of task {failed}");
            let status = UpdateStatus {
                state: Some(UpdateState::RollbackStarted),
                started_at: Some(now),
                message: Some(message),
                ..UpdateStatus::default()
            };
            let mut service = with_status(service, status);
            service.spec = previous.clone();
            service.spec_version = service.previous_spec_version;
            service.previous_spec = None;
            service.previous_spec_version = None;
            Some(service)
        }
        (FailureAction::Pause | FailureAction::Unset | FailureAction::Rollback, _) => {
            paused(UpdateState::Paused, "update")
        }
    }
}
