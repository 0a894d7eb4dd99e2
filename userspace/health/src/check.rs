use crate::Probe;
use std::time::Duration;

/// The least that an interval, a timeout or a start period may be, where it is not zero; as in Docker.
const LEAST: Duration = Duration::from_millis(1);
/// The most: beyond it the check would never run, and clocks could overflow.
const MOST: Duration = Duration::from_hours(365 * 24);

/// How often a task is probed, and how much it takes to change its health.
///
/// The defaults are Docker's, and as in Docker zero stands for the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the task's start to its first probe, and from the end of a probe to the next; 30 s.
    ///
    /// Too low, the probes themselves load the task; too high, a task that hangs keeps its traffic for
    /// `retries` times as long.
    pub interval: Duration,
    /// Longest that one probe may take; 30 s.
    ///
    /// Too low, a busy task counts as a dead one; too high, one that hangs keeps its traffic that much longer.
    pub timeout: Duration,
    /// Failures in a row that make a task unhealthy; 3.
    ///
    /// At 1 a single lost probe takes the task's traffic; each one more costs another interval before it is taken.
    pub retries: u32,
    /// From the task's start; while it lasts and no probe has passed yet, failures do not count; zero.
    ///
    /// Too low, a task that starts slowly is replaced for ever; too high, one that cannot start is noticed late.
    pub start_period: Duration,
    /// In place of `interval` while the start period lasts and no probe has passed yet; 5 s.
    ///
    /// Too low, the probes slow the start down; too high, a task that is ready waits for its traffic.
    pub start_interval: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(5),
        }
    }
}

/// A pace that no check can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found:?}, expected 0 for the default, or {LEAST:?} to {} days", MOST.as_secs() / 86_400)]
pub struct CheckError {
    /// The field of [`Pace`].
    pub field: &'static str,
    /// What it is.
    pub found: Duration,
}

/// How to tell whether a task is healthy, with the meaning that Docker gives to the same words
/// (`moby/daemon/health.go`).
///
/// The first probe runs one interval after the task's start. A task is *starting* until a probe passes, which makes it
/// *healthy* at once; `retries` failures in a row make it *unhealthy*, and one that passes makes it healthy again.
/// Failures of probes that began within the start period do not count until one has passed. A task without a check
/// (Docker's `NONE`) has no `HealthCheck` at all, and takes traffic as soon as it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    probe: Probe,
    pace: Pace,
}

impl HealthCheck {
    /// Checks the pace, and puts the default in place of each zero.
    ///
    /// # Errors
    /// [`CheckError`] names the first duration that is out of range.
    pub fn new(probe: Probe, pace: Pace) -> Result<Self, CheckError> {
        let Pace {
            interval,
            timeout,
            retries,
            start_period,
            start_interval,
        } = pace;
        let default = Pace::default();
        let pace = Pace {
            interval: checked("interval", interval, default.interval)?,
            timeout: checked("timeout", timeout, default.timeout)?,
            retries: if retries == 0 { default.retries } else { retries },
            start_period: checked("start period", start_period, default.start_period)?,
            start_interval: checked("start interval", start_interval, default.start_interval)?,
        };
        Ok(Self { probe, pace })
    }

    /// What is asked of the task.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// How often; no default is left open.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }
}

fn checked(field: &'static str, found: Duration, default: Duration) -> Result<Duration, CheckError> {
    if found.is_zero() {
        Ok(default)
    } else if (LEAST..=MOST).contains(&found) {
        Ok(found)
    } else {
        Err(CheckError { field, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: Pace = Pace {
        interval: Duration::ZERO,
        timeout: Duration::ZERO,
        retries: 0,
        start_period: Duration::ZERO,
        start_interval: Duration::ZERO,
    };

    fn probe() -> Probe {
        Probe::tcp(80).unwrap()
    }

    #[test]
    fn zero_stands_for_dockers_default() {
        let check = HealthCheck::new(probe(), ZERO).unwrap();
        assert_eq!(*check.pace(), Pace::default());
        assert_eq!(
            Pace::default(),
            Pace {
                interval: Duration::from_secs(30),
                timeout: Duration::from_secs(30),
                retries: 3,
                start_period: Duration::ZERO,
                start_interval: Duration::from_secs(5),
            }
        );
    }

    #[test]
    fn a_millisecond_is_the_least_and_a_year_the_most() {
        type Set = fn(&mut Pace, Duration);
        let fields: [(&str, Set); 4] = [
            ("interval", |pace, value| pace.interval = value),
            ("timeout", |pace, value| pace.timeout = value),
            ("start period", |pace, value| pace.start_period = value),
            ("start interval", |pace, value| pace.start_interval = value),
        ];
        for (field, set) in fields {
            for good in [LEAST, MOST] {
                let mut pace = ZERO;
                set(&mut pace, good);
                assert!(HealthCheck::new(probe(), pace).is_ok(), "{field} {good:?}");
            }
            for found in [Duration::from_micros(999), Duration::MAX] {
                let mut pace = ZERO;
                set(&mut pace, found);
                assert_eq!(
                    HealthCheck::new(probe(), pace),
                    Err(CheckError { field, found }),
                    "{found:?}"
                );
            }
        }
    }

    #[test]
    fn an_error_names_the_field_and_what_is_accepted() {
        let error = CheckError {
            field: "interval",
            found: Duration::from_micros(10),
        };
        assert_eq!(
            error.to_string(),
            "interval is 10µs, expected 0 for the default, or 1ms to 365 days"
        );
    }
}
