//! The engine behind its socket: its networks that stand for the cluster's, and who is on them.

use crate::{DRIVER, NETWORK_OPTION};
use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use bollard::{API_DEFAULT_VERSION, Docker};
use ipnet::IpNet;
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Longest that a call may take. Too low and a busy engine counts as absent, too high and `docker run` hangs with one that
/// hangs.
const CALL: Duration = Duration::from_secs(20);

/// The engine; connected to anew for each call, since it comes and goes.
#[derive(Debug)]
pub(crate) struct DockerEngine {
    socket: PathBuf,
}

/// A network of the engine's that is to be made.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub(crate) name: String,
    /// The cluster's network that it stands for.
    pub(crate) of: String,
    pub(crate) subnets: Vec<(IpNet, Option<IpAddr>)>,
}

/// A network of the engine's.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) id: String,
    /// The cluster's network that it stands for, where it does for any.
    pub(crate) of: Option<String>,
}

/// A network that stands for one of the cluster's.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) of: String,
}

/// A container on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
}

impl DockerEngine {
    pub(crate) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        ask: impl FnOnce(Docker) -> F,
    ) -> Result<T, String> {
        let answer = async {
            let socket = self.socket.display().to_string();
            let docker = Docker::connect_with_unix(&socket, CALL.as_secs(), API_DEFAULT_VERSION)?;
            ask(docker.negotiate_version().await?).await
        };
        let socket = self.socket.display();
        match tokio::time::timeout(CALL, answer).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(Error::DockerResponseServerError { message, .. })) => Err(message),
            Ok(Err(error)) => Err(format!("no Docker Engine answers at {socket}: {error}")),
            Err(_) => Err(format!(
                "the Docker Engine at {socket} has not answered within {CALL:?}"
            )),
        }
    }

    /// The network of a name or identity.
    pub(crate) async fn network(&self, name: &str) -> Result<Option<Found>, String> {
        let found = self.call(|docker| async move {
            match docker.inspect_network(name, None).await {
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
                found => found.map(Some),
            }
        });
        Ok(found.await?.map(|found| Found {
            id: found.id.unwrap_or_default(),
            of: found
                .driver
                .filter(|driver| driver == DRIVER)
                .and_then(|_| found.options.unwrap_or_default().remove(NETWORK_OPTION)),
        }))
    }

    /// The networks that stand for the cluster's.
    pub(crate) async fn shadows(&self) -> Result<Vec<Standing>, String> {
        let filters = HashMap::from([("driver".to_owned(), vec![DRIVER.to_owned()])]);
        let options = ListNetworksOptions {
            filters: Some(filters),
        };
        let all = self.call(|docker| async move { docker.list_networks(Some(options)).await });
        let standing = all.await?.into_iter().filter_map(|found| {
            Some(Standing {
                id: found.id?,
                name: found.name?,
                of: found.options?.remove(NETWORK_OPTION)?,
            })
        });
        Ok(standing.collect())
    }

    /// The endpoints on the networks that stand for the cluster's.
    pub(crate) async fn endpoints(&self) -> Result<BTreeSet<String>, String> {
        let mut all = BTreeSet::new();
        for shadow in self.shadows().await? {
            let id = &shadow.id;
            let found = self.call(|docker| async move { docker.inspect_network(id, None).await });
            let containers = found.await?.containers.unwrap_or_default();
            all.extend(
                containers
                    .into_values()
                    .filter_map(|container| container.endpoint_id),
            );
        }
        Ok(all)
    }

    /// Makes a network that stands for one of the cluster's.
    pub(crate) async fn make(&self, shadow: &Shadow) -> Result<(), String> {
        let option = || HashMap::from([(NETWORK_OPTION.to_owned(), shadow.of.clone())]);
        let config = shadow.subnets.iter().map(|(subnet, gateway)| IpamConfig {
            subnet: Some(subnet.to_string()),
            gateway: gateway.map(|gateway| gateway.to_string()),
            ..IpamConfig::default()
        });
        let request = NetworkCreateRequest {
            name: shadow.name.clone(),
            driver: Some(DRIVER.to_owned()),
            options: Some(option()),
            enable_ipv6: Some(shadow.subnets.iter().any(|(subnet, _)| subnet.addr().is_ipv6())),
            ipam: Some(Ipam {
                driver: Some(DRIVER.to_owned()),
                config: Some(config.collect()),
                options: Some(option()),
            }),
            ..NetworkCreateRequest::default()
        };
        self.call(|docker| async move { docker.create_network(request).await })
            .await
            .map(drop)
    }

    /// Removes a network; the engine refuses where a container is on it.
    pub(crate) async fn remove(&self, id: &str) -> Result<(), String> {
        self.call(|docker| async move { docker.remove_network(id).await })
            .await
    }

    /// The container that has an endpoint on a network, once the engine says so.
    pub(crate) async fn container(&self, network: &str, endpoint: &str) -> Result<Option<Container>, String> {
        let found = self
            .call(|docker| async move { docker.inspect_network(network, None).await })
            .await?;
        let containers = found.containers.unwrap_or_default();
        let mut containers = containers.into_iter();
        let container = containers.find(|(_, container)| container.endpoint_id.as_deref() == Some(endpoint));
        let Some((id, _)) = container else { return Ok(None) };
        let asked = &id;
        let said = self
            .call(|docker| async move { docker.inspect_container(asked, None).await })
            .await?;
        let mut names: Vec<String> = said
            .name
            .iter()
            .map(|name| name.trim_start_matches('/').to_owned())
            .collect();
        let places = said
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default();
        let own = places
            .into_values()
            .find(|place| place.endpoint_id.as_deref() == Some(endpoint));
        for alias in own.and_then(|place| place.aliases).unwrap_or_default() {
            // The beginning of its identity is a name in any case.
            if !names.contains(&alias) && !id.starts_with(&alias) {
                names.push(alias);
            }
        }
        Ok(Some(Container { id, names }))
    }
}
