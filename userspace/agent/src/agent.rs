//! The agent of a node: the shell that drives links, maps and held ports after the plan.

use crate::complaints::{Complaints, chain};
use crate::control::{self, AgentReply, AgentRequest, Asked, ControlError};
use crate::follow::{CatalogRefused, Follower};
use crate::holder::HolderLauncher;
use crate::keeper::PortKeeper;
use crate::look::{self, LookError, Scene};
use crate::plane::Plane;
use crate::ports::published_ports;
use crate::schedule::{Outcome, Pace, Schedule, Trigger};
use crate::startup::{self, StartupError};
use crate::state_dir::{NodeRecord, StateDir, StateDirError, pin_dir};
use crate::status::AgentStatus;
use crate::watch::{FileWatch, WatchError};
use crate::watchers::Watchers;
use essaim_datapath::{DatapathError, DatapathOptions, Sizing};
use essaim_model::{DesiredState, NodeFacts, NodeName};
use essaim_netlink::{HostOptions, LinkReconciler, NetlinkError};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

/// How often flows whose time is over are removed: what is idle for longer is not found any more all the same, it only
/// takes up room.
const SWEEP: Duration = Duration::from_secs(10);
/// How often the event ring is emptied while somebody watches.
const WATCH: Duration = Duration::from_millis(20);

/// How an agent is to run.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// This node.
    pub node: NodeName,
    /// The catalog's file.
    pub catalog: PathBuf,
    /// The interfaces to the other nodes and to clients.
    pub uplinks: Vec<String>,
    /// The folder of bpffs that holds the nodes' folders.
    pub bpf_root: PathBuf,
    /// The cgroup for the socket programs; the root of the hierarchy where none is named.
    pub cgroup: Option<PathBuf>,
    /// Where the agent keeps its lock, its sockets and a copy of the catalog.
    pub state_dir: StateDir,
    /// Starts the holder.
    pub holder: HolderLauncher,
}

/// Why an agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The machine is not ready for it; nothing was changed.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// Its state directory does not serve; nothing was changed.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// There is no catalog to start with; nothing was changed.
    #[error(transparent)]
    Catalog(#[from] CatalogRefused),
    /// Changes of files cannot be followed; nothing was changed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Its control socket does not serve; nothing was changed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Links cannot be managed; nothing was changed.
    #[error(transparent)]
    Links(#[from] NetlinkError),
    /// The data plane cannot be opened; what ran before goes on.
    #[error("failed to open the data plane in {}", path.display())]
    Datapath {
        /// Its folder of pins.
        path: PathBuf,
        /// Why.
        source: DatapathError,
    },
    /// Signals cannot be waited for; nothing was changed.
    #[error("failed to wait for signals")]
    Signals(#[source] std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT. What it made stays and works on.
///
/// # Errors
/// [`AgentError`] where it could not start. Once it runs, what fails is said and tried again.
pub async fn run_agent(options: AgentOptions) -> Result<(), AgentError> {
    startup::check_capabilities()?;
    startup::check_kernel()?;
    startup::check_bpffs(&options.bpf_root)?;
    let cgroup = match &options.cgroup {
        Some(cgroup) => cgroup.clone(),
        None => startup::cgroup2_mount()?,
    };
    startup::check_cgroup(&cgroup)?;
    startup::check_uplinks(&options.uplinks)?;
    options.state_dir.create()?;
    let _lock = options.state_dir.lock()?;
    let files = FileWatch::new(&options.catalog)?;
    let follower = first_catalog(&options)?;
    let links =
        LinkReconciler::open(HostOptions { node: options.node.clone(), uplinks: options.uplinks.clone() })?;
    let pin_dir = pin_dir(&options.bpf_root, options.node.as_str());
    options.state_dir.write_record(&NodeRecord {
        node: options.node.to_string(),
        catalog: options.catalog.clone(),
        uplinks: options.uplinks.clone(),
        bpf_root: options.bpf_root.clone(),
        cgroup: cgroup.clone(),
        pid: std::process::id(),
    })?;
    let listener = control::listen(&options.state_dir)?;
    let signals = Signals::new().map_err(AgentError::Signals)?;
    let datapath = DatapathOptions { pin_dir: pin_dir.clone(), cgroup, sizing: Sizing::default() };
    let plane = Plane::open(&datapath).map_err(|source| AgentError::Datapath { path: pin_dir, source })?;
    let ports = PortKeeper::new(options.holder.clone(), options.state_dir.clone());
    let agent = Agent {
        options,
        follower,
        links,
        plane,
        ports,
        facts: None,
        kept_revision: None,
        complaints: Complaints::default(),
        watchers: Watchers::default(),
        started: Instant::now(),
    };
    agent.run(files, &listener, signals).await;
    Ok(())
}

/// The catalog to start with: the file, else the copy of what was applied last, so that a file that was broken
/// meanwhile does not keep a node from being looked after.
fn first_catalog(options: &AgentOptions) -> Result<Follower, AgentError> {
    let mut follower = Follower::new(options.node.clone());
    let Err(refused) = read_catalog(options, &mut follower) else { return Ok(follower) };
    let copy = options.state_dir.catalog()?;
    match copy.map(|(path, text)| follower.take(&path, &text)) {
        Some(Ok(_)) => {
            tracing::warn!("starting with the catalog that was applied last: the file is refused");
            Ok(follower)
        }
        Some(Err(_)) | None => Err(refused.into()),
    }
}

fn read_catalog(options: &AgentOptions, follower: &mut Follower) -> Result<bool, CatalogRefused> {
    let path = &options.catalog;
    let text =
        fs::read_to_string(path).map_err(|source| CatalogRefused::Read { path: path.clone(), source })?;
    follower.take(path, &text)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

struct Agent {
    options: AgentOptions,
    follower: Follower,
    links: LinkReconciler,
    plane: Plane,
    ports: PortKeeper,
    /// As the last look at the links found them.
    facts: Option<NodeFacts>,
    /// Of the copy of the catalog in the state directory, as written by this process.
    kept_revision: Option<u64>,
    complaints: Complaints,
    watchers: Watchers,
    started: Instant,
}

/// What a round has met.
#[derive(Default)]
struct Round {
    /// What is wrong.
    problems: BTreeSet<String>,
    /// Something is to be tried again before the slow period is over.
    incomplete: bool,
    /// Links were changed.
    moved: bool,
}

impl Round {
    fn failed(&mut self, error: &dyn std::error::Error) {
        self.problems.insert(chain(error));
        self.incomplete = true;
    }
}

impl Agent {
    async fn run(mut self, mut files: FileWatch, listener: &UnixListener, mut signals: Signals) {
        let (asked, mut questions) = mpsc::channel(control::QUEUE);
        let mut changes = self.links.changes();
        let mut links_are_watched = true;
        let mut schedule = Schedule::new(Pace::default(), Instant::now());
        let mut sweep = ticks(SWEEP);
        let mut watch = ticks(WATCH);
        tracing::info!(
            node = %self.options.node, pid = std::process::id(), version = env!("CARGO_PKG_VERSION"),
            catalog = %self.options.catalog.display(), "agent started"
        );
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => break,
                _ = signals.interrupt.recv() => break,
                () = sleep_until(schedule.due().into()) => {
                    files.watch_namespaces();
                    let outcome = self.round().await;
                    schedule.finished(outcome, Instant::now());
                }
                _ = signals.hangup.recv() => schedule.notice(Trigger::Hangup, Instant::now()),
                triggers = files.next() => match triggers {
                    Ok(triggers) => triggers.into_iter().for_each(|trigger| schedule.notice(trigger, Instant::now())),
                    Err(error) => {
                        tracing::error!(error = chain(&error), "changes of the catalog are found by the slow resync only");
                        std::future::pending::<()>().await;
                    }
                },
                alive = changes.changed(), if links_are_watched => {
                    links_are_watched = alive;
                    schedule.notice(Trigger::Links, Instant::now());
                }
                Ok((stream, _)) = listener.accept() => drop(tokio::spawn(control::serve(stream, asked.clone()))),
                Some(question) = questions.recv() => self.answer(question),
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
        let changed = match read_catalog(&self.options, &mut self.follower) {
            Ok(changed) => changed,
            Err(refused) => {
                // Told again when the file changes; until then nothing is to be gained by trying.
                round.problems.extend(chain(&refused).lines().map(str::to_owned));
                false
            }
        };
        if let Some(plan) = self.follower.current() {
            let desired = plan.desired.clone();
            if changed {
                tracing::info!(revision = desired.revision, services = desired.services.len(), "catalog taken");
            }
            self.converge(&desired, &mut round).await;
        }
        let news = self.complaints.replace(round.problems);
        news.appeared.iter().for_each(|problem| tracing::error!("{problem}"));
        news.settled.iter().for_each(|problem| tracing::info!("settled: {problem}"));
        if round.incomplete { Outcome::Incomplete { moved: round.moved } } else { Outcome::Converged }
    }

    /// Ports are taken before programs answer them and freed after; maps change at once with what is known of the
    /// links, so that a change of backends does not wait for them, and again when the links are as planned.
    async fn converge(&mut self, desired: &DesiredState, round: &mut Round) {
        let wanted = published_ports(desired);
        if let Err(error) = self.ports.take(&wanted).await {
            round.failed(&error);
        }
        round.problems.extend(self.ports.problems(&wanted));
        let reduced = self.ports.reduce(desired);
        let mut applied = self.facts.as_ref().map(|facts| self.plane.apply(&reduced, facts));
        match self.links.reconcile(desired) {
            Ok(outcome) => {
                outcome.applied.iter().for_each(|op| tracing::debug!("link: {op}"));
                outcome.problems.iter().for_each(|problem| round.failed(problem));
                round.moved = !outcome.applied.is_empty();
                if let Err(error) = self.plane.attach(&outcome.facts) {
                    round.failed(&error);
                }
                let facts = self.facts.insert(outcome.facts);
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
        self.keep_catalog(round);
    }

    /// Writes down what was applied, for the next start and for whoever looks while no agent runs.
    fn keep_catalog(&mut self, round: &mut Round) {
        let Some(plan) = self.follower.current() else { return };
        let revision = plan.catalog.revision;
        if !round.incomplete && self.kept_revision != Some(revision) {
            match self.options.state_dir.write_catalog(&plan.text) {
                Ok(()) => self.kept_revision = Some(revision),
                Err(error) => round.failed(&error),
            }
        }
    }

    fn answer(&mut self, Asked { request, answer }: Asked) {
        let failed = |error: &LookError| AgentReply::Error { message: chain(error) };
        let reply = match request {
            AgentRequest::Watch => match self.watchers.add(answer.clone(), &mut self.plane) {
                Ok(()) => return,
                Err(error) => Err(error),
            },
            AgentRequest::Status => self.look(look::status).map(|status| AgentReply::Status(Box::new(status))),
            AgentRequest::Verify => self.look(look::verify).map(|differences| AgentReply::Verified { differences }),
            AgentRequest::Trace(question) => {
                self.look(|scene| look::trace(scene, &question)).map(|steps| AgentReply::Traced { steps })
            }
        };
        // Whoever asked may have gone.
        let _ = answer.try_send(reply.unwrap_or_else(|error| failed(&error)));
    }

    /// Shows everything there is to see.
    fn look<T>(&mut self, with: impl FnOnce(&mut Scene<'_>) -> Result<T, LookError>) -> Result<T, LookError> {
        let plan = self.follower.current().ok_or(LookError::NoPlan)?;
        let reduced = self.ports.reduce(&plan.desired);
        with(&mut Scene {
            plan,
            reduced: &reduced,
            links: &self.links,
            datapath: self.plane.datapath_mut(),
            ports: self.ports.holds(),
            problems: self.complaints.current(),
            agent: Some(AgentStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs(),
                catalog: self.options.catalog.clone(),
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

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}
