//! The nodes' sessions: who is there, what each is given, what becomes of its reports.

use crate::make::{self, node_id};
use crate::memory::Memory;
use essaim_objects::{
    Config, ConfigId, ConfigSpec, NodeState, Secret, SecretId, SecretSpec, Task, TaskId, TaskState,
    TaskStatus, Timestamp,
};
use essaim_orchestrator::{Action, Closed, DispatchError, Dispatcher, Message, Now, Registration};
use essaim_protocol::{Assignment, AssignmentId, Assignments, Basis, SessionId};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

struct Bench {
    store: Memory,
    dispatcher: Dispatcher,
    milliseconds: u64,
    ids: u128,
}

impl Bench {
    fn new(nodes: u128) -> Self {
        let mut store = Memory::default();
        for number in 1..=nodes {
            store.put_node(make::node(number, &json!({})), wall(0));
        }
        let mut bench = Self {
            dispatcher: Dispatcher::new(&store, now(0)),
            store,
            milliseconds: 0,
            ids: 0,
        };
        bench.poll();
        bench
    }

    fn now(&self) -> Now {
        now(self.milliseconds)
    }

    /// Does what is to be done; gives the messages and closed sessions.
    fn poll(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..10 {
            let actions = self.dispatcher.poll(&self.store, self.now());
            if actions.is_empty() {
                return done;
            }
            for action in actions {
                let Action::Commit(units) = action else {
                    done.push(action);
                    continue;
                };
                for unit in units {
                    let events = self
                        .store
                        .apply(&unit, self.now().wall)
                        .expect("decided from what is there");
                    for event in events {
                        self.dispatcher.handle_event(&event, now(self.milliseconds));
                    }
                }
                self.dispatcher.committed();
            }
        }
        panic!("never comes to rest");
    }

    fn pass(&mut self, milliseconds: u64) -> Vec<Action> {
        self.milliseconds += milliseconds;
        self.poll()
    }

    fn register(&mut self, number: u128) -> Result<SessionId, DispatchError> {
        let description = make::node(number, &json!({})).description.unwrap();
        let registration = Registration {
            node: node_id(number),
            description,
            addr: Some("192.0.2.7".to_owned()),
            data_path_addr: None,
        };
        let now = self.now();
        self.ids += 1;
        let mut id = self.ids;
        let mut random = || {
            id += 1_000;
            id
        };
        self.dispatcher
            .register(registration, &self.store, now, &mut random)
    }

    fn heartbeat(&mut self, session: SessionId) -> Result<Duration, DispatchError> {
        let now = self.now();
        self.dispatcher
            .heartbeat(session, &self.store, now, &mut || 500_000_000)
    }

    fn state(&self, number: u128) -> (NodeState, String) {
        let status = &self.store.nodes[&node_id(number)].status;
        (status.state, status.message.clone().unwrap_or_default())
    }

    fn put(&mut self, task: Task) {
        let event = self.store.put_task(task, self.now().wall);
        let now = self.now();
        self.dispatcher.handle_event(&event, now);
    }

    fn report(&mut self, session: SessionId, task: u128, state: TaskState) -> Result<(), DispatchError> {
        let status = TaskStatus {
            state,
            ..TaskStatus::default()
        };
        let now = self.now();
        let reports = vec![(TaskId::from_bits(task), status)];
        self.dispatcher.report(session, reports, &self.store, now)
    }

    fn task(&self, number: u128) -> &Task {
        &self.store.tasks[&TaskId::from_bits(number)]
    }
}

fn wall(milliseconds: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + Duration::from_millis(milliseconds)
}

fn now(milliseconds: u64) -> Now {
    Now {
        wall: wall(milliseconds),
        monotonic: Duration::from_millis(milliseconds),
    }
}

/// A task of a node, which uses secret and config number `uses`.
fn task(number: u128, node: u128, state: TaskState, uses: Option<u128>) -> Task {
    let mut spec = json!({"ContainerSpec": {"Image": "web"}});
    if let Some(uses) = uses {
        spec["ContainerSpec"]["Secrets"] = json!([{"SecretID": SecretId::from_bits(uses)}]);
        spec["ContainerSpec"]["Configs"] = json!([{"ConfigID": ConfigId::from_bits(uses)}]);
    }
    let mut task = Task::new(
        TaskId::from_bits(number),
        None,
        Arc::new(serde_json::from_value(spec).unwrap()),
    );
    task.node_id = Some(node_id(node));
    task.status.state = state;
    task
}

fn assignments(actions: &[Action]) -> Vec<&Assignments> {
    let of = |action| match action {
        &Action::Send {
            message: Message::Assignments(ref assignments),
            ..
        } => Some(assignments),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn ids(assignments: &Assignments) -> Vec<AssignmentId> {
    let id = |it: &Assignment| match it {
        Assignment::Task(task) => AssignmentId::Task(task.id),
        Assignment::Secret(secret) => AssignmentId::Secret(secret.id),
        Assignment::Config(config) => AssignmentId::Config(config.id),
    };
    assignments.changed.iter().map(id).collect()
}

#[test]
fn a_node_that_registers_is_ready_with_what_it_says_of_itself() {
    let mut bench = Bench::new(1);
    let says = "Node moved to \"unknown\" state due to leadership change in cluster";
    assert_eq!(bench.state(1), (NodeState::Unknown, says.to_owned()));
    let session = bench.register(1).unwrap();
    let actions = bench.poll();
    assert!(
        matches!(&actions[0], Action::Send { session: to, message: Message::Session { .. } } if *to == session)
    );
    assert_eq!(assignments(&actions).len(), 1);
    assert_eq!(bench.state(1), (NodeState::Ready, String::new()));
    assert_eq!(
        bench.store.nodes[&node_id(1)].status.addr.as_deref(),
        Some("192.0.2.7")
    );
    assert_eq!(
        bench.register(9),
        Err(DispatchError::UnknownNode { node: node_id(9) })
    );
}

#[test]
fn a_node_whose_heartbeats_are_missed_is_down_after_three_periods() {
    let mut bench = Bench::new(1);
    let session = bench.register(1).unwrap();
    bench.poll();
    let period = bench.heartbeat(session).unwrap();
    assert_eq!(period, Duration::from_secs(5));
    assert!(bench.pass(14_999).is_empty());
    let actions = bench.pass(1);
    let why = Closed::HeartbeatMissed;
    assert_eq!(actions, [Action::CloseSession { session, why }]);
    assert_eq!(bench.state(1), (NodeState::Down, "heartbeat failure".to_owned()));
    assert_eq!(bench.heartbeat(session), Err(DispatchError::NoSession));
    bench.register(1).unwrap();
    bench.poll();
    assert_eq!(bench.state(1).0, NodeState::Ready);
}

#[test]
fn heartbeats_come_as_often_as_the_cluster_asks_from_the_next_one_on() {
    let mut bench = Bench::new(1);
    let session = bench.register(1).unwrap();
    bench.poll();
    assert_eq!(bench.heartbeat(session), Ok(Duration::from_secs(5)));
    bench.store.spec.dispatcher = Some(essaim_objects::DispatcherConfig {
        heartbeat_period: Some(essaim_objects::Nanoseconds::from_secs(20)),
        ..essaim_objects::DispatcherConfig::default()
    });
    // Spread by a tenth to either side, of which the bench's number is 0.5 s after the earliest.
    assert_eq!(bench.heartbeat(session), Ok(Duration::from_millis(18_500)));
    assert!(bench.pass(3 * 18_500 - 1).is_empty(), "three such periods");
    let why = Closed::HeartbeatMissed;
    assert_eq!(bench.pass(1), [Action::CloseSession { session, why }]);
}

#[test]
fn nodes_get_twice_the_time_to_find_a_new_leader() {
    let mut bench = Bench::new(2);
    bench.register(2).unwrap();
    bench.poll();
    bench.pass(10_000);
    let says = "heartbeat failure for node in \"unknown\" state";
    bench.pass(19_999);
    assert_eq!(bench.state(1).0, NodeState::Unknown);
    bench.pass(1);
    assert_eq!(bench.state(1), (NodeState::Down, says.to_owned()));
}

#[test]
fn a_node_that_comes_too_often_waits() {
    let mut bench = Bench::new(1);
    let mut last = bench.register(1).unwrap();
    for _ in 0..2 {
        let next = bench.register(1).unwrap();
        let why = Closed::Replaced;
        assert!(
            bench
                .poll()
                .contains(&Action::CloseSession { session: last, why })
        );
        last = next;
    }
    let refused = DispatchError::TooMany {
        node: node_id(1),
        found: 4,
    };
    assert_eq!(bench.register(1), Err(refused));
    assert!(bench.heartbeat(last).is_ok(), "the session that it has goes on");
    bench.pass(8_000);
    assert!(bench.register(1).is_ok());
}

#[test]
fn a_node_whose_connection_ended_has_its_grace_left() {
    let mut bench = Bench::new(1);
    let session = bench.register(1).unwrap();
    bench.poll();
    bench.heartbeat(session).unwrap();
    bench.pass(5_000);
    bench.dispatcher.disconnected(session);
    bench.poll();
    assert_eq!(bench.state(1).0, NodeState::Disconnected);
    bench.pass(9_999);
    assert_eq!(bench.state(1).0, NodeState::Disconnected);
    bench.pass(1);
    assert_eq!(bench.state(1).0, NodeState::Down);
}

#[test]
fn a_node_that_is_removed_loses_its_session() {
    let mut bench = Bench::new(1);
    let session = bench.register(1).unwrap();
    bench.poll();
    let event = bench.store.remove_node(node_id(1));
    bench.dispatcher.handle_event(&event, now(0));
    let why = Closed::NodeRemoved;
    assert_eq!(bench.poll(), [Action::CloseSession { session, why }]);
    bench.pass(100_000);
    assert!(bench.store.nodes.is_empty());
}

#[test]
fn the_tasks_of_a_node_that_is_down_for_a_day_are_orphaned_whoever_leads() {
    let mut bench = Bench::new(1);
    bench.put(task(1, 1, TaskState::Running, None));
    bench.put(task(2, 1, TaskState::Complete, None));
    bench.pass(30_000);
    assert_eq!(bench.state(1).0, NodeState::Down);
    let half = 12 * 3_600_000;
    bench.pass(half);
    bench.dispatcher = Dispatcher::new(&bench.store, bench.now());
    bench.pass(half - 1);
    assert_eq!(bench.task(1).status.state, TaskState::Running);
    bench.pass(1);
    assert_eq!(bench.task(1).status.state, TaskState::Orphaned);
    assert_eq!(bench.task(2).status.state, TaskState::Complete);
}

#[test]
fn a_node_gets_its_own_tasks_with_what_they_use_and_nothing_else() {
    let mut bench = Bench::new(2);
    for number in 1..=4 {
        let id = SecretId::from_bits(number);
        bench
            .store
            .secrets
            .insert(id, Arc::new(Secret::new(id, SecretSpec::default())));
        let id = ConfigId::from_bits(number);
        bench
            .store
            .configs
            .insert(id, Arc::new(Config::new(id, ConfigSpec::default())));
    }
    bench.put(task(1, 1, TaskState::Assigned, Some(1)));
    bench.put(task(2, 2, TaskState::Assigned, Some(2)));
    bench.put(task(3, 1, TaskState::Pending, Some(3)));
    bench.put(task(4, 1, TaskState::Failed, Some(4)));
    bench.register(1).unwrap();
    let actions = bench.poll();
    let all = assignments(&actions)[0];
    assert_eq!((all.basis, all.number), (Basis::Nothing, 1));
    let expected = [
        AssignmentId::Secret(SecretId::from_bits(1)),
        AssignmentId::Config(ConfigId::from_bits(1)),
        AssignmentId::Task(TaskId::from_bits(1)),
        AssignmentId::Task(TaskId::from_bits(4)),
    ];
    assert_eq!(ids(all), expected);
    // A task that ends gives its secret back, and one that goes is told of.
    bench.put(task(1, 1, TaskState::Failed, Some(1)));
    let changes = [essaim_orchestrator::Change::RemoveTask(
        TaskId::from_bits(4),
        bench.task(4).version,
    )];
    for event in bench.store.apply(&changes, wall(0)).unwrap() {
        bench.dispatcher.handle_event(&event, now(0));
    }
    let actions = bench.pass(100);
    let next = assignments(&actions)[0];
    assert_eq!((next.basis, next.number), (Basis::Number(1), 2));
    assert!(next.changed.is_empty());
    let removed = [
        AssignmentId::Secret(SecretId::from_bits(1)),
        AssignmentId::Config(ConfigId::from_bits(1)),
        AssignmentId::Task(TaskId::from_bits(4)),
    ];
    assert_eq!(next.removed, removed);
}

#[test]
fn only_what_a_node_does_not_know_is_sent_and_changes_are_gathered() {
    let mut bench = Bench::new(1);
    bench.put(task(1, 1, TaskState::Assigned, None));
    let session = bench.register(1).unwrap();
    bench.poll();
    // What it reported itself is no news to it.
    bench.put(task(1, 1, TaskState::Running, None));
    assert!(bench.pass(100).is_empty());
    let mut stopped = task(1, 1, TaskState::Running, None);
    stopped.desired_state = TaskState::Shutdown;
    bench.put(stopped);
    bench.put(task(2, 1, TaskState::Assigned, None));
    let actions = bench.poll();
    assert_eq!(assignments(&actions).len(), 1, "at once");
    assert_eq!(
        ids(assignments(&actions)[0]),
        [1, 2].map(|it| AssignmentId::Task(TaskId::from_bits(it)))
    );
    bench.put(task(3, 1, TaskState::Assigned, None));
    assert!(bench.pass(49).is_empty());
    bench.put(task(4, 1, TaskState::Assigned, None));
    let actions = bench.pass(1);
    assert_eq!(ids(assignments(&actions)[0]).len(), 2);
    let now = bench.now();
    bench.dispatcher.resync(session, now).unwrap();
    let actions = bench.poll();
    let all = assignments(&actions)[0];
    assert_eq!((all.basis, all.number, all.changed.len()), (Basis::Nothing, 4, 4));
}

#[test]
fn reports_are_gathered_and_never_go_back() {
    let mut bench = Bench::new(1);
    bench.put(task(1, 1, TaskState::Assigned, None));
    let session = bench.register(1).unwrap();
    bench.poll();
    bench.report(session, 1, TaskState::Preparing).unwrap();
    bench.poll();
    assert_eq!(bench.task(1).status.state, TaskState::Preparing, "at once");
    bench.report(session, 1, TaskState::Running).unwrap();
    bench.report(session, 1, TaskState::Starting).unwrap();
    bench.pass(19);
    assert_eq!(bench.task(1).status.state, TaskState::Preparing);
    bench.pass(1);
    assert_eq!(bench.task(1).status.state, TaskState::Running);
    bench.report(session, 1, TaskState::Preparing).unwrap();
    bench.pass(100);
    assert_eq!(bench.task(1).status.state, TaskState::Running);
    assert_eq!(
        bench.report(session, 77, TaskState::Running),
        Ok(()),
        "a task that is gone is passed over"
    );
}

#[test]
fn a_node_is_told_what_an_operator_makes_of_it() {
    let mut bench = Bench::new(1);
    let session = bench.register(1).unwrap();
    bench.poll();
    let mut changed = essaim_objects::Node::clone(&bench.store.nodes[&node_id(1)]);
    changed.spec.role = Some(essaim_objects::NodeRole::Manager);
    let event = bench.store.put_node(changed, wall(0));
    let at = bench.now();
    bench.dispatcher.handle_event(&event, at);
    let actions = bench.pass(50);
    let [
        Action::Send {
            session: to,
            message: Message::Session { node, .. },
        },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (*to, node.spec.role()),
        (session, essaim_objects::NodeRole::Manager)
    );
}

#[test]
fn after_a_restored_store_sessions_go_on_and_those_of_nodes_that_are_gone_end() {
    let mut bench = Bench::new(2);
    let sessions = [1, 2].map(|number| bench.register(number).unwrap());
    bench.poll();
    bench.store.nodes.remove(&node_id(2));
    bench.store.put_node(make::node(3, &json!({})), wall(0));
    let at = bench.now();
    bench.dispatcher.refresh(&bench.store, at);
    let actions = bench.pass(50);
    let closed = Action::CloseSession {
        session: sessions[1],
        why: Closed::NodeRemoved,
    };
    assert!(actions.contains(&closed), "{actions:?}");
    assert_eq!(bench.dispatcher.node_of(sessions[0]), Some(node_id(1)));
    assert_eq!(bench.dispatcher.node_of(sessions[1]), None);
    bench.heartbeat(sessions[0]).unwrap();
    bench.pass(14_950);
    assert_eq!(bench.state(3).0, NodeState::Down, "the new one never came");
    assert_eq!(bench.state(1).0, NodeState::Ready);
}

#[test]
fn a_node_reports_no_task_of_another() {
    let mut bench = Bench::new(2);
    bench.put(task(1, 2, TaskState::Assigned, None));
    let session = bench.register(1).unwrap();
    bench.poll();
    let refused = DispatchError::NotItsTask {
        task: TaskId::from_bits(1),
        node: node_id(1),
    };
    assert_eq!(bench.report(session, 1, TaskState::Running), Err(refused));
    bench.pass(1_000);
    assert_eq!(bench.task(1).status.state, TaskState::Assigned);
    assert_eq!(
        bench.report(SessionId(12345), 1, TaskState::Running),
        Err(DispatchError::NoSession)
    );
}

#[test]
fn ten_thousand_reports_do_not_wait() {
    let mut bench = Bench::new(1);
    for number in 0..10_000 {
        bench.put(task(number, 1, TaskState::Assigned, None));
    }
    let session = bench.register(1).unwrap();
    bench.poll();
    for number in 0..10_000 {
        bench.report(session, number, TaskState::Accepted).unwrap();
    }
    bench.poll();
    assert!(
        bench
            .store
            .tasks
            .values()
            .all(|task| task.status.state == TaskState::Accepted)
    );
}

#[test]
fn what_could_not_be_committed_is_tried_again() {
    let mut bench = Bench::new(1);
    bench.put(task(1, 1, TaskState::Assigned, None));
    let session = bench.register(1).unwrap();
    bench.poll();
    bench.report(session, 1, TaskState::Running).unwrap();
    bench.milliseconds += 100;
    let actions = bench.dispatcher.poll(&bench.store, bench.now());
    assert!(matches!(&actions[..], [Action::Commit(units)] if units.len() == 1));
    let actions = bench.dispatcher.poll(&bench.store, now(10_000));
    assert!(actions.is_empty(), "one commit at a time");
    bench.dispatcher.committed();
    bench.pass(100);
    assert_eq!(bench.task(1).status.state, TaskState::Running);
}
