//! The agent of a node: the shell that drives links, maps and held ports after the plan.

use crate::checks::Checks;
use crate::complaints::{Complaints, chain};
use crate::control::{self, AgentReply, AgentRequest, Asked};
use crate::follow::{CatalogRefused, Follower};
use crate::ipsec::Ipsec;
use crate::keeper::PortKeeper;
use crate::keys::Keys;
use crate::look::{self, LookError, Scene};
use crate::members::{Members, News, Subscription};
use crate::memory::return_free_memory;
use crate::monitor::{Change, Monitors};
use crate::orders::{Order, Source};
use crate::plane::Plane;
use crate::ports::published_ports;
use crate::resolver::Resolver;
use crate::schedule::{Outcome, Pace, Schedule, Trigger};
use crate::start::AgentOptions;
use crate::status::{AgentStatus, checks as checks_status, members as members_status};
use crate::stops::Told;
use crate::tasks::{Heard, OwnTasks};
use crate::watch::FileWatch;
use crate::watchers::Watchers;
use essaim_abi::{IPSEC_RECEIVED, IPSEC_SENT};
use essaim_model::{DesiredState, Liveness, NodeFacts, TaskId, TaskState};
use essaim_netlink::LinkReconciler;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

/// How often flows whose time is over are removed: what is idle for longer is not found any more all the same, it only
/// takes up room.
const SWEEP: Duration = Duration::from_secs(10);
/// How often the event ring is emptied while somebody watches.
const WATCH: Duration = Duration::from_millis(20);

/// Takes the catalog as it is now; tells whether the plan changed.
pub(crate) fn read_catalog(source: &Source, follower: &mut Follower) -> Result<bool, CatalogRefused> {
    let path = match source {
        Source::File(path) => path,
        Source::Managers(orders) => {
            let catalog = orders.catalog.borrow().clone();
            return follower.follow(&catalog);
        }
    };
    let text = fs::read_to_string(path).map_err(|source| CatalogRefused::Read {
        path: path.clone(),
        source,
    })?;
    follower.take(path, &text)
}

/// What an operator, or a service manager, may say.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// The agent, and what it holds.
pub(crate) struct Agent {
    pub(crate) options: AgentOptions,
    pub(crate) source: Source,
    pub(crate) follower: Follower,
    pub(crate) links: LinkReconciler,
    plane: Plane,
    pub(crate) ports: PortKeeper,
    pub(crate) tasks: OwnTasks,
    /// Gossip, where there are keys for it.
    pub(crate) members: Option<Members>,
    pub(crate) ipsec: Ipsec,
    resolver: Resolver,
    pub(crate) checks: Checks,
    /// Stops tell the loop of their tasks.
    pub(crate) told: mpsc::Sender<Told>,
    /// To be answered when a round has applied what they have told.
    pub(crate) waiting: Vec<oneshot::Sender<()>>,
    /// What was heard of this node's tasks, as it was written down last.
    pub(crate) kept_heard: Option<BTreeMap<TaskId, Heard>>,
    /// What counts beside the catalog, as it was written down last.
    pub(crate) kept_reported: Option<Liveness>,
    /// The maps hold the plan, as the last round left them.
    pub(crate) holds_plan: bool,
    /// As the last look at the links found them.
    pub(crate) facts: Option<NodeFacts>,
    /// Of the copy of the catalog in the state directory, as written by this process.
    kept_revision: Option<u64>,
    /// The last revision that was said to be applied.
    told_revision: Option<u64>,
    complaints: Complaints,
    watchers: Watchers,
    monitors: Monitors,
    started: Instant,
}

/// What an agent is made of.
pub(crate) struct Parts {
    pub(crate) options: AgentOptions,
    pub(crate) source: Source,
    pub(crate) follower: Follower,
    pub(crate) links: LinkReconciler,
    pub(crate) plane: Plane,
    pub(crate) ports: PortKeeper,
    pub(crate) tasks: OwnTasks,
    pub(crate) members: Option<Members>,
    pub(crate) resolver: Resolver,
    pub(crate) checks: Checks,
}

/// What a round has met.
#[derive(Default)]
pub(crate) struct Round {
    /// What is wrong.
    problems: BTreeSet<String>,
    /// Something is to be tried again before the slow period is over.
    incomplete: bool,
    /// Links were changed.
    moved: bool,
}

impl Round {
    /// What is wrong and stays so until somebody changes something: nothing is gained by trying again soon.
    pub(crate) fn noted(&mut self, error: &dyn std::error::Error) {
        self.problems.insert(chain(error));
    }

    pub(crate) fn failed(&mut self, error: &dyn std::error::Error) {
        self.problems.insert(chain(error));
        self.incomplete = true;
    }
}

impl Agent {
    /// The agent, and where its stops tell it of their tasks.
    pub(crate) fn new(parts: Parts) -> (Self, mpsc::Receiver<Told>) {
        let Parts {
            options,
            source,
            follower,
            links,
            plane,
            ports,
            tasks,
            members,
            resolver,
            checks,
        } = parts;
        let (told, stops) = mpsc::channel(control::QUEUE);
        let agent = Self {
            options,
            source,
            follower,
            links,
            plane,
            ports,
            tasks,
            members,
            ipsec: Ipsec::default(),
            resolver,
            checks,
            told,
            waiting: Vec::new(),
            kept_heard: None,
            kept_reported: None,
            holds_plan: false,
            facts: None,
            kept_revision: None,
            told_revision: None,
            complaints: Complaints::default(),
            watchers: Watchers::default(),
            monitors: Monitors::default(),
            started: Instant::now(),
        };
        (agent, stops)
    }

    pub(crate) async fn run(
        mut self,
        mut stops: mpsc::Receiver<Told>,
        mut files: FileWatch,
        listener: &UnixListener,
        mut signals: Signals,
    ) {
        let (asked, mut questions) = mpsc::channel(control::QUEUE);
        let mut changes = self.links.changes();
        let mut news = self.members.as_ref().map(Members::subscribe);
        let mut keys = self.options.gossip.as_ref().map(|gossip| gossip.keys.clone());
        let (mut files_are_watched, mut links_are_watched) = (true, true);
        // Before that, a status would tell of a catalog that was only read.
        let mut was_applied = false;
        let mut schedule = Schedule::new(Pace::default(), Instant::now());
        let mut sweep = ticks(SWEEP);
        let mut watch = ticks(WATCH);
        tracing::info!(
            node = %self.options.node, pid = std::process::id(), version = env!("CARGO_PKG_VERSION"),
            catalog = %self.source.place(&self.options.state_dir).display(), "agent started"
        );
        self.greet().await;
        if let Some(plan) = self.follower.current() {
            self.resolver.set_names(plan);
            self.resolver.adopt(plan, &self.options.state_dir);
        }
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                () = sleep_until(schedule.due().into()) => {
                    files.watch_namespaces();
                    let outcome = self.round().await;
                    files.watch_groups(&self.groups());
                    was_applied = true;
                    schedule.finished(outcome, Instant::now());
                }
                order = self.source.next() => match order {
                    Order::Catalog => schedule.notice(Trigger::Catalog, Instant::now()),
                    Order::Ask(question) => self.answer(question),
                    Order::Runs(task) => {
                        self.tasks.runs(&task);
                        schedule.notice(Trigger::Tasks, Instant::now());
                    }
                    Order::Ended(task) => {
                        self.tasks.tell(&task, TaskState::Gone);
                        schedule.notice(Trigger::Tasks, Instant::now());
                    }
                    Order::End => break,
                },
                _ = signals.hangup.recv() => schedule.notice(Trigger::Hangup, Instant::now()),
                triggers = files.next(), if files_are_watched => match triggers {
                    Ok(triggers) => triggers.into_iter().for_each(|trigger| schedule.notice(trigger, Instant::now())),
                    Err(error) => {
                        tracing::error!(error = chain(&error), "changes of the catalog are found by the slow resync only");
                        files_are_watched = false;
                    }
                },
                news = next_news(news.as_mut()) => match news {
                    News::View => if self.has_news().await {
                        schedule.notice(Trigger::Liveness, Instant::now());
                    },
                    News::Change(change) => self.monitors.tell(&change),
                },
                () = keys_changed(keys.as_mut()) => schedule.notice(Trigger::Liveness, Instant::now()),
                Some(told) = stops.recv() => {
                    self.tasks.tell(&told.task, told.state);
                    self.waiting.push(told.applied);
                    schedule.notice(Trigger::Tasks, Instant::now());
                }
                Some((task, health)) = self.checks.next_change() => {
                    tracing::info!(%task, ?health, "health changed");
                    self.tasks.checked(&task, health);
                    schedule.notice(Trigger::Tasks, Instant::now());
                }
                alive = changes.changed(), if links_are_watched => {
                    links_are_watched = alive;
                    self.meet_containers();
                    schedule.notice(Trigger::Links, Instant::now());
                }
                Ok((stream, _)) = listener.accept() => drop(tokio::spawn(control::serve(stream, asked.clone()))),
                Some(question) = questions.recv(), if was_applied => self.answer(question),
                _ = watch.tick(), if self.watchers.any() => self.tell_watchers(),
                _ = sweep.tick() => self.plane.sweep(),
            }
        }
        tracing::info!("agent stops; the data plane stays and works on (essaim clean removes it)");
        if let Err(error) = fs::remove_file(self.options.state_dir.agent_socket()) {
            tracing::debug!(%error, "the control socket was gone");
        }
    }

    /// One pass over everything. What fails does not keep the rest from being done.
    async fn round(&mut self) -> Outcome {
        let mut round = Round::default();
        let (start, is_first) = (Instant::now(), self.facts.is_none());
        let changed = match read_catalog(&self.source, &mut self.follower) {
            Ok(changed) => changed,
            Err(refused) => {
                // Told again when the file changes; until then nothing is to be gained by trying.
                round.problems.extend(chain(&refused).lines().map(str::to_owned));
                false
            }
        };
        let heard = self.hear(&mut round).await;
        if let Some(plan) = self.follower.current() {
            let desired = plan.desired.clone();
            // A name is there before its traffic, and goes before it.
            self.resolver.set_names(plan);
            self.holds_plan = self.converge(&desired, &mut round).await;
            self.tend(&mut round);
            self.say_ipsec(&mut round).await;
            if self.holds_plan {
                self.applied(desired.revision, heard, &mut round).await;
                self.tell_attached();
            }
            if self.told_revision != Some(desired.revision) && !round.incomplete {
                self.told_revision = Some(desired.revision);
                let (node, revision) = (self.options.node.clone(), desired.revision);
                let services = desired.services.len();
                tracing::info!(revision, services, took = ?start.elapsed(), "catalog applied");
                self.monitors.tell(&Change::CatalogApplied { node, revision });
            }
        }
        if changed || is_first {
            return_free_memory();
        }
        let news = self.complaints.replace(round.problems);
        news.appeared
            .iter()
            .for_each(|problem| tracing::error!("{problem}"));
        news.settled
            .iter()
            .for_each(|problem| tracing::info!("settled: {problem}"));
        if round.incomplete {
            Outcome::Incomplete { moved: round.moved }
        } else {
            Outcome::Converged
        }
    }

    /// Ports are taken before programs answer them and freed after; maps change at once with what is known of the
    /// links, so that a change of backends does not wait for them, and again when the links are as planned. Tells
    /// whether the maps hold the plan.
    async fn converge(&mut self, desired: &DesiredState, round: &mut Round) -> bool {
        let wanted = published_ports(desired);
        if let Err(error) = self.ports.take(&wanted).await {
            round.failed(&error);
        }
        round.problems.extend(self.ports.problems(&wanted));
        let reduced = self.ports.reduce(desired);
        let mut applied = self.facts.as_ref().map(|facts| self.plane.apply(&reduced, facts));
        match self.links.reconcile(desired) {
            Ok(outcome) => {
                outcome
                    .applied
                    .iter()
                    .for_each(|op| tracing::debug!("link: {op}"));
                outcome.problems.iter().for_each(|problem| round.failed(problem));
                round.moved = !outcome.applied.is_empty();
                if let Err(error) = self.plane.attach(&outcome.facts) {
                    round.failed(&error);
                }
                let mut facts = outcome.facts;
                facts.ipsec = self.encrypt(desired, round);
                let facts = self.facts.insert(facts);
                serve_tasks(
                    (&mut self.resolver, &mut self.plane),
                    &self.follower,
                    facts,
                    &mut self.ports,
                    &self.options,
                    round,
                );
                // Where nothing changed, this finds nothing to do.
                applied = Some(self.plane.apply(&reduced, facts));
            }
            Err(error) => round.failed(&error),
        }
        if let Some(Err(error)) = &applied {
            round.failed(error);
        }
        if let Err(error) = self.ports.settle(&wanted).await {
            round.failed(&error);
        }
        self.check_tasks(round);
        self.keep_catalog(round);
        matches!(applied, Some(Ok(())))
    }

    /// Serves the names of containers whose engine has just given them their interface, ahead of the round: their first
    /// instruction, and with it their first question, may be some milliseconds away. What fails is met again, and told,
    /// when a round comes to it.
    fn meet_containers(&mut self) {
        let (Some(plan), Some(facts)) = (self.follower.current(), &mut self.facts) else {
            return;
        };
        let mut attachments = facts.attachments.values();
        if !attachments.any(|attachment| attachment.netns_cookie == 0) {
            return;
        }
        let found = self.links.find_handed_over(&plan.desired).unwrap_or_default();
        if found.is_empty() {
            return;
        }
        self.resolver.open_for(plan, facts, &found);
        let applied = self.plane.apply(&self.ports.reduce(&plan.desired), facts);
        if let Err(error) = applied {
            tracing::debug!(error = chain(&error), "a container's names are not served yet");
        }
    }

    /// Writes down what was applied, for the next start and for whoever looks while no agent runs.
    fn keep_catalog(&mut self, round: &mut Round) {
        let Some(plan) = self.follower.current() else {
            return;
        };
        let revision = plan.catalog.revision;
        if !round.incomplete && self.kept_revision != Some(revision) {
            match self.options.state_dir.write_catalog(&plan.text) {
                Ok(()) => self.kept_revision = Some(revision),
                Err(error) => round.failed(&error),
            }
        }
    }

    fn answer(&mut self, Asked { request, answer }: Asked) {
        let failed = |error: &LookError| AgentReply::Error {
            message: chain(error),
        };
        let reply = match request {
            AgentRequest::Watch => match self.watchers.add(answer.clone(), &mut self.plane) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            AgentRequest::Monitor => return self.monitors.add(answer),
            AgentRequest::Stop(question) => match self.stop(&question, answer.clone()) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            AgentRequest::Status => self
                .look(look::status)
                .map(|status| AgentReply::Status(Box::new(status))),
            AgentRequest::Verify => self
                .look(look::verify)
                .map(|differences| AgentReply::Verified { differences }),
            AgentRequest::Trace(question) => self
                .look(|scene| look::trace(scene, &question))
                .map(|steps| AgentReply::Traced { steps }),
        };
        return_free_memory();
        // Whoever asked may have gone.
        let _ = answer.try_send(reply.unwrap_or_else(|error| failed(&error)));
    }

    /// Shows everything there is to see.
    fn look<T>(&mut self, with: impl FnOnce(&mut Scene<'_>) -> Result<T, LookError>) -> Result<T, LookError> {
        let plan = self.follower.current().ok_or(LookError::NoPlan)?;
        let reduced = self.ports.reduce(&plan.desired);
        let resolved = self.resolver.counted();
        let gossiped = self.members.as_ref().map(Members::counted).unwrap_or_default();
        let answered = self.plane.maps().dns_counters.sum(0).unwrap_or_default().packets;
        let secured = |which| {
            self.plane
                .maps()
                .ipsec_counters
                .sum(which)
                .unwrap_or_default()
                .packets
        };
        let secured = [
            ("packets encrypted".to_owned(), secured(IPSEC_SENT)),
            ("packets decrypted".to_owned(), secured(IPSEC_RECEIVED)),
        ];
        let counters = resolved
            .into_iter()
            .chain([("resolver answered in the kernel".to_owned(), answered)])
            .chain(gossiped)
            .chain(secured)
            .filter(|(_, count)| *count > 0)
            .collect();
        let members = self
            .members
            .as_mut()
            .map(|members| members_status(&members.view()));
        let ipsec_differences = self
            .ipsec
            .differences(&self.links)
            .unwrap_or_else(|error| vec![format!("ipsec: {}", chain(&error))]);
        with(&mut Scene {
            plan,
            resolvers: &self.resolver.ports(),
            members,
            ipsec: self.ipsec.status(),
            ipsec_differences,
            checks: checks_status(&self.checks.status()),
            counters,
            reduced: &reduced,
            links: &self.links,
            datapath: self.plane.datapath_mut(),
            ports: self.ports.holds(),
            problems: self.complaints.current(),
            agent: Some(AgentStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs(),
                catalog: self.source.place(&self.options.state_dir),
                holder_pid: self.ports.holder().map(|holder| holder.pid),
            }),
        })
    }

    fn tell_watchers(&mut self) {
        if let Some(plan) = self.follower.current() {
            self.watchers.tell(&mut self.plane, &plan.desired);
        }
    }
}

/// Serves the names of the tasks that have an interface; says in `facts` where.
fn serve_tasks(
    (resolver, plane): (&mut Resolver, &mut Plane),
    follower: &Follower,
    facts: &mut NodeFacts,
    ports: &mut PortKeeper,
    options: &AgentOptions,
    round: &mut Round,
) {
    let Some(plan) = follower.current() else { return };
    let errors = resolver.serve(plan, facts, ports.holder_mut(), &options.state_dir, plane);
    for error in &errors {
        round.failed(error);
    }
}

/// Waits for what gossip tells; for ever where there is none.
async fn next_news(news: Option<&mut Subscription>) -> News {
    match news {
        Some(news) => news.next().await,
        None => std::future::pending().await,
    }
}

/// Waits for other keys of encrypted networks; for ever where there are none.
async fn keys_changed(keys: Option<&mut Keys>) {
    match keys {
        Some(keys) => keys.changed().await,
        None => std::future::pending().await,
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
