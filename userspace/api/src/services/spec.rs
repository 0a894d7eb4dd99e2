//! What becomes of a service's spec before it is kept.

use crate::EngineError;
use crate::change::invalid_argument;
use crate::find::find;
use essaim_manager::authority::DEFAULT_DATA_PATH_PORT;
use essaim_objects::{
    ContainerSpec, EndpointSpec, FailureAction, Network, NetworkTarget, PortConfig, Protocol, PublishMode,
    PullOptions, ResolutionMode, Runtime, ServiceMode, ServiceSpec, UpdateOrder,
};
use essaim_store::View;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Networks of a node that Docker lets a service name.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// The spec with what Docker's engine adds to every one (here and not as it is shown, so that a spec that is read and written
/// back differs in nothing, and replaces no task), and with the networks where clients of today look for them.
pub(super) fn with_docker_defaults(mut spec: ServiceSpec) -> ServiceSpec {
    match &mut spec.mode {
        Some(mode) if mode.replicated.is_some() => {
            if let Some(replicated) = &mut mode.replicated {
                replicated.replicas.get_or_insert(1);
            }
        }
        Some(mode) if mode.global.is_none() && mode.replicated_job.is_none() && mode.global_job.is_none() => {
            mode.replicated = ServiceMode::replicated(1).replicated;
        }
        Some(_) => {}
        None => spec.mode = Some(ServiceMode::replicated(1)),
    }
    for config in [&mut spec.update_config, &mut spec.rollback_config]
        .into_iter()
        .flatten()
    {
        if matches!(config.failure_action, None | Some(FailureAction::Unset)) {
            config.failure_action = Some(FailureAction::Pause);
        }
        if matches!(config.order, None | Some(UpdateOrder::Unset)) {
            config.order = Some(UpdateOrder::StopFirst);
        }
    }
    if let Some(endpoint) = &mut spec.endpoint_spec
        && matches!(endpoint.mode, None | Some(ResolutionMode::Unset))
    {
        endpoint.mode = Some(ResolutionMode::Vip);
    }
    let template = Arc::make_mut(&mut spec.task_template);
    template.force_update.get_or_insert(0);
    if matches!(template.runtime, None | Some(Runtime::Unset)) {
        template.runtime = Some(Runtime::Container);
    }
    if let Some(container) = &mut template.container
        && container.isolation.as_deref().unwrap_or_default().is_empty()
    {
        container.isolation = Some("default".to_owned());
    }
    if template.networks.as_deref().unwrap_or_default().is_empty() {
        template.networks.clone_from(&spec.networks);
    }
    spec
}

/// Has its image pulled so, whatever the spec itself says: to Docker's API that is no member of it.
pub(super) fn pull_with(spec: &mut ServiceSpec, options: Option<PullOptions>) {
    if let Some(container) = &mut Arc::make_mut(&mut spec.task_template).container {
        container.pull_options = options;
    }
}

/// Whether its ports leave the overlays their own, which a node could publish on none of its addresses.
fn beside_the_data_path(view: &View, spec: &ServiceSpec) -> Result<(), EngineError> {
    let named = view.cluster().and_then(|cluster| cluster.data_path_port);
    let data_path = named.filter(|port| *port != 0).unwrap_or(DEFAULT_DATA_PATH_PORT);
    let mut ports = spec.endpoint_spec.iter().flat_map(EndpointSpec::ports);
    let is_its_own =
        |port: &PortConfig| port.protocol() == Protocol::Udp && u32::from(port.published()) == data_path;
    match ports.position(is_its_own) {
        Some(place) => Err(invalid_argument(format_args!(
            "EndpointSpec.Ports[{place}].PublishedPort is {data_path}/udp, expected another: this is the data path's port"
        ))),
        None => Ok(()),
    }
}

/// The spec with its networks by identity, in the template.
///
/// # Errors
/// Something that it names is not there, or cannot be used.
pub(super) fn resolved(view: &View, mut spec: ServiceSpec) -> Result<ServiceSpec, EngineError> {
    let template = Arc::make_mut(&mut spec.task_template);
    let mut networks = template.networks.clone();
    resolve(view, networks.as_deref_mut().unwrap_or_default())?;
    // Beside the template they are shown for as long as they say the same, to clients that look there (docker-py).
    let is_same = spec.networks == template.networks || spec.networks == networks;
    if spec.networks.is_some() {
        spec.networks = networks.clone().filter(|_| is_same);
    }
    template.networks = networks;
    if let Some(container) = &template.container {
        secrets_and_configs(view, container)?;
    }
    beside_the_data_path(view, &spec)?;
    let ports = spec.endpoint_spec.iter().flat_map(EndpointSpec::ports);
    let is_on_every_node = |port: &PortConfig| port.publish_mode() == PublishMode::Ingress;
    if view.ingress().is_none() && ports.into_iter().any(is_on_every_node) {
        return Err(EngineError::failed_precondition(
            "service needs ingress network, but no ingress network is present",
        ));
    }
    Ok(spec)
}

fn resolve(view: &View, networks: &mut [NetworkTarget]) -> Result<(), EngineError> {
    let mut seen = BTreeSet::new();
    for target in networks {
        let text = target.target.as_deref().unwrap_or_default();
        let network = match find::<Network>(view, text) {
            Err(_) if PREDEFINED.contains(&text) => {
                return Err(invalid_argument(format_args!(
                    "network {text} is a node's own, expected an overlay network: services are on no networks of nodes"
                )));
            }
            found => found?,
        };
        if network.is_ingress() {
            return Err(invalid_argument(format_args!(
                "Service cannot be explicitly attached to the ingress network {:?}",
                network.name()
            )));
        }
        if network.spec.config_only == Some(true) {
            return Err(invalid_argument(format_args!(
                "network {} only holds configuration, expected one that takes it",
                network.name()
            )));
        }
        if !seen.insert(network.id) {
            return Err(invalid_argument(format_args!(
                "network {} is given twice, expected once",
                network.name()
            )));
        }
        target.target = Some(network.id.to_string());
    }
    Ok(())
}

/// Each must be there under the name that goes with its identity.
fn secrets_and_configs(view: &View, container: &ContainerSpec) -> Result<(), EngineError> {
    let secrets = container.secrets().iter().filter(|reference| {
        let secret = reference.secret_id.and_then(|id| view.secret(id));
        secret.is_none_or(|secret| secret.spec.name != reference.secret_name)
    });
    missing(
        "secret",
        secrets.map(|reference| reference.secret_name.as_deref().unwrap_or_default()),
    )?;
    let configs = container.configs().iter().filter(|reference| {
        let config = reference.config_id.and_then(|id| view.config(id));
        config.is_none_or(|config| config.spec.name != reference.config_name)
    });
    missing(
        "config",
        configs.map(|reference| reference.config_name.as_deref().unwrap_or_default()),
    )
}

fn missing<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<(), EngineError> {
    let names: Vec<_> = names.collect();
    match names.as_slice() {
        [] => Ok(()),
        [name] => Err(invalid_argument(format_args!("{kind} not found: {name}"))),
        [..] => Err(invalid_argument(format_args!(
            "{kind}s not found: {}",
            names.join(", ")
        ))),
    }
}
