//! The worker itself: the core, and what it needs done.

mod operations;
mod save;

use crate::core::{Action, Core, End, Launch, Now, RunnerState};
use crate::disk::{Disk, DiskError};
use crate::logs::runner_id;
use crate::managers::Managers;
use crate::outbox::Outbox;
use crate::session::{Listeners, Sessions, Shared, Told};
use crate::spec::{health_check, netns_path};
use crate::{Dataplane, Describe, Facts, LeaderLink, TaskSpec, Word};
use essaim_ca::LiveIdentity;
use essaim_health::{Health, HealthChange, HealthService, TaskPlace, TaskProbe};
use essaim_objects::{IdError, Node, Task, TaskId, Timestamp};
use essaim_protocol::ManagerAddress;
use essaim_rpc::chain;
use essaim_runner::{Exit, ExitRecord, Runner, RunnerError, StartRecord, TaskEvent, TaskHealth, TaskState};
use operations::Operations;
use rustls::time_provider::TimeProvider;
use save::Saver;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Messages of a session that wait for the node.
const AHEAD: usize = 16;

/// What a worker is made of.
#[derive(Debug)]
pub struct WorkerOptions<R, D> {
    /// Who the node is, to the managers.
    pub identity: Arc<LiveIdentity>,
    /// The clock of certificates.
    pub time: Arc<dyn TimeProvider>,
    /// Managers to ask, `ADDRESS:PORT`, beside those that were learnt before.
    pub managers: Vec<String>,
    /// Where `managers.json` and `tasks.json` are kept.
    pub directory: PathBuf,
    /// What the operator says of the node.
    pub describe: Describe,
    /// The address of its VTEP, where that is not the one that it calls from.
    pub data_path: Option<IpAddr>,
    /// What runs its tasks; [`Runner::adopt`] was not called yet.
    pub runner: Arc<R>,
    /// What happens to them, from that runner.
    pub events: mpsc::Receiver<TaskEvent>,
    /// Its data plane.
    pub dataplane: Arc<D>,
    /// Has the leader while there is a session with it.
    pub leader: LeaderLink,
}

/// What the owner of a worker must know.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// The node, as the store has it.
    Node(Arc<Node>),
    /// All managers, the leader first.
    Managers(Vec<ManagerAddress>),
    /// The roots to trust, in PEM.
    TrustRoots(String),
    /// A manager said that the node is no member of the cluster any more. Said once; the worker goes on asking, and its
    /// tasks go on, until it is stopped.
    Removed,
    /// Whether there is a session with the leader.
    Connected(bool),
}

/// A worker that cannot go on; its tasks do.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// What was kept cannot be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The certificate names no node of the managers' kind.
    #[error("the certificate's node cannot be one of a cluster")]
    Identity(#[from] IdError),
    /// The runner does not find its tasks.
    #[error("failed to take over the tasks that run")]
    Adopt(#[from] RunnerError),
}

/// Makes the node run what the managers assign, until `stop`. The tasks go on then, and the next worker takes them over.
/// Take from `notices`: while it is full, the session stands still.
///
/// # Errors
/// [`WorkerError`]; nothing was done to any task.
pub async fn run_worker<R, D>(
    options: WorkerOptions<R, D>,
    notices: mpsc::Sender<Notice>,
    stop: impl Future<Output = ()>,
) -> Result<(), WorkerError>
where
    R: Runner<Spec = TaskSpec> + 'static,
    D: Dataplane,
{
    let WorkerOptions {
        identity,
        time,
        managers,
        directory,
        describe,
        data_path,
        runner,
        events,
        dataplane,
        leader,
    } = options;
    let node = identity.current().peer().node_id.as_str().parse()?;
    let facts = Facts::of_machine(node, &describe);
    let disk = Disk::open(&directory)?;
    let managers = Managers::new(&disk.managers()?, managers);
    let kept = disk.tasks()?;
    let mut found = BTreeMap::new();
    for (name, state) in runner.adopt().await?.tasks {
        match name.as_str().parse() {
            Ok(id) => drop(found.insert(id, runner_state(&state))),
            Err(error) => {
                tracing::warn!(task = %name, %error, "a task that is none of the managers' is left alone");
            }
        }
    }
    let core = Core::new(kept, &found, now());
    let (tasks, watched) = watch::channel(Vec::new());
    let shared = Arc::new(Shared {
        identity,
        time,
        facts,
        describe,
        data_path,
        runner,
        dataplane,
        leader,
        outbox: Outbox::default(),
        disk: disk.clone(),
        tasks: watched,
    });
    let (tell, told) = mpsc::channel(AHEAD);
    let listeners = Listeners {
        node: tell,
        owner: notices,
    };
    // Ends with the set.
    let mut session = JoinSet::new();
    session.spawn(Sessions::new(Arc::clone(&shared), listeners, managers).run());
    let worker = Worker {
        core,
        operations: Operations::new(Arc::clone(&shared)),
        shared,
        saver: Saver::new(disk),
        checks: BTreeMap::new(),
        healths: BTreeMap::new(),
        tasks,
    };
    worker.run(events, told, stop).await;
    Ok(())
}

struct Worker<R, D> {
    core: Core,
    shared: Arc<Shared<R, D>>,
    operations: Operations<R, D>,
    saver: Saver,
    checks: BTreeMap<essaim_model::TaskId, TaskProbe>,
    /// What the runner said last of the health of tasks that it checks itself.
    healths: BTreeMap<TaskId, TaskHealth>,
    tasks: watch::Sender<Vec<Arc<Task>>>,
}

impl<R: Runner<Spec = TaskSpec> + 'static, D: Dataplane> Worker<R, D> {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<TaskEvent>,
        mut told: mpsc::Receiver<Told>,
        stop: impl Future<Output = ()>,
    ) {
        let mut health = HealthService::start();
        let mut stop = pin!(stop);
        loop {
            self.act(&health);
            let due = self.core.poll_timeout();
            tokio::select! {
                () = &mut stop => break,
                Some(told) = told.recv() => match told {
                    Told::Began => self.core.session_began(),
                    Told::Assignments(assignments) => self.core.assign(assignments, now()),
                },
                Some(TaskEvent { task, state }) = events.recv() => {
                    if let Ok(id) = task.as_str().parse() {
                        self.heard(id, state);
                    }
                }
                Some((task, number, outcome)) = self.operations.next() => {
                    self.core.done(task, number, outcome, now());
                    // It may have been told before the start was.
                    if let Some(health) = self.healths.get(&task) {
                        self.core.runner_health(task, *health, now());
                    }
                }
                Some(HealthChange { task, health }) = health.next_change() => {
                    if let Ok(id) = task.as_str().parse() {
                        self.health_changed(id, &health);
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.core.handle_timeout(now());
                }
                () = self.saver.saved() => {}
            }
        }
        health.stop().await;
        self.saver.finish().await;
    }

    /// Takes what the runner says of a task.
    fn heard(&mut self, id: TaskId, state: Option<TaskState>) {
        match state {
            Some(TaskState::Running(StartRecord { health, .. })) => {
                if let Some(health) = health {
                    self.healths.insert(id, health);
                    self.core.runner_health(id, health, now());
                }
            }
            Some(TaskState::Ended(record)) => {
                self.healths.remove(&id);
                self.core.runner_ended(id, &end_of(&record), now());
            }
            Some(TaskState::Prepared) => {}
            None => drop(self.healths.remove(&id)),
        }
    }

    /// Does what the core wants done, and passes on what it has to say.
    fn act(&mut self, health: &HealthService) {
        let before = self.checks.len();
        let mut is_check_changed = false;
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Begin {
                    task,
                    number,
                    operation,
                } => {
                    if let Err(failure) = self.operations.begin(&self.core, task, number, operation) {
                        self.core.done(task, number, Err(failure), now());
                    }
                }
                Action::Abandon { task, number } => self.operations.abandon(task, number),
                Action::Tell { task, word } => {
                    tracing::info!(%task, ?word, "told the data plane");
                    self.shared.dataplane.tell(task, word);
                }
                Action::Watch {
                    task,
                    launch,
                    was_healthy,
                } => {
                    is_check_changed = true;
                    if let Some(probe) = self.probe(task, &launch, was_healthy) {
                        self.checks.insert(runner_id(task), probe);
                    }
                }
                Action::Unwatch { task } => {
                    is_check_changed = true;
                    self.checks.remove(&runner_id(task));
                }
            }
        }
        if is_check_changed || before != self.checks.len() {
            health.set_tasks(self.checks.clone());
        }
        let reports = self.core.take_reports();
        for report in &reports {
            let status = &report.status;
            tracing::info!(task = %report.task, state = %status.state, error = status.err, "reports a task");
        }
        self.shared.outbox.add(reports);
        if let Some(kept) = self.core.take_kept() {
            self.saver.save(kept);
            let with_logs: Vec<Arc<Task>> = self.core.with_logs().cloned().collect();
            self.tasks.send_if_modified(|tasks| {
                let is_new = tasks.len() != with_logs.len()
                    || !tasks.iter().zip(&with_logs).all(|(a, b)| Arc::ptr_eq(a, b));
                if is_new {
                    *tasks = with_logs;
                }
                is_new
            });
        }
    }

    fn probe(&self, id: TaskId, launch: &Launch, was_healthy: bool) -> Option<TaskProbe> {
        let task = self.core.task(id)?;
        let check = health_check(task.spec.container.as_ref()?).ok()??;
        let attachments = task.networks_attachments.iter();
        let addresses = attachments.flat_map(|attachment| &attachment.addresses);
        let place = TaskPlace {
            netns: netns_path(task).display().to_string(),
            process: u32::try_from(launch.pid).ok(),
            addresses: addresses.map(ipnet_address).collect(),
        };
        let age = Duration::try_from(Timestamp::now().duration_since(launch.at)).unwrap_or_default();
        Some(TaskProbe {
            check,
            place,
            started: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            was_healthy,
        })
    }

    fn health_changed(&mut self, id: TaskId, health: &Health) {
        match health {
            Health::Starting => {}
            Health::Healthy => self.core.health_changed(id, Ok(()), now()),
            // Not what the check said: nobody knows what stands in it.
            Health::Unhealthy { failures, last } => {
                let why = format!(
                    "{failures} checks in a row have failed, the last one with {}",
                    last.cause
                );
                self.core.health_changed(id, Err(why), now());
            }
        }
    }
}

fn ipnet_address(network: &ipnet::IpNet) -> IpAddr {
    network.addr()
}

fn now() -> Now {
    Now {
        monotonic: tokio::time::Instant::now().into_std(),
        wall: Timestamp::now(),
    }
}

fn launch_of(record: &StartRecord) -> Launch {
    Launch {
        pid: record.pid,
        at: record.started,
        container: record.container.clone(),
        health: record.health,
    }
}

fn end_of(record: &ExitRecord) -> End {
    let reason = match &record.exit {
        Exit::NotStarted { message, .. } | Exit::Lost { message } => Some(message.clone()),
        Exit::Code { .. } | Exit::Signal { .. } if record.oom_killed => Some("out of memory".to_owned()),
        Exit::Code { .. } | Exit::Signal { .. } => None,
    };
    End {
        code: record.exit.code(),
        reason,
    }
}

fn runner_state(state: &TaskState) -> RunnerState {
    match state {
        TaskState::Prepared => RunnerState::Prepared,
        TaskState::Running(record) => RunnerState::Running(launch_of(record)),
        TaskState::Ended(record) => RunnerState::Ended(end_of(record)),
    }
}

/// Ends every task of the runner as a planned stop does, removes all that there is of them, and forgets what was kept: for
/// a node that leaves the cluster. The worker has been stopped before.
///
/// # Errors
/// The first that could not be removed, or what was kept; all others are gone.
pub async fn stop_all<R, D>(
    runner: &Arc<R>,
    dataplane: &Arc<D>,
    directory: &std::path::Path,
) -> Result<(), WorkerError>
where
    R: Runner<Spec = TaskSpec> + 'static,
    D: Dataplane,
{
    let mut stopping = JoinSet::new();
    for (name, state) in runner.list() {
        let (runner, dataplane) = (Arc::clone(runner), Arc::clone(dataplane));
        stopping.spawn(async move {
            let id = name.as_str().parse::<TaskId>().ok();
            if matches!(state, TaskState::Running(_)) {
                if let Some(id) = id {
                    dataplane.drain(id).await;
                }
                if let Err(error) = runner.stop(&name, None, None).await {
                    tracing::warn!(task = %name, error = chain(&error), "failed to stop a task, which is ended");
                }
            }
            if let Some(id) = id {
                dataplane.tell(id, Word::Gone);
            }
            runner.remove(&name).await
        });
    }
    let mut first = Ok(());
    while let Some(stopped) = stopping.join_next().await {
        first = first.and(stopped.unwrap_or_else(|error| Err(RunnerError::Panicked(error))));
    }
    Disk::open(directory)?.clear()?;
    Ok(first?)
}
