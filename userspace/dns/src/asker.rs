//! Who asks: a task, with the networks whose names it may see.

use crate::wire::encode_lower;
use essaim_model::{Catalog, NetworkName, Service, Task, Vni};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where network namespaces have their names; a path that is given stays what it is.
const NAMED_NETNS: &str = "/run/netns";

/// A task's namespace, by a number that the caller gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskerId(pub u64);

/// Where names of the outside are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outside {
    /// Nowhere: only the cluster's names exist, every other is an error (NXDOMAIN).
    Closed,
    /// At the node's upstream servers.
    #[default]
    Node,
    /// At these servers.
    Servers(Vec<IpAddr>),
    /// At the resolver that the container's engine has in its namespace, which has this file: it knows the engine's own
    /// names, and the servers that the container was given.
    Engine(PathBuf),
}

/// What a task's questions are answered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskerInfo {
    pub(crate) networks: Vec<AskerNetwork>,
    pub(crate) outside: Outside,
}

/// A network that the asker is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AskerNetwork {
    pub(crate) vni: Vni,
    /// Its name as the last labels of a question, in lower case, the root included; empty where it cannot be asked
    /// for.
    pub(crate) suffix: Vec<u8>,
}

impl AskerInfo {
    /// A task on these networks, in the order in which they are searched for a short name.
    pub fn new<'n>(networks: impl IntoIterator<Item = (&'n NetworkName, Vni)>, outside: Outside) -> Self {
        let networks = networks.into_iter().map(|(name, vni)| AskerNetwork {
            vni,
            suffix: encode_lower(name.as_str()).unwrap_or_default(),
        });
        Self {
            networks: networks.collect(),
            outside,
        }
    }

    /// The task of a service: the network of its default route is searched first, then the others in the order of
    /// its endpoints. The ingress network holds no names.
    pub fn of(catalog: &Catalog, service: &Service, task: &Task) -> Self {
        let network = |name: &NetworkName| catalog.networks.iter().find(|network| network.name == *name);
        let is_internal = |name: &NetworkName| network(name).is_some_and(|network| network.internal);
        let default = service.default_endpoint(task, is_internal);
        let (first, rest): (Vec<_>, Vec<_>) = task
            .endpoints
            .iter()
            .partition(|endpoint| Some(*endpoint) == default);
        let networks = first.into_iter().chain(rest);
        let networks = networks.filter_map(|endpoint| network(&endpoint.network));
        let outside = match &service.dns.servers[..] {
            _ if task.handover => Outside::Engine(Path::new(NAMED_NETNS).join(&task.netns)),
            _ if !service.resolves_outside(is_internal) => Outside::Closed,
            [] => Outside::Node,
            servers => Outside::Servers(servers.to_vec()),
        };
        Self::new(networks.map(|network| (&network.name, network.vni)), outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CLUSTER, find};

    fn info(catalog: &Catalog, task: &str) -> AskerInfo {
        let (service, task) = find(catalog, task);
        AskerInfo::of(catalog, service, task)
    }

    #[test]
    fn the_default_routes_network_comes_first() {
        let mut catalog = Catalog::parse(CLUSTER).unwrap();
        let vnis = |catalog: &Catalog| -> Vec<u32> {
            let networks = info(catalog, "q1w2").networks;
            networks.iter().map(|network| network.vni.get()).collect()
        };
        assert_eq!(vnis(&catalog), [100, 200]);
        catalog.services[0].default_network = Some("back".parse().unwrap());
        assert_eq!(vnis(&catalog), [200, 100]);
    }

    #[test]
    fn the_outside_is_where_the_service_says() {
        let mut catalog = Catalog::parse(CLUSTER).unwrap();
        assert_eq!(info(&catalog, "q1w2").outside, Outside::Node);
        // On an internal network only.
        assert_eq!(info(&catalog, "db.1").outside, Outside::Closed);
        let server: IpAddr = "192.0.2.53".parse().unwrap();
        catalog.services[1].dns.servers = vec![server];
        assert_eq!(info(&catalog, "db.1").outside, Outside::Closed);
        catalog.services[1].dns.external = Some(true);
        assert_eq!(info(&catalog, "db.1").outside, Outside::Servers(vec![server]));
    }

    #[test]
    fn the_ingress_network_has_no_names() {
        let mut catalog = Catalog::parse(CLUSTER).unwrap();
        let task = &mut catalog.services[2].tasks[0];
        task.endpoints[0].network = NetworkName::ingress();
        assert_eq!(info(&catalog, "lone.1").networks, []);
    }
}
