use crate::monitor::{Action, Health, Monitor, ProbeRecord};
use crate::{FailureCause, HealthCheck, ProbeResult, run};
use essaim_model::{TaskId, stable_id};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::discriminant;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::sleep_until;

/// Where the probes of a task go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPlace {
    /// Its network namespace: a name under `/run/netns`, or a path.
    pub netns: String,
    /// A process of the task. Commands enter its namespaces (mount, PID, UTS, IPC, control group, as far as they are
    /// not the agent's), its control group, root and working directory, and run with its environment, user, groups and
    /// no more capabilities than it may have. Not taken over are its resource limits, its seccomp filter and the labels
    /// of security modules.
    ///
    /// Without one, commands run as the agent does, but for the network namespace. A process in a user namespace of its
    /// own, or in another network namespace than the task's, is refused.
    pub process: Option<u32>,
    /// The task's addresses, tried in order by TCP and HTTP probes; the loopback addresses where there are none.
    ///
    /// A probe of the address that traffic goes to also finds a task that listens on loopback only.
    pub addresses: Vec<IpAddr>,
}

/// A task that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskProbe {
    /// How to tell its health.
    pub check: HealthCheck,
    /// Where its probes go.
    pub place: TaskPlace,
    /// When it was started. Read only when the task is first watched, and where its check or place changes.
    pub started: Instant,
    /// Whether it is known to have been healthy, as before a restart of the agent: it then counts as healthy until
    /// `retries` probes have failed, and keeps its traffic meanwhile. Read only when the task is first watched.
    pub was_healthy: bool,
}

/// The health of a task, as it is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// The task.
    pub task: TaskId,
    /// How it is.
    pub health: Health,
}

/// The health of a task, and what it follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskHealth {
    /// How the task is.
    pub health: Health,
    /// The last [`crate::RESULTS_KEPT`] results, the oldest first.
    pub results: Vec<ProbeRecord>,
}

/// Watches the tasks of a node.
///
/// Its probes run on the runtime that it was started on. Dropped, it ends them; [`HealthService::stop`] also waits for
/// their end.
#[derive(Debug)]
pub struct HealthService {
    wanted: watch::Sender<BTreeMap<TaskId, TaskProbe>>,
    published: watch::Receiver<Published>,
    /// The last change that was told.
    told: u64,
    driver: JoinHandle<()>,
}

/// What the driver shows.
#[derive(Debug, Default)]
struct Published {
    tasks: BTreeMap<TaskId, PublishedTask>,
    /// How many changes there were.
    changes: u64,
}

#[derive(Debug)]
struct PublishedTask {
    /// The number of its last change.
    change: u64,
    /// That of its monitor.
    epoch: u64,
    shown: TaskHealth,
}

impl HealthService {
    /// Starts it on the current runtime, with nothing to watch.
    ///
    /// # Panics
    /// Outside of a runtime with I/O and time.
    pub fn start() -> Self {
        let (wanted, tasks) = watch::channel(BTreeMap::new());
        let (show, published) = watch::channel(Published::default());
        let driver = Driver {
            watched: BTreeMap::new(),
            probes: JoinSet::new(),
            owners: HashMap::new(),
            epoch: 0,
            touched: BTreeSet::new(),
            publisher: show,
        };
        Self {
            wanted,
            published,
            told: 0,
            driver: tokio::spawn(driver.drive(tasks)),
        }
    }

    /// Watches exactly these tasks.
    ///
    /// One that is watched already goes on as it was; where its check or place changed it is watched anew, and counts as
    /// healthy if it did. The probes of one that is left out are called off.
    pub fn set_tasks(&self, tasks: BTreeMap<TaskId, TaskProbe>) {
        self.wanted.send_replace(tasks);
    }

    /// Waits for the next change; `None` where the service has failed (a bug) and will tell no more.
    ///
    /// The first of a task tells how it is when it is first watched. Where a task changes again before it is asked for,
    /// only its last health is told; nothing is told of tasks that are no longer watched. Nothing is lost where this is
    /// dropped half-way.
    pub async fn next_change(&mut self) -> Option<HealthChange> {
        loop {
            if let Some((change, told)) = self.published.borrow_and_update().next_after(self.told) {
                self.told = told;
                return Some(change);
            }
            if self.published.changed().await.is_err() {
                return None;
            }
        }
    }

    /// How all watched tasks are now.
    pub fn status(&self) -> BTreeMap<TaskId, TaskHealth> {
        let published = self.published.borrow();
        let tasks = published.tasks.iter();
        tasks.map(|(id, task)| (id.clone(), task.shown.clone())).collect()
    }

    /// Calls all probes off and waits until they have ended.
    pub async fn stop(self) {
        let Self { wanted, driver, .. } = self;
        drop(wanted);
        if let Err(error) = driver.await {
            tracing::error!(%error, "the health service failed");
        }
    }
}

impl Published {
    /// The oldest change after the one of this number, with its own.
    fn next_after(&self, told: u64) -> Option<(HealthChange, u64)> {
        let newer = self.tasks.iter().filter(|(_, task)| task.change > told);
        newer.min_by_key(|(_, task)| task.change).map(|(id, task)| {
            let change = HealthChange {
                task: id.clone(),
                health: task.shown.health.clone(),
            };
            (change, task.change)
        })
    }

    /// Shows how a task is; numbers it as a change where its health is another than before, or it is watched anew.
    fn show(&mut self, id: &TaskId, watched: &Watched) {
        let shown = TaskHealth {
            health: watched.monitor.health().clone(),
            results: watched.monitor.results().cloned().collect(),
        };
        let before = self.tasks.get(id).filter(|before| before.epoch == watched.epoch);
        let change = match before {
            Some(before) if discriminant(&before.shown.health) == discriminant(&shown.health) => {
                before.change
            }
            _ => {
                self.changes += 1;
                self.changes
            }
        };
        let epoch = watched.epoch;
        self.tasks
            .insert(id.clone(), PublishedTask { change, epoch, shown });
    }
}

/// The task behind a service.
struct Driver {
    watched: BTreeMap<TaskId, Watched>,
    probes: JoinSet<ProbeResult>,
    /// For whom the probes run.
    owners: HashMap<Id, Owner>,
    /// How many monitors there have been.
    epoch: u64,
    /// The tasks whose monitors may have changed since they were shown.
    touched: BTreeSet<TaskId>,
    publisher: watch::Sender<Published>,
}

struct Watched {
    probe: TaskProbe,
    monitor: Monitor,
    /// Tells this monitor from those that the task had before.
    epoch: u64,
    /// Dropped, it calls the probe off that runs.
    running: Option<oneshot::Sender<()>>,
}

struct Owner {
    task: TaskId,
    epoch: u64,
}

impl Driver {
    async fn drive(mut self, mut tasks: watch::Receiver<BTreeMap<TaskId, TaskProbe>>) {
        loop {
            self.act();
            self.publish();
            let due = self
                .watched
                .values()
                .map(|watched| watched.monitor.poll_timeout())
                .min();
            tokio::select! {
                changed = tasks.changed() => match changed {
                    Ok(()) => {
                        let wanted = tasks.borrow_and_update().clone();
                        self.set(wanted, Instant::now());
                    }
                    Err(_) => break,
                },
                Some(ended) = self.probes.join_next_with_id() => match ended {
                    Ok((id, result)) => self.finished(id, result),
                    Err(error) => {
                        let reason = format!("a bug: {error}");
                        tracing::error!(%reason, "a probe could not be run");
                        self.finished(error.id(), Err(FailureCause::NotRun { reason }.into()));
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => self.expire(),
            }
        }
        self.watched.clear();
        while self.probes.join_next().await.is_some() {}
    }

    /// Starts and calls off what the monitors want started and called off.
    fn act(&mut self) {
        for (task, watched) in &mut self.watched {
            while let Some(action) = watched.monitor.poll_action() {
                match action {
                    Action::StartProbe => {
                        let (keep, called_off) = oneshot::channel();
                        watched.running = Some(keep);
                        let TaskProbe { check, place, .. } = watched.probe.clone();
                        let probe = async move { run::run(check.probe(), &place, called_off).await };
                        let owner = Owner {
                            task: task.clone(),
                            epoch: watched.epoch,
                        };
                        self.owners.insert(self.probes.spawn(probe).id(), owner);
                    }
                    Action::CancelProbe => watched.running = None,
                }
            }
        }
    }

    fn set(&mut self, wanted: BTreeMap<TaskId, TaskProbe>, now: Instant) {
        let removed: Vec<TaskId> = self
            .watched
            .keys()
            .filter(|task| !wanted.contains_key(*task))
            .cloned()
            .collect();
        for task in removed {
            self.watched.remove(&task);
            self.touched.insert(task);
        }
        for (task, probe) in wanted {
            let healthy = match self.watched.get(&task) {
                Some(watched) if watched.is_as(&probe) => continue,
                Some(watched) => watched.monitor.health().is_healthy(),
                None => probe.was_healthy,
            };
            let check = probe.check.clone();
            let monitor = if healthy {
                Monitor::resume(check, now + spread(&task, probe.check.pace().interval))
            } else {
                Monitor::new(check, probe.started)
            };
            self.epoch += 1;
            self.touched.insert(task.clone());
            let watched = Watched {
                probe,
                monitor,
                epoch: self.epoch,
                running: None,
            };
            self.watched.insert(task, watched);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        for (task, watched) in &mut self.watched {
            if watched.monitor.poll_timeout() <= now {
                watched.monitor.handle_timeout(now);
                self.touched.insert(task.clone());
            }
        }
    }

    fn finished(&mut self, id: Id, result: ProbeResult) {
        let Some(Owner { task, epoch }) = self.owners.remove(&id) else {
            return;
        };
        tracing::debug!(%task, ?result, "probed a task");
        if let Some(watched) = self.watched.get_mut(&task)
            && watched.epoch == epoch
        {
            watched.running = None;
            watched.monitor.probe_finished(result, Instant::now());
            self.touched.insert(task);
        }
    }

    /// Shows what the monitors say; wakes whoever waits only where the health of a task changed.
    fn publish(&mut self) {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return;
        }
        self.publisher.send_if_modified(|published| {
            let before = published.changes;
            for task in touched {
                match self.watched.get(&task) {
                    Some(watched) => published.show(&task, watched),
                    None => drop(published.tasks.remove(&task)),
                }
            }
            published.changes != before
        });
    }
}

impl Watched {
    /// Whether it is watched in this way already.
    fn is_as(&self, wanted: &TaskProbe) -> bool {
        let TaskProbe {
            check,
            place,
            started: _,
            was_healthy: _,
        } = wanted;
        self.probe.check == *check && self.probe.place == *place
    }
}

/// How long the first probe of a task that was healthy waits, so that those of a whole node do not come at once: some
/// part of its interval, since its last one was no longer ago than that.
fn spread(task: &TaskId, interval: Duration) -> Duration {
    let part = u32::try_from(stable_id(task.as_str()) % 1024).unwrap_or_default();
    interval / 1024 * part
}
