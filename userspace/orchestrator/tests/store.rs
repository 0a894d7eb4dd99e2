//! The deciding parts on the managers' real store: units become transactions, the allocator completes them, and events
//! come back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "cluster/make.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod make;

use essaim_objects::{NodeId, TaskState, Timestamp};
use essaim_orchestrator::{Event, Now, Orchestrator, Scheduler, Unit, pack};
use essaim_store::{MAX_CHANGES, Store, Transaction, allocate};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

struct Leader {
    store: Store,
    orchestrator: Orchestrator,
    scheduler: Scheduler,
    index: u64,
}

fn now(seconds: u64) -> Now {
    Now {
        wall: Timestamp::from_second(1_700_000_000).unwrap() + Duration::from_secs(seconds),
        monotonic: Duration::from_secs(seconds),
    }
}

impl Leader {
    fn apply(&mut self, mut transaction: Transaction) {
        allocate(self.store.view(), &mut transaction).unwrap();
        self.index += 1;
        let events = self.store.apply(self.index, &transaction, now(0).wall).unwrap();
        for event in events.iter().filter_map(Event::of) {
            self.orchestrator.handle_event(&event, self.store.view());
            self.scheduler.handle_event(&event, now(0));
        }
    }

    fn commit(&mut self, units: Vec<Unit>) -> bool {
        let is_any = !units.is_empty();
        for changes in pack(units, MAX_CHANGES) {
            let changes = changes.into_iter().map(Into::into).collect();
            self.apply(Transaction { changes });
        }
        is_any
    }

    fn settle(&mut self) {
        let mut ids = 100;
        for second in 1..20 {
            let mut random = || {
                ids += 1;
                ids
            };
            let units = self
                .orchestrator
                .poll(self.store.view(), now(second), &mut random);
            let mut is_any = self.commit(units);
            let units = self.scheduler.poll(self.store.view(), now(second));
            is_any |= self.commit(units);
            if !is_any {
                return;
            }
        }
        panic!("never comes to rest");
    }

    fn places(&self) -> BTreeMap<Option<NodeId>, usize> {
        let mut places = BTreeMap::new();
        for task in self.store.view().tasks() {
            if task.desired_state == TaskState::Running && task.status.state == TaskState::Assigned {
                *places.entry(task.node_id).or_default() += 1;
            }
        }
        places
    }
}

#[test]
fn a_service_in_the_store_gets_its_tasks_and_loses_them() {
    let store = Store::new();
    let mut leader = Leader {
        orchestrator: Orchestrator::new(store.view()),
        scheduler: Scheduler::new(now(0)),
        store,
        index: 0,
    };
    let mut transaction = Transaction::new();
    for number in 1..=3 {
        transaction.create(make::node(number, &json!({})));
    }
    let spec = json!({"Name": "web", "Mode": {"Replicated": {"Replicas": 600}},
        "TaskTemplate": {"ContainerSpec": {"Image": "web"}}});
    transaction.create(make::service(1, &spec));
    leader.apply(transaction);
    leader.settle();
    let expected = (1..=3).map(|number| (Some(make::node_id(number)), 200));
    assert_eq!(leader.places(), expected.collect());

    let mut scaled = (**leader.store.view().service(make::service_id(1)).unwrap()).clone();
    let mut spec = (*scaled.spec).clone();
    spec.mode = Some(essaim_objects::ServiceMode::replicated(3));
    scaled.spec = spec.into();
    let mut transaction = Transaction::new();
    transaction.update(scaled);
    leader.apply(transaction);
    leader.settle();
    let expected = (1..=3).map(|number| (Some(make::node_id(number)), 1));
    assert_eq!(
        leader.places(),
        expected.collect(),
        "none runs yet: any three, of three nodes"
    );
}
