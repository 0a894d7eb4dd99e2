//! What must hold after every step.

use essaim_gossip::{Epoch, Incarnation, MemberState, MemberView, OwnTask, Version, View};
use essaim_model::{NodeName, TaskId, TaskState};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All that any node has ever said, by what makes it unique.
#[derive(Debug, Default)]
pub(crate) struct Record(HashMap<(NodeName, Epoch, TaskId, Version), TaskState>);

impl Record {
    /// Notes what an owner says, as it sees itself.
    pub(crate) fn note(&mut self, owner: &NodeName, view: &View) {
        for (task, fact) in view.members.get(owner).iter().flat_map(|member| &member.tasks) {
            let key = (owner.clone(), fact.epoch, task.clone(), fact.version);
            self.0.insert(key, fact.state);
        }
    }
}

/// What one run of a node has seen.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    last: Arc<View>,
    lives: BTreeMap<NodeName, (Epoch, Incarnation)>,
    facts: BTreeMap<(NodeName, TaskId), (Epoch, Version)>,
    /// What its data plane has, and the greatest word on each task that it ever had: a node that leaves a network and comes
    /// back has less for a moment, which the owner cannot know of at once.
    applied: Arc<View>,
    ever_applied: BTreeMap<(NodeName, TaskId), (Epoch, Version)>,
}

impl Checks {
    /// Checks what has changed since the last step.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn step(
        &mut self,
        view: Arc<View>,
        members: &[NodeName],
        record: &Record,
    ) -> Result<(), String> {
        if view.version < self.last.version {
            return Err(format!("view {:?} follows {:?}", view.version, self.last.version));
        }
        for (name, member) in &view.members {
            if self
                .last
                .members
                .get(name)
                .is_some_and(|last| Arc::ptr_eq(last, member))
            {
                continue;
            }
            if !members.contains(name) {
                return Err(format!("{name} is shown and is no member"));
            }
            self.member(name, member, record)?;
        }
        self.last = view;
        Ok(())
    }

    fn member(&mut self, name: &NodeName, member: &MemberView, record: &Record) -> Result<(), String> {
        let life = (member.epoch, member.incarnation);
        let before = self.lives.insert(name.clone(), life);
        if before.is_some_and(|before| life < before) {
            return Err(format!("{name} went back from {before:?} to {life:?}"));
        }
        for (task, fact) in &member.tasks {
            let said = record
                .0
                .get(&(name.clone(), fact.epoch, task.clone(), fact.version));
            if said != Some(&fact.state) {
                return Err(format!(
                    "{name} is shown to say {task} {fact:?}, and said {said:?}"
                ));
            }
            let order = (fact.epoch, fact.version);
            let seen = self.facts.insert((name.clone(), task.clone()), order);
            if seen.is_some_and(|seen| order < seen) {
                return Err(format!("{task} of {name} went back from {seen:?} to {order:?}"));
            }
        }
        Ok(())
    }

    /// Notes that its data plane has all of this view.
    pub(crate) fn apply(&mut self, view: Arc<View>) {
        for (name, member) in &view.members {
            if self
                .applied
                .members
                .get(name)
                .is_some_and(|applied| Arc::ptr_eq(applied, member))
            {
                continue;
            }
            for (task, fact) in &member.tasks {
                let order = self.ever_applied.entry((name.clone(), task.clone())).or_default();
                *order = (fact.epoch, fact.version).max(*order);
            }
        }
        self.applied = view;
    }

    /// Whether its data plane had at least that word on a task.
    pub(crate) fn has_applied(&self, owner: &NodeName, task: &TaskId, order: (Epoch, Version)) -> bool {
        let applied = self.ever_applied.get(&(owner.clone(), task.clone()));
        applied.is_some_and(|applied| *applied >= order)
    }
}

/// What keeps a node's view from being the truth, if anything does.
pub(crate) fn difference(
    view: &View,
    owner: &NodeName,
    is_running: bool,
    tasks: &BTreeMap<TaskId, OwnTask>,
    networks: &std::collections::BTreeSet<essaim_model::NetworkName>,
) -> Option<String> {
    let Some(member) = view.members.get(owner) else {
        return Some(format!("{owner} is not shown"));
    };
    if !is_running {
        return (member.state != MemberState::Down).then(|| format!("{owner} is shown {:?}", member.state));
    }
    if member.state != MemberState::Alive {
        return Some(format!("{owner} is shown {:?}", member.state));
    }
    let shown: BTreeMap<&TaskId, _> = member
        .tasks
        .iter()
        .map(|(task, fact)| (task, (fact.state, fact.networks.clone())))
        .collect();
    let kept = tasks.iter().filter_map(|(task, own)| {
        let kept: std::collections::BTreeSet<_> = own.networks.intersection(networks).cloned().collect();
        (!kept.is_empty()).then_some((task, (own.state, kept)))
    });
    let kept: BTreeMap<&TaskId, _> = kept.collect();
    (shown != kept).then(|| format!("{owner} says {kept:?} and is shown to say {shown:?}"))
}
