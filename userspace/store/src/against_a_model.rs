//! Random operations on a store, its replica and a model: what exists at which version and under which name, and that
//! no address, port, VNI or subnet is held twice.

use crate::samples::{Lab, cluster, network, node, secret, service, targets, task, time};
use crate::{Change, Conflict, Kind, Object, ObjectId, Store, Transaction, View, allocate, overdue, release};
use essaim_objects::{NetworkId, NodeId, ServiceId, TaskId, TaskState};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What may be tried; numbers are identities, so that few of each kind meet often.
#[derive(Clone, Debug)]
enum Op {
    Network {
        bits: u128,
        name: u8,
        shape: u8,
    },
    Service {
        bits: u128,
        name: u8,
        networks: Vec<u128>,
        port: Option<u16>,
        is_dnsrr: bool,
    },
    Secret {
        bits: u128,
        name: u8,
    },
    Task {
        bits: u128,
        service: u128,
        node: Option<u128>,
        slot: u128,
    },
    TaskState {
        bits: u128,
        state: TaskState,
    },
    Node {
        bits: u128,
    },
    Remove {
        which: Index,
    },
    Release {
        bits: u128,
    },
    Stale {
        which: Index,
        back: u64,
    },
    Overdue,
    Restart,
}

fn ops() -> impl Strategy<Value = Op> {
    let service = (
        1..6_u128,
        0..6_u8,
        prop::collection::vec(1..5_u128, 0..3),
        prop::option::of(0..3_u16),
        any::<bool>(),
    );
    let service = service.prop_map(|(bits, name, mut networks, port, is_dnsrr)| {
        networks.sort_unstable();
        networks.dedup();
        Op::Service {
            bits,
            name,
            networks,
            port,
            is_dnsrr,
        }
    });
    let task = (1..40_u128, 1..6_u128, prop::option::of(1..4_u128), 1..4_u128);
    prop_oneof![
        3 => (1..5_u128, 0..5_u8, 0..5_u8).prop_map(|(bits, name, shape)| Op::Network { bits, name, shape }),
        4 => service,
        1 => (1..3_u128, 0..3_u8).prop_map(|(bits, name)| Op::Secret { bits, name }),
        12 => task.prop_map(|(bits, service, node, slot)| Op::Task { bits, service, node, slot }),
        8 => (1..40_u128, select(TaskState::ALL.to_vec())).prop_map(|(bits, state)| Op::TaskState { bits, state }),
        2 => (1..4_u128).prop_map(|bits| Op::Node { bits }),
        5 => any::<Index>().prop_map(|which| Op::Remove { which }),
        1 => (1..5_u128).prop_map(|bits| Op::Release { bits }),
        1 => (any::<Index>(), 1..5_u64).prop_map(|(which, back)| Op::Stale { which, back }),
        2 => Just(Op::Overdue),
        1 => Just(Op::Restart),
    ]
}

/// What exists, at which version, under which name.
type Model = BTreeMap<ObjectId, (u64, Option<String>)>;

/// The conflict that the model alone foresees.
fn foreseen(model: &Model, change: &Change) -> Option<&'static str> {
    let id = change.id();
    let name = change.object().and_then(Object::unique_name).map(str::to_owned);
    let is_other = |(other, (_, taken)): (&ObjectId, &(u64, Option<String>))| {
        *other != id && other.kind() == id.kind() && *taken == name
    };
    let clashes = name.is_some() && model.iter().any(is_other);
    match (change, model.get(&id)) {
        (Change::Create(_), Some(_)) => Some("exists"),
        (Change::Update(..) | Change::Remove(..), None) => Some("not found"),
        (Change::Update(_, read) | Change::Remove(_, read), Some((version, _))) if read.index != *version => {
            Some("out of sequence")
        }
        (Change::Create(_) | Change::Update(..), _) if clashes => Some("name"),
        _ => None,
    }
}

fn word(conflict: &Conflict) -> Option<&'static str> {
    match conflict {
        Conflict::Exists { .. } => Some("exists"),
        Conflict::NotFound { .. } => Some("not found"),
        Conflict::OutOfSequence { .. } => Some("out of sequence"),
        Conflict::NameTaken { .. } => Some("name"),
        _ => None,
    }
}

struct Run {
    lab: Lab,
    model: Model,
    /// Applies what it reads from bytes, and restarts from snapshots.
    replica: Store,
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            lab: Lab::default(),
            model: Model::new(),
            replica: Store::new(),
        };
        let mut transaction = Transaction::new();
        // Room for three networks of the pool, of 14 hosts each.
        run.apply(transaction.create(cluster(&["10.0.0.0/27", "10.1.0.0/28"], 28)));
        run
    }

    fn view(&self) -> &View {
        self.lab.view()
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each operation")]
    fn step(&mut self, op: Op) {
        let mut transaction = Transaction::new();
        match op {
            Op::Restart => {
                let bytes = self.replica.view().encode().unwrap();
                assert_eq!(bytes, self.view().encode().unwrap());
                self.replica = Store::decode(&bytes).unwrap();
                return;
            }
            Op::Overdue => {
                let transaction = overdue(self.view());
                self.apply(&transaction);
                return;
            }
            Op::Release { bits } => {
                if let Ok(transactions) = release(self.view(), NetworkId::from_bits(bits)) {
                    for transaction in &transactions {
                        assert!(self.apply(transaction));
                    }
                }
                return;
            }
            Op::Remove { which } | Op::Stale { which, .. } if !self.model.is_empty() => {
                let known: Vec<_> = self
                    .model
                    .iter()
                    .map(|(id, (version, _))| (*id, *version))
                    .collect();
                let (id, version) = *which.get(&known);
                let back = if let Op::Stale { back, .. } = op { back } else { 0 };
                let index = version.saturating_sub(back);
                if id.kind() != Kind::Cluster {
                    transaction
                        .changes
                        .push(Change::Remove(id, essaim_objects::Version { index }));
                }
                self.apply(&transaction);
                return;
            }
            Op::Remove { .. } | Op::Stale { .. } => return,
            Op::Network { bits, name, shape } => {
                let shape = match shape {
                    0 => json!({"Ingress": true}),
                    1 => json!({"IPAMOptions": {"Configs": [{"Subnet": "10.9.0.0/29"}]}}),
                    2 => json!({"IPv6Enabled": true}),
                    _ => json!({}),
                };
                transaction.create(network(bits, &format!("n{name}"), shape));
            }
            Op::Secret { bits, name } => {
                transaction.create(secret(bits, &format!("s{name}")));
            }
            Op::Service {
                bits,
                name,
                networks,
                port,
                is_dnsrr,
            } => {
                let ports: Vec<_> = port
                    .iter()
                    .map(|port| json!({"TargetPort": 80, "PublishedPort": port}))
                    .collect();
                let mode = if is_dnsrr { "dnsrr" } else { "vip" };
                let mut new = service(
                    bits,
                    &format!("s{name}"),
                    json!({"TaskTemplate": {"Networks": targets(&networks)}, "EndpointSpec": {"Mode": mode, "Ports": ports}}),
                );
                match self.view().service(ServiceId::from_bits(bits)) {
                    Some(old) => {
                        new.version = old.version;
                        transaction.update(new);
                    }
                    None => {
                        transaction.create(new);
                    }
                }
            }
            Op::Task {
                bits,
                service,
                node,
                slot,
            } => {
                let Some(service) = self.view().service(ServiceId::from_bits(service)) else {
                    return;
                };
                let mut new = task(bits, service, slot);
                new.node_id = node.map(NodeId::from_bits);
                transaction.create(new);
            }
            Op::TaskState { bits, state } => {
                let Some(old) = self.view().task(TaskId::from_bits(bits)) else {
                    return;
                };
                let mut new = old.as_ref().clone();
                new.status.state = state;
                let goes_back = state < old.status.state;
                transaction.update(new);
                assert_ne!(self.apply(&transaction), goes_back);
                return;
            }
            Op::Node { bits } => {
                transaction.create(node(bits));
            }
        }
        let is_foreseen = foreseen(&self.model, &transaction.changes[0]).is_some();
        match allocate(self.view(), &mut transaction) {
            Ok(_) => assert!(self.apply(&transaction), "completed, and nothing came between"),
            // What cannot be completed is told, and a bad change is so before anything is allotted or after.
            Err(_) if is_foreseen => assert!(!self.apply(&transaction)),
            Err(_) => {}
        }
    }

    /// Applies a transaction to all; whether it went through.
    fn apply(&mut self, transaction: &Transaction) -> bool {
        let expected = transaction
            .changes
            .iter()
            .find_map(|change| foreseen(&self.model, change));
        let applied = self.lab.apply(transaction);
        let index = self.lab.log.len() as u64;
        let read = Transaction::decode(&transaction.encode().unwrap()).unwrap();
        assert_eq!(self.replica.apply(index, &read, time(index)), applied);
        assert_eq!(self.replica.view(), self.view());
        match &applied {
            Ok(events) => {
                assert_eq!((expected, events.len()), (None, transaction.changes.len()));
                for change in &transaction.changes {
                    match change.object() {
                        Some(object) => {
                            let name = object.unique_name().map(str::to_owned);
                            self.model.insert(change.id(), (index, name));
                        }
                        None => drop(self.model.remove(&change.id())),
                    }
                }
            }
            // With two faults at once, either may be told.
            Err(conflict) => assert!(
                word(conflict).is_none_or(|word| Some(word) == expected),
                "{conflict}: {expected:?}"
            ),
        }
        self.check();
        applied.is_ok()
    }

    fn check(&self) {
        let view = self.view();
        for (id, (version, name)) in &self.model {
            let object = view.object(*id).unwrap();
            assert_eq!(
                (object.version().index, object.unique_name()),
                (*version, name.as_deref())
            );
        }
        let count = view.nodes().len() + view.networks().len() + view.services().len() + view.tasks().len();
        let count =
            count + view.secrets().len() + view.configs().len() + usize::from(view.cluster().is_some());
        assert_eq!(count, self.model.len());
        // Every address once, worked out without the store's own derivation.
        let mut seen: BTreeSet<(NetworkId, IpAddr)> = BTreeSet::new();
        let live = view
            .tasks()
            .filter(|task| task.status.state <= TaskState::Running);
        let of_tasks = live.flat_map(|task| &task.networks_attachments);
        let attachments = of_tasks.chain(view.nodes().flat_map(|node| &node.attachments));
        for attachment in attachments {
            for address in &attachment.addresses {
                assert!(
                    seen.insert((attachment.network.id, address.addr())),
                    "{address} twice"
                );
            }
        }
        for vip in view
            .services()
            .filter_map(|service| service.endpoint.as_ref())
            .flat_map(essaim_objects::Endpoint::virtual_ips)
        {
            assert!(
                seen.insert((vip.network_id, vip.addr.unwrap().addr())),
                "{vip:?} twice"
            );
        }
        for network in view.networks() {
            for subnet in network.subnets() {
                assert!(
                    seen.insert((network.id, subnet.gateway.unwrap())),
                    "{subnet:?}: gateway given away"
                );
            }
            assert_eq!(
                view.addresses_on(network.id)
                    .map(|(address, _)| address)
                    .collect::<Vec<_>>(),
                seen.iter()
                    .filter(|(on, _)| *on == network.id)
                    .map(|(_, address)| *address)
                    .collect::<Vec<_>>()
            );
        }
        let tasks: usize = TaskState::ALL
            .iter()
            .map(|state| view.tasks_in_state(*state).count())
            .sum();
        assert_eq!(tasks, view.tasks().len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn replicas_agree_with_the_model_and_nothing_is_held_twice(ops in prop::collection::vec(ops(), 1..120)) {
        let mut run = Run::new();
        for op in ops {
            run.step(op);
        }
        // A snapshot and the tail of the log make what the whole log makes.
        let half = run.lab.log.len() / 2;
        let mut whole = Store::new();
        let mut tail = Store::new();
        for (at, transaction) in run.lab.log.iter().enumerate() {
            let index = at as u64 + 1;
            if at == half {
                tail = Store::decode(&whole.view().encode().unwrap()).unwrap();
            }
            let applied = whole.apply(index, transaction, time(index));
            if at >= half {
                prop_assert_eq!(tail.apply(index, transaction, time(index)), applied);
            }
        }
        prop_assert_eq!(whole.view(), run.view());
        prop_assert_eq!(&tail, &whole);
    }

    #[test]
    fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<Index>(), flip in 1..=255_u8) {
        prop_assert!(View::decode(&bytes).is_err());
        let mut run = Run::new();
        run.step(Op::Network { bits: 1, name: 1, shape: 1 });
        let mut snapshot = run.view().encode().unwrap();
        let at = at.index(snapshot.len());
        snapshot[at] ^= flip;
        prop_assert!(View::decode(&snapshot).is_err());
    }
}
