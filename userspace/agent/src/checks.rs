//! The health checks of the node's tasks: from the catalog's words to what is probed where.

use crate::tasks::{Health, own};
use essaim_health::{
    CheckError, HealthChange, HealthService, Pace, Probe, ProbeError, TaskHealth, TaskPlace, TaskProbe,
    TaskProcesses,
};
use essaim_model::{HealthCheck, HealthTest, NodeName, Service, Task, TaskId};
use essaim_netlink::NetnsRef;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

/// Why a task is not checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChecksError {
    /// Its test is none; the catalog should not have been taken.
    #[error("the health check of task {task} cannot run")]
    Probe {
        /// The task.
        task: TaskId,
        /// Why.
        source: ProbeError,
    },
    /// Its times are out of range; the catalog should not have been taken.
    #[error("the health check of task {task} cannot run")]
    Pace {
        /// The task.
        task: TaskId,
        /// Why.
        source: CheckError,
    },
}

/// Watches the tasks that have a check.
#[derive(Debug)]
pub(crate) struct Checks {
    service: HealthService,
    watched: BTreeMap<TaskId, Watched>,
}

/// What must not change while a task is watched, or it is watched anew.
#[derive(Clone, Copy, Debug)]
struct Watched {
    started: Instant,
    process: Option<u32>,
}

/// A task that may be checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// It is to take traffic, as far as everybody but the check says.
    pub(crate) is_wanted: bool,
    /// It has passed before.
    pub(crate) was_healthy: bool,
}

impl Checks {
    /// Starts with nothing to watch, on the current runtime.
    pub(crate) fn start() -> Self {
        Self {
            service: HealthService::start(),
            watched: BTreeMap::new(),
        }
    }

    /// Watches the node's tasks that have a check and are wanted, from the moment that they have an interface.
    pub(crate) fn watch(
        &mut self,
        services: &[Service],
        node: &NodeName,
        attached: &BTreeSet<&TaskId>,
        candidate: impl Fn(&TaskId) -> Candidate,
    ) -> Vec<ChecksError> {
        let (mut errors, mut probes) = (Vec::new(), BTreeMap::new());
        let checked =
            own(services, node).filter_map(|(service, task)| Some((task, service.health.as_ref()?)));
        for (task, check) in checked {
            let Candidate {
                is_wanted,
                was_healthy,
            } = candidate(&task.id);
            if !is_wanted || !attached.contains(&task.id) {
                continue;
            }
            let check = match health_check(&task.id, check) {
                Ok(made) => made,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let runs_inside = matches!(check.probe(), Probe::Command(_));
            let watched = self.watched.entry(task.id.clone()).or_insert_with(|| Watched {
                started: Instant::now(),
                process: None,
            });
            if runs_inside && !watched.process.is_some_and(is_running) {
                watched.process = first_process(&task.netns);
            }
            let place = TaskPlace {
                netns: task.netns.clone(),
                process: watched.process,
                addresses: addresses(task),
            };
            let started = watched.started;
            probes.insert(
                task.id.clone(),
                TaskProbe {
                    check,
                    place,
                    started,
                    was_healthy,
                },
            );
        }
        self.watched.retain(|task, _| probes.contains_key(task));
        self.service.set_tasks(probes);
        errors
    }

    /// Waits for the next change. Safe to drop at any time.
    pub(crate) async fn next_change(&mut self) -> Option<(TaskId, Health)> {
        let HealthChange { task, health } = self.service.next_change().await?;
        Some((task, summary(&health)))
    }

    /// How the watched tasks are.
    pub(crate) fn status(&self) -> BTreeMap<TaskId, TaskHealth> {
        self.service.status()
    }
}

fn summary(health: &essaim_health::Health) -> Health {
    match health {
        essaim_health::Health::Starting => Health::Starting,
        essaim_health::Health::Healthy => Health::Healthy,
        essaim_health::Health::Unhealthy { .. } => Health::Unhealthy,
    }
}

fn health_check(task: &TaskId, check: &HealthCheck) -> Result<essaim_health::HealthCheck, ChecksError> {
    let HealthCheck {
        test,
        interval,
        timeout,
        retries,
        start_period,
        start_interval,
    } = check;
    let probe = match test {
        HealthTest::Command(words) => Probe::command(words),
        HealthTest::Shell(line) => Probe::shell(line),
        HealthTest::Tcp(port) => Probe::tcp(*port),
        HealthTest::Http { port, path } => Probe::http(*port, path, None),
    };
    let probe = probe.map_err(|source| ChecksError::Probe {
        task: task.clone(),
        source,
    })?;
    let pace = Pace {
        interval: *interval,
        timeout: *timeout,
        retries: *retries,
        start_period: *start_period,
        start_interval: *start_interval,
    };
    essaim_health::HealthCheck::new(probe, pace).map_err(|source| ChecksError::Pace {
        task: task.clone(),
        source,
    })
}

fn addresses(task: &Task) -> Vec<std::net::IpAddr> {
    let endpoints = task.endpoints.iter();
    endpoints
        .flat_map(|endpoint| endpoint.addresses.iter().copied())
        .collect()
}

fn is_running(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

/// A process of the task, whose namespaces commands enter; none where it has none yet.
fn first_process(netns: &str) -> Option<u32> {
    let processes = TaskProcesses::new(NetnsRef::open(netns).ok()?).ok()?;
    processes.pids().ok()?.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_test_of_the_catalog_becomes_a_probe_at_its_pace() {
        let task = TaskId::new("web.1").unwrap();
        for words in [
            &["CMD", "true"][..],
            &["CMD-SHELL", "exit 0"],
            &["TCP", "80"],
            &["HTTP", "80", "/"],
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let written = HealthCheck {
                interval: Duration::from_millis(250),
                retries: 7,
                ..HealthCheck::new(HealthTest::from_words(&words).unwrap())
            };
            let made = health_check(&task, &written).unwrap();
            assert_eq!(
                (made.pace().interval, made.pace().retries),
                (written.interval, 7),
                "{words:?}"
            );
            assert_eq!(made.pace().timeout, Duration::from_secs(30));
        }
    }

    #[test]
    fn a_check_without_a_start_period_has_none() {
        let written = HealthCheck::new(HealthTest::Tcp(80));
        let made = health_check(&TaskId::new("web.1").unwrap(), &written).unwrap();
        assert_eq!(*made.pace(), Pace::default());
    }
}
