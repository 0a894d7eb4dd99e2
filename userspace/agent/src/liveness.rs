//! The agent's part in liveness: it says how far this node's tasks are, and hears how far the others' are.

use crate::agent::{Agent, Round};
use crate::checks::Candidate;
use crate::control::{AgentReply, StopQuestion};
use crate::ipsec::{self, IpsecError};
use crate::look::LookError;
use crate::members::Members;
use crate::stops::StopJob;
use crate::tasks::{OwnTasks, own};
use crate::watch::is_populated;
use essaim_gossip::{View, ViewVersion};
use essaim_model::{Catalog, DesiredState, Liveness, NodeName, TaskId, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long an agent that starts waits for the other nodes to say how far their tasks are. Too low, it may for a moment
/// give traffic to tasks that do not take it; too high, a node that comes up beside one that is dead comes up as much
/// later.
const GREETING: Duration = Duration::from_millis(1500);

impl Agent {
    /// Says who this node is, and waits until the others have spoken, or the time is over: what ran before goes on
    /// meanwhile.
    pub(crate) async fn greet(&mut self) {
        if self.members.is_none() {
            return;
        }
        self.hear(&mut Round::default()).await;
        let (Some(members), Some(plan)) = (&mut self.members, self.follower.current()) else {
            return;
        };
        let node = &self.options.node;
        let mut news = members.subscribe();
        let everybody = async {
            while !all_heard(&members.view(), &plan.catalog, node) {
                news.next().await;
            }
        };
        if timeout(GREETING, everybody).await.is_err() {
            tracing::warn!("not every node of the catalog has answered yet");
        }
    }

    /// Tells the others how far this node's tasks are, and takes what they say of theirs into the plan. Returns the
    /// version of what was heard.
    pub(crate) async fn hear(&mut self, round: &mut Round) -> Option<ViewVersion> {
        self.look_at_own_tasks(round);
        let plan = self.follower.current()?;
        let node = &self.options.node;
        let own = self.tasks.states(&plan.catalog.services, node);
        let mut version = None;
        let mut view = None;
        if let Some(members) = &mut self.members {
            let said = members
                .say(node, &plan.catalog, &own, &self.options.state_dir)
                .await;
            said.unwrap_or_else(|error| round.failed(&error));
            let heard = members.view();
            version = Some(heard.version);
            view = Some(heard);
        }
        let own = own.into_iter().map(|(task, own)| (task, own.state));
        let reported = reported(&plan.catalog, node, own.collect(), view.as_deref());
        let heard = self.follower.hear(reported);
        let reported = self.follower.to_keep();
        if self.kept_reported.as_ref() != Some(&reported) {
            match self.options.state_dir.write_reported(&reported) {
                Ok(()) => self.kept_reported = Some(reported),
                Err(error) => round.failed(&error),
            }
        }
        if let Err(error) = heard {
            // What is not in the plan will not be in the maps either: it must not be acknowledged.
            round.failed(&error);
            return None;
        }
        version
    }

    /// Has the kernel encrypt what encrypted networks send between nodes. Whether it does, or blocks it.
    pub(crate) fn encrypt(&mut self, desired: &DesiredState, round: &mut Round) -> bool {
        let Some(plan) = self.follower.current() else {
            return false;
        };
        let is_wanted = plan.catalog.networks.iter().any(|network| network.encrypted);
        let wanted = self.members.as_mut().and_then(|members| {
            let view = members.view();
            ipsec::wanted(
                &plan.catalog,
                &desired.cluster,
                members.data_keys().clone(),
                &view,
            )
        });
        if is_wanted && self.members.is_none() {
            round.noted(&IpsecError::NoGossip);
        }
        self.ipsec.keep(wanted.as_ref(), &self.links, round)
    }

    /// Tells the others which keys of encrypted networks this node holds.
    pub(crate) async fn say_ipsec(&mut self, round: &mut Round) {
        if let (Some(members), Some(said)) = (&mut self.members, self.ipsec.said())
            && let Err(error) = members.say_ipsec(said).await
        {
            round.failed(&error);
        }
    }

    /// Has the holder answer for this node whenever this agent is away.
    pub(crate) fn tend(&mut self, round: &mut Round) {
        if let Some(members) = &self.members
            && let Err(error) = members.tend(&self.options.node, self.ports.holder_mut())
        {
            round.failed(&error);
        }
    }

    /// Whether what gossip knows changes the plan. Where it does not, and the maps hold the plan, it counts as applied.
    pub(crate) async fn has_news(&mut self) -> bool {
        let (Some(members), Some(plan)) = (&mut self.members, self.follower.current()) else {
            return false;
        };
        let node = &self.options.node;
        let own = self.tasks.states(&plan.catalog.services, node).into_iter();
        let own = own.map(|(task, own)| (task, own.state)).collect();
        let view = members.view();
        if reported(&plan.catalog, node, own, Some(&view)) != *self.follower.reported() {
            return true;
        }
        let ring = members.data_keys().clone();
        let wanted = ipsec::wanted(&plan.catalog, &plan.desired.cluster, ring, &view);
        if self.ipsec.has_news(wanted.as_ref()) {
            return true;
        }
        let revision = plan.desired.revision;
        if self.holds_plan
            && let Err(error) = members.applied(revision, view.version).await
        {
            tracing::warn!(
                error = crate::chain(&error),
                "the other nodes are not told what was applied"
            );
        }
        false
    }

    /// The maps hold the plan: whoever waits for that is told.
    pub(crate) async fn applied(&mut self, revision: u64, heard: Option<ViewVersion>, round: &mut Round) {
        self.waiting.drain(..).for_each(|waits| {
            // Whoever asked may have gone.
            let _ = waits.send(());
        });
        if let (Some(members), Some(version)) = (&mut self.members, heard)
            && let Err(error) = members.applied(revision, version).await
        {
            round.failed(&error);
        }
    }

    /// The control groups whose end is the end of a task.
    pub(crate) fn groups(&self) -> BTreeSet<PathBuf> {
        let Some(plan) = self.follower.current() else {
            return BTreeSet::new();
        };
        let own = own(&plan.catalog.services, &self.options.node);
        own.filter_map(|(_, task)| Some(PathBuf::from(task.cgroup.as_ref()?)))
            .collect()
    }

    /// Learns which tasks have ended, and keeps what was heard for the next agent.
    fn look_at_own_tasks(&mut self, round: &mut Round) {
        let Some(plan) = self.follower.current() else {
            return;
        };
        let before = self.tasks.heard().clone();
        let services = &plan.catalog.services;
        self.tasks.retain(services, &self.options.node);
        for (_, task) in own(services, &self.options.node) {
            if let Some(group) = &task.cgroup {
                self.tasks.populated(&task.id, is_populated(Path::new(group)));
            }
        }
        if self.kept_heard.as_ref() != Some(self.tasks.heard()) {
            match self.options.state_dir.write_heard(self.tasks.heard()) {
                Ok(()) => self.kept_heard = Some(self.tasks.heard().clone()),
                Err(error) => round.failed(&error),
            }
        }
        let ended = self.tasks.heard().iter().filter(|(task, heard)| {
            let was = before.get(*task).and_then(|heard| heard.told);
            heard.told == Some(TaskState::Gone) && was != heard.told
        });
        ended.for_each(|(task, _)| tracing::info!(%task, "task has ended"));
    }

    /// Checks the tasks that have an interface and are not on their way out.
    pub(crate) fn check_tasks(&mut self, round: &mut Round) {
        let (Some(plan), Some(facts)) = (self.follower.current(), &self.facts) else {
            return;
        };
        let services = &plan.catalog.services;
        let attached: BTreeSet<&TaskId> = facts.attachments.keys().map(|key| &key.task).collect();
        let states: BTreeMap<&TaskId, TaskState> = own(services, &self.options.node)
            .map(|(_, task)| (&task.id, task.state))
            .collect();
        let heard = self.tasks.heard();
        let candidate = |task: &TaskId| {
            let heard = heard.get(task);
            let told = heard.and_then(|heard| heard.told).unwrap_or(TaskState::Ready);
            let state = states.get(task).copied().unwrap_or(TaskState::Gone).and(told);
            Candidate {
                is_wanted: matches!(state, TaskState::Starting | TaskState::Ready),
                was_healthy: heard.is_some_and(|heard| heard.was_healthy),
            }
        };
        let errors = self
            .checks
            .watch(services, &self.options.node, &attached, candidate);
        for error in &errors {
            round.failed(error);
        }
    }

    /// Begins to stop a task, on a task of its own.
    pub(crate) fn stop(
        &self,
        question: &StopQuestion,
        answer: mpsc::Sender<AgentReply>,
    ) -> Result<(), LookError> {
        let plan = self.follower.current().ok_or(LookError::NoPlan)?;
        let (_, task) = OwnTasks::find(&plan.catalog.services, &self.options.node, &question.task)?;
        let gossip = self.members.as_ref().map(Members::handle);
        let job = StopJob::new(question, &task.netns, gossip, self.told.clone(), answer)?;
        tokio::spawn(job.run());
        Ok(())
    }
}

/// Whether every other node that the catalog calls up was heard of, or found down.
fn all_heard(view: &View, catalog: &Catalog, node: &NodeName) -> bool {
    let others = catalog.nodes.iter().filter(|other| other.name != *node);
    let mut wanted = others.filter(|other| other.state == essaim_model::NodeState::Up);
    wanted.all(|other| {
        let member = view.members.get(&other.name);
        member
            .is_some_and(|member| member.epoch.is_heard() || member.state == essaim_gossip::MemberState::Down)
    })
}

/// What counts beside the catalog: this node's own word on its tasks, and what the others say of theirs. A task that is
/// checked and that nobody has spoken of yet takes no traffic.
fn reported(
    catalog: &Catalog,
    node: &NodeName,
    own: BTreeMap<TaskId, TaskState>,
    view: Option<&View>,
) -> Liveness {
    let Some(view) = view else {
        return Liveness {
            tasks: own,
            ..Liveness::default()
        };
    };
    let Liveness {
        mut nodes_down,
        mut tasks,
        seen,
    } = view.liveness(catalog);
    nodes_down.remove(node);
    let checked = catalog.services.iter().filter(|service| service.health.is_some());
    for task in checked.flat_map(|service| &service.tasks) {
        tasks.entry(task.id.clone()).or_insert(TaskState::Starting);
    }
    tasks.extend(own);
    Liveness {
        nodes_down,
        tasks,
        seen,
    }
}
