//! What a node's data plane should hold, in the words of the cluster: no index, no interface number.

use crate::maglev::MaglevTable;
use crate::{AttachmentKey, BackendKey, NodeName, ServiceKey, ServiceName, TaskId, Vni};
use essaim_abi::{MacAddr, Protocol};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Everything that the data plane of one node should hold.
///
/// It is made of one part for the cluster and one for each service, shared by pointer between revisions, so that a
/// change of one service is found, and applied, without a look at the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredState {
    /// The catalog's revision.
    pub revision: u64,
    /// What does not belong to one service.
    pub cluster: Arc<ClusterPlan>,
    /// The services.
    pub services: BTreeMap<ServiceName, Arc<ServicePlan>>,
}

/// What does not belong to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterPlan {
    /// This node.
    pub node: NodeName,
    /// The underlay address this node sends and receives VXLAN at.
    pub vtep: IpAddr,
    /// This node's overlay addresses (at most one of a family), with the prefix of the ingress subnet.
    pub overlay: Vec<IpNet>,
    /// UDP port of VXLAN.
    pub vxlan_port: u16,
    /// UDP and TCP port of gossip.
    pub gossip_port: u16,
    /// TCP port of the managers.
    pub manager_port: u16,
    /// The VNI between the edge and the backend's node.
    pub ingress_vni: Vni,
    /// The VTEPs of all members, this node's own included.
    pub vteps: BTreeMap<IpAddr, NodeName>,
    /// The subnets of all networks and the ingress subnets.
    pub subnets: BTreeMap<IpNet, SubnetPlan>,
    /// Gateways and the nodes' overlay addresses.
    pub addresses: BTreeMap<IpAddr, AddressPlan>,
}

/// A subnet of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetPlan {
    /// The network's VNI.
    pub vni: Vni,
    /// Nothing leaves the network.
    pub internal: bool,
    /// Its traffic between nodes must be encrypted.
    pub encrypted: bool,
}

/// The part of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// One group of backends per network with a VIP, one for its published ports, one for its host-mode ports.
    pub groups: BTreeMap<ServiceKey, GroupPlan>,
    /// Its tasks' endpoints.
    pub backends: BTreeMap<BackendKey, BackendPlan>,
    /// Its VIPs and its tasks' addresses.
    pub addresses: BTreeMap<IpAddr, AddressPlan>,
    /// Its published ports on this node.
    pub published: BTreeMap<(Protocol, u16), PublishedPort>,
    /// The endpoints of its tasks on this node.
    pub attachments: BTreeMap<AttachmentKey, AttachmentPlan>,
}

/// A group of backends that one decision chooses from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPlan {
    /// At most one VIP of a family; none for published ports.
    pub vips: Vec<IpAddr>,
    /// The network of the VIPs; the ingress VNI for published ports.
    pub vni: Vni,
    /// A client keeps its backend.
    pub affinity: bool,
    /// The network is encrypted.
    pub encrypted: bool,
    /// Idle times.
    pub timeouts: Timeouts,
    /// The backends that take new flows, in a stable order.
    pub active: Vec<BackendKey>,
    /// The Maglev table, for published groups and those with affinity.
    pub maglev: Option<Arc<MaglevTable>>,
}

/// Idle times after which a flow counts as gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP and SCTP. Too low cuts idle connections, too high keeps dead ones in the table.
    pub established: Duration,
    /// TCP and SCTP after a FIN, RST or SHUTDOWN.
    pub closing: Duration,
    /// UDP that was answered.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_hours(5 * 24),
            closing: Duration::from_mins(1),
            udp: Duration::from_mins(3),
        }
    }
}

/// The life of a task, as liveness tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Has its endpoint; gets no traffic yet.
    Starting,
    /// Takes traffic.
    Ready,
    /// Keeps its flows, gets no new ones.
    Draining,
    /// Has ended: its flows are reset, its address answers with a refusal.
    Gone,
}

impl TaskState {
    /// What holds where two have a say, such as the catalog and the node that runs the task: whoever keeps traffic away
    /// is heard, and what has ended does not come back.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Gone, _) | (_, Self::Gone) => Self::Gone,
            (Self::Draining, _) | (_, Self::Draining) => Self::Draining,
            (Self::Starting, _) | (_, Self::Starting) => Self::Starting,
            (Self::Ready, Self::Ready) => Self::Ready,
        }
    }
}

/// A task's endpoint as a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendPlan {
    /// The node that runs the task.
    pub node: NodeName,
    /// That node's VTEP.
    pub vtep: IpAddr,
    /// The network.
    pub vni: Vni,
    /// At most one address of a family.
    pub addresses: Vec<IpAddr>,
    /// The endpoint's Ethernet address.
    pub mac: MacAddr,
    /// The task's state; `Gone` also where its node is down.
    pub state: TaskState,
    /// Set where it is on this node.
    pub attachment: Option<AttachmentKey>,
}

/// What an overlay address stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPlan {
    /// The network.
    pub vni: Vni,
    /// What has the address.
    pub kind: AddressKind,
    /// What ARP and neighbour solicitations for it are answered with.
    pub mac: MacAddr,
    /// The network is encrypted.
    pub encrypted: bool,
}

/// What has an overlay address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// A task's endpoint on this node.
    Local(AttachmentKey, BackendKey),
    /// A task's endpoint on the node with this VTEP.
    Remote(IpAddr, BackendKey),
    /// A VIP.
    Vip(ServiceKey),
    /// A network's gateway.
    Gateway,
    /// This node.
    ThisNode,
    /// The node with this VTEP.
    OtherNode(IpAddr),
    /// A task that is gone.
    Tombstone,
}

/// A port that this node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPort {
    /// The group behind it.
    pub group: ServiceKey,
    /// The tasks' port.
    pub target: u16,
    /// Only for tasks of this node.
    pub host: bool,
    /// Replies go straight from the backend's node to the client.
    pub dsr: bool,
}

/// An endpoint to be made on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says something of its own")]
pub struct AttachmentPlan {
    /// The task.
    pub task: TaskId,
    /// The task's network namespace: a name under `/run/netns`, or a path.
    pub netns: String,
    /// The node's container engine moves the interface there, and sets its name, addresses and routes.
    pub handover: bool,
    /// The interface's name within it: `eth0`, `eth1`, …, or its own; where it is handed over, the engine chooses.
    pub interface: String,
    /// Its addresses with their subnets' prefixes.
    pub addresses: Vec<IpNet>,
    /// Its gateways, one of a family; a default route is set where `default_route`.
    pub gateways: Vec<IpAddr>,
    /// Whether this endpoint holds the task's default route.
    pub default_route: bool,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The network.
    pub vni: Vni,
    /// Nothing leaves the network.
    pub internal: bool,
    /// The network is encrypted.
    pub encrypted: bool,
    /// MTU asked for by the network; else it is derived from the underlay.
    pub mtu: Option<u32>,
    /// The VNIs that the task is on, this one included.
    pub task_networks: BTreeSet<Vni>,
    /// As in [`BackendPlan::state`].
    pub state: TaskState,
}
