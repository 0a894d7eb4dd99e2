//! Kernel parameters of network namespaces: which ones must hold, reading and writing them.

use crate::NetlinkError;
use essaim_model::Uplink;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// A parameter, as its path below `/proc/sys/net`; a thread sees those of its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sysctl(String);

impl Sysctl {
    fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/sys/net").join(&self.0)
    }

    /// Its value in the calling thread's namespace; `None` where the kernel does not have it.
    pub(crate) fn read(&self) -> Option<String> {
        Some(fs::read_to_string(self.path()).ok()?.trim().to_owned())
    }

    /// Sets it in the calling thread's namespace.
    pub(crate) fn write(&self, value: &str) -> Result<(), NetlinkError> {
        fs::write(self.path(), value).map_err(|source| NetlinkError::Sysctl {
            path: self.path(),
            value: value.to_owned(),
            source,
        })
    }

    /// Whether it is one of IPv6, which a kernel may lack.
    pub(crate) fn is_ipv6(&self) -> bool {
        self.0.starts_with("ipv6/")
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net/{}", self.0)
    }
}

/// What a parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) sysctl: Sysctl,
    pub(crate) value: &'static str,
    /// It is only changed from this value; from any other where `None`.
    pub(crate) only_from: Option<&'static str>,
}

impl Demand {
    fn always(path: String, value: &'static str) -> Self {
        Self {
            sysctl: Sysctl::new(path),
            value,
            only_from: None,
        }
    }

    fn from(path: String, only_from: &'static str, value: &'static str) -> Self {
        Self {
            sysctl: Sysctl::new(path),
            value,
            only_from: Some(only_from),
        }
    }

    /// Whether it is not met by what was found.
    pub(crate) fn is_unmet_by(&self, found: &str) -> bool {
        match self.only_from {
            Some(from) => found == from,
            None => found != self.value,
        }
    }
}

/// Tells whether the kernel has IPv6, and is turned on to forward it.
pub(crate) fn ipv6_forwarding() -> Sysctl {
    Sysctl::new("ipv6/conf/all/forwarding")
}

/// What must hold in the node's namespace as a whole, in the order in which it must be set.
pub(crate) fn of_node(uplinks: &[Uplink]) -> Vec<Demand> {
    // A host that forwards ignores router advertisements unless told otherwise: before forwarding is turned on.
    let mut demands: Vec<Demand> = uplinks
        .iter()
        .map(|uplink| Demand::from(format!("ipv6/conf/{}/accept_ra", uplink.name), "1", "2"))
        .collect();
    demands.push(Demand::always("ipv4/ip_forward".to_owned(), "1"));
    demands.push(Demand {
        sysctl: ipv6_forwarding(),
        value: "1",
        only_from: None,
    });
    // The stricter of `all` and the interface counts; 1 (strict) would drop what comes from tasks.
    demands.push(Demand::from("ipv4/conf/all/rp_filter".to_owned(), "1", "0"));
    demands
}

/// What must hold for a link of essaim in the node's namespace.
pub(crate) fn of_node_link(link: &str) -> Vec<Demand> {
    vec![
        Demand::always(format!("ipv4/conf/{link}/rp_filter"), "0"),
        Demand::always(format!("ipv6/conf/{link}/disable_ipv6"), "0"),
    ]
}

/// What must hold for a task's interface in the task's namespace.
pub(crate) fn of_task_link(link: &str) -> Vec<Demand> {
    vec![
        // What a task sends to its own address passes the loopback interface, where container engines turn IPv6 off.
        Demand::always("ipv6/conf/lo/disable_ipv6".to_owned(), "0"),
        Demand::always(format!("ipv6/conf/{link}/disable_ipv6"), "0"),
        // Addresses are unique by construction, and the programs answer no probe: waiting a second gains nothing.
        Demand::always(format!("ipv6/conf/{link}/accept_dad"), "0"),
        // No router advertises on an overlay; the default route is set by the plan.
        Demand::always(format!("ipv6/conf/{link}/accept_ra"), "0"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_abi::MacAddr;

    #[test]
    fn a_demand_that_only_changes_one_value_leaves_the_others() {
        let accept_ra = &of_node(&[Uplink {
            name: "eth0.7".into(),
            ifindex: 2,
            mtu: 1500,
            mac: MacAddr::default(),
        }])[0];
        assert_eq!(accept_ra.sysctl.to_string(), "net/ipv6/conf/eth0.7/accept_ra");
        assert!(accept_ra.is_unmet_by("1"));
        assert!(!accept_ra.is_unmet_by("0"));
        assert!(!accept_ra.is_unmet_by("2"));
    }

    #[test]
    fn forwarding_is_turned_on_after_router_advertisements_are_secured() {
        let uplink = Uplink {
            name: "eth0".into(),
            ifindex: 2,
            mtu: 1500,
            mac: MacAddr::default(),
        };
        let order: Vec<String> = of_node(&[uplink])
            .iter()
            .map(|demand| demand.sysctl.to_string())
            .collect();
        let at = |name: &str| order.iter().position(|sysctl| sysctl == name).unwrap();
        assert!(at("net/ipv6/conf/eth0/accept_ra") < at("net/ipv6/conf/all/forwarding"));
    }
}
