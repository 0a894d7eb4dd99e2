use crate::{FailureCause, HealthCheck, ProbeFailure, ProbeResult};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

#[cfg(test)]
mod against_a_model;
#[cfg(test)]
mod tests;

/// Results that are kept for whoever asks; as many as Docker keeps.
pub const RESULTS_KEPT: usize = 5;

/// How long a probe that was called off may take to end before it is counted without what it said.
const ENDING_PATIENCE: Duration = Duration::from_secs(1);

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// No probe has passed yet: the task takes no traffic.
    Starting,
    /// The task takes traffic.
    Healthy,
    /// Too many probes in a row have failed: the task takes no traffic, and is to be replaced.
    Unhealthy {
        /// How many have failed in a row by now.
        failures: u32,
        /// The last of them.
        last: ProbeFailure,
    },
}

impl Health {
    /// Whether the task may take traffic.
    pub const fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }
}

/// A probe that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRecord {
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub result: ProbeResult,
}

/// What a [`Monitor`] wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a probe, and say when it has ended: [`Monitor::probe_finished`].
    StartProbe,
    /// End the probe that runs: it has taken too long. That it has ended is still to be said.
    CancelProbe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No probe runs.
    Waiting { due: Instant },
    /// A probe runs.
    Probing { started: Instant, deadline: Instant },
    /// A probe was called off at its deadline; what it said so far is waited for.
    Ending { started: Instant, until: Instant },
    /// A probe was called off, counted, and has still not ended: it would not be alone, so none is started.
    Stuck { due: Instant },
}

/// Watches one task: says when to probe it, and what the results mean.
///
/// At most one probe runs at a time. One that cannot be ended (its process hangs in the kernel) keeps others from being
/// started, and every interval in which it has not ended counts as a failure, so that a task behind a dead file system
/// still turns unhealthy.
///
/// ```
/// use essaim_health::{Action, Health, HealthCheck, Monitor, Output, Pace, Probe};
/// use std::time::Instant;
///
/// let started = Instant::now();
/// let mut monitor = Monitor::new(HealthCheck::new(Probe::tcp(80)?, Pace::default())?, started);
/// let due = monitor.poll_timeout();
/// monitor.handle_timeout(due);
/// assert_eq!(monitor.poll_action(), Some(Action::StartProbe));
/// monitor.probe_finished(Ok(Output::default()), due);
/// assert_eq!(*monitor.health(), Health::Healthy);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Monitor {
    check: HealthCheck,
    started: Instant,
    health: Health,
    /// Failures in a row that count.
    failures: u32,
    phase: Phase,
    actions: VecDeque<Action>,
    results: VecDeque<ProbeRecord>,
}

impl Monitor {
    /// Watches a task that was started at this time.
    pub fn new(check: HealthCheck, started: Instant) -> Self {
        let mut monitor = Self::waiting(check, started, Health::Starting, started);
        monitor.phase = Phase::Waiting {
            due: started + monitor.interval(started),
        };
        monitor
    }

    /// Watches a task that was healthy when it was last looked at; the first probe is due at `due`.
    pub fn resume(check: HealthCheck, due: Instant) -> Self {
        Self::waiting(check, due, Health::Healthy, due)
    }

    fn waiting(check: HealthCheck, started: Instant, health: Health, due: Instant) -> Self {
        Self {
            check,
            started,
            health,
            failures: 0,
            phase: Phase::Waiting { due },
            actions: VecDeque::new(),
            results: VecDeque::with_capacity(RESULTS_KEPT),
        }
    }

    /// How the task is.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The last [`RESULTS_KEPT`] results, the oldest first.
    pub fn results(&self) -> impl ExactSizeIterator<Item = &ProbeRecord> {
        self.results.iter()
    }

    /// When [`Monitor::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Instant {
        match self.phase {
            Phase::Waiting { due } | Phase::Stuck { due } => due,
            Phase::Probing { deadline, .. } => deadline,
            Phase::Ending { until, .. } => until,
        }
    }

    /// Does what is due by now; nothing where it is called early.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.poll_timeout() {
            return;
        }
        match self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Probing {
                    started: now,
                    deadline: now + self.check.pace().timeout,
                };
                self.actions.push_back(Action::StartProbe);
            }
            Phase::Probing { started, .. } => {
                self.phase = Phase::Ending {
                    started,
                    until: now + ENDING_PATIENCE,
                };
                self.actions.push_back(Action::CancelProbe);
            }
            Phase::Ending { started, .. } => {
                self.record(started, Err(self.timed_out().into()), now);
                self.phase = Phase::Stuck {
                    due: now + self.interval(now),
                };
            }
            Phase::Stuck { .. } => {
                self.record(now, Err(FailureCause::StillEnding.into()), now);
                self.phase = Phase::Stuck {
                    due: now + self.interval(now),
                };
            }
        }
    }

    /// Takes the result of the probe that ran.
    ///
    /// One that was called off has failed for taking too long, whatever its result; what it said is kept.
    pub fn probe_finished(&mut self, result: ProbeResult, now: Instant) {
        let (started, result) = match self.phase {
            Phase::Probing { started, .. } => (started, result),
            Phase::Ending { started, .. } => {
                let output = match result {
                    Ok(output) | Err(ProbeFailure { output, .. }) => output,
                };
                let cause = self.timed_out();
                (started, Err(ProbeFailure { cause, output }))
            }
            // It was counted when it was given up.
            Phase::Stuck { due } => {
                self.actions.clear();
                self.phase = Phase::Waiting { due };
                return;
            }
            // No probe runs.
            Phase::Waiting { .. } => return,
        };
        // It may have ended before it was called off.
        self.actions.clear();
        self.record(started, result, now);
        self.phase = Phase::Waiting {
            due: now + self.interval(now),
        };
    }

    /// The next thing to do, until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The health that a result makes, with its place among the last ones.
    fn record(&mut self, started: Instant, result: ProbeResult, now: Instant) {
        match &result {
            Ok(_) => {
                self.failures = 0;
                self.health = Health::Healthy;
            }
            Err(_) if self.health == Health::Starting && self.is_start_period(started) => {}
            Err(last) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures >= self.check.pace().retries {
                    self.health = Health::Unhealthy {
                        failures: self.failures,
                        last: last.clone(),
                    };
                }
            }
        }
        if self.results.len() == RESULTS_KEPT {
            self.results.pop_front();
        }
        self.results.push_back(ProbeRecord {
            started,
            took: now.saturating_duration_since(started),
            result,
        });
    }

    /// From now to the next probe.
    fn interval(&self, now: Instant) -> Duration {
        let pace = self.check.pace();
        if self.health == Health::Starting && self.is_start_period(now) {
            pace.start_interval
        } else {
            pace.interval
        }
    }

    fn is_start_period(&self, at: Instant) -> bool {
        at.saturating_duration_since(self.started) < self.check.pace().start_period
    }

    fn timed_out(&self) -> FailureCause {
        FailureCause::TimedOut {
            after: self.check.pace().timeout,
        }
    }
}
