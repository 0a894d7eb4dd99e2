//! Random orders of events; what is done is checked against all that happened before.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Pass(u64),
    Pending(usize),
    Ended,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        8 => (0_u64..3000).prop_map(Operation::Pass),
        4 => (0_usize..4).prop_map(Operation::Pending),
        1 => Just(Operation::Ended),
    ];
    proptest::collection::vec(operation, 0..40)
}

/// What happened, and when.
#[derive(Default)]
struct History {
    drained: Option<Instant>,
    ended: bool,
    done: Vec<(StopAction, Instant)>,
}

impl History {
    fn at(&self, wanted: impl Fn(&StopAction) -> bool) -> Option<Instant> {
        self.done
            .iter()
            .find(|(action, _)| wanted(action))
            .map(|(_, at)| *at)
    }

    /// Whether this may be done now, after all that happened.
    fn allows(&self, action: StopAction, settings: &StopSettings, start: Instant, now: Instant) -> bool {
        let asked = self.at(|action| matches!(action, StopAction::Signal(_)));
        let gone = self.at(|action| *action == StopAction::TellGone);
        gone.is_none()
            && match action {
                StopAction::TellDraining => self.done.is_empty(),
                StopAction::Signal(signal) => {
                    let waited = self.drained.is_some() || now >= start + settings.drain_deadline;
                    signal == settings.signal && asked.is_none() && waited && !self.ended
                }
                StopAction::Kill => asked.is_some_and(|asked| now >= asked + settings.grace) && !self.ended,
                StopAction::TellGone => self.ended,
            }
    }
}

proptest! {
    #[test]
    fn nothing_is_done_before_its_time_in_every_order_of_events(
        operations in operations(),
        drain_deadline in 0_u64..6000,
        grace in 0_u64..6000,
    ) {
        let settings = StopSettings {
            drain_deadline: Duration::from_millis(drain_deadline),
            signal: "QUIT".parse().unwrap(),
            grace: Duration::from_millis(grace),
        };
        let start = Instant::now();
        let mut now = start;
        let mut stop = Stop::new(settings, start);
        let mut history = History::default();
        let mut phase = stop.phase();
        for operation in operations {
            match operation {
                Operation::Pass(milliseconds) => now += Duration::from_millis(milliseconds),
                Operation::Pending(count) => {
                    let nodes = (0..count).map(|number| NodeName::new(&format!("n{number}")).unwrap()).collect();
                    stop.drain_pending(&nodes, now);
                    if count == 0 {
                        history.drained.get_or_insert(now);
                    }
                }
                Operation::Ended => {
                    stop.processes_ended();
                    history.ended = true;
                }
            }
            stop.handle_timeout(now);
            while let Some(action) = stop.poll_action() {
                prop_assert!(history.allows(action, &settings, start, now), "{action:?} after {:?}", history.done);
                history.done.push((action, now));
            }
            prop_assert!(stop.phase() >= phase, "{:?} after {phase:?}", stop.phase());
            phase = stop.phase();
            // Every stop ends: what has not ended by itself has a time at which more is done.
            prop_assert_eq!(stop.poll_timeout().is_none(), phase == StopPhase::Gone);
            prop_assert!(stop.poll_timeout().is_none_or(|due| due > now || grace == 0));
            prop_assert_eq!(history.at(|action| *action == StopAction::TellGone).is_some(), history.ended);
        }
    }
}
