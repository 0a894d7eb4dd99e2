//! What objects hold that no other object may: derived from the objects alone, so that nothing can leak.

use crate::Object;
use essaim_objects::{NetworkId, Node, Protocol, PublishMode, Service, Task};
use std::fmt;
use std::net::IpAddr;

/// Something that one object at most holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holding {
    /// To be the cluster.
    Cluster,
    /// To be the ingress network.
    Ingress,
    /// A VXLAN network identifier.
    Vni(u32),
    /// A port on every node.
    Port(Protocol, u16),
    /// An address on a network.
    Address(NetworkId, IpAddr),
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the place of the cluster"),
            Self::Ingress => f.write_str("the place of the ingress network"),
            Self::Vni(vni) => write!(f, "VNI {vni}"),
            Self::Port(protocol, port) => write!(f, "published port {port}/{protocol}"),
            Self::Address(network, address) => write!(f, "address {address} on network {network}"),
        }
    }
}

/// What an object holds, sorted, each once.
pub(crate) fn holdings(object: &Object) -> Vec<Holding> {
    let mut held = Vec::new();
    match object {
        Object::Cluster(_) => held.push(Holding::Cluster),
        Object::Node(node) => held.extend(node_addresses(node)),
        Object::Network(network) => {
            if network.is_ingress() {
                held.push(Holding::Ingress);
            }
            held.extend(network.vni().map(Holding::Vni));
            for subnet in network.subnets() {
                let own = subnet.gateway.into_iter().chain(subnet.auxiliary);
                held.extend(own.map(|address| Holding::Address(network.id, address)));
            }
        }
        Object::Service(service) => held.extend(of_service(service)),
        Object::Task(task) => held.extend(task_addresses(task)),
        Object::Secret(_) | Object::Config(_) => {}
    }
    held.sort_unstable();
    held.dedup();
    held
}

fn of_service(service: &Service) -> impl Iterator<Item = Holding> + '_ {
    let endpoint = service.endpoint.iter();
    endpoint.flat_map(|endpoint| {
        let ports = endpoint
            .ports()
            .iter()
            .filter(|port| port.publish_mode() == PublishMode::Ingress);
        let ports = ports.filter(|port| port.published() != 0);
        let ports = ports.map(|port| Holding::Port(port.protocol(), port.published()));
        let addresses = endpoint.virtual_ips().iter();
        let addresses = addresses.filter_map(|vip| Some(Holding::Address(vip.network_id, vip.addr?.addr())));
        ports.chain(addresses)
    })
}

fn node_addresses(node: &Node) -> impl Iterator<Item = Holding> + '_ {
    node.attachments.iter().flat_map(of_attachment)
}

/// A task that is over holds nothing; its addresses stay written in it as its history.
fn task_addresses(task: &Task) -> impl Iterator<Item = Holding> + '_ {
    let attachments = task.networks_attachments.iter();
    attachments
        .filter(|_| !task.status.state.is_over())
        .flat_map(of_attachment)
}

fn of_attachment(attachment: &essaim_objects::NetworkAttachment) -> impl Iterator<Item = Holding> + '_ {
    let addresses = attachment.addresses.iter();
    addresses.map(|address| Holding::Address(attachment.network.id, address.addr()))
}
