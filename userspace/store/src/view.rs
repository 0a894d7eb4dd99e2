//! What the store holds, at one index: objects, their names, what they hold, and indexes. Persistent: a copy shares all
//! of it.

use crate::{Holding, Kind, Object, ObjectId};
use essaim_objects::{
    Cluster, ClusterId, Config, ConfigId, Network, NetworkId, Node, NodeId, Protocol, Secret, SecretId,
    Service, ServiceId, Task, TaskId, TaskState,
};
use imbl::{OrdMap, OrdSet};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The addresses of a network that were handed out last: where the next search begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Cursors {
    /// To tasks and nodes, IPv4.
    pub(crate) task_v4: Option<Ipv4Addr>,
    /// To tasks and nodes, IPv6.
    pub(crate) task_v6: Option<Ipv6Addr>,
    /// To services, IPv4.
    pub(crate) vip_v4: Option<Ipv4Addr>,
    /// To services, IPv6.
    pub(crate) vip_v6: Option<Ipv6Addr>,
}

/// What the store holds, at one index. Copies are cheap and never change, whatever the store does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub(crate) index: u64,
    pub(crate) clusters: OrdMap<ClusterId, Arc<Cluster>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) networks: OrdMap<NetworkId, Arc<Network>>,
    pub(crate) services: OrdMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: OrdMap<TaskId, Arc<Task>>,
    pub(crate) secrets: OrdMap<SecretId, Arc<Secret>>,
    pub(crate) configs: OrdMap<ConfigId, Arc<Config>>,
    pub(crate) names: OrdMap<(Kind, Arc<str>), ObjectId>,
    pub(crate) holders: OrdMap<Holding, ObjectId>,
    /// By first address.
    pub(crate) subnets: OrdMap<IpAddr, (IpNet, NetworkId)>,
    pub(crate) cursors: OrdMap<NetworkId, Cursors>,
    pub(crate) last_vni: u32,
    pub(crate) tasks_by_slot: OrdSet<(ServiceId, u64, TaskId)>,
    pub(crate) tasks_by_node: OrdSet<(NodeId, TaskId)>,
    pub(crate) tasks_by_state: OrdSet<(TaskState, TaskId)>,
    pub(crate) services_by_network: OrdSet<(NetworkId, ServiceId)>,
    pub(crate) services_by_secret: OrdSet<(SecretId, ServiceId)>,
    pub(crate) services_by_config: OrdSet<(ConfigId, ServiceId)>,
}

macro_rules! tables {
    ($($(#[$doc:meta])* $one:ident, $all:ident: $id:ident => $object:ident;)*) => {
        impl View {
            $(
                $(#[$doc])*
                pub fn $one(&self, id: $id) -> Option<&Arc<$object>> {
                    self.$all.get(&id)
                }

                /// All of them, by identity.
                pub fn $all(&self) -> impl ExactSizeIterator<Item = &Arc<$object>> + '_ {
                    self.$all.values()
                }
            )*

            /// Any object.
            pub fn object(&self, id: ObjectId) -> Option<Object> {
                match id {
                    ObjectId::Cluster(id) => self.clusters.get(&id).cloned().map(Object::Cluster),
                    $(ObjectId::$object(id) => self.$one(id).cloned().map(Object::$object),)*
                }
            }
        }
    };
}

tables! {
    /// A node.
    node, nodes: NodeId => Node;
    /// A network.
    network, networks: NetworkId => Network;
    /// A service.
    service, services: ServiceId => Service;
    /// A task.
    task, tasks: TaskId => Task;
    /// A secret.
    secret, secrets: SecretId => Secret;
    /// A config.
    config, configs: ConfigId => Config;
}

macro_rules! by_name {
    ($($(#[$doc:meta])* $function:ident, $kind:ident, $one:ident;)*) => {
        impl View {
            $($(#[$doc])*
            pub fn $function(&self, name: &str) -> Option<&Arc<essaim_objects::$kind>> {
                match self.names.get(&(Kind::$kind, name.into()))? {
                    ObjectId::$kind(id) => self.$one(*id),
                    _ => None,
                }
            })*
        }
    };
}

by_name! {
    /// The network of a name.
    network_by_name, Network, network;
    /// The service of a name.
    service_by_name, Service, service;
    /// The secret of a name.
    secret_by_name, Secret, secret;
    /// The config of a name.
    config_by_name, Config, config;
}

impl View {
    /// The log index of the last transaction in it.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The cluster, once there is one.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.clusters.values().next()
    }

    /// The ingress network.
    pub fn ingress(&self) -> Option<&Arc<Network>> {
        match self.holders.get(&Holding::Ingress)? {
            ObjectId::Network(id) => self.network(*id),
            _ => None,
        }
    }

    /// A service's tasks, by slot; those of a global service have slot 0.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> + '_ {
        self.tasks_in_slots(service, 0, u64::MAX)
    }

    /// The tasks of a service's slot, those that are over included.
    pub fn tasks_of_slot(&self, service: ServiceId, slot: u64) -> impl Iterator<Item = &Arc<Task>> + '_ {
        self.tasks_in_slots(service, slot, slot)
    }

    fn tasks_in_slots(
        &self,
        service: ServiceId,
        least: u64,
        most: u64,
    ) -> impl Iterator<Item = &Arc<Task>> + '_ {
        let range = (service, least, TaskId::MIN)..=(service, most, TaskId::MAX);
        self.tasks_by_slot
            .range(range)
            .filter_map(|(_, _, task)| self.task(*task))
    }

    /// The tasks that were placed on a node, those that are over included.
    pub fn tasks_on_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> + '_ {
        let tasks = self
            .tasks_by_node
            .range((node, TaskId::MIN)..=(node, TaskId::MAX));
        tasks.filter_map(|(_, task)| self.task(*task))
    }

    /// The tasks whose observed state is this.
    pub fn tasks_in_state(&self, state: TaskState) -> impl Iterator<Item = &Arc<Task>> + '_ {
        let tasks = self
            .tasks_by_state
            .range((state, TaskId::MIN)..=(state, TaskId::MAX));
        tasks.filter_map(|(_, task)| self.task(*task))
    }

    /// The services that are on a network, or asked to be.
    pub fn services_on_network(&self, network: NetworkId) -> impl Iterator<Item = &Arc<Service>> + '_ {
        let services = self
            .services_by_network
            .range((network, ServiceId::MIN)..=(network, ServiceId::MAX));
        services.filter_map(|(_, service)| self.service(*service))
    }

    /// The services whose tasks use a secret.
    pub fn services_with_secret(&self, secret: SecretId) -> impl Iterator<Item = &Arc<Service>> + '_ {
        let services = self
            .services_by_secret
            .range((secret, ServiceId::MIN)..=(secret, ServiceId::MAX));
        services.filter_map(|(_, service)| self.service(*service))
    }

    /// The services whose tasks use a config.
    pub fn services_with_config(&self, config: ConfigId) -> impl Iterator<Item = &Arc<Service>> + '_ {
        let services = self
            .services_by_config
            .range((config, ServiceId::MIN)..=(config, ServiceId::MAX));
        services.filter_map(|(_, service)| self.service(*service))
    }

    /// What has an address on a network.
    pub fn holder_of_address(&self, network: NetworkId, address: IpAddr) -> Option<ObjectId> {
        self.holders.get(&Holding::Address(network, address)).copied()
    }

    /// The service that has a port on every node.
    pub fn holder_of_port(&self, protocol: Protocol, port: u16) -> Option<ObjectId> {
        self.holders.get(&Holding::Port(protocol, port)).copied()
    }

    /// The network that has a VXLAN network identifier.
    pub fn holder_of_vni(&self, vni: u32) -> Option<ObjectId> {
        self.holders.get(&Holding::Vni(vni)).copied()
    }

    /// The addresses of a network that are held, in order, and by what.
    pub fn addresses_on(
        &self,
        network: NetworkId,
    ) -> impl DoubleEndedIterator<Item = (IpAddr, ObjectId)> + '_ {
        let least = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let most = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
        self.addresses_within(network, least, most)
    }

    pub(crate) fn addresses_within(
        &self,
        network: NetworkId,
        least: IpAddr,
        most: IpAddr,
    ) -> impl DoubleEndedIterator<Item = (IpAddr, ObjectId)> + '_ {
        let range = Holding::Address(network, least)..=Holding::Address(network, most);
        self.holders
            .range(range)
            .filter_map(|(holding, holder)| match holding {
                Holding::Address(_, address) => Some((*address, *holder)),
                Holding::Cluster | Holding::Ingress | Holding::Vni(_) | Holding::Port(..) => None,
            })
    }

    /// A network's subnet that shares addresses with this one, if any.
    pub(crate) fn overlapping(&self, subnet: IpNet) -> Option<(IpNet, NetworkId)> {
        let last = subnet.broadcast();
        let mut below = self.subnets.range(..=last);
        let (_, (other, network)) = below.next_back()?;
        (other.contains(&subnet) || subnet.contains(other)).then_some((*other, *network))
    }
}
