//! From what files ask for to the objects of the cluster, as `docker stack deploy` makes them.

mod service;

pub use service::is_predefined;

use crate::load::Surroundings;
use crate::model::{FileObject, Network, Stack};
use crate::place::{Findings, Problems};
use essaim_objects::{ConfigSpec, Driver, Ipam, IpamPool, Labels, NetworkCreate, SecretSpec, ServiceSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The label that says which stack an object is of.
pub const NAMESPACE_LABEL: &str = "com.docker.stack.namespace";
/// The label of a service that says which image its file has.
pub const IMAGE_LABEL: &str = "com.docker.stack.image";

/// The network of services that name none.
const DEFAULT_NETWORK: &str = "default";

/// The objects of a stack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Networks that must be there already.
    pub external_networks: BTreeSet<String>,
    /// Networks to create, by name.
    pub networks: Vec<NetworkCreate>,
    /// Secrets to create, or to update.
    pub secrets: Vec<SecretSpec>,
    /// Configs to create, or to update.
    pub configs: Vec<ConfigSpec>,
    /// Services to create, or to update, by name. Their secrets and configs have names and no identities yet.
    pub services: Vec<ServiceSpec>,
}

/// Makes names of a stack's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace<'a>(&'a str);

impl Namespace<'_> {
    pub(crate) fn scope(self, name: &str) -> String {
        format!("{}_{name}", self.0)
    }

    pub(crate) fn label(self, mut labels: Labels) -> Labels {
        labels.insert(NAMESPACE_LABEL.to_owned(), self.0.to_owned());
        labels
    }
}

impl Stack {
    /// The objects of the stack of this name.
    ///
    /// # Errors
    /// What services name that is not there; keys that do not go together; files that cannot be read.
    pub fn plan(&self, name: &str, around: &Surroundings<'_>) -> Result<Plan, Problems> {
        let mut findings = Findings::of(self.files.clone());
        let namespace = Namespace(name);
        let mut plan = Plan::default();
        let mut used = BTreeSet::new();
        for service in self.services.values() {
            used.extend(service.networks.keys().map(String::as_str));
            if service.networks.is_empty() {
                used.insert(DEFAULT_NETWORK);
            }
        }
        for name in used {
            match self.networks.get(name) {
                Some(network) if network.external => {
                    plan.external_networks.extend(network.name.clone());
                }
                // Others that are not there are told where a service names them.
                None if name != DEFAULT_NETWORK => {}
                network => plan.networks.push(create(namespace, name, network)),
            }
        }
        plan.networks.sort_by(|a, b| a.name.cmp(&b.name));
        for (name, secret) in own(&self.secrets) {
            let data = if secret.driver.is_some() {
                None
            } else {
                read(secret, &format!("secrets.{name}.file"), around, &mut findings)
            };
            plan.secrets.push(SecretSpec {
                name: Some(secret.full_name(namespace, name)),
                labels: Some(namespace.label(secret.labels.clone())),
                data: data.map(Into::into),
                driver: secret.driver.as_ref().map(|driver| Driver {
                    name: Some(driver.clone()),
                    options: some(secret.driver_opts.clone()),
                    ..Driver::default()
                }),
                templating: templating(secret),
                ..SecretSpec::default()
            });
        }
        for (name, config) in own(&self.configs) {
            let data = read(config, &format!("configs.{name}.file"), around, &mut findings);
            plan.configs.push(ConfigSpec {
                name: Some(config.full_name(namespace, name)),
                labels: Some(namespace.label(config.labels.clone())),
                data: data.map(Into::into),
                templating: templating(config),
                ..ConfigSpec::default()
            });
        }
        for (name, service) in &self.services {
            let spec = service.to_spec(name, self, namespace, &mut findings);
            plan.services.push(spec);
        }
        findings.finish()?;
        Ok(plan)
    }
}

/// Those that the stack makes itself.
fn own(objects: &BTreeMap<String, FileObject>) -> impl Iterator<Item = (&String, &FileObject)> {
    objects.iter().filter(|(_, object)| !object.external)
}

impl FileObject {
    pub(crate) fn full_name(&self, namespace: Namespace<'_>, key: &str) -> String {
        self.name.clone().unwrap_or_else(|| namespace.scope(key))
    }
}

fn templating(object: &FileObject) -> Option<Driver> {
    object.template_driver.as_ref().map(|driver| Driver {
        name: Some(driver.clone()),
        ..Driver::default()
    })
}

fn read(
    object: &FileObject,
    path: &str,
    around: &Surroundings<'_>,
    findings: &mut Findings,
) -> Option<Vec<u8>> {
    let file = object.file.as_deref()?;
    match (around.read)(Path::new(file)) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            findings.problem(
                object.at,
                path,
                format!("the file {file} cannot be read: {error}"),
            );
            None
        }
    }
}

/// The body that creates a network; the default one has no entry of its own in most files.
fn create(namespace: Namespace<'_>, key: &str, network: Option<&Network>) -> NetworkCreate {
    let labels = network.map(|network| network.labels.clone()).unwrap_or_default();
    let name = network.and_then(|network| network.name.clone());
    let ipam = network.filter(|network| network.ipam_driver.is_some() || !network.subnets.is_empty());
    let pools = |network: &Network| {
        let pools = network.subnets.iter().map(|subnet| IpamPool {
            subnet: Some(subnet.clone()),
            ..IpamPool::default()
        });
        some(pools.collect::<Vec<_>>())
    };
    NetworkCreate {
        name: Some(name.unwrap_or_else(|| namespace.scope(key))),
        driver: Some(
            network
                .and_then(|network| network.driver.clone())
                .unwrap_or_else(|| "overlay".to_owned()),
        ),
        scope: Some(String::new()),
        ipam: ipam.map(|network| Ipam {
            driver: Some(network.ipam_driver.clone().unwrap_or_default()),
            config: pools(network),
            ..Ipam::default()
        }),
        internal: Some(network.and_then(|network| network.internal) == Some(true)),
        attachable: Some(network.and_then(|network| network.attachable) == Some(true)),
        ingress: Some(false),
        config_only: Some(false),
        options: network.and_then(|network| some(network.driver_opts.clone())),
        labels: Some(namespace.label(labels)),
        ..NetworkCreate::default()
    }
}

/// What is not empty.
pub(crate) fn some<T: IntoIterator + Default + PartialEq>(items: T) -> Option<T> {
    Some(items).filter(|items| *items != T::default())
}
