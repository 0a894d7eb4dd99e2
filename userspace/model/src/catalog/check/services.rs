//! Services, their VIPs and their tasks.

use super::super::path::At;
use super::super::{HISTORY_GENERATIONS, Problem, SERVICE_MAX_DNS_SERVERS, Service, TASK_MAX_NETWORKS, Task};
use super::Checker;
use super::addresses::{Owner, list};
use super::cluster::duplicate;
use crate::{NetworkName, NodeName, TaskId, TaskState};
use essaim_abi::MacAddr;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

/// Where every task reaches the resolver of its node.
const EMBEDDED_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// What must be unique among all tasks.
#[derive(Default)]
struct Seen<'c> {
    tasks: HashMap<&'c TaskId, &'static str>,
    namespaces: HashMap<(&'c NodeName, &'c str), &'c TaskId>,
    macs: HashMap<(&'c NetworkName, MacAddr), &'c TaskId>,
}

impl<'c> Checker<'c> {
    pub(super) fn services(&mut self) {
        let catalog = self.catalog;
        let root = At::ROOT.field("services");
        let mut names = HashMap::new();
        let mut seen = Seen::default();
        for (index, service) in catalog.services.iter().enumerate() {
            let at = root.index(index);
            if let Some(first) = duplicate(&mut names, &service.name, "another service") {
                let value = service.name.to_string();
                self.found(
                    at.field("name"),
                    Problem::Duplicate {
                        what: "service name",
                        value,
                        first,
                    },
                );
            }
            if service.history.len() > HISTORY_GENERATIONS {
                let found = service.history.len().to_string();
                let [least, most] = [0, HISTORY_GENERATIONS].map(|count| count.to_string());
                let problem = Problem::OutOfRange {
                    what: "number of generations",
                    found,
                    least,
                    most,
                };
                self.found(at.field("history"), problem);
            }
            self.service_networks(at, service);
            let dns = at.field("dns");
            self.dns_servers(dns.field("servers"), &service.dns.servers);
            let tasks = at.field("tasks");
            for (index, task) in service.tasks.iter().enumerate() {
                self.task(tasks.index(index), service, task, &mut seen);
                let is_excused = task.state == TaskState::Gone || self.broken.contains(task.id.as_str());
                if !service.ports.is_empty() && task.endpoints.is_empty() && !is_excused {
                    let task = task.id.to_string();
                    self.found(tasks.index(index), Problem::Unreachable { task });
                }
            }
        }
    }

    fn is_unknown(&self, network: &NetworkName) -> bool {
        !self.networks.contains_key(network) && !self.broken.contains(network.as_str())
    }

    fn unknown_network(&mut self, at: At<'_>, network: &NetworkName) {
        self.found(
            at,
            Problem::UnknownNetwork {
                network: network.to_string(),
            },
        );
    }

    fn service_networks(&mut self, at: At<'_>, service: &'c Service) {
        let networks = at.field("networks");
        let mut names = HashSet::new();
        for (index, member) in service.networks.iter().enumerate() {
            let here = networks.index(index);
            if !names.insert(&member.name) {
                let (value, first) = (member.name.to_string(), format!("service {}", service.name));
                self.found(
                    here.field("name"),
                    Problem::Duplicate {
                        what: "network",
                        value,
                        first,
                    },
                );
            }
            if member.name.as_str() == "ingress" {
                if !member.vips.is_empty() {
                    self.found(here.field("vips"), Problem::IngressVip);
                }
            } else if let Some(network) = self.networks.get(&member.name).copied() {
                self.claim(
                    here.field("vips"),
                    network,
                    Owner::Vip(&service.name),
                    &member.vips,
                );
            } else if self.is_unknown(&member.name) {
                self.unknown_network(here.field("name"), &member.name);
            }
        }
        if let Some(default) = &service.default_network {
            self.network_of(at.field("default_network"), service, default);
        }
    }

    fn dns_servers(&mut self, at: At<'_>, servers: &[IpAddr]) {
        if servers.len() > SERVICE_MAX_DNS_SERVERS {
            let found = servers.len().to_string();
            let [least, most] = [0, SERVICE_MAX_DNS_SERVERS].map(|count| count.to_string());
            let problem = Problem::OutOfRange {
                what: "number of DNS servers",
                found,
                least,
                most,
            };
            self.found(at, problem);
        }
        for (index, server) in servers.iter().enumerate() {
            let broadcast = *server == IpAddr::V4(Ipv4Addr::BROADCAST);
            if *server == EMBEDDED_RESOLVER || server.is_unspecified() || server.is_multicast() || broadcast {
                self.found(at.index(index), Problem::NotAResolver { address: *server });
            }
        }
    }

    /// The network exists and is one of the service.
    fn network_of(&mut self, at: At<'_>, service: &Service, network: &NetworkName) {
        if self.is_unknown(network) {
            return self.unknown_network(at, network);
        }
        let implied = service.networks.is_empty() && network.as_str() == "ingress";
        let excused = self.broken.contains(service.name.as_str()) || self.broken.contains(network.as_str());
        if !implied && !excused && !service.networks.iter().any(|member| member.name == *network) {
            let names = service.networks.iter().map(|member| member.name.as_str());
            let expected = if service.networks.is_empty() {
                "ingress".to_owned()
            } else {
                list(names)
            };
            let (network, service) = (network.to_string(), service.name.to_string());
            self.found(
                at,
                Problem::NotOfService {
                    network,
                    service,
                    expected,
                },
            );
        }
    }

    fn task(&mut self, at: At<'_>, service: &Service, task: &'c Task, seen: &mut Seen<'c>) {
        if let Some(first) = duplicate(&mut seen.tasks, &task.id, "another task") {
            let value = task.id.to_string();
            self.found(
                at.field("id"),
                Problem::Duplicate {
                    what: "task id",
                    value,
                    first,
                },
            );
        }
        if !self.nodes.contains(&task.node) && !self.broken.contains(task.node.as_str()) {
            self.found(
                at.field("node"),
                Problem::UnknownNode {
                    node: task.node.to_string(),
                },
            );
        }
        self.namespace(at.field("netns"), task, seen);
        let endpoints = at.field("endpoints");
        if task.endpoints.len() > TASK_MAX_NETWORKS {
            let found = task.endpoints.len().to_string();
            let [least, most] = [1, TASK_MAX_NETWORKS].map(|count| count.to_string());
            let problem = Problem::OutOfRange {
                what: "number of networks of a task",
                found,
                least,
                most,
            };
            self.found(endpoints, problem);
        }
        let (mut names, mut interfaces) = (HashSet::new(), HashSet::new());
        for (index, endpoint) in task.endpoints.iter().enumerate() {
            let here = endpoints.index(index);
            if !names.insert(&endpoint.network) {
                let (value, first) = (endpoint.network.to_string(), format!("task {}", task.id));
                self.found(
                    here.field("network"),
                    Problem::Duplicate {
                        what: "network",
                        value,
                        first,
                    },
                );
            }
            self.network_of(here.field("network"), service, &endpoint.network);
            if endpoint.addresses.is_empty() {
                self.found(here.field("addresses"), Problem::Missing);
            }
            if let Some(network) = self.networks.get(&endpoint.network).copied() {
                self.claim(
                    here.field("addresses"),
                    network,
                    Owner::Task(&task.id),
                    &endpoint.addresses,
                );
            }
            self.mac(here, &endpoint.network, endpoint.mac(), task, seen);
            if let Some(interface) = &endpoint.interface
                && !interfaces.insert(interface)
            {
                let (value, first) = (interface.to_string(), format!("task {}", task.id));
                self.found(
                    here.field("interface"),
                    Problem::Duplicate {
                        what: "interface",
                        value,
                        first,
                    },
                );
            }
        }
    }

    fn mac(
        &mut self,
        at: At<'_>,
        network: &'c NetworkName,
        mac: MacAddr,
        task: &'c Task,
        seen: &mut Seen<'c>,
    ) {
        let first = if mac == MacAddr::GATEWAY {
            Some("the gateway".to_owned())
        } else if mac == MacAddr::VXLAN_DEVICE {
            Some("the VXLAN devices".to_owned())
        } else {
            // A missing address was found above, and an address given twice would only be told of again.
            let given = task
                .endpoints
                .iter()
                .any(|endpoint| endpoint.network == *network && endpoint.mac.is_some());
            let first = duplicate(&mut seen.macs, (network, mac), &task.id)
                .filter(|first| *first != task.id.as_str());
            first.filter(|_| given).map(|first| format!("task {first}"))
        };
        if let Some(first) = first {
            let value = mac.to_string();
            self.found(
                at.field("mac"),
                Problem::Duplicate {
                    what: "Ethernet address",
                    value,
                    first,
                },
            );
        }
    }

    fn namespace(&mut self, at: At<'_>, task: &'c Task, seen: &mut Seen<'c>) {
        let netns = task.netns.as_str();
        let is_name = !netns.contains('/') && !matches!(netns, "" | "." | "..");
        if !(is_name || netns.starts_with('/')) || netns.contains('\0') {
            let found = netns.to_owned();
            let expected = "a name under /run/netns or an absolute path";
            self.found(at, Problem::Malformed { found, expected });
        } else if task.state != TaskState::Gone
            && let Some(first) = duplicate(&mut seen.namespaces, (&task.node, netns), &task.id)
        {
            let (value, first) = (netns.to_owned(), format!("task {first}"));
            self.found(
                at,
                Problem::Duplicate {
                    what: "network namespace",
                    value,
                    first,
                },
            );
        }
    }
}
