//! A small cluster for the tests of this crate.

use essaim_abi::MacAddr;
use essaim_model::{
    AttachmentKey, AttachmentPlan, ClusterPlan, DesiredState, NetworkName, NodeName, ServiceName,
    ServicePlan, SubnetPlan, TaskId, TaskState, Uplink, Vni,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn node() -> NodeName {
    NodeName::new("n1").unwrap()
}

pub(crate) fn uplink() -> Uplink {
    Uplink {
        name: "up0".into(),
        ifindex: 2,
        mtu: 1500,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
    }
}

pub(crate) fn key(task: &str) -> AttachmentKey {
    AttachmentKey {
        task: TaskId::new(task).unwrap(),
        network: NetworkName::new("app").unwrap(),
    }
}

/// Node `n1` at 192.0.2.1, an ingress network, a network `app`, an internal one.
pub(crate) fn cluster() -> ClusterPlan {
    let subnet = |vni: u32, internal| SubnetPlan {
        vni: Vni::new(vni).unwrap(),
        internal,
        encrypted: false,
    };
    let subnets = [
        ("10.0.0.0/24", subnet(4095, false)),
        ("fd00::/64", subnet(4095, false)),
        ("10.1.0.0/24", subnet(100, false)),
        ("fd00:1::/64", subnet(100, false)),
        ("10.2.0.0/24", subnet(200, true)),
    ];
    ClusterPlan {
        node: node(),
        vtep: "192.0.2.1".parse().unwrap(),
        overlay: vec![net("10.0.0.1/24"), net("fd00::1/64")],
        vxlan_port: 4789,
        gossip_port: 7946,
        manager_port: 2377,
        ingress_vni: Vni::new(4095).unwrap(),
        vteps: BTreeMap::from([
            ("192.0.2.1".parse().unwrap(), node()),
            ("192.0.2.2".parse().unwrap(), NodeName::new("n2").unwrap()),
        ]),
        subnets: subnets
            .into_iter()
            .map(|(prefix, plan)| (net(prefix), plan))
            .collect(),
        addresses: BTreeMap::new(),
    }
}

/// The endpoint of task `web.N` on `app`, with the addresses `10.1.0.N` and `fd00:1::N`.
pub(crate) fn attachment(number: u8) -> (AttachmentKey, AttachmentPlan) {
    let task = format!("web.{number}");
    let plan = AttachmentPlan {
        task: TaskId::new(&task).unwrap(),
        netns: task.clone(),
        handover: false,
        interface: "eth0".into(),
        addresses: vec![
            net(&format!("10.1.0.{number}/24")),
            net(&format!("fd00:1::{number:x}/64")),
        ],
        gateways: vec!["10.1.0.254".parse().unwrap(), "fd00:1::ffff".parse().unwrap()],
        default_route: true,
        mac: MacAddr([2, 0x42, 10, 1, 0, number]),
        vni: Vni::new(100).unwrap(),
        internal: false,
        encrypted: false,
        mtu: None,
        task_networks: BTreeSet::from([Vni::new(100).unwrap()]),
        state: TaskState::Ready,
    };
    (key(&task), plan)
}

pub(crate) fn desired(
    attachments: impl IntoIterator<Item = (AttachmentKey, AttachmentPlan)>,
) -> DesiredState {
    let plan = ServicePlan {
        attachments: attachments.into_iter().collect(),
        ..ServicePlan::default()
    };
    DesiredState {
        revision: 1,
        cluster: Arc::new(cluster()),
        services: BTreeMap::from([(ServiceName::new("web").unwrap(), Arc::new(plan))]),
    }
}
