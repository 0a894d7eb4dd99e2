//! Putting catalogs together, and handing them to the agents.

use crate::cluster::Cluster;
use crate::family::Family;
use crate::traces::Prefix;
use anyhow::{Context as _, ensure};
use essaim_model::{
    Catalog, Cluster as ClusterSection, Endpoint, Network, NetworkName, Node, NodeName, NodeState, Service,
    ServiceName, ServiceNetwork, Task, TaskId, TaskState, Vni,
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// VNI of the first network.
const FIRST_VNI: u32 = 5001;

/// The first VIP's place in its subnet, after the gateway.
const VIPS: u32 = 2;

/// The first node's place in the ingress subnets is one more.
const NODES: u32 = 10;

/// The first task's place in a subnet.
const TASKS: u32 = 257;

/// A catalog that grows.
///
/// Addresses are given out as they are asked for, and never again. The network with the number N (the ingress network
/// has 0) has `10.N.0.0/16` and `fd42:N::/64`.
#[derive(Clone, Debug)]
pub struct CatalogBuilder {
    catalog: Catalog,
    prefix: Prefix,
    places: BTreeMap<String, u32>,
    task_numbers: BTreeMap<String, u32>,
    ready: BTreeMap<ServiceName, Vec<TaskId>>,
}

impl Cluster {
    /// A catalog with this cluster's nodes, whose VTEPs are their IPv4 addresses, and nothing else.
    ///
    /// # Errors
    /// None that a cluster can cause.
    pub fn catalog(&self) -> anyhow::Result<CatalogBuilder> {
        self.catalog_over(Family::V4)
    }

    /// As [`Cluster::catalog`], with VTEPs of a chosen family.
    ///
    /// # Errors
    /// As [`Cluster::catalog`].
    pub fn catalog_over(&self, underlay: Family) -> anyhow::Result<CatalogBuilder> {
        let mut nodes = Vec::new();
        for (place, name) in (NODES + 1..).zip(self.nodes()) {
            nodes.push(Node {
                name: NodeName::new(name)?,
                address: self.address(name, underlay)?,
                overlay: addresses(0, place),
                state: NodeState::Up,
            });
        }
        let cluster = ClusterSection::new(subnets(0)?);
        Ok(CatalogBuilder {
            catalog: Catalog {
                revision: 0,
                cluster,
                nodes,
                networks: Vec::new(),
                services: Vec::new(),
            },
            prefix: self.prefix().clone(),
            places: BTreeMap::new(),
            task_numbers: BTreeMap::new(),
            ready: BTreeMap::new(),
        })
    }

    /// Gives the catalog its next revision and writes it for every agent.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_catalog(&self, builder: &mut CatalogBuilder) -> anyhow::Result<()> {
        builder.next_revision();
        self.write_catalog_text(&builder.catalog.to_toml())
    }

    /// Writes a catalog file for every agent.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_catalog_text(&self, text: &str) -> anyhow::Result<()> {
        self.nodes()
            .try_for_each(|node| self.write_node_catalog_text(node, text))
    }

    /// Writes a catalog file for one agent, which then knows more, or less, than the others.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_node_catalog_text(&self, node: &str, text: &str) -> anyhow::Result<()> {
        replace(&self.catalog_file(node), text)
    }

    /// The revision of the catalog that was written last for a node.
    pub(crate) fn written_revision(&self, node: &str) -> anyhow::Result<u64> {
        let path = self.catalog_file(node);
        let text = fs::read_to_string(&path).with_context(|| format!("no catalog was written for {node}"))?;
        let table: toml::Table = text
            .parse()
            .with_context(|| format!("{} is no TOML", path.display()))?;
        let revision = table.get("revision").and_then(toml::Value::as_integer);
        let revision = revision.with_context(|| format!("{} has no revision", path.display()))?;
        Ok(u64::try_from(revision)?)
    }
}

impl CatalogBuilder {
    /// The catalog as it is now.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The catalog, for what this builder has no word for.
    pub fn catalog_mut(&mut self) -> &mut Catalog {
        &mut self.catalog
    }

    /// Adds a dual-stack network.
    ///
    /// # Errors
    /// When the name is none.
    pub fn network(&mut self, name: &str) -> anyhow::Result<&mut Network> {
        let number = self.catalog.networks.len() + 1;
        let vni = Vni::new(FIRST_VNI - 1 + u32::try_from(number)?)?;
        self.catalog.networks.push(Network::new(
            NetworkName::new(name)?,
            vni,
            subnets(u8::try_from(number)?)?,
        ));
        self.catalog
            .networks
            .last_mut()
            .context("the network was just added")
    }

    /// Adds a service with VIPs on these networks.
    ///
    /// # Errors
    /// When the name is none, or there is no such network.
    pub fn service(&mut self, name: &str, networks: &[&str]) -> anyhow::Result<&mut Service> {
        let mut service = Service::new(ServiceName::new(name)?);
        for network in networks {
            let number = self.network_number(network)?;
            let place = VIPS + self.next_place(&format!("VIPs of {network}"));
            let vips = addresses(number, place);
            service
                .networks
                .push(ServiceNetwork::new(NetworkName::new(network)?, vips));
        }
        self.catalog.services.push(service);
        self.catalog
            .services
            .last_mut()
            .context("the service was just added")
    }

    /// Adds a ready task of a service on a node and hands out its identity, SERVICE.NUMBER. It is on the service's
    /// networks, or on the ingress network where the service has none.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn task(&mut self, service: &str, node: &str) -> anyhow::Result<String> {
        let networks: Vec<_> = self
            .service_mut(service)?
            .networks
            .iter()
            .map(|network| network.name.to_string())
            .collect();
        let networks = if networks.is_empty() {
            vec!["ingress".to_owned()]
        } else {
            networks
        };
        let number = self.task_numbers.entry(service.to_owned()).or_default();
        *number += 1;
        let id = format!("{service}.{number}");
        let mut endpoints = Vec::new();
        for network in &networks {
            let place = TASKS + self.next_place(&format!("tasks of {network}"));
            let addresses = addresses(self.network_number(network)?, place);
            endpoints.push(Endpoint::new(NetworkName::new(network)?, addresses));
        }
        let task = Task {
            endpoints,
            ..Task::new(TaskId::new(&id)?, NodeName::new(node)?, self.prefix.netns(&id))
        };
        self.service_mut(service)?.tasks.push(task);
        Ok(id)
    }

    /// A service.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn service_mut(&mut self, name: &str) -> anyhow::Result<&mut Service> {
        let found = self
            .catalog
            .services
            .iter_mut()
            .find(|service| service.name.as_str() == name);
        found.with_context(|| format!("the catalog has no service {name}"))
    }

    /// A task.
    ///
    /// # Errors
    /// When there is none of this identity.
    pub fn task_mut(&mut self, id: &str) -> anyhow::Result<&mut Task> {
        let mut tasks = self
            .catalog
            .services
            .iter_mut()
            .flat_map(|service| &mut service.tasks);
        tasks
            .find(|task| task.id.as_str() == id)
            .with_context(|| format!("the catalog has no task {id}"))
    }

    /// Says how far a task is.
    ///
    /// # Errors
    /// When there is none of this identity.
    pub fn set_state(&mut self, id: &str, state: TaskState) -> anyhow::Result<()> {
        self.task_mut(id)?.state = state;
        Ok(())
    }

    /// Takes a task out.
    ///
    /// # Errors
    /// When there is none of this identity.
    pub fn remove_task(&mut self, id: &str) -> anyhow::Result<()> {
        self.task_mut(id)?;
        for service in &mut self.catalog.services {
            service.tasks.retain(|task| task.id.as_str() != id);
        }
        Ok(())
    }

    /// The VIP of a service on a network.
    ///
    /// # Errors
    /// When it has none of this family there.
    pub fn vip(&self, service: &str, network: &str, family: Family) -> anyhow::Result<IpAddr> {
        let services = self
            .catalog
            .services
            .iter()
            .filter(|found| found.name.as_str() == service);
        let networks = services
            .flat_map(|found| &found.networks)
            .filter(|found| found.name.as_str() == network);
        let vip = networks
            .flat_map(|found| &found.vips)
            .find(|vip| family.is_of(**vip));
        vip.copied()
            .with_context(|| format!("service {service} has no {family} VIP on {network}"))
    }

    /// The address of a task on a network.
    ///
    /// # Errors
    /// When it has none of this family there.
    pub fn task_address(&self, id: &str, network: &str, family: Family) -> anyhow::Result<IpAddr> {
        let tasks = self.catalog.services.iter().flat_map(|service| &service.tasks);
        let endpoints = tasks
            .filter(|task| task.id.as_str() == id)
            .flat_map(|task| &task.endpoints);
        let mut addresses = endpoints
            .filter(|endpoint| endpoint.network.as_str() == network)
            .flat_map(|endpoint| &endpoint.addresses);
        let address = addresses.find(|address| family.is_of(**address)).copied();
        address.with_context(|| format!("task {id} has no {family} address on {network}"))
    }

    /// Raises the revision, and notes the sets of ready tasks that were, where they have changed.
    fn next_revision(&mut self) {
        self.catalog.revision += 1;
        for service in &mut self.catalog.services {
            let tasks = service.tasks.iter().filter(|task| task.state == TaskState::Ready);
            let now: Vec<_> = tasks.map(|task| task.id.clone()).collect();
            let before = self
                .ready
                .insert(service.name.clone(), now.clone())
                .unwrap_or_default();
            if before != now && !before.is_empty() {
                service.history.insert(0, before);
                service.history.truncate(essaim_model::HISTORY_GENERATIONS);
            }
        }
    }

    fn network_number(&self, name: &str) -> anyhow::Result<u8> {
        if name == "ingress" {
            return Ok(0);
        }
        let place = self
            .catalog
            .networks
            .iter()
            .position(|network| network.name.as_str() == name);
        let place = place.with_context(|| format!("the catalog has no network {name}"))?;
        Ok(u8::try_from(place + 1)?)
    }

    fn next_place(&mut self, of: &str) -> u32 {
        let next = self.places.entry(of.to_owned()).or_default();
        *next += 1;
        *next - 1
    }
}

/// The subnets of the network with this number.
fn subnets(number: u8) -> anyhow::Result<Vec<IpNet>> {
    ensure!(number < 200, "a lab has at most 199 networks");
    let v4 = Ipv4Net::new(Ipv4Addr::new(10, number, 0, 0), 16)?;
    let v6 = Ipv6Net::new(Ipv6Addr::new(0xfd42, number.into(), 0, 0, 0, 0, 0, 0), 64)?;
    Ok(vec![v4.into(), v6.into()])
}

/// The addresses at a place of the network with this number.
fn addresses(number: u8, place: u32) -> Vec<IpAddr> {
    let v4 = u32::from(Ipv4Addr::new(10, number, 0, 0)) | (place & 0xffff);
    let v6 = u128::from(Ipv6Addr::new(0xfd42, number.into(), 0, 0, 0, 0, 0, 0)) | u128::from(place);
    vec![Ipv4Addr::from(v4).into(), Ipv6Addr::from(v6).into()]
}

/// Replaces a file as a whole, so that no reader sees half of it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let new = path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(&new, path)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::Port;

    fn builder() -> CatalogBuilder {
        let node = |number: u8| Node {
            name: NodeName::new(&format!("n{number}")).unwrap(),
            address: IpAddr::from([172, 30, 0, 10 + number]),
            overlay: addresses(0, NODES + u32::from(number)),
            state: NodeState::Up,
        };
        let cluster = ClusterSection::new(subnets(0).unwrap());
        CatalogBuilder {
            catalog: Catalog {
                revision: 0,
                cluster,
                nodes: vec![node(1), node(2)],
                networks: Vec::new(),
                services: Vec::new(),
            },
            prefix: Prefix::lasting("unit").unwrap(),
            places: BTreeMap::new(),
            task_numbers: BTreeMap::new(),
            ready: BTreeMap::new(),
        }
    }

    #[test]
    fn built_catalog_holds_every_rule() {
        let mut builder = builder();
        builder.network("app").unwrap();
        builder.network("data").unwrap().internal = true;
        builder
            .service("web", &["app", "data"])
            .unwrap()
            .ports
            .push(Port::new(8080, 80));
        builder.service("api", &["app"]).unwrap();
        builder
            .service("edge", &[])
            .unwrap()
            .ports
            .push(Port::new(9090, 80));
        for (service, node) in [("web", "n1"), ("web", "n2"), ("api", "n1"), ("edge", "n2")] {
            builder.task(service, node).unwrap();
        }
        builder.next_revision();
        let text = builder.catalog().to_toml();
        assert_eq!(&Catalog::parse(&text).unwrap(), builder.catalog(), "{text}");
        assert_eq!(
            builder.vip("api", "app", Family::V4).unwrap(),
            IpAddr::from([10, 1, 0, 3])
        );
        assert_eq!(
            builder.task_address("web.2", "data", Family::V4).unwrap(),
            IpAddr::from([10, 2, 1, 2])
        );
        assert_eq!(builder.task_mut("edge.1").unwrap().netns, "unit-edge.1");
    }

    #[test]
    fn identities_and_addresses_are_not_given_out_twice() {
        let mut builder = builder();
        builder.network("app").unwrap();
        builder.service("web", &["app"]).unwrap();
        let first = builder.task("web", "n1").unwrap();
        let address = builder.task_address(&first, "app", Family::V6).unwrap();
        builder.remove_task(&first).unwrap();
        let second = builder.task("web", "n1").unwrap();
        assert_ne!(first, second);
        assert_ne!(builder.task_address(&second, "app", Family::V6).unwrap(), address);
    }

    #[test]
    fn earlier_sets_of_ready_tasks_are_remembered_newest_first() {
        let mut builder = builder();
        builder.network("app").unwrap();
        builder.service("web", &["app"]).unwrap();
        builder.task("web", "n1").unwrap();
        builder.next_revision();
        builder.task("web", "n2").unwrap();
        builder.next_revision();
        builder.next_revision();
        builder.set_state("web.1", TaskState::Draining).unwrap();
        builder.next_revision();
        let id = |text| TaskId::new(text).unwrap();
        let history = &builder.service_mut("web").unwrap().history;
        assert_eq!(history, &[vec![id("web.1"), id("web.2")], vec![id("web.1")]]);
    }
}
