//! The names of one service.

use super::Networks;
use crate::wire::{encode, encode_lower};
use essaim_abi::Protocol;
use essaim_model::{PortName, Service, ServiceNetwork, Task, TaskState, Vni};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What has addresses on one network: a VIP, or a task's endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// What its addresses are called in PTR and SRV answers, on the wire; empty where that cannot be said in DNS.
    pub(crate) canonical: Box<[u8]>,
    pub(crate) v4: Option<Ipv4Addr>,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// A name of the service on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameOnNetwork {
    /// On the wire, in lower case.
    pub(super) name: Box<[u8]>,
    pub(super) vni: Vni,
    /// The hosts it stands for, by their place in [`Part::hosts`]; it exists without any as well.
    pub(super) hosts: Box<[u32]>,
}

/// A port that SRV questions can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SrvPort {
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
    pub(crate) name: Option<PortName>,
}

/// The names of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) hosts: Vec<Host>,
    /// In order of name and network.
    pub(super) names: Vec<NameOnNetwork>,
    pub(crate) ports: Vec<SrvPort>,
    /// The addresses that have a name of their own, with the host.
    pub(super) addresses: Vec<(IpAddr, Vni, u32)>,
}

/// The name of the task's container: SERVICE.SLOT.ID, or the id alone where it begins with the service's name (as
/// in files written by hand) or the task has no slot.
pub(crate) fn container_name(service: &Service, task: &Task) -> String {
    let id = task.id.as_str();
    let prefixed = id.strip_prefix(service.name.as_str());
    let prefixed = prefixed.is_some_and(|rest| rest.starts_with('.'));
    match task.slot {
        Some(slot) if !prefixed => format!("{}.{slot}.{id}", service.name),
        _ => id.to_owned(),
    }
}

impl Part {
    pub(super) fn new(service: &Service, networks: &Networks, state_of: impl Fn(&Task) -> TaskState) -> Self {
        let mut builder = Builder::default();
        let states: Vec<(&Task, TaskState)> =
            service.tasks.iter().map(|task| (task, state_of(task))).collect();
        for member in &service.networks {
            // The ingress network has no names.
            if let Some(vni) = networks.vni_of(&member.name) {
                builder.network(service, member, vni, &states);
            }
        }
        builder.finish(service)
    }
}

#[derive(Default)]
struct Builder {
    hosts: Vec<Host>,
    names: BTreeMap<(Vec<u8>, Vni), Vec<u32>>,
    addresses: Vec<(IpAddr, Vni, u32)>,
}

impl Builder {
    fn network(
        &mut self,
        service: &Service,
        member: &ServiceNetwork,
        vni: Vni,
        states: &[(&Task, TaskState)],
    ) {
        let network = member.name.as_str();
        let mut ready = Vec::new();
        for (task, state) in states {
            let Some(endpoint) = task
                .endpoints
                .iter()
                .find(|endpoint| endpoint.network == member.name)
            else {
                continue;
            };
            let container = container_name(service, task);
            // A task that is gone keeps its names, so that they are not asked for elsewhere, and nothing else.
            let host = (*state != TaskState::Gone)
                .then(|| self.host(&[&container, task.id.as_str()], network, vni, &endpoint.addresses));
            let host = host.as_slice();
            self.name(task.id.as_str(), vni, host);
            self.name(&container, vni, host);
            let short = task.container.as_ref().map(essaim_model::ContainerId::short);
            let hostname = task.hostname.as_ref().map(essaim_model::HostName::as_str);
            let aliases = endpoint.aliases.iter().map(essaim_model::HostName::as_str);
            for own in short.into_iter().chain(hostname).chain(aliases) {
                self.name(own, vni, host);
            }
            let host = if *state == TaskState::Ready { host } else { &[] };
            ready.extend_from_slice(host);
            if let Some(slot) = task.slot {
                self.name(&format!("{slot}.{}", service.name), vni, host);
            }
        }
        let vip = if member.vips.is_empty() {
            ready.clone()
        } else {
            vec![self.host(&[service.name.as_str()], network, vni, &member.vips)]
        };
        let aliases = member.aliases.iter().map(essaim_model::HostName::as_str);
        for name in std::iter::once(service.name.as_str()).chain(aliases) {
            self.name(name, vni, &vip);
            self.name(&format!("tasks.{name}"), vni, &ready);
        }
    }

    /// Adds a host, called by the first of the names that DNS can say with the network's behind it.
    fn host(&mut self, names: &[&str], network: &str, vni: Vni, addresses: &[IpAddr]) -> u32 {
        let canonical = names.iter().find_map(|name| encode(&format!("{name}.{network}")));
        let mut host = Host {
            canonical: canonical.unwrap_or_default().into(),
            v4: None,
            v6: None,
        };
        // More hosts than that do not fit in memory.
        let place = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        for address in addresses {
            match address {
                IpAddr::V4(address) => host.v4 = Some(*address),
                IpAddr::V6(address) => host.v6 = Some(*address),
            }
            self.addresses.push((*address, vni, place));
        }
        self.hosts.push(host);
        place
    }

    fn name(&mut self, name: &str, vni: Vni, hosts: &[u32]) {
        // A name that DNS cannot say cannot be asked for.
        let Some(name) = encode_lower(name) else { return };
        let known = self.names.entry((name, vni)).or_default();
        for host in hosts {
            if !known.contains(host) {
                known.push(*host);
            }
        }
    }

    fn finish(self, service: &Service) -> Part {
        let names = self.names.into_iter().map(|((name, vni), hosts)| NameOnNetwork {
            name: name.into(),
            vni,
            hosts: hosts.into(),
        });
        let ports = service.ports.iter().map(|port| SrvPort {
            protocol: port.protocol,
            number: port.target,
            name: port.name,
        });
        let mut once: Vec<SrvPort> = Vec::new();
        for port in ports {
            // One target may be published at several ports.
            if !once.contains(&port) {
                once.push(port);
            }
        }
        Part {
            hosts: self.hosts,
            names: names.collect(),
            ports: once,
            addresses: self.addresses,
        }
    }
}
