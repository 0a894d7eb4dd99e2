//! Random orders of events, on the monitor and on a model that counts its results from the first one each time.

use super::*;
use crate::{Output, Pace, Probe};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Operation {
    /// As many milliseconds pass, and what is due is done.
    Pass(u64),
    /// The probe that runs, if any, ends; well or not.
    Finish(bool),
}

/// What should be, from all results since the start.
struct Model {
    pace: Pace,
    start: Instant,
    /// When the probe that runs began, when it was called off, and whether it was counted already.
    running: Option<(Instant, Option<Instant>, bool)>,
    /// When each began, and whether it passed.
    results: Vec<(Instant, bool)>,
}

impl Model {
    /// 0 starting, 1 healthy, 2 unhealthy; with the failures in a row.
    fn health(&self) -> (u8, u32) {
        let (mut health, mut failures) = (0, 0);
        for (started, passed) in &self.results {
            if *passed {
                (health, failures) = (1, 0);
            } else if health != 0 || *started >= self.start + self.pace.start_period {
                failures += 1;
                health = if failures >= self.pace.retries { 2 } else { health };
            }
        }
        (health, failures)
    }

    fn take(&mut self, action: Action, now: Instant) {
        match (action, &mut self.running) {
            (Action::StartProbe, running @ None) => *running = Some((now, None, false)),
            (Action::CancelProbe, Some((started, called_off @ None, _))) => {
                assert!(now >= *started + self.pace.timeout, "called off before its time");
                *called_off = Some(now);
            }
            (action, running) => panic!("{action:?} while {running:?}"),
        }
    }

    /// The time passed; a probe that does not end is a failure, and one more each interval.
    fn pass(&mut self, recorded: bool, now: Instant) {
        if !recorded {
            return;
        }
        let Some((started, Some(called_off), counted)) = &mut self.running else {
            panic!("a result without a probe that was called off");
        };
        assert!(
            now >= *called_off + ENDING_PATIENCE,
            "counted before it could end"
        );
        self.results.push((if *counted { now } else { *started }, false));
        *counted = true;
    }

    fn finish(&mut self, passed: bool) {
        match self.running.take() {
            Some((started, None, _)) => self.results.push((started, passed)),
            Some((started, Some(_), false)) => self.results.push((started, false)),
            Some((_, Some(_), true)) | None => {}
        }
    }
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        3 => (0_u64..2500).prop_map(Operation::Pass),
        2 => any::<bool>().prop_map(Operation::Finish),
    ];
    proptest::collection::vec(operation, 0..80)
}

proptest! {
    #[test]
    fn the_monitor_does_as_the_model_in_every_order_of_events(
        operations in operations(),
        retries in 1_u32..4,
        start_period in prop_oneof![Just(0_u64), 1_u64..6000],
    ) {
        let pace = Pace {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            retries,
            start_period: Duration::from_millis(start_period),
            start_interval: Duration::from_millis(300),
        };
        let start = Instant::now();
        let check = HealthCheck::new(Probe::tcp(80).unwrap(), pace).unwrap();
        let mut monitor = Monitor::new(check, start);
        let mut model = Model { pace, start, running: None, results: Vec::new() };
        let mut now = start;
        for operation in operations {
            match operation {
                Operation::Pass(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    let due = monitor.poll_timeout() <= now;
                    let before = monitor.results.back().cloned();
                    monitor.handle_timeout(now);
                    model.pass(monitor.results.back() != before.as_ref(), now);
                    // What was due is done: nothing spins.
                    prop_assert!(!due || monitor.poll_timeout() > now);
                }
                Operation::Finish(passed) if model.running.is_some() => {
                    let result = if passed {
                        Ok(Output::default())
                    } else {
                        Err(FailureCause::Exit { status: 1 }.into())
                    };
                    monitor.probe_finished(result, now);
                    model.finish(passed);
                }
                Operation::Finish(_) => {}
            }
            while let Some(action) = monitor.poll_action() {
                model.take(action, now);
            }
            let kept = model.results.len().saturating_sub(RESULTS_KEPT);
            let shown: Vec<(Instant, bool)> =
                monitor.results().map(|record| (record.started, record.result.is_ok())).collect();
            prop_assert_eq!(&shown, &model.results[kept..]);
            let health = match monitor.health() {
                Health::Starting => 0,
                Health::Healthy => 1,
                Health::Unhealthy { failures, .. } => {
                    prop_assert_eq!(*failures, monitor.failures);
                    2
                }
            };
            prop_assert_eq!((health, monitor.failures), model.health());
        }
    }
}
