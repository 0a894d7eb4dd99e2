//! When to reconcile: a pure core that is told what happened and says when the next round is due.

use std::time::{Duration, Instant};

/// Something that may have changed what should be, or what is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// The agent has just started.
    Start,
    /// The catalog's file was written or replaced.
    Catalog,
    /// The operator asked for it (SIGHUP).
    Hangup,
    /// A network namespace appeared or went.
    Netns,
    /// Something is to be said of this node's own tasks: one has ended, or its check or whoever runs it has spoken.
    Tasks,
    /// A node reported something of its tasks, or was found to be down or up.
    Liveness,
    /// A link, address, route or neighbour changed.
    Links,
    /// A published port that could not be held may be free, or the holder went away.
    Ports,
    /// The slow period is over.
    Slow,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it should be.
    Converged,
    /// Something was refused, or failed; it is to be tried again.
    Incomplete {
        /// Whether the round changed links, and so woke itself.
        moved: bool,
    },
}

/// The intervals of a [`Schedule`].
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From the first trigger to the round, so that a burst makes one round.
    pub debounce: Duration,
    /// From one round to the next where nothing happens.
    pub slow: Duration,
    /// From the first failure to the next try; doubles with each failure.
    pub retry_first: Duration,
    /// Where the doubling ends.
    pub retry_most: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(1),
            slow: Duration::from_secs(10),
            retry_first: Duration::from_millis(100),
            retry_most: Duration::from_secs(10),
        }
    }
}

/// Says when to reconcile.
///
/// A burst of triggers makes one round. After a round that failed half-way, triggers that it may have caused itself
/// wait for the retry, so that what is made and taken back does not spin; what comes from outside does not wait, and
/// starts the retries anew: what was waited for may be there.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    /// When the next round is due.
    due: Instant,
    /// Rounds that failed since one converged.
    failures: u32,
    /// The last round failed and changed links.
    moved: bool,
}

impl Schedule {
    /// A schedule whose first round is due at once.
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            due: now,
            failures: 0,
            moved: false,
        }
    }

    /// Takes note of something that happened.
    pub fn notice(&mut self, trigger: Trigger, now: Instant) {
        match trigger {
            Trigger::Start
            | Trigger::Catalog
            | Trigger::Hangup
            | Trigger::Netns
            | Trigger::Tasks
            | Trigger::Liveness => {
                self.failures = 0;
            }
            Trigger::Links | Trigger::Ports if self.moved => return,
            Trigger::Links | Trigger::Ports | Trigger::Slow => {}
        }
        self.due = self.due.min(now + self.pace.debounce);
    }

    /// When the next round is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Takes note of a round that ended at `now`, and sets the next one.
    ///
    /// What happened during the round is noticed after it: the next round is then due after the debounce.
    pub fn finished(&mut self, outcome: Outcome, now: Instant) {
        let wait = match outcome {
            Outcome::Converged => {
                (self.failures, self.moved) = (0, false);
                self.pace.slow
            }
            Outcome::Incomplete { moved } => {
                self.moved = moved;
                let doubled = 2_u32.saturating_pow(self.failures.min(31));
                self.failures = self.failures.saturating_add(1);
                self.pace
                    .retry_first
                    .saturating_mul(doubled)
                    .min(self.pace.retry_most)
            }
        };
        self.due = now + wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        debounce: Duration::from_millis(1),
        slow: Duration::from_secs(10),
        retry_first: Duration::from_millis(100),
        retry_most: Duration::from_secs(2),
    };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_round_is_due_at_once() {
        let start = Instant::now();
        assert_eq!(Schedule::new(PACE, start).due(), start);
    }

    #[test]
    fn a_burst_makes_one_round_and_does_not_put_it_off() {
        let start = Instant::now();
        let mut schedule = Schedule::new(PACE, start);
        schedule.finished(Outcome::Converged, start);
        assert_eq!(schedule.due(), start + PACE.slow);
        let first = start + ms(500);
        for late in 0..10 {
            schedule.notice(Trigger::Catalog, first + Duration::from_micros(100 * late));
        }
        assert_eq!(schedule.due(), first + PACE.debounce);
        schedule.finished(Outcome::Converged, first + ms(3));
        assert_eq!(schedule.due(), first + ms(3) + PACE.slow);
    }

    const FAILED: Outcome = Outcome::Incomplete { moved: true };

    #[test]
    fn failures_back_off_and_success_forgets_them() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(PACE, now);
        for expected in [100, 200, 400, 800, 1600, 2000, 2000] {
            schedule.finished(FAILED, now);
            assert_eq!(schedule.due(), now + ms(expected));
            now = schedule.due();
        }
        schedule.finished(Outcome::Converged, now);
        schedule.finished(FAILED, now);
        assert_eq!(schedule.due(), now + ms(100));
    }

    #[test]
    fn a_round_that_failed_half_way_does_not_wake_itself() {
        let now = Instant::now();
        for own in [Trigger::Links, Trigger::Ports] {
            let mut schedule = Schedule::new(PACE, now);
            schedule.finished(FAILED, now);
            schedule.notice(own, now + ms(1));
            assert_eq!(schedule.due(), now + ms(100), "{own:?}");
            schedule.finished(Outcome::Incomplete { moved: false }, now);
            schedule.notice(own, now + ms(1));
            assert_eq!(schedule.due(), now + ms(2), "{own:?} came from outside");
        }
    }

    #[test]
    fn what_comes_from_outside_does_not_wait_and_starts_the_retries_anew() {
        let now = Instant::now();
        for outside in [
            Trigger::Netns,
            Trigger::Catalog,
            Trigger::Hangup,
            Trigger::Tasks,
            Trigger::Liveness,
        ] {
            let mut schedule = Schedule::new(PACE, now);
            for _ in 0..8 {
                schedule.finished(FAILED, now);
            }
            schedule.notice(outside, now + ms(1));
            assert_eq!(schedule.due(), now + ms(2), "{outside:?}");
            schedule.finished(FAILED, now);
            assert_eq!(schedule.due(), now + ms(100), "{outside:?}");
        }
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let now = Instant::now();
        let mut schedule = Schedule::new(PACE, now);
        for _ in 0..100 {
            schedule.finished(FAILED, now);
        }
        assert_eq!(schedule.due(), now + PACE.retry_most);
    }
}
