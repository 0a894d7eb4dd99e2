//! A node with an uplink to another machine, and tasks: each a network namespace that lives as long as its value.

use essaim_abi::MacAddr;
use essaim_model::{
    AttachmentKey, AttachmentPlan, ClusterPlan, DesiredState, NetworkName, NodeName, ServiceName,
    ServicePlan, SubnetPlan, TaskId, TaskState, Vni,
};
use essaim_netlink::{HostOptions, LinkOutcome, LinkReconciler, NetnsRef, in_netns};
use ipnet::IpNet;
use nix::sched::{CloneFlags, unshare};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;

/// A network namespace without a name: it ends with this value, whatever else happens.
pub(crate) struct Netns(File);

impl Netns {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("cannot make a network namespace: these tests must run as root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(thread::spawn(make).join().unwrap())
    }

    /// A path that leads to it from every thread of this process.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(&NetnsRef::open(&self.path()).unwrap(), work).unwrap()
    }

    /// Runs a command inside; what it printed, where it succeeded.
    pub(crate) fn try_run(&self, command: &str) -> Result<String, String> {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        let arguments: Vec<&str> = words.collect();
        let output = self.inside(|| Command::new(program).args(&arguments).output().unwrap());
        let text = String::from_utf8_lossy(if output.status.success() {
            &output.stdout
        } else {
            &output.stderr
        });
        if output.status.success() {
            Ok(text.into_owned())
        } else {
            Err(text.into_owned())
        }
    }

    pub(crate) fn run(&self, command: &str) -> String {
        self.try_run(command)
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

/// Node `n1`, 192.0.2.1 and `2001:db8::1` on `up0`, whose other end is `up0` of another machine, 192.0.2.2.
pub(crate) struct Lab {
    pub(crate) node: Netns,
    pub(crate) other: Netns,
    pub(crate) tasks: Vec<Netns>,
}

impl Lab {
    pub(crate) fn new(tasks: usize) -> Self {
        let (node, other) = (Netns::new(), Netns::new());
        node.run("ip link set lo up");
        node.run(&format!(
            "ip link add up0 mtu 1500 type veth peer name up0 netns {}",
            other.path()
        ));
        for (machine, number) in [(&node, 1), (&other, 2)] {
            machine.run(&format!("ip addr add 192.0.2.{number}/24 dev up0"));
            machine.run(&format!("ip addr add 2001:db8::{number}/64 dev up0 nodad"));
            machine.run("ip link set up0 up");
        }
        Self {
            node,
            other,
            tasks: (0..tasks).map(|_| Netns::new()).collect(),
        }
    }

    pub(crate) fn open(&self) -> LinkReconciler {
        self.open_with(&["up0"]).unwrap()
    }

    pub(crate) fn open_with(&self, uplinks: &[&str]) -> Result<LinkReconciler, essaim_netlink::NetlinkError> {
        let uplinks = uplinks.iter().map(|&name| name.to_owned()).collect();
        self.node.inside(|| {
            LinkReconciler::open(HostOptions {
                node: node_name(),
                uplinks,
            })
        })
    }

    /// All tasks on the network `app`.
    pub(crate) fn desired(&self) -> DesiredState {
        desired(self.tasks.iter().map(Netns::path))
    }

    pub(crate) fn clean(&self) -> Result<(), Vec<essaim_netlink::NetlinkError>> {
        self.node.inside(|| LinkReconciler::clean(&node_name()))
    }
}

pub(crate) fn node_name() -> NodeName {
    NodeName::new("n1").unwrap()
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(crate) fn key(number: usize) -> AttachmentKey {
    AttachmentKey {
        task: TaskId::new(&format!("web.{number}")).unwrap(),
        network: NetworkName::new("app").unwrap(),
    }
}

/// Task `web.N`, counted from 1, has `10.1.0.N` and `fd00:1::N`.
pub(crate) fn desired(namespaces: impl Iterator<Item = String>) -> DesiredState {
    let subnet = |vni: u32| SubnetPlan {
        vni: Vni::new(vni).unwrap(),
        internal: false,
        encrypted: false,
    };
    let cluster = ClusterPlan {
        node: node_name(),
        vtep: "192.0.2.1".parse().unwrap(),
        overlay: vec![net("10.0.0.1/24"), net("fd00::1/64")],
        vxlan_port: 4789,
        gossip_port: 7946,
        manager_port: 2377,
        ingress_vni: Vni::new(4095).unwrap(),
        vteps: BTreeMap::from([
            ("192.0.2.1".parse().unwrap(), node_name()),
            ("192.0.2.2".parse().unwrap(), NodeName::new("n2").unwrap()),
            ("192.0.2.99".parse().unwrap(), NodeName::new("n3").unwrap()),
        ]),
        subnets: [
            ("10.0.0.0/24", 4095),
            ("fd00::/64", 4095),
            ("10.1.0.0/24", 100),
            ("fd00:1::/64", 100),
        ]
        .into_iter()
        .map(|(prefix, vni)| (net(prefix), subnet(vni)))
        .collect(),
        addresses: BTreeMap::new(),
    };
    let attachments = namespaces
        .enumerate()
        .map(|(at, netns)| (key(at + 1), attachment(at + 1, netns)))
        .collect();
    let service = ServicePlan {
        attachments,
        ..ServicePlan::default()
    };
    DesiredState {
        revision: 1,
        cluster: Arc::new(cluster),
        services: BTreeMap::from([(ServiceName::new("web").unwrap(), Arc::new(service))]),
    }
}

fn attachment(number: usize, netns: String) -> AttachmentPlan {
    let vni = Vni::new(100).unwrap();
    AttachmentPlan {
        task: key(number).task,
        netns,
        handover: false,
        interface: "eth0".to_owned(),
        addresses: vec![
            net(&format!("10.1.0.{number}/24")),
            net(&format!("fd00:1::{number:x}/64")),
        ],
        gateways: vec!["10.1.0.254".parse().unwrap(), "fd00:1::ffff".parse().unwrap()],
        default_route: true,
        mac: MacAddr([0x02, 0x42, 10, 1, 0, u8::try_from(number).unwrap()]),
        vni,
        internal: false,
        encrypted: false,
        mtu: None,
        task_networks: BTreeSet::from([vni]),
        state: TaskState::Ready,
    }
}

/// Fails with what was wrong.
pub(crate) fn without_problems(outcome: LinkOutcome) -> LinkOutcome {
    assert!(outcome.problems.is_empty(), "{:#?}", outcome.problems);
    outcome
}
