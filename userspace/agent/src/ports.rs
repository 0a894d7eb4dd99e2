//! Published ports: which are to be held, and what a port that cannot be held means for the plan.

use crate::holder::{HeldPort, PortOwner, Refusal};
use essaim_model::{DesiredState, ServiceName, ServicePlan};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Whether a published port is this node's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum PortHold {
    /// A socket of the holder has it.
    Held,
    /// Another process has it: it is not published on this node.
    InUse {
        /// The process, where one was found.
        owner: Option<PortOwner>,
    },
    /// The kernel has no sockets of the protocol, so nobody can take it: it is published all the same.
    Unsupported,
    /// The kernel refused for another reason: it is not published on this node.
    Refused {
        /// The kernel's reason.
        reason: String,
    },
    /// No holder answers: what was published stays published.
    Unknown,
}

impl PortHold {
    /// What the holder's refusal means.
    pub fn of(refusal: &Refusal) -> Self {
        match Errno::from_raw(refusal.errno) {
            Errno::EADDRINUSE => Self::InUse {
                owner: refusal.owner.clone(),
            },
            Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT => Self::Unsupported,
            errno => Self::Refused {
                reason: errno.to_string(),
            },
        }
    }

    /// Whether the data plane may answer the port.
    pub fn is_served(&self) -> bool {
        match self {
            Self::Held | Self::Unsupported | Self::Unknown => true,
            Self::InUse { .. } | Self::Refused { .. } => false,
        }
    }

    /// What is wrong with it, and what to do.
    pub fn problem(&self, port: HeldPort) -> Option<String> {
        match self {
            Self::Held | Self::Unsupported | Self::Unknown => None,
            Self::InUse {
                owner: Some(PortOwner { pid, name }),
            } => Some(format!(
                "port {port} is not published on this node: {name} (pid {pid}) has it; stop that process, or publish another port"
            )),
            Self::InUse { owner: None } => Some(format!(
                "port {port} is not published on this node: another process has it; stop it (ss -lnp tells which), or publish another port"
            )),
            Self::Refused { reason } => Some(format!(
                "port {port} is not published on this node: the kernel refused to bind it: {reason}"
            )),
        }
    }
}

impl fmt::Display for PortHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("held"),
            Self::InUse {
                owner: Some(PortOwner { pid, name }),
            } => write!(f, "in use by {name} (pid {pid})"),
            Self::InUse { owner: None } => f.write_str("in use by another process"),
            Self::Unsupported => f.write_str("published, no socket holds it"),
            Self::Refused { reason } => write!(f, "refused: {reason}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// The ports that a plan publishes on this node.
pub fn published_ports(desired: &DesiredState) -> BTreeSet<HeldPort> {
    let services = desired.services.values();
    let ports = services.flat_map(|service| service.published.keys());
    ports
        .map(|(protocol, port)| HeldPort {
            protocol: *protocol,
            port: *port,
        })
        .collect()
}

/// Takes out of plans what may not be published, keeping the parts of services that did not change the same in memory:
/// who applies a plan compares those by pointer.
#[derive(Debug, Default)]
pub struct PortFilter {
    reduced: BTreeMap<ServiceName, Reduced>,
}

#[derive(Debug)]
struct Reduced {
    whole: Arc<ServicePlan>,
    denied: BTreeSet<HeldPort>,
    without: Arc<ServicePlan>,
}

impl PortFilter {
    /// The plan without the ports in `denied`.
    pub fn reduce(&mut self, desired: &DesiredState, denied: &BTreeSet<HeldPort>) -> DesiredState {
        let mut result = desired.clone();
        let mut reduced = BTreeMap::new();
        for (name, service) in &mut result.services {
            let of_service: BTreeSet<HeldPort> = denied
                .iter()
                .filter(|port| service.published.contains_key(&(port.protocol, port.port)))
                .copied()
                .collect();
            if of_service.is_empty() {
                continue;
            }
            let known = self.reduced.remove(name);
            let entry =
                known.filter(|known| Arc::ptr_eq(&known.whole, service) && known.denied == of_service);
            let entry = entry.unwrap_or_else(|| {
                let mut without = ServicePlan::clone(service);
                without.published.retain(|(protocol, port), _| {
                    !of_service.contains(&HeldPort {
                        protocol: *protocol,
                        port: *port,
                    })
                });
                Reduced {
                    whole: Arc::clone(service),
                    denied: of_service,
                    without: Arc::new(without),
                }
            });
            *service = Arc::clone(&entry.without);
            reduced.insert(name.clone(), entry);
        }
        self.reduced = reduced;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::Protocol;
    use essaim_model::{Catalog, Liveness, NodeName, example, plan};

    fn desired() -> DesiredState {
        let catalog = Catalog::parse(example()).unwrap();
        plan(&catalog, &Liveness::of(&catalog), &NodeName::new("n1").unwrap()).unwrap()
    }

    fn tcp(port: u16) -> HeldPort {
        HeldPort {
            protocol: Protocol::Tcp,
            port,
        }
    }

    #[test]
    fn the_published_ports_of_the_example_are_found() {
        assert!(published_ports(&desired()).contains(&tcp(8080)));
    }

    #[test]
    fn nothing_denied_changes_nothing() {
        let desired = desired();
        let reduced = PortFilter::default().reduce(&desired, &BTreeSet::from([tcp(1)]));
        for (name, service) in &desired.services {
            assert!(Arc::ptr_eq(service, &reduced.services[name]), "{name}");
        }
    }

    #[test]
    fn a_denied_port_is_left_out_and_the_rest_stays() {
        let desired = desired();
        let mut filter = PortFilter::default();
        let denied = BTreeSet::from([tcp(8080)]);
        let reduced = filter.reduce(&desired, &denied);
        assert!(!published_ports(&reduced).contains(&tcp(8080)));
        let again = filter.reduce(&desired, &denied);
        for (name, service) in &reduced.services {
            assert!(Arc::ptr_eq(service, &again.services[name]), "{name}");
            assert_eq!(service.groups, desired.services[name].groups);
        }
        let back = filter.reduce(&desired, &BTreeSet::new());
        assert_eq!(back, desired);
    }

    #[test]
    fn a_refusal_names_port_owner_and_remedy() {
        let owner = Some(PortOwner {
            pid: 7,
            name: "nginx".into(),
        });
        let refusal = Refusal {
            port: tcp(8080),
            errno: Errno::EADDRINUSE as i32,
            owner,
        };
        let hold = PortHold::of(&refusal);
        assert!(!hold.is_served());
        let problem = hold.problem(tcp(8080)).unwrap();
        for part in ["tcp/8080", "nginx", "pid 7", "stop that process"] {
            assert!(problem.contains(part), "{problem}");
        }
        let refusal = Refusal {
            port: tcp(1),
            errno: Errno::EPROTONOSUPPORT as i32,
            owner: None,
        };
        assert!(PortHold::of(&refusal).is_served());
        let refusal = Refusal {
            port: tcp(1),
            errno: Errno::EMFILE as i32,
            owner: None,
        };
        assert!(!PortHold::of(&refusal).is_served());
    }
}
