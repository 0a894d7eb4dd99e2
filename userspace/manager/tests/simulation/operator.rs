//! The operator: writes through any manager, and remembers what was acknowledged.

use crate::make;
use crate::managers::From;
use crate::world::World;
use essaim_objects::{
    Availability, Cluster, ClusterId, ClusterSpec, Config, ConfigId, Network, NetworkId, Node, NodeState,
    Service, ServiceId, ServiceSpec, UpdateState,
};
use essaim_store::{Store, Transaction, View, allocate, release};
use rand::RngExt;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NODES: u128 = 5;
const COUNTER: u128 = 1;

/// What a write was for, until it is answered.
#[derive(Clone, Copy)]
enum Write {
    Count,
    Create(ServiceId),
    Remove(ServiceId),
    Other,
}

#[derive(Default)]
pub(crate) struct Operator {
    writes: u64,
    open: BTreeMap<u64, Write>,
    made: u128,
    /// How often it was acknowledged that the counter was counted up.
    counted: u64,
    created: BTreeSet<ServiceId>,
    /// Those that were to be removed, whatever was answered.
    may_be_gone: BTreeSet<ServiceId>,
}

impl Operator {
    /// A write was answered.
    pub(crate) fn answered(&mut self, write: u64, is_applied: bool) {
        match self.open.remove(&write).filter(|_| is_applied) {
            Some(Write::Count) => self.counted += 1,
            Some(Write::Create(id)) => drop(self.created.insert(id)),
            Some(Write::Remove(id)) => drop(self.created.remove(&id)),
            Some(Write::Other) | None => {}
        }
    }

    /// Nothing that was acknowledged is lost.
    pub(crate) fn check(&self, view: &View) {
        let counter = view
            .config(ConfigId::from_bits(COUNTER))
            .expect("the counter is lost");
        let count = count(counter);
        assert!(count >= self.counted, "{count} of {} acknowledged", self.counted);
        for id in self.created.iter().filter(|id| !self.may_be_gone.contains(id)) {
            assert!(
                view.service(*id).is_some(),
                "service {id} was acknowledged and is lost"
            );
        }
    }
}

fn count(counter: &Config) -> u64 {
    let labels = counter.spec.labels.as_ref();
    labels
        .and_then(|labels| labels.get("count")?.parse().ok())
        .unwrap_or(0)
}

fn network(number: u128, name: &str, rest: &serde_json::Value) -> Network {
    let mut spec = json!({"Name": name, "Driver": "overlay"});
    make::merge(&mut spec, rest);
    Network::new(
        NetworkId::from_bits(number),
        serde_json::from_value(spec).unwrap(),
    )
}

impl World {
    /// The cluster as it begins.
    pub(crate) fn found(&mut self) {
        let mut transaction = Transaction::new();
        let mut cluster = Cluster::new(ClusterId::from_bits(1), ClusterSpec::default());
        cluster.default_addr_pool = Some(vec!["10.0.0.0/16".to_owned()]);
        cluster.subnet_size = Some(24);
        transaction.create(cluster);
        transaction.create(network(1, "ingress", &json!({"Ingress": true})));
        // Room for few.
        let narrow = json!({"IPAMOptions": {"Configs": [{"Subnet": "10.7.0.0/28"}]}});
        transaction.create(network(2, "narrow", &narrow));
        transaction.create(network(3, "wide", &json!({})));
        let spec = json!({"Name": "counter", "Data": "QUJD"});
        transaction.create(Config::new(
            ConfigId::from_bits(COUNTER),
            serde_json::from_value(spec).unwrap(),
        ));
        for number in 1..=NODES {
            let id = self.add_machine(number);
            let zone = if number % 2 == 0 { "a" } else { "b" };
            let spec = json!({"Labels": {"zone": zone}, "Availability": "active"});
            transaction.create(Node::new(id, serde_json::from_value(spec).unwrap()));
        }
        self.operator.made = 100;
        let view = Store::new().view().clone();
        self.write(&view, transaction, Write::Other);
    }

    /// Asks the leader for a change that was decided from what some manager holds.
    fn write(&mut self, view: &View, mut transaction: Transaction, write: Write) {
        let Some(leader) = self.managers.leader else {
            return;
        };
        if transaction.changes.is_empty() || allocate(view, &mut transaction).is_err() {
            return;
        }
        self.operator.writes += 1;
        let number = self.operator.writes;
        if let Write::Remove(id) = write {
            self.operator.may_be_gone.insert(id);
        }
        self.operator.open.insert(number, write);
        let time = self.managers.time(leader, self.now).wall;
        // Now and then the answer is lost.
        let is_heard = self.is_calm || self.rng.random_range(0..10) > 0;
        let from = if is_heard {
            From::Operator { write: number }
        } else {
            From::Nobody
        };
        self.put(transaction.encode().unwrap(), time, from);
    }

    fn update(&mut self, view: &View, object: impl Into<essaim_store::Object>) {
        let mut transaction = Transaction::new();
        transaction.update(object);
        self.write(view, transaction, Write::Other);
    }

    /// Does something that operators do.
    pub(crate) fn operate(&mut self) {
        let view = self.any_view();
        let services: Vec<Arc<Service>> = view.services().cloned().collect();
        let at = self.rng.random_range(0..services.len().max(1));
        let service = services.get(at);
        let nodes: Vec<Arc<Node>> = view.nodes().cloned().collect();
        if nodes.is_empty() {
            return;
        }
        let node = nodes[self.rng.random_range(0..nodes.len())].clone();
        match (self.rng.random_range(0..26), service) {
            (0..3, _) => self.count_up(&view),
            (3..5, _) if services.len() < 6 => self.create_service(&view),
            (_, None) => self.create_service(&view),
            (10..13, Some(service)) => self.respecify(&view, service, "good"),
            (13..15, Some(service)) => self.respecify(&view, service, "bad"),
            (15..17, Some(service)) => {
                if let Some(previous) = service.previous_spec.clone() {
                    let index = view.index() + 1;
                    self.update(
                        &view,
                        make::respecified(service, ServiceSpec::clone(&previous), index),
                    );
                }
            }
            (17, Some(service)) if services.len() > 2 => {
                let mut transaction = Transaction::new();
                transaction.remove(service.clone());
                self.write(&view, transaction, Write::Remove(service.id));
            }
            (18, _) => self.set_availability(&view, &node, Availability::Drain),
            (19, _) => self.set_availability(&view, &node, Availability::Pause),
            (20..22, _) => self.set_availability(&view, &node, Availability::Active),
            (22, _) => {
                let down = nodes.iter().find(|node| node.status.state == NodeState::Down);
                if let Some(down) = down.filter(|_| nodes.len() > 3) {
                    let mut transaction = Transaction::new();
                    transaction.remove(down.clone());
                    self.machines.remove(&down.id);
                    self.write(&view, transaction, Write::Other);
                }
            }
            (23, _) if nodes.len() < 8 => {
                self.operator.made += 1;
                let id = self.add_machine(self.operator.made);
                let mut transaction = Transaction::new();
                transaction.create(Node::new(id, essaim_objects::NodeSpec::default()));
                self.write(&view, transaction, Write::Other);
            }
            (24, _) => {
                self.operator.made += 1;
                let number = self.operator.made;
                let mut transaction = Transaction::new();
                transaction.create(network(number, &format!("net{number}"), &json!({})));
                self.write(&view, transaction, Write::Other);
            }
            (25, _) => {
                let unused = view.networks().find(|network| {
                    let name = network.spec.name.as_deref().unwrap_or_default();
                    name.starts_with("net") && view.services_on_network(network.id).next().is_none()
                });
                let transactions = unused.and_then(|network| release(&view, network.id).ok());
                for transaction in transactions.into_iter().flatten() {
                    self.write(&view, transaction, Write::Other);
                }
            }
            (_, Some(service)) => self.scale(&view, service),
        }
    }

    fn count_up(&mut self, view: &View) {
        let Some(counter) = view.config(ConfigId::from_bits(COUNTER)) else {
            return;
        };
        let mut counter = Config::clone(counter);
        let next = (count(&counter) + 1).to_string();
        counter
            .spec
            .labels
            .get_or_insert_default()
            .insert("count".to_owned(), next);
        let mut transaction = Transaction::new();
        transaction.update(counter);
        self.write(view, transaction, Write::Count);
    }

    fn set_availability(&mut self, view: &View, node: &Node, availability: Availability) {
        let mut changed = node.clone();
        changed.spec.availability = Some(availability);
        self.update(view, changed);
    }

    fn scale(&mut self, view: &View, service: &Service) {
        let mut spec = ServiceSpec::clone(&service.spec);
        let replicas = self.rng.random_range(0..9_u64);
        if let Some(replicated) = spec.mode.as_mut().and_then(|mode| mode.replicated.as_mut()) {
            replicated.replicas = Some(replicas);
            self.update(view, make::respecified(service, spec, view.index() + 1));
        }
    }

    fn respecify(&mut self, view: &View, service: &Service, image: &str) {
        let mut spec = ServiceSpec::clone(&service.spec);
        let template = Arc::make_mut(&mut spec.task_template);
        let image = format!("{image}-{}", self.rng.random_range(0..1_000_u32));
        template.container.get_or_insert_default().image = Some(image);
        self.update(view, make::respecified(service, spec, view.index() + 1));
    }

    /// Looks after what waits for an operator: once all is well, nodes take tasks and no update is paused.
    pub(crate) fn tidy(&mut self) {
        let Some(leader) = self.managers.leader else {
            return;
        };
        let view = self.managers.view(leader).clone();
        for node in view
            .nodes()
            .filter(|node| node.spec.availability() != Availability::Active)
        {
            self.set_availability(&view, node, Availability::Active);
        }
        // Nodes whose removal or arrival came to nothing.
        for node in view
            .nodes()
            .filter(|node| !self.machines.contains_key(&node.id))
            .cloned()
            .collect::<Vec<_>>()
        {
            if node.status.state == NodeState::Down {
                let mut transaction = Transaction::new();
                transaction.remove(node);
                self.write(&view, transaction, Write::Other);
            }
        }
        for service in view.services().cloned().collect::<Vec<_>>() {
            if service.update_status.as_ref().and_then(|it| it.state) == Some(UpdateState::RollbackPaused) {
                self.respecify(&view, &service, "good");
            }
        }
    }

    fn create_service(&mut self, view: &View) {
        self.operator.made += 1;
        let number = self.operator.made;
        let rng = &mut self.rng;
        let mode = match rng.random_range(0..8) {
            0..5 => json!({"Replicated": {"Replicas": rng.random_range(0..8_u64)}}),
            5 | 6 => json!({"Global": {}}),
            _ => json!({"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 4}}),
        };
        let order = if rng.random() { "start-first" } else { "stop-first" };
        let policy = |action: &str, parallelism: u64| {
            json!({"Parallelism": parallelism, "Order": order, "FailureAction": action,
                "Monitor": 3_000_000_000_i64, "Delay": 500_000_000_i64})
        };
        let action = ["pause", "continue", "rollback"][rng.random_range(0..3)];
        let networks = match rng.random_range(0..4) {
            0 => json!([]),
            1 | 2 => json!([{"Target": NetworkId::from_bits(2)}]),
            _ => json!([{"Target": NetworkId::from_bits(2)}, {"Target": NetworkId::from_bits(3)}]),
        };
        let mut spec = json!({
            "Name": format!("s{}", number % 40),
            "TaskTemplate": {
                "ContainerSpec": {"Image": "good"},
                "RestartPolicy": {"Condition": "any", "Delay": 1_000_000_000_i64},
                "Networks": networks,
            },
            "Mode": mode,
            "UpdateConfig": policy(action, rng.random_range(0..3)),
            "RollbackConfig": policy("pause", rng.random_range(0..3)),
        });
        if rng.random_range(0..3) == 0 {
            let port = 8_000 + rng.random_range(0..3_u64);
            spec["EndpointSpec"] = json!({"Ports": [{"TargetPort": 80, "PublishedPort": port}]});
        }
        if rng.random_range(0..4) == 0 {
            let reserved = json!({"Resources": {"Reservations": {"NanoCPUs": 1_500_000_000_i64}}});
            make::merge(&mut spec["TaskTemplate"], &reserved);
        }
        let mut service = make::service(number, &spec);
        let index = view.index() + 1;
        service.spec_version = Some(essaim_objects::Version { index });
        let id = service.id;
        let mut transaction = Transaction::new();
        transaction.create(service);
        self.write(view, transaction, Write::Create(id));
    }
}
