//! Completing transactions, on the leader: VNIs, subnets, gateways, addresses, virtual addresses and ports.
//!
//! Each change is completed from what those before it leave and then applied to a copy, so what [`allocate`] completes
//! applies, if nothing comes between. Tasks and nodes for which nothing is left do not fail a transaction: they wait,
//! with the reason in the task's status, and [`overdue`] finds them again.

mod addresses;
mod network;
mod service;
mod task;

use crate::apply::Stamp;
use crate::{Change, Conflict, MAX_CHANGES, Object, ObjectId, Transaction, View};
use essaim_abi::MacAddr;
use essaim_objects::{NetworkId, NodeId, Protocol, Task, TaskState, Timestamp, Version};
use ipnet::IpNet;
use std::sync::Arc;

/// Something that cannot be allotted; the transaction is not complete and must not be proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot allot {what}: {why}")]
pub struct NotAllocated {
    /// What, and to whom.
    pub what: String,
    /// Why not.
    pub why: Box<Why>,
}

impl NotAllocated {
    fn new(what: impl Into<String>, why: Why) -> Self {
        Self {
            what: what.into(),
            why: Box::new(why),
        }
    }
}

/// Why something cannot be allotted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// No subnet is left in the pools.
    #[error("{used} of {of} subnets of /{size} in pool {} are used; add a pool or remove networks", join(.pools))]
    PoolUsedUp {
        /// The pools.
        pools: Vec<IpNet>,
        /// The prefix's length of a subnet.
        size: u8,
        /// How many are used.
        used: u128,
        /// How many there are.
        of: u128,
    },
    /// No pool has this family.
    #[error("no pool has {family} addresses; give the network a subnet")]
    NoPool {
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// No address is left in the network.
    #[error(
        "{used} of {of} addresses in {range} of network {network} are used; use a network with a larger subnet"
    )]
    AddressesUsedUp {
        /// The network's name.
        network: String,
        /// The part of its subnet that addresses are handed out of.
        range: IpNet,
        /// How many are used.
        used: u128,
        /// How many there are.
        of: u128,
    },
    /// The subnet was given, and shares addresses with another's.
    #[error("it overlaps {other} of network {by}; choose another subnet")]
    Overlap {
        /// The other subnet.
        other: IpNet,
        /// The other network's name.
        by: String,
    },
    /// The VNI was given, and is another's.
    #[error("network {by} has it; choose another")]
    VniTaken {
        /// The other network's name.
        by: String,
    },
    /// No VNI is left.
    #[error("all VNIs from 4096 to 16777215 are used; remove networks")]
    VnisUsedUp,
    /// The port was given, and is another's. The text is Docker's.
    #[error("port '{port}' is already in use by service '{by}' ({id}) as an ingress port")]
    PortTaken {
        /// The port.
        port: u16,
        /// The other service's name.
        by: String,
        /// Its identity.
        id: ObjectId,
    },
    /// No port is left to choose.
    #[error("all {protocol} ports from 30000 to 32767 are published; name a published port")]
    PortsUsedUp {
        /// The protocol.
        protocol: Protocol,
    },
    /// There is no such network.
    #[error("network {network} not found")]
    NoNetwork {
        /// As it was asked for.
        network: String,
    },
    /// The network holds only configuration.
    #[error("network {network} only holds configuration; use one that takes it")]
    ConfigOnly {
        /// Its name.
        network: String,
    },
    /// The subnet is too small to hold a gateway and tasks.
    #[error("subnet {subnet} has no address for a gateway")]
    NoGateway {
        /// The subnet.
        subnet: IpNet,
    },
    /// The transaction does not go with what is there.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

fn join(pools: &[IpNet]) -> String {
    pools
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What was allotted, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allotted {
    /// The tasks and nodes that wait, in the transaction's order, with the reason.
    pub waiting: Vec<NotAllocated>,
}

/// Completes a transaction with what its objects need and do not have.
///
/// # Errors
/// A network or service cannot have what it needs, or the transaction does not apply. It may be partly completed.
pub fn allocate(view: &View, transaction: &mut Transaction) -> Result<Allotted, NotAllocated> {
    let mut work = view.clone();
    let stamp = Stamp {
        version: Version {
            index: view.index() + 1,
        },
        time: Timestamp::UNIX_EPOCH,
    };
    let mut allotted = Allotted::default();
    let gives_up = gives_up_ingress(view, transaction);
    for change in &mut transaction.changes {
        if let Change::Create(object) | Change::Update(object, _) = change
            && !(gives_up && matches!(object, Object::Node(_)))
        {
            allotted.waiting.extend(complete(&work, object)?);
        }
        work.change(change, stamp)
            .map_err(|conflict| NotAllocated::new(change.id().to_string(), conflict.into()))?;
    }
    Ok(allotted)
}

/// Whether a transaction removes the ingress network: the nodes in it give their addresses up, and are given no others.
fn gives_up_ingress(view: &View, transaction: &Transaction) -> bool {
    let is_ingress = |id| {
        view.ingress()
            .is_some_and(|network| id == ObjectId::from(network.id))
    };
    let mut changes = transaction.changes.iter();
    changes.any(|change| matches!(change, Change::Remove(..)) && is_ingress(change.id()))
}

/// Completes an object; the reason why a task or node must wait.
fn complete(work: &View, object: &mut Object) -> Result<Option<NotAllocated>, NotAllocated> {
    match object {
        Object::Network(network) => network::complete(work, Arc::make_mut(network)).map(|()| None),
        Object::Service(service) => service::complete(work, Arc::make_mut(service)).map(|()| None),
        Object::Task(task) if task::is_due(work, task) => Ok(task::complete(work, Arc::make_mut(task)).err()),
        Object::Node(node) if task::is_node_due(work, node) => {
            Ok(task::complete_node(work, Arc::make_mut(node)).err())
        }
        Object::Task(_) | Object::Node(_) | Object::Cluster(_) | Object::Secret(_) | Object::Config(_) => {
            Ok(None)
        }
    }
}

/// A transaction, already completed, for tasks and nodes that waited and can now have what they need, or that wait for
/// another reason than before; empty where there is none. To be asked for whenever something was freed, and again after
/// it was applied, since a transaction holds only so much.
pub fn overdue(view: &View) -> Transaction {
    let mut work = view.clone();
    let stamp = Stamp {
        version: Version {
            index: view.index() + 1,
        },
        time: Timestamp::UNIX_EPOCH,
    };
    let nodes = view
        .nodes()
        .filter(|node| task::is_node_due(view, node))
        .cloned()
        .map(Object::Node);
    let tasks = view
        .tasks_in_state(TaskState::New)
        .filter(|task| wants_to_run(task));
    let mut transaction = Transaction::new();
    for object in nodes.chain(tasks.cloned().map(Object::Task)) {
        if transaction.changes.len() == MAX_CHANGES {
            break;
        }
        let mut completed = object.clone();
        // Neither tasks nor nodes fail; they wait.
        let is_complete = complete(&work, &mut completed).is_ok();
        let change = Change::Update(completed.clone(), object.version());
        if is_complete && completed != object && work.change(&change, stamp).is_ok() {
            transaction.changes.push(change);
        }
    }
    transaction
}

/// Whether a task should run, or, of a job, come to its end.
fn wants_to_run(task: &Task) -> bool {
    task.desired_state <= TaskState::Complete
}

/// The transactions that remove a network, to be applied one after the other: the nodes give up their addresses on the
/// ingress network first.
///
/// # Errors
/// It is not there, or a service or task uses it.
pub fn release(view: &View, network: NetworkId) -> Result<Vec<Transaction>, Conflict> {
    let object = ObjectId::from(network);
    let Some(found) = view.network(network) else {
        return Err(Conflict::NotFound { object });
    };
    let holders = view.addresses_on(network).filter_map(|(_, holder)| match holder {
        ObjectId::Node(id) => Some(id),
        _ => None,
    });
    let holders: std::collections::BTreeSet<NodeId> = holders.collect();
    let mut changes = Vec::new();
    for node in holders.iter().filter_map(|id| view.node(*id)) {
        let mut without = node.as_ref().clone();
        without
            .attachments
            .retain(|attachment| attachment.network.id != network);
        changes.push(Change::update(without));
    }
    changes.push(Change::remove(found.clone()));
    let batches = changes.chunks(MAX_CHANGES).map(|changes| Transaction {
        changes: changes.to_vec(),
    });
    let batches: Vec<_> = batches.collect();
    let mut work = view.clone();
    let stamp = Stamp {
        version: Version {
            index: view.index() + 1,
        },
        time: Timestamp::UNIX_EPOCH,
    };
    changes
        .iter()
        .try_for_each(|change| work.change(change, stamp).map(drop))?;
    Ok(batches)
}

/// The Ethernet address that goes with a task's or node's addresses on a network, as the data plane derives it.
pub fn mac(addresses: &[IpNet]) -> MacAddr {
    let addresses = addresses.iter().map(IpNet::addr).collect();
    essaim_model::Endpoint::new(essaim_model::NetworkName::ingress(), addresses).mac()
}

#[cfg(test)]
mod tests;
