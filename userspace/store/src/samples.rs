//! Objects for tests, and a store that is audited after each step.

use crate::{Allotted, Conflict, Event, Finding, NotAllocated, Store, Transaction, View, allocate, audit};
use essaim_objects::{
    Cluster, ClusterId, ClusterSpec, Config, ConfigId, Network, NetworkId, Node, NodeId, NodeSpec, Secret,
    SecretId, Service, ServiceId, Task, TaskId, Timestamp,
};
use serde_json::{Value, json};

pub(crate) fn cluster(pools: &[&str], subnet_size: u32) -> Cluster {
    let mut cluster = Cluster::new(ClusterId::from_bits(1), ClusterSpec::default());
    cluster.default_addr_pool = Some(pools.iter().map(|&pool| pool.to_owned()).collect());
    cluster.subnet_size = Some(subnet_size);
    cluster
}

pub(crate) fn node(bits: u128) -> Node {
    Node::new(NodeId::from_bits(bits), NodeSpec::default())
}

pub(crate) fn network(bits: u128, name: &str, rest: Value) -> Network {
    Network::new(NetworkId::from_bits(bits), spec(name, rest))
}

pub(crate) fn service(bits: u128, name: &str, rest: Value) -> Service {
    let spec: essaim_objects::ServiceSpec = spec(name, rest);
    Service::new(ServiceId::from_bits(bits), spec.into())
}

/// A spec of this name with further members.
fn spec<T: serde::de::DeserializeOwned>(name: &str, mut rest: Value) -> T {
    rest["Name"] = name.into();
    serde_json::from_value(rest).unwrap()
}

/// A service on these networks.
pub(crate) fn service_on(bits: u128, name: &str, networks: &[u128]) -> Service {
    service(
        bits,
        name,
        json!({"TaskTemplate": {"Networks": targets(networks)}}),
    )
}

pub(crate) fn targets(networks: &[u128]) -> Value {
    let targets = networks
        .iter()
        .map(|bits| json!({"Target": NetworkId::from_bits(*bits)}));
    targets.collect()
}

pub(crate) fn task(bits: u128, service: &Service, slot: u128) -> Task {
    let mut task = Task::new(
        TaskId::from_bits(bits),
        Some(service.id),
        service.spec.task_template.clone(),
    );
    task.slot = u64::try_from(slot).ok();
    task
}

pub(crate) fn secret(bits: u128, name: &str) -> Secret {
    Secret::new(SecretId::from_bits(bits), spec(name, json!({"Data": "QUJD"})))
}

pub(crate) fn config(bits: u128, name: &str) -> Config {
    Config::new(ConfigId::from_bits(bits), spec(name, json!({"Data": "QUJD"})))
}

/// A store, and the index of the next entry of its log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lab {
    pub(crate) store: Store,
    pub(crate) log: Vec<Transaction>,
}

impl Lab {
    pub(crate) fn view(&self) -> &View {
        self.store.view()
    }

    /// Applies a transaction as it is.
    pub(crate) fn apply(&mut self, transaction: &Transaction) -> Result<Vec<Event>, Conflict> {
        self.log.push(transaction.clone());
        let before = self.view().clone();
        let index = self.log.len() as u64;
        let applied = self.store.apply(index, transaction, time(index));
        if applied.is_err() {
            assert_eq!(*self.view(), before, "a conflict changed something");
        }
        let mut findings = audit(self.view());
        findings.retain(|finding| !matches!(finding, Finding::OfNoService { .. } | Finding::OfNoNode { .. }));
        assert_eq!(findings, []);
        applied
    }

    /// Completes a transaction and applies it, which must not conflict.
    pub(crate) fn commit(&mut self, mut transaction: Transaction) -> Result<Allotted, NotAllocated> {
        let allotted = allocate(self.view(), &mut transaction)?;
        self.apply(&transaction).unwrap();
        Ok(allotted)
    }

    /// As [`Self::commit`], with one new object.
    pub(crate) fn create(&mut self, object: impl Into<crate::Object>) -> Result<Allotted, NotAllocated> {
        let mut transaction = Transaction::new();
        transaction.create(object);
        self.commit(transaction)
    }

    /// As [`Self::commit`], with one changed object.
    pub(crate) fn update(&mut self, object: impl Into<crate::Object>) -> Result<Allotted, NotAllocated> {
        let mut transaction = Transaction::new();
        transaction.update(object);
        self.commit(transaction)
    }

    /// As [`Self::apply`], with one object that goes.
    pub(crate) fn remove(&mut self, id: impl Into<crate::ObjectId>) -> Result<Vec<Event>, Conflict> {
        let mut transaction = Transaction::new();
        transaction.remove(self.view().object(id.into()).unwrap());
        self.apply(&transaction)
    }

    pub(crate) fn service(&self, bits: u128) -> Service {
        self.view()
            .service(ServiceId::from_bits(bits))
            .unwrap()
            .as_ref()
            .clone()
    }

    pub(crate) fn task(&self, bits: u128) -> Task {
        self.view()
            .task(TaskId::from_bits(bits))
            .unwrap()
            .as_ref()
            .clone()
    }

    pub(crate) fn network(&self, bits: u128) -> Network {
        self.view()
            .network(NetworkId::from_bits(bits))
            .unwrap()
            .as_ref()
            .clone()
    }

    pub(crate) fn node(&self, bits: u128) -> Node {
        self.view()
            .node(NodeId::from_bits(bits))
            .unwrap()
            .as_ref()
            .clone()
    }

    /// A task's addresses, as text.
    pub(crate) fn addresses(&self, bits: u128) -> Vec<String> {
        let attachments = self.task(bits).networks_attachments;
        attachments
            .iter()
            .flat_map(|attachment| &attachment.addresses)
            .map(ToString::to_string)
            .collect()
    }

    /// A service's virtual addresses, as text.
    pub(crate) fn vips(&self, bits: u128) -> Vec<String> {
        let endpoint = self.service(bits).endpoint.unwrap();
        endpoint
            .virtual_ips()
            .iter()
            .map(|vip| vip.addr.unwrap().to_string())
            .collect()
    }

    /// A service's ports, published.
    pub(crate) fn ports(&self, bits: u128) -> Vec<u16> {
        let endpoint = self.service(bits).endpoint.unwrap();
        endpoint
            .ports()
            .iter()
            .map(essaim_objects::PortConfig::published)
            .collect()
    }
}

pub(crate) fn time(index: u64) -> Timestamp {
    Timestamp::from_second(i64::try_from(index).unwrap()).unwrap()
}
