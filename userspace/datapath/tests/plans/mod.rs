//! Plans made by hand for tests: services of backends, spread over nodes, published each on a port of its own.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "what a test builds on must be there"
)]

use essaim_abi::{MacAddr, Protocol};
use essaim_model::{
    AddressKind, AddressPlan, AttachmentFacts, AttachmentKey, AttachmentPlan, BackendKey, BackendPlan,
    ClusterPlan, DesiredState, GroupPlan, MaglevTable, Membership, NetworkName, NextHop, NodeFacts, NodeName,
    PublishedPort, Scope, ServiceKey, ServiceName, ServicePlan, SubnetPlan, TaskId, TaskState, Timeouts,
    Uplink, Vni,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Ten nodes; node 0 is this one.
pub(crate) const NODES: u32 = 10;
/// Tasks on this node have these interface indices, from here on.
pub(crate) const FIRST_IFINDEX: u32 = 100_000;

pub(crate) fn vtep(node: u32) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 1 + u8::try_from(node).unwrap()).into()
}

pub(crate) fn vni() -> Vni {
    Vni::new(4097).unwrap()
}

fn network() -> NetworkName {
    NetworkName::new("app").unwrap()
}

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number).into()
}

fn mac(address: IpAddr) -> MacAddr {
    match address {
        IpAddr::V4(address) => MacAddr::of_ipv4(address),
        IpAddr::V6(_) => MacAddr::default(),
    }
}

pub(crate) fn service_name(service: u32) -> ServiceName {
    ServiceName::new(&format!("s{service}")).unwrap()
}

pub(crate) fn task(service: u32, task: u32) -> TaskId {
    TaskId::new(&format!("s{service}.{task}")).unwrap()
}

pub(crate) fn backend_key(service: u32, number: u32) -> BackendKey {
    BackendKey {
        task: task(service, number),
        network: network(),
    }
}

pub(crate) fn group_key(service: u32, scope: Scope) -> ServiceKey {
    ServiceKey {
        service: service_name(service),
        scope,
    }
}

pub(crate) fn vip_key(service: u32) -> ServiceKey {
    group_key(service, Scope::Network(network()))
}

/// The plan of a service with these tasks; `published` gives it a Maglev table.
pub(crate) fn service(number: u32, tasks: &[(u32, TaskState)], published: bool) -> ServicePlan {
    let mut plan = ServicePlan::default();
    let vip = address(number * 64 + 1);
    let endpoint = |address, kind| {
        (
            address,
            AddressPlan {
                vni: vni(),
                kind,
                mac: mac(address),
                encrypted: false,
            },
        )
    };
    plan.addresses
        .extend([endpoint(vip, AddressKind::Vip(vip_key(number)))]);
    for (task_number, state) in tasks {
        let key = backend_key(number, *task_number);
        let node = task_number % NODES;
        let address = address(number * 64 + 2 + task_number);
        let attachment = AttachmentKey {
            task: key.task.clone(),
            network: network(),
        };
        let kind = match (state, node) {
            (TaskState::Gone, _) => AddressKind::Tombstone,
            (_, 0) => AddressKind::Local(attachment.clone(), key.clone()),
            (_, _) => AddressKind::Remote(vtep(node), key.clone()),
        };
        plan.addresses.extend([endpoint(address, kind)]);
        if node == 0 {
            let attached = AttachmentPlan {
                task: key.task.clone(),
                netns: key.task.to_string(),
                handover: false,
                interface: "eth0".to_owned(),
                addresses: vec![format!("{address}/8").parse().unwrap()],
                gateways: Vec::new(),
                default_route: true,
                mac: mac(address),
                vni: vni(),
                internal: false,
                encrypted: false,
                mtu: None,
                task_networks: BTreeSet::from([vni()]),
                state: *state,
            };
            plan.attachments.insert(attachment.clone(), attached);
        }
        let backend = BackendPlan {
            node: NodeName::new(&format!("n{node}")).unwrap(),
            vtep: vtep(node),
            vni: vni(),
            addresses: vec![address],
            mac: mac(address),
            state: *state,
            attachment: (node == 0).then_some(attachment),
        };
        plan.backends.insert(key, backend);
    }
    let active: Vec<BackendKey> = tasks
        .iter()
        .filter(|(_, state)| *state == TaskState::Ready)
        .map(|(task, _)| backend_key(number, *task))
        .collect();
    let group = GroupPlan {
        vips: vec![vip],
        vni: vni(),
        affinity: false,
        encrypted: false,
        timeouts: Timeouts::default(),
        active: active.clone(),
        maglev: None,
    };
    plan.groups.insert(vip_key(number), group.clone());
    if published {
        let membership = Membership {
            active,
            ..Membership::default()
        };
        let maglev = Some(Arc::new(MaglevTable::new(&membership)));
        let key = group_key(number, Scope::Ingress);
        plan.groups.insert(
            key.clone(),
            GroupPlan {
                vips: Vec::new(),
                vni: Vni::INGRESS,
                maglev,
                ..group
            },
        );
        let port = PublishedPort {
            group: key,
            target: 80,
            host: false,
            dsr: number % 2 == 1,
        };
        plan.published
            .insert((Protocol::Tcp, u16::try_from(10_000 + number).unwrap()), port);
    }
    plan
}

pub(crate) fn ready(tasks: u32) -> Vec<(u32, TaskState)> {
    (0..tasks).map(|task| (task, TaskState::Ready)).collect()
}

pub(crate) fn cluster() -> ClusterPlan {
    let gateway = address(0);
    let plan = |kind, address| AddressPlan {
        vni: vni(),
        kind,
        mac: mac(address),
        encrypted: false,
    };
    let overlay = |node: u32| IpAddr::from(Ipv4Addr::from_bits(0xac10_0001 + node));
    let mut addresses = BTreeMap::from([
        (gateway, plan(AddressKind::Gateway, gateway)),
        (overlay(0), plan(AddressKind::ThisNode, overlay(0))),
    ]);
    addresses.extend((1..NODES).map(|n| (overlay(n), plan(AddressKind::OtherNode(vtep(n)), overlay(n)))));
    let node = |n: u32| NodeName::new(&format!("n{n}")).unwrap();
    ClusterPlan {
        node: node(0),
        vtep: vtep(0),
        overlay: vec!["172.16.0.1/16".parse().unwrap()],
        vxlan_port: 4789,
        gossip_port: 7946,
        manager_port: 2377,
        ingress_vni: Vni::INGRESS,
        vteps: (0..NODES).map(|n| (vtep(n), node(n))).collect(),
        subnets: BTreeMap::from([(
            "10.0.0.0/8".parse().unwrap(),
            SubnetPlan {
                vni: vni(),
                internal: false,
                encrypted: false,
            },
        )]),
        addresses,
    }
}

pub(crate) fn desired(services: impl IntoIterator<Item = (u32, ServicePlan)>) -> DesiredState {
    DesiredState {
        revision: 1,
        cluster: Arc::new(cluster()),
        services: services
            .into_iter()
            .map(|(n, plan)| (service_name(n), Arc::new(plan)))
            .collect(),
    }
}

/// Services of this many tasks, every tenth published.
pub(crate) fn many(services: u32, tasks: u32) -> DesiredState {
    desired((0..services).map(|n| (n, service(n, &ready(tasks), n % 10 == 0))))
}

/// What the kernel says once all attachments of a plan are made.
pub(crate) fn facts(desired: &DesiredState) -> NodeFacts {
    let keys = desired.services.values().flat_map(|plan| plan.attachments.keys());
    let attachments = (FIRST_IFINDEX..).zip(keys).map(|(ifindex, key)| {
        (
            key.clone(),
            AttachmentFacts {
                ifindex,
                netns_cookie: u64::from(ifindex),
                mtu: 1450,
                resolver: None,
            },
        )
    });
    let uplink = Uplink {
        name: "eth0".to_owned(),
        ifindex: 2,
        mtu: 1500,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
    };
    let hop = |node: u32| NextHop {
        ifindex: 2,
        source: vtep(0),
        source_mac: uplink.mac,
        destination_mac: MacAddr([2, 0, 0, 0, 1, u8::try_from(node).unwrap()]),
        mtu: 1500,
    };
    NodeFacts {
        local_addresses: BTreeSet::from([vtep(0), "203.0.113.7".parse().unwrap()]),
        vxlan_ifindex: 3,
        node_ifindex: 4,
        next_hops: (1..NODES).map(|node| (vtep(node), hop(node))).collect(),
        attachments: attachments.collect(),
        node_netns_cookie: 1,
        ipsec: false,
        uplinks: vec![uplink],
    }
}
