use super::own::own_task;
use super::*;
use crate::fact::Record;
use essaim_model::{TaskId, TaskState};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

fn node(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn app() -> Scope {
    Scope::Network(NetworkName::new("app").unwrap())
}

fn task(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

/// An owner with its streams, and what it hands out.
struct Owner {
    own: OwnFacts,
    facts: Facts,
    now: Instant,
}

impl Owner {
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn new(epoch: u64) -> Self {
        Self {
            own: OwnFacts::new(node("o"), Epoch::from_number(epoch)),
            facts: Facts::default(),
            now: Instant::now(),
        }
    }

    fn say(&mut self, tasks: &[(&str, TaskState)]) {
        let tasks = tasks
            .iter()
            .map(|(id, state)| (task(id), own_task(*state, &["app"])));
        self.own.tasks = tasks.collect();
        self.own.write_to(&mut self.facts, self.now);
    }

    fn excerpt(&self, scope: &Scope, from: Version) -> Excerpt {
        let stream = self.facts.stream(scope, &node("o")).unwrap();
        stream.excerpt(&node("o"), scope, from, 10_000)
    }

    fn delta(&self, scope: &Scope, from: Version) -> Delta {
        match self.excerpt(scope, from) {
            Excerpt::Delta(delta) => delta,
            other => panic!("{other:?}"),
        }
    }

    /// Brings another node up to date.
    fn teach(&self, facts: &mut Facts) {
        for scope in [Scope::Node, app()] {
            let from = facts.head(&scope, &node("o"), self.own.epoch());
            if let Some(Excerpt::Delta(delta)) = self
                .facts
                .stream(&scope, &node("o"))
                .map(|_| self.excerpt(&scope, from))
            {
                facts.merge(delta, Epoch::UNHEARD, self.now).unwrap();
            }
        }
    }
}

fn listener() -> Facts {
    let mut facts = Facts::default();
    facts.keep(Scope::Node);
    facts.keep(app());
    facts
}

fn states(facts: &Facts) -> Vec<(TaskId, TaskState)> {
    let stream = facts.stream(&app(), &node("o"));
    let records = stream.into_iter().flat_map(Stream::records);
    let state = |record: &Record| match &record.fact {
        Fact::Task { task, state } => state.map(|state| (task.clone(), state)),
        _ => panic!("no task"),
    };
    records.filter_map(state).collect()
}

#[test]
fn a_difference_brings_a_listener_up_to_date() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready), ("b", TaskState::Starting)]);
    let mut facts = listener();
    owner.teach(&mut facts);
    owner.say(&[("a", TaskState::Draining), ("c", TaskState::Ready)]);
    owner.teach(&mut facts);
    let expected = [(task("a"), TaskState::Draining), (task("c"), TaskState::Ready)];
    assert_eq!(states(&facts), expected);
}

#[test]
fn saying_the_same_again_says_nothing() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready)]);
    assert_eq!(owner.own.write_to(&mut owner.facts, owner.now), []);
}

#[test]
fn old_news_changes_nothing() {
    let mut owner = Owner::new(1);
    let mut facts = listener();
    owner.say(&[("a", TaskState::Ready)]);
    let ready = owner.delta(&app(), Version::ZERO);
    owner.say(&[("a", TaskState::Gone)]);
    owner.teach(&mut facts);
    assert_eq!(facts.merge(ready, Epoch::UNHEARD, owner.now), Err(NotMerged::Old));
    assert_eq!(states(&facts), [(task("a"), TaskState::Gone)]);
}

#[test]
fn news_of_an_earlier_epoch_changes_nothing() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready)]);
    let earlier = owner.delta(&Scope::Node, Version::ZERO);
    let mut again = Owner::new(2);
    again.say(&[]);
    let mut facts = listener();
    again.teach(&mut facts);
    assert_eq!(
        facts.merge(earlier.clone(), Epoch::UNHEARD, owner.now),
        Err(NotMerged::Old)
    );
    // Not even where only the epoch was heard of.
    let newest = Epoch::from_number(2);
    assert_eq!(listener().merge(earlier, newest, owner.now), Err(NotMerged::Old));
}

#[test]
fn a_new_epoch_replaces_all_that_was_said() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready), ("b", TaskState::Ready)]);
    let mut facts = listener();
    owner.teach(&mut facts);
    let mut again = Owner::new(2);
    again.say(&[("b", TaskState::Draining)]);
    again.teach(&mut facts);
    assert_eq!(states(&facts), [(task("b"), TaskState::Draining)]);
}

#[test]
fn a_gap_is_noticed() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready)]);
    let known = owner.facts.head(&app(), &node("o"), owner.own.epoch());
    let mut facts = listener();
    facts
        .merge(
            owner.delta(&Scope::Node, Version::ZERO),
            Epoch::UNHEARD,
            owner.now,
        )
        .unwrap();
    owner.say(&[("a", TaskState::Gone)]);
    let delta = owner.delta(&app(), known);
    assert_eq!(facts.merge(delta, Epoch::UNHEARD, owner.now), Err(NotMerged::Gap));
}

#[test]
fn a_stay_on_a_network_does_not_bring_back_an_earlier_one() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready)]);
    let earlier = owner.delta(&app(), Version::ZERO);
    let mut facts = listener();
    owner.teach(&mut facts);
    owner.say(&[]);
    owner.teach(&mut facts);
    assert_eq!(states(&facts), []);
    let merged = facts.merge(earlier.clone(), Epoch::UNHEARD, owner.now);
    assert_eq!(merged, Err(NotMerged::Early));
    owner.say(&[("b", TaskState::Starting)]);
    facts
        .merge(
            owner.delta(&Scope::Node, Version::from_number(5)),
            Epoch::UNHEARD,
            owner.now,
        )
        .unwrap();
    assert_eq!(
        facts.merge(earlier, Epoch::UNHEARD, owner.now),
        Err(NotMerged::Old)
    );
    owner.teach(&mut facts);
    assert_eq!(states(&facts), [(task("b"), TaskState::Starting)]);
}

#[test]
fn what_was_known_before_this_node_left_does_not_come_back_older() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready)]);
    let earlier = owner.delta(&app(), Version::ZERO);
    owner.say(&[("a", TaskState::Gone)]);
    let mut facts = listener();
    owner.teach(&mut facts);
    assert_eq!(facts.stop_keeping(&app()).len(), 1);
    let merged = facts.merge(earlier.clone(), Epoch::UNHEARD, owner.now);
    assert_eq!(merged, Err(NotMerged::NoInterest));
    facts.keep(app());
    assert_eq!(
        facts.merge(earlier, Epoch::UNHEARD, owner.now),
        Err(NotMerged::Old)
    );
    owner.teach(&mut facts);
    assert_eq!(states(&facts), [(task("a"), TaskState::Gone)]);
}

#[test]
fn a_listener_that_missed_forgotten_removals_needs_a_snapshot() {
    let mut owner = Owner::new(1);
    owner.say(&[("a", TaskState::Ready), ("b", TaskState::Ready)]);
    let mut facts = listener();
    owner.teach(&mut facts);
    let known = facts.head(&app(), &node("o"), owner.own.epoch());
    owner.say(&[("b", TaskState::Ready)]);
    owner.facts.forget_removals(owner.now + Duration::from_secs(1));
    owner.say(&[("b", TaskState::Draining)]);
    let delta = owner.delta(&app(), known);
    assert_eq!(delta.from, None);
    let stream = owner.facts.stream(&app(), &node("o")).unwrap();
    assert_eq!(stream.excerpt(&node("o"), &app(), known, 18), Excerpt::TooLarge);
    owner.teach(&mut facts);
    assert_eq!(states(&facts), [(task("b"), TaskState::Draining)]);
}

#[test]
fn a_long_stream_arrives_in_parts() {
    let mut owner = Owner::new(1);
    let names: Vec<String> = (0..50).map(|number| format!("task-{number}")).collect();
    let tasks: Vec<(&str, TaskState)> = names
        .iter()
        .map(|name| (name.as_str(), TaskState::Ready))
        .collect();
    owner.say(&tasks);
    let mut facts = listener();
    facts
        .merge(
            owner.delta(&Scope::Node, Version::ZERO),
            Epoch::UNHEARD,
            owner.now,
        )
        .unwrap();
    let stream = owner.facts.stream(&app(), &node("o")).unwrap();
    let mut parts = 0;
    loop {
        let known = facts.head(&app(), &node("o"), owner.own.epoch());
        match stream.excerpt(&node("o"), &app(), known, 200) {
            Excerpt::Delta(delta) => facts.merge(delta, Epoch::UNHEARD, owner.now).unwrap(),
            Excerpt::Nothing => break,
            Excerpt::TooLarge => panic!("it can be cut"),
        };
        parts += 1;
    }
    assert!((3..6).contains(&parts), "{parts}");
    assert_eq!(states(&facts).len(), 50);
}

proptest! {
    /// Deltas that are lost, repeated and out of order never take a listener back, and whatever it lacks
    /// can be sent.
    #[test]
    fn a_listener_follows_its_owner(steps in prop::collection::vec((0_u8..4, 0_usize..5, 0_usize..4), 1..60)) {
        const STATES: [TaskState; 4] =
            [TaskState::Starting, TaskState::Ready, TaskState::Draining, TaskState::Gone];
        let mut owner = Owner::new(1);
        owner.say(&[]);
        let mut facts = listener();
        let mut sent: Vec<Delta> = Vec::new();
        let mut said: BTreeSet<(usize, usize)> = BTreeSet::new();
        let names = ["a", "b", "c", "d", "e"];
        for (kind, which, state) in steps {
            match kind {
                0 => {
                    said.retain(|(name, _)| *name != which);
                    if state < 3 {
                        said.insert((which, state));
                    }
                    let tasks: Vec<_> = said.iter().map(|(name, state)| (names[*name], STATES[*state])).collect();
                    owner.say(&tasks);
                }
                1 => {
                    for scope in [Scope::Node, app()] {
                        let from = facts.head(&scope, &node("o"), owner.own.epoch());
                        if owner.facts.stream(&scope, &node("o")).is_none() {
                            continue;
                        }
                        if let Excerpt::Delta(delta) = owner.excerpt(&scope, from) {
                            sent.push(delta);
                        }
                    }
                }
                2 => owner.facts.forget_removals(owner.now),
                _ => {
                    if let Some(delta) = sent.get(which * 7 + state).cloned() {
                        let scope = delta.scope.clone();
                        let before = facts.head(&scope, &node("o"), owner.own.epoch());
                        let _ = facts.merge(delta, Epoch::UNHEARD, owner.now);
                        prop_assert!(facts.head(&scope, &node("o"), owner.own.epoch()) >= before);
                    }
                }
            }
        }
        owner.say(&[("z", TaskState::Ready)]);
        owner.teach(&mut facts);
        prop_assert_eq!(states(&facts), states(&owner.facts));
        let ours = facts.leaves(&app()).unwrap();
        prop_assert_eq!(ours.differing(&owner.facts.leaves(&app()).unwrap().hashes(64)), 0);
    }
}
