use super::*;
use crate::{Output, Pace, Probe};

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(3);
const START_INTERVAL: Duration = Duration::from_secs(1);

fn check(pace: Pace) -> HealthCheck {
    HealthCheck::new(Probe::tcp(80).unwrap(), pace).unwrap()
}

fn pace() -> Pace {
    Pace {
        interval: INTERVAL,
        timeout: TIMEOUT,
        retries: 2,
        start_period: Duration::ZERO,
        start_interval: START_INTERVAL,
    }
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a result, as that of a probe that failed"
)]
fn passed() -> ProbeResult {
    Ok("fine".into())
}

fn failed() -> ProbeResult {
    Err(ProbeFailure {
        cause: FailureCause::Exit { status: 1 },
        output: "bad".into(),
    })
}

fn timed_out(output: &str) -> ProbeResult {
    Err(ProbeFailure {
        cause: FailureCause::TimedOut { after: TIMEOUT },
        output: output.into(),
    })
}

fn actions(monitor: &mut Monitor) -> Vec<Action> {
    std::iter::from_fn(|| monitor.poll_action()).collect()
}

/// Runs the next probe and gives it this result at once.
fn probe(monitor: &mut Monitor, result: ProbeResult) -> Instant {
    let due = monitor.poll_timeout();
    monitor.handle_timeout(due);
    assert_eq!(actions(monitor), [Action::StartProbe]);
    monitor.probe_finished(result, due);
    due
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Early,
    Due,
    Passed,
    Failed,
}

/// Phase, event; the phase after it, what is to be done, what is recorded.
type Row = (Phase, Event, Phase, &'static [Action], Option<ProbeResult>);

#[test]
fn every_phase_answers_every_event() {
    use Action::{CancelProbe, StartProbe};
    use Event::{Due, Early, Failed, Passed};
    let begin = Instant::now();
    let now = begin + Duration::from_nanos(1);
    let waiting = Phase::Waiting { due: now };
    let probing = Phase::Probing {
        started: begin,
        deadline: now,
    };
    let ending = Phase::Ending {
        started: begin,
        until: now,
    };
    let stuck = Phase::Stuck { due: now };
    let next = now + INTERVAL;
    let from_waiting = Phase::Probing {
        started: now,
        deadline: now + TIMEOUT,
    };
    let from_probing = Phase::Ending {
        started: begin,
        until: now + ENDING_PATIENCE,
    };
    let rest = Phase::Waiting { due: next };
    let still_ending: ProbeResult = Err(FailureCause::StillEnding.into());
    let table: [Row; 16] = [
        (waiting, Early, waiting, &[], None),
        (waiting, Due, from_waiting, &[StartProbe], None),
        (waiting, Passed, waiting, &[], None),
        (waiting, Failed, waiting, &[], None),
        (probing, Early, probing, &[], None),
        (probing, Due, from_probing, &[CancelProbe], None),
        (probing, Passed, rest, &[], Some(passed())),
        (probing, Failed, rest, &[], Some(failed())),
        (ending, Early, ending, &[], None),
        (ending, Due, Phase::Stuck { due: next }, &[], Some(timed_out(""))),
        (ending, Passed, rest, &[], Some(timed_out("fine"))),
        (ending, Failed, rest, &[], Some(timed_out("bad"))),
        (stuck, Early, stuck, &[], None),
        (stuck, Due, Phase::Stuck { due: next }, &[], Some(still_ending)),
        (stuck, Passed, waiting, &[], None),
        (stuck, Failed, waiting, &[], None),
    ];
    for (phase, event, after, expected, recorded) in table {
        let mut monitor = Monitor::resume(check(pace()), now);
        monitor.phase = phase;
        match event {
            Early => monitor.handle_timeout(begin),
            Due => monitor.handle_timeout(now),
            Passed => monitor.probe_finished(passed(), now),
            Failed => monitor.probe_finished(failed(), now),
        }
        assert_eq!(monitor.phase, after, "{phase:?} {event:?}");
        assert_eq!(actions(&mut monitor), expected, "{phase:?} {event:?}");
        let results: Vec<&ProbeResult> = monitor.results().map(|record| &record.result).collect();
        assert_eq!(results, Vec::from_iter(&recorded), "{phase:?} {event:?}");
    }
}

#[test]
fn every_health_takes_every_result() {
    use Health::{Healthy, Starting};
    let unhealthy = |failures| Health::Unhealthy {
        failures,
        last: failed().unwrap_err(),
    };
    // Health, failures so far, in the start period, result; health and failures after it. Two failures make unhealthy.
    let table = [
        (Starting, 0, true, passed(), Healthy, 0),
        (Starting, 0, true, failed(), Starting, 0),
        (Starting, 0, false, passed(), Healthy, 0),
        (Starting, 0, false, failed(), Starting, 1),
        (Starting, 1, false, passed(), Healthy, 0),
        (Starting, 1, false, failed(), unhealthy(2), 2),
        (Healthy, 0, true, passed(), Healthy, 0),
        (Healthy, 0, true, failed(), Healthy, 1),
        (Healthy, 0, false, failed(), Healthy, 1),
        (Healthy, 1, true, failed(), unhealthy(2), 2),
        (Healthy, 1, false, passed(), Healthy, 0),
        (Healthy, 1, false, failed(), unhealthy(2), 2),
        (unhealthy(2), 2, false, passed(), Healthy, 0),
        (unhealthy(2), 2, false, failed(), unhealthy(3), 3),
        (unhealthy(2), 2, true, failed(), unhealthy(3), 3),
    ];
    let start = Instant::now();
    for (before, failures, in_period, result, after, failures_after) in table {
        let start_period = seconds(60);
        let mut monitor = Monitor::new(
            check(Pace {
                start_period,
                ..pace()
            }),
            start,
        );
        monitor.health = before.clone();
        monitor.failures = failures;
        let begun = if in_period {
            start + seconds(59)
        } else {
            start + seconds(60)
        };
        monitor.record(begun, result.clone(), begun + seconds(1));
        let row = (&before, failures, in_period, &result);
        assert_eq!(
            (&monitor.health, monitor.failures),
            (&after, failures_after),
            "{row:?}"
        );
    }
}

#[test]
fn the_first_probe_comes_an_interval_after_the_start() {
    let start = Instant::now();
    let mut monitor = Monitor::new(check(pace()), start);
    assert_eq!(*monitor.health(), Health::Starting);
    assert_eq!(probe(&mut monitor, passed()), start + INTERVAL);
    assert_eq!(*monitor.health(), Health::Healthy);
    assert_eq!(monitor.poll_timeout(), start + INTERVAL * 2);
}

#[test]
fn probes_come_faster_within_the_start_period_until_one_passes() {
    let start = Instant::now();
    let slow = Pace {
        start_period: seconds(3),
        ..pace()
    };
    let mut monitor = Monitor::new(check(slow), start);
    assert_eq!(probe(&mut monitor, failed()), start + seconds(1));
    assert_eq!(probe(&mut monitor, failed()), start + seconds(2));
    // It begins as the period ends, and counts.
    assert_eq!(probe(&mut monitor, failed()), start + seconds(3));
    assert_eq!(*monitor.health(), Health::Starting);
    assert_eq!(probe(&mut monitor, failed()), start + seconds(13));
    assert!(matches!(monitor.health(), Health::Unhealthy { failures: 2, .. }));

    let mut monitor = Monitor::new(check(slow), start);
    assert_eq!(probe(&mut monitor, passed()), start + seconds(1));
    assert_eq!(
        monitor.poll_timeout(),
        start + seconds(11),
        "the period has no meaning any more"
    );
    probe(&mut monitor, failed());
    probe(&mut monitor, failed());
    assert!(matches!(monitor.health(), Health::Unhealthy { .. }));
}

#[test]
fn the_interval_begins_when_a_probe_ends() {
    let start = Instant::now();
    let mut monitor = Monitor::new(check(pace()), start);
    let due = monitor.poll_timeout();
    monitor.handle_timeout(due);
    assert_eq!(monitor.poll_timeout(), due + TIMEOUT);
    monitor.probe_finished(passed(), due + seconds(2));
    assert_eq!(monitor.poll_timeout(), due + seconds(2) + INTERVAL);
    let record = monitor.results().next().unwrap();
    assert_eq!((record.started, record.took), (due, seconds(2)));
}

#[test]
fn a_task_that_was_healthy_stays_so_until_its_probes_fail() {
    let now = Instant::now();
    let mut monitor = Monitor::resume(check(pace()), now + seconds(4));
    assert_eq!(*monitor.health(), Health::Healthy);
    assert_eq!(probe(&mut monitor, failed()), now + seconds(4));
    assert_eq!(*monitor.health(), Health::Healthy);
    probe(&mut monitor, failed());
    assert!(matches!(monitor.health(), Health::Unhealthy { failures: 2, .. }));
}

#[test]
fn a_probe_that_cannot_be_ended_makes_a_task_unhealthy_and_is_never_doubled() {
    let start = Instant::now();
    let mut monitor = Monitor::new(check(pace()), start);
    let mut seen = Vec::new();
    while !matches!(monitor.health(), Health::Unhealthy { .. }) {
        monitor.handle_timeout(monitor.poll_timeout());
        seen.extend(actions(&mut monitor));
    }
    assert_eq!(seen, [Action::StartProbe, Action::CancelProbe]);
    let last = FailureCause::StillEnding.into();
    assert_eq!(*monitor.health(), Health::Unhealthy { failures: 2, last });
    monitor.probe_finished(failed(), start);
    probe(&mut monitor, passed());
    assert_eq!(*monitor.health(), Health::Healthy);
}

#[test]
fn the_last_five_results_are_kept() {
    let mut monitor = Monitor::new(check(pace()), Instant::now());
    for number in 0..7 {
        probe(&mut monitor, Ok(Output::from(number.to_string().as_str())));
    }
    let kept: Vec<String> = monitor
        .results()
        .map(|record| record.result.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(kept, ["2", "3", "4", "5", "6"]);
}

#[test]
fn a_shell_that_is_late_starts_a_probe_before_it_ends_it() {
    let mut monitor = Monitor::new(check(pace()), Instant::now());
    monitor.handle_timeout(monitor.poll_timeout());
    monitor.handle_timeout(monitor.poll_timeout());
    assert_eq!(actions(&mut monitor), [Action::StartProbe, Action::CancelProbe]);
}

#[test]
fn a_probe_that_ends_before_it_is_called_off_leaves_nothing_to_call_off() {
    let mut monitor = Monitor::new(check(pace()), Instant::now());
    monitor.handle_timeout(monitor.poll_timeout());
    assert_eq!(actions(&mut monitor), [Action::StartProbe]);
    let deadline = monitor.poll_timeout();
    monitor.handle_timeout(deadline);
    monitor.probe_finished(passed(), deadline);
    assert!(actions(&mut monitor).is_empty());
    probe(&mut monitor, passed());
}
