//! A cluster whose nodes do what a test says.

use crate::make;
use crate::memory::Memory;
use essaim_objects::{
    NetworkAttachment, NetworkId, Node, NodeId, Service, Task, TaskId, TaskState, Timestamp,
};
use essaim_orchestrator::{Event, Now, Orchestrator, Scheduler, Unit};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Harness {
    pub(crate) store: Memory,
    pub(crate) orchestrator: Orchestrator,
    pub(crate) scheduler: Scheduler,
    pub(crate) milliseconds: u64,
    ids: u128,
}

impl Harness {
    /// With so many nodes that are ready.
    pub(crate) fn new(nodes: u128) -> Self {
        let mut store = Memory::default();
        for number in 1..=nodes {
            store.put_node(
                make::node(number, &Value::Object(serde_json::Map::new())),
                Timestamp::UNIX_EPOCH,
            );
        }
        let mut harness = Self {
            orchestrator: Orchestrator::new(&store),
            scheduler: Scheduler::new(time(0)),
            store,
            milliseconds: 0,
            ids: 1_000,
        };
        harness.settle();
        harness
    }

    pub(crate) fn now(&self) -> Now {
        time(self.milliseconds)
    }

    fn commit(&mut self, units: Vec<Unit>) -> bool {
        let is_any = !units.is_empty();
        for unit in units {
            let events = self
                .store
                .apply(&unit, self.now().wall)
                .expect("decided from what is there");
            for event in events {
                self.tell(&event);
            }
        }
        is_any
    }

    fn tell(&mut self, event: &Event) {
        crate::sim::check_event(event);
        self.orchestrator.handle_event(event, &self.store);
        self.scheduler.handle_event(event, self.now());
    }

    /// Lets orchestrator and scheduler decide, at this moment.
    pub(crate) fn settle(&mut self) {
        for _ in 0..50 {
            let now = self.now();
            let ids = &mut self.ids;
            let mut random = || {
                *ids += 1;
                *ids
            };
            let units = self.orchestrator.poll(&self.store, now, &mut random);
            let mut is_any = self.commit(units);
            // What the scheduler would gather first, it sees at once here.
            self.scheduler = Scheduler::new(now);
            let units = self.scheduler.poll(&self.store, now);
            is_any |= self.commit(units);
            if !is_any {
                return;
            }
        }
        panic!("never comes to rest");
    }

    /// Lets time pass, and every decision be made that is due meanwhile.
    pub(crate) fn pass(&mut self, span: Duration) {
        let until = self.milliseconds + u64::try_from(span.as_millis()).unwrap();
        loop {
            let next = self.orchestrator.next_timeout();
            let next = next.map_or(u64::MAX, |at| {
                u64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap()
            });
            self.milliseconds = next.max(self.milliseconds).min(until);
            self.settle();
            if self.milliseconds >= until {
                return;
            }
        }
    }

    pub(crate) fn put_service(&mut self, service: Service) {
        let event = self.store.put_service(service, self.now().wall);
        self.tell(&event);
        self.settle();
    }

    /// A new service 1 of this spec.
    pub(crate) fn create(&mut self, spec: &Value) {
        self.put_service(make::service(1, spec));
    }

    /// Service 1 as it is.
    pub(crate) fn service(&self) -> Arc<Service> {
        self.store.services[&make::service_id(1)].clone()
    }

    /// An operator's update of service 1: these members of its spec change.
    pub(crate) fn update(&mut self, with: &Value) {
        let service = self.service();
        let mut spec = serde_json::to_value(&service.spec).unwrap();
        make::merge(&mut spec, with);
        let spec = serde_json::from_value(spec).unwrap();
        self.put_service(make::respecified(&service, spec, self.store.index + 1));
    }

    pub(crate) fn remove_service(&mut self) {
        let event = self.store.remove_service(make::service_id(1));
        self.tell(&event);
        self.settle();
    }

    /// Changes a node.
    pub(crate) fn change_node(&mut self, number: u128, change: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(&self.store.nodes[&make::node_id(number)]);
        change(&mut node);
        let event = self.store.put_node(node, self.now().wall);
        self.tell(&event);
        self.settle();
    }

    pub(crate) fn remove_node(&mut self, number: u128) {
        let event = self.store.remove_node(make::node_id(number));
        self.tell(&event);
        self.settle();
    }

    /// A node reports a task's state.
    pub(crate) fn report(&mut self, id: TaskId, state: TaskState) {
        let mut task = Task::clone(&self.store.tasks[&id]);
        assert!(task.status.state <= state, "{} to {state}", task.status.state);
        task.status.state = state;
        let event = self.store.put_task(task, self.now().wall);
        self.tell(&event);
        self.settle();
    }

    /// All tasks get an address on a network.
    pub(crate) fn attach_all(&mut self) {
        let tasks: Vec<Task> = self.store.tasks.values().map(|task| Task::clone(task)).collect();
        for mut task in tasks {
            task.networks_attachments = vec![NetworkAttachment::new(NetworkId::from_bits(1), Vec::new())];
            let event = self.store.put_task(task, self.now().wall);
            self.tell(&event);
        }
        self.settle();
    }

    /// Nodes do all that they are asked for now: start what should run, stop what should not, hold the rest ready.
    pub(crate) fn obey(&mut self) {
        for _ in 0..400 {
            let asked = self.store.tasks.values().find_map(|task| {
                let is_placed = task.status.state >= TaskState::Assigned && !task.status.state.is_over();
                let state = match task.desired_state {
                    TaskState::Ready => TaskState::Ready,
                    TaskState::Running | TaskState::Complete => TaskState::Running,
                    _ => TaskState::Shutdown,
                };
                (is_placed && task.status.state < state).then_some((task.id, state))
            });
            let Some((id, state)) = asked else { return };
            self.report(id, state);
        }
    }

    /// The tasks that should work, by slot and node.
    pub(crate) fn wanted(&self) -> Vec<Arc<Task>> {
        let wanted = self
            .store
            .tasks
            .values()
            .filter(|task| task.desired_state <= TaskState::Complete);
        let mut wanted: Vec<_> = wanted.cloned().collect();
        wanted.sort_by_key(|task| (task.slot, task.node_id, task.id));
        wanted
    }

    /// Those of them that run.
    pub(crate) fn running(&self) -> Vec<Arc<Task>> {
        let mut wanted = self.wanted();
        wanted.retain(|task| task.status.state == TaskState::Running);
        wanted
    }

    /// The slots of the tasks that should work.
    pub(crate) fn slots(&self) -> Vec<u64> {
        self.wanted().iter().filter_map(|task| task.slot).collect()
    }

    /// The nodes of the tasks that should work.
    pub(crate) fn places(&self) -> Vec<NodeId> {
        self.wanted().iter().filter_map(|task| task.node_id).collect()
    }

    /// A new leader takes over.
    pub(crate) fn change_leader(&mut self) {
        self.orchestrator = Orchestrator::new(&self.store);
        self.settle();
    }
}

fn time(milliseconds: u64) -> Now {
    Now {
        wall: Timestamp::from_second(1_700_000_000).unwrap() + Duration::from_millis(milliseconds),
        monotonic: Duration::from_millis(milliseconds),
    }
}
