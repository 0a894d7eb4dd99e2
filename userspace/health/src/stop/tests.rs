use super::*;

const SETTINGS: StopSettings = StopSettings {
    drain_deadline: Duration::from_secs(5),
    signal: StopSignal::TERM,
    grace: Duration::from_secs(10),
};

fn nodes(names: &[&str]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::new(name).unwrap()).collect()
}

fn actions(stop: &mut Stop) -> Vec<StopAction> {
    std::iter::from_fn(|| stop.poll_action()).collect()
}

/// A stop that has come so far, with its actions taken; each phase ends at `now`.
fn reached(phase: StopPhase, begin: Instant, now: Instant) -> Stop {
    let mut stop = Stop::new(SETTINGS, begin);
    actions(&mut stop);
    stop.phase = phase;
    stop.due = (phase != StopPhase::Gone).then_some(now);
    stop
}

#[derive(Clone, Copy, Debug)]
enum Event {
    SomePending,
    NonePending,
    Early,
    Due,
    Ended,
}

/// Phase, event; the phase after it, when that ends, what is to be done.
type Row = (
    StopPhase,
    Event,
    StopPhase,
    Option<Instant>,
    &'static [StopAction],
);

const TERM: StopAction = StopAction::Signal(StopSignal::TERM);

#[test]
fn every_phase_answers_every_event() {
    use Event::{Due, Early, Ended, NonePending, SomePending};
    use StopAction::{Kill, TellGone};
    use StopPhase::{Draining, Gone, Killed, Signalled};
    let begin = Instant::now();
    let now = begin + Duration::from_nanos(1);
    let due = Some(now);
    let grace = Some(now + SETTINGS.grace);
    let again = Some(now + KILL_AGAIN);
    let table: [Row; 20] = [
        (Draining, SomePending, Draining, due, &[]),
        (Draining, NonePending, Signalled, grace, &[TERM]),
        (Draining, Early, Draining, due, &[]),
        (Draining, Due, Signalled, grace, &[TERM]),
        (Draining, Ended, Gone, None, &[TellGone]),
        (Signalled, SomePending, Signalled, due, &[]),
        (Signalled, NonePending, Signalled, due, &[]),
        (Signalled, Early, Signalled, due, &[]),
        (Signalled, Due, Killed, again, &[Kill]),
        (Signalled, Ended, Gone, None, &[TellGone]),
        (Killed, SomePending, Killed, due, &[]),
        (Killed, NonePending, Killed, due, &[]),
        (Killed, Early, Killed, due, &[]),
        (Killed, Due, Killed, again, &[Kill]),
        (Killed, Ended, Gone, None, &[TellGone]),
        (Gone, SomePending, Gone, None, &[]),
        (Gone, NonePending, Gone, None, &[]),
        (Gone, Early, Gone, None, &[]),
        (Gone, Due, Gone, None, &[]),
        (Gone, Ended, Gone, None, &[]),
    ];
    for (phase, event, after, due, expected) in table {
        let mut stop = reached(phase, begin, now);
        match event {
            SomePending => stop.drain_pending(&nodes(&["n1"]), now),
            NonePending => stop.drain_pending(&nodes(&[]), now),
            Early => stop.handle_timeout(begin),
            Due => stop.handle_timeout(now),
            Ended => stop.processes_ended(),
        }
        let row = (phase, event);
        assert_eq!((stop.phase(), stop.poll_timeout()), (after, due), "{row:?}");
        assert_eq!(actions(&mut stop), expected, "{row:?}");
    }
}

#[test]
fn a_stop_begins_by_telling_that_the_task_is_draining() {
    let now = Instant::now();
    let mut stop = Stop::new(SETTINGS, now);
    assert_eq!(stop.phase(), StopPhase::Draining);
    assert_eq!(stop.poll_timeout(), Some(now + SETTINGS.drain_deadline));
    assert_eq!(actions(&mut stop), [StopAction::TellDraining]);
}

#[test]
fn the_task_is_asked_as_soon_as_the_last_node_has_applied_the_drain() {
    let now = Instant::now();
    let mut stop = Stop::new(SETTINGS, now);
    actions(&mut stop);
    stop.drain_pending(&nodes(&["n1", "n2"]), now);
    stop.drain_pending(&nodes(&["n2"]), now);
    assert!(actions(&mut stop).is_empty());
    stop.drain_pending(&nodes(&[]), now);
    assert_eq!(actions(&mut stop), [TERM]);
    assert_eq!(stop.pending(), Some(&nodes(&[])));
}

#[test]
fn the_nodes_that_missed_the_deadline_are_remembered() {
    let now = Instant::now();
    let mut stop = Stop::new(SETTINGS, now);
    stop.drain_pending(&nodes(&["n1", "n2"]), now);
    stop.drain_pending(&nodes(&["n2"]), now);
    stop.handle_timeout(now + SETTINGS.drain_deadline);
    stop.drain_pending(&nodes(&[]), now + SETTINGS.drain_deadline);
    assert_eq!(stop.pending(), Some(&nodes(&["n2"])));
    let mut unheard = Stop::new(SETTINGS, now);
    unheard.handle_timeout(now + SETTINGS.drain_deadline);
    assert_eq!(unheard.pending(), None);
}

#[test]
fn a_task_that_ignores_everything_is_killed_again_and_again() {
    let now = Instant::now();
    let mut stop = Stop::new(SETTINGS, now);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(actions(&mut stop));
        stop.handle_timeout(stop.poll_timeout().unwrap());
    }
    seen.extend(actions(&mut stop));
    assert_eq!(
        seen,
        [
            StopAction::TellDraining,
            TERM,
            StopAction::Kill,
            StopAction::Kill,
            StopAction::Kill,
        ]
    );
    let patience = SETTINGS.drain_deadline + SETTINGS.grace + KILL_AGAIN * 3;
    assert_eq!(stop.poll_timeout(), Some(now + patience));
}

#[test]
fn the_defaults_are_swarms_but_for_the_drain() {
    let defaults = StopSettings::default();
    assert_eq!(defaults.signal.to_string(), "SIGTERM");
    assert_eq!(defaults.grace, Duration::from_secs(10));
    assert_eq!(defaults.drain_deadline, Duration::from_secs(5));
}

#[test]
fn a_task_that_ends_before_it_is_asked_is_not_signalled() {
    let now = Instant::now();
    let mut stop = Stop::new(SETTINGS, now);
    actions(&mut stop);
    stop.drain_pending(&nodes(&[]), now);
    stop.processes_ended();
    assert_eq!(actions(&mut stop), [StopAction::TellGone]);
}
