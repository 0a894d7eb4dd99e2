//! What the clients print: one JSON object.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// How many failures a report spells out; all are counted.
const MAX_FAILURES: usize = 20;

/// One failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Failure {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// What happened, in words.
    pub error: String,
}

/// The report of `load` and of `udp-probe`: requests, or datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct LoadReport {
    /// Answered.
    pub ok: u64,
    /// Not answered, or wrongly.
    pub failed: u64,
    /// Connections that the server closed in good order between two requests.
    pub reconnects: u64,
    /// When it began, in milliseconds since the Unix epoch: who starts it in a container does not know.
    pub began_unix_ms: u64,
    /// How long it ran, in milliseconds.
    pub millis: u64,
    /// The longest time between two answers, in milliseconds.
    pub longest_gap_ms: u64,
    /// The slowest answer, in microseconds.
    pub slowest_us: u64,
    /// Answers by the name of who answered.
    pub by_name: BTreeMap<String, u64>,
    /// Answers by the address that the server saw, where the answer tells.
    pub by_seen: BTreeMap<String, u64>,
    /// The first failures.
    pub failures: Vec<Failure>,
    /// When the last request failed, in milliseconds since the start.
    pub last_failure_ms: Option<u64>,
}

/// The report of `hold`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct HoldReport {
    /// Connections that were established.
    pub established: u64,
    /// Connections that were refused or broke.
    pub broken: u64,
    /// Messages that were answered.
    pub messages: u64,
    /// When it began, in milliseconds since the Unix epoch: who starts it in a container does not know.
    pub began_unix_ms: u64,
    /// How long it ran, in milliseconds.
    pub millis: u64,
    /// The longest wait for an answer, in milliseconds.
    pub longest_wait_ms: u64,
    /// Established connections by the name of the server.
    pub by_name: BTreeMap<String, u64>,
    /// The first failures.
    pub failures: Vec<Failure>,
}

/// Keeps a report while it grows.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    last_answer: Instant,
    report: LoadReport,
}

impl Recorder {
    /// Starts the clock.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            start: now,
            last_answer: now,
            report: LoadReport::default(),
        }
    }

    /// An answer came.
    pub(crate) fn answered(&mut self, name: Option<&str>, took: Duration, now: Instant) {
        self.report.ok += 1;
        self.report.longest_gap_ms = self.report.longest_gap_ms.max(millis(now - self.last_answer));
        self.report.slowest_us = self
            .report
            .slowest_us
            .max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.last_answer = now;
        if let Some(name) = name {
            *self.report.by_name.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// The server told which address it saw.
    pub(crate) fn seen_as(&mut self, address: &str) {
        *self.report.by_seen.entry(address.to_owned()).or_default() += 1;
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, error: String, now: Instant) {
        self.report.failed += 1;
        self.report.last_failure_ms = Some(millis(now - self.start));
        push_failure(&mut self.report.failures, now - self.start, error);
    }

    /// The server closed an idle connection.
    pub(crate) fn reconnected(&mut self) {
        self.report.reconnects += 1;
    }

    /// The report.
    pub(crate) fn finish(mut self, now: Instant) -> LoadReport {
        self.report.millis = millis(now - self.start);
        self.report.began_unix_ms = began(self.report.millis);
        self.report
    }
}

/// Notes a failure, unless there are enough.
pub(crate) fn push_failure(failures: &mut Vec<Failure>, at: Duration, error: String) {
    if failures.len() < MAX_FAILURES {
        failures.push(Failure {
            at_ms: millis(at),
            error,
        });
    }
}

/// When began what has run for so long, in milliseconds since the Unix epoch.
pub(crate) fn began(ran_ms: u64) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    millis(now.unwrap_or_default()).saturating_sub(ran_ms)
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// An error with its causes, on one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorder_keeps_counts_gap_and_failures() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut recorder = Recorder::new(start);
        recorder.answered(Some("a"), Duration::from_micros(9), at(10));
        recorder.failed("refused".to_owned(), at(200));
        recorder.answered(Some("a"), Duration::from_micros(7), at(310));
        recorder.answered(Some("b"), Duration::from_micros(7), at(320));
        let report = recorder.finish(at(400));
        assert_eq!((report.ok, report.failed, report.millis), (3, 1, 400));
        assert_eq!((report.longest_gap_ms, report.slowest_us), (300, 9));
        assert_eq!(
            report.by_name,
            BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)])
        );
        assert_eq!(report.last_failure_ms, Some(200));
        assert_eq!(
            report.failures,
            [Failure {
                at_ms: 200,
                error: "refused".to_owned()
            }]
        );
    }

    #[test]
    fn failures_beyond_the_first_are_only_counted() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start);
        for _ in 0..60 {
            recorder.failed("refused".to_owned(), start);
        }
        let report = recorder.finish(start);
        assert_eq!((report.failed, report.failures.len()), (60, MAX_FAILURES));
    }
}
