//! Published ports, each with one answer on every node.

use super::super::path::At;
use super::super::{Port, PortMode, Problem, Service};
use super::Checker;
use crate::{MASQUERADE_PORTS, NodeName, TaskState};
use essaim_abi::Protocol;
use std::collections::{HashMap, HashSet};

const fn what(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "published TCP port",
        Protocol::Udp => "published UDP port",
        Protocol::Sctp => "published SCTP port",
    }
}

fn nodes_of(service: &Service) -> HashSet<&NodeName> {
    let tasks = service.tasks.iter().filter(|task| task.state != TaskState::Gone);
    tasks.map(|task| &task.node).collect()
}

/// Two services answer the port on one node.
fn clash(one: (&Service, &Port), other: (&Service, &Port)) -> bool {
    match (one.1.mode, other.1.mode) {
        (PortMode::Host, PortMode::Host) => {
            one.0.name == other.0.name || !nodes_of(one.0).is_disjoint(&nodes_of(other.0))
        }
        (PortMode::Ingress, PortMode::Ingress | PortMode::Host) | (PortMode::Host, PortMode::Ingress) => true,
    }
}

impl<'c> Checker<'c> {
    pub(super) fn published_ports(&mut self) {
        let catalog = self.catalog;
        let root = At::ROOT.field("services");
        let mut seen: HashMap<(Protocol, u16), Vec<(&'c Service, &'c Port)>> = HashMap::new();
        for (index, service) in catalog.services.iter().enumerate() {
            let at = root.index(index);
            let ports = at.field("ports");
            for (index, port) in service.ports.iter().enumerate() {
                let here = ports.index(index);
                self.numbers(here, *port);
                let others = seen.entry((port.protocol, port.published)).or_default();
                let first = others.iter().find(|other| clash((service, port), **other));
                let first = first.map(|(first, _)| format!("service {}", first.name));
                others.push((service, port));
                if let Some(first) = first {
                    let value = port.published.to_string();
                    let problem = Problem::Duplicate {
                        what: what(port.protocol),
                        value,
                        first,
                    };
                    self.found(here.field("published"), problem);
                }
            }
        }
    }

    fn numbers(&mut self, at: At<'_>, port: Port) {
        // Only a catalog that no file was read for can have a 0.
        for (field, number) in [("published", port.published), ("target", port.target)] {
            if number == 0 {
                let [found, least, most] = ["0", "1", "65535"].map(str::to_owned);
                self.found(
                    at.field(field),
                    Problem::OutOfRange {
                        what: "port",
                        found,
                        least,
                        most,
                    },
                );
            }
        }
        if port.protocol == Protocol::Sctp && port.published != port.target {
            let (published, target) = (port.published, port.target);
            self.found(at.field("target"), Problem::SctpTranslated { published, target });
        }
        if MASQUERADE_PORTS.contains(&port.published) {
            self.found(
                at.field("published"),
                Problem::MasqueradedPort { port: port.published },
            );
        }
        let cluster = &self.catalog.cluster;
        let first = match port.protocol {
            Protocol::Udp if port.published == cluster.vxlan_port => Some("VXLAN"),
            Protocol::Udp | Protocol::Tcp if port.published == cluster.gossip_port => Some("gossip"),
            Protocol::Tcp if port.published == cluster.manager_port => Some("the managers"),
            Protocol::Tcp | Protocol::Udp | Protocol::Sctp => None,
        };
        if let Some(first) = first {
            let (value, first) = (port.published.to_string(), first.to_owned());
            self.found(
                at.field("published"),
                Problem::Duplicate {
                    what: what(port.protocol),
                    value,
                    first,
                },
            );
        }
    }
}
