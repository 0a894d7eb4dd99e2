//! `service create`: from flags to a spec.

use super::flags::{self, SharedFlags};
use super::names::{Names, References};
use crate::error::Error;
use crate::parse::{
    AttachmentFlag, Discrete, FileFlag, HostEntry, MountFlag, Placed, Ports, ascii_word, capability,
    key_value, name_server, ulimit,
};
use essaim_objects::{
    ContainerSpec, DiscreteResource, DnsConfig, EndpointSpec, GenericResource, GlobalJob, GlobalService,
    Labels, NetworkTarget, NodeResources, Placement, ReplicatedJob, ReplicatedService, ResolutionMode,
    ResourceLimits, ResourceRequirements, ServiceMode, ServiceSpec, TaskSpec, Ulimit, written,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The modes of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ModeFlag {
    /// So many tasks
    #[default]
    Replicated,
    /// A task on every node
    Global,
    /// So many tasks that end by themselves
    ReplicatedJob,
    /// A task on every node, which ends by itself
    GlobalJob,
}

/// What `service create` takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct CreateArgs {
    /// Exit immediately instead of waiting for the service to converge
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", value_name = "BOOL")]
    pub(crate) detach: bool,
    /// Suppress progress output
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Accepted for docker's sake: images are never looked up in a registry
    #[arg(long, hide = true)]
    no_resolve_image: bool,
    /// Send registry authentication details to the nodes
    #[arg(long)]
    pub(crate) with_registry_auth: bool,
    /// Service name
    #[arg(long, value_parser = ascii_word)]
    name: Option<String>,
    /// Service mode
    #[arg(long, value_enum, default_value_t)]
    mode: ModeFlag,
    /// Number of tasks
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u64>,
    /// Number of job tasks to run concurrently (default equal to --replicas)
    #[arg(long, value_name = "NUMBER")]
    max_concurrent: Option<u64>,
    /// Service labels
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = key_value)]
    label: Vec<(String, String)>,
    /// Container labels
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    container_label: Vec<(String, String)>,
    /// Set environment variables; NAME alone takes the value it has here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<String>,
    /// Attach a file system mount to the service
    #[arg(long)]
    mount: Vec<MountFlag>,
    /// Publish a port as a node port
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<Ports>,
    /// Network attachments
    #[arg(long)]
    network: Vec<AttachmentFlag>,
    /// Specify secrets to expose to the service
    #[arg(long)]
    secret: Vec<FileFlag>,
    /// Specify configurations to expose to the service
    #[arg(long)]
    config: Vec<FileFlag>,
    /// Placement constraints
    #[arg(long)]
    constraint: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref: Vec<Placed>,
    /// User defined resources
    #[arg(long, value_name = "KIND=COUNT")]
    generic_resource: Vec<Discrete>,
    /// Set one or more supplementary user groups for the container
    #[arg(long)]
    group: Vec<String>,
    /// Set custom host-to-IP mappings
    #[arg(long, value_name = "HOST:IP", value_parser = HostEntry::parse)]
    host: Vec<HostEntry>,
    /// Set custom DNS servers
    #[arg(long, value_name = "ADDRESS", value_parser = name_server)]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long, value_name = "OPTION", value_parser = ascii_word)]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "DOMAIN", value_parser = ascii_word)]
    dns_search: Vec<String>,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_drop: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    sysctl: Vec<(String, String)>,
    /// Ulimit options
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit: Vec<Ulimit>,
    #[command(flatten)]
    shared: SharedFlags,
    /// The image, then the command and its arguments; flags go before the image
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "IMAGE [COMMAND] [ARG...]"
    )]
    image_and_command: Vec<String>,
}

pub(crate) fn variable(text: &str) -> Result<String, crate::parse::Expected> {
    if text.is_empty() || text.starts_with('=') {
        return Err(crate::parse::Expected::new("NAME=VALUE or NAME"));
    }
    Ok(text.to_owned())
}

impl CreateArgs {
    /// What must be looked up before a spec can be made.
    pub(crate) fn references(&self) -> References {
        References::of(&self.network, &self.secret, &self.config)
    }

    /// The spec of the new service. `from_files` are the lines of the files of variables, `here` gives the operator's own.
    ///
    /// # Errors
    /// Flags that do not go together; an object that was not found.
    pub(crate) fn to_spec(
        &self,
        names: &Names,
        from_files: &[String],
        here: impl Fn(&str) -> Option<String>,
    ) -> Result<ServiceSpec, Error> {
        let mut spec = self.base()?;
        self.shared.apply(&mut spec)?;
        let container = flags::container(&mut spec);
        container.labels = labels(&self.container_label);
        container.env = flags::list(variables(from_files, &self.env, here));
        container.groups = flags::list(self.group.clone());
        container.hosts = flags::list(self.host.iter().map(HostEntry::line).collect());
        container.dns_config = Some(DnsConfig {
            nameservers: flags::list(self.dns.clone()),
            search: flags::list(self.dns_search.clone()),
            options: flags::list(self.dns_option.clone()),
            ..DnsConfig::default()
        });
        container.mounts = flags::list(self.mount.iter().map(|mount| mount.0.clone()).collect());
        unique(
            "--mount",
            self.mount.iter().filter_map(|mount| mount.0.target.as_deref()),
        )?;
        unique("--secret", self.secret.iter().map(FileFlag::target))?;
        unique("--config", self.config.iter().map(FileFlag::target))?;
        container.secrets = flags::list(names.secrets(&self.secret)?);
        container.configs = flags::list(names.configs(&self.config)?);
        container.sysctls = labels(&self.sysctl);
        container.ulimits = flags::list(by_name(&self.ulimit));
        let (added, dropped) = written::capabilities(&self.cap_add, &self.cap_drop);
        container.capability_add = flags::list(added);
        container.capability_drop = flags::list(dropped);
        flags::reservations(&mut spec).generic_resources = flags::list(resources(&self.generic_resource)?);
        flags::task(&mut spec).networks = flags::list(self.networks(names)?);
        let placement = flags::placement(&mut spec);
        placement.constraints = flags::list(self.constraint.clone());
        placement.preferences = flags::list(self.placement_pref.iter().map(Placed::to_preference).collect());
        let ports = self.publish.iter().flat_map(|ports| ports.0.iter().cloned());
        flags::endpoint(&mut spec).ports = flags::list(ports.collect());
        Ok(spec)
    }

    /// What docker sends even where nothing is said.
    fn base(&self) -> Result<ServiceSpec, Error> {
        let (image, command) = self
            .image_and_command
            .split_first()
            .ok_or_else(|| Error::Usage("an image is missing".to_owned()))?;
        if image.is_empty() {
            return Err(Error::Usage(
                "IMAGE is empty, expected an image's name".to_owned(),
            ));
        }
        let task = TaskSpec {
            container: Some(ContainerSpec {
                image: Some(image.clone()),
                args: flags::list(command.to_vec()),
                init: Some(false),
                ..ContainerSpec::default()
            }),
            resources: Some(ResourceRequirements {
                limits: Some(ResourceLimits::default()),
                reservations: Some(NodeResources::default()),
                ..ResourceRequirements::default()
            }),
            placement: Some(Placement::default()),
            force_update: Some(0),
            ..TaskSpec::default()
        };
        Ok(ServiceSpec {
            name: self.name.clone(),
            labels: Some(self.label.iter().cloned().collect()),
            task_template: Arc::new(task),
            mode: Some(self.mode()?),
            endpoint_spec: Some(EndpointSpec {
                mode: Some(ResolutionMode::Vip),
                ..EndpointSpec::default()
            }),
            ..ServiceSpec::default()
        })
    }

    fn mode(&self) -> Result<ServiceMode, Error> {
        let global = matches!(self.mode, ModeFlag::Global | ModeFlag::GlobalJob);
        if global && self.replicas.is_some() {
            return Err(Error::Usage(
                "--replicas can only be used with replicated or replicated-job mode".to_owned(),
            ));
        }
        if self.mode != ModeFlag::ReplicatedJob && self.max_concurrent.is_some() {
            return Err(Error::Usage(
                "--max-concurrent can only be used with replicated-job mode".to_owned(),
            ));
        }
        let mut mode = ServiceMode::default();
        match self.mode {
            ModeFlag::Replicated => {
                mode.replicated = Some(ReplicatedService {
                    replicas: self.replicas,
                    ..ReplicatedService::default()
                });
            }
            ModeFlag::Global => mode.global = Some(GlobalService::default()),
            ModeFlag::ReplicatedJob => {
                mode.replicated_job = Some(ReplicatedJob {
                    max_concurrent: self.max_concurrent.or(self.replicas),
                    total_completions: self.replicas,
                    ..ReplicatedJob::default()
                });
            }
            ModeFlag::GlobalJob => mode.global_job = Some(GlobalJob::default()),
        }
        Ok(mode)
    }

    fn networks(&self, names: &Names) -> Result<Vec<NetworkTarget>, Error> {
        let mut targets = Vec::new();
        for attachment in &self.network {
            targets.push(attachment.to_target(names.network(&attachment.network)?));
        }
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(targets)
    }
}

fn labels(pairs: &[(String, String)]) -> Option<Labels> {
    Some(pairs.iter().cloned().collect::<Labels>()).filter(|labels| !labels.is_empty())
}

fn unique<'a>(flag: &str, targets: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for target in targets {
        if !seen.insert(target) {
            return Err(Error::Usage(format!(
                "{flag}: target {target} is given twice, expected one for each target"
            )));
        }
    }
    Ok(())
}

/// The last limit of each name.
pub(crate) fn by_name(limits: &[Ulimit]) -> Vec<Ulimit> {
    let mut last = std::collections::BTreeMap::new();
    for limit in limits {
        last.insert(limit.name.clone(), limit.clone());
    }
    last.into_values().collect()
}

/// Resources of the operator's own kinds, each kind once.
pub(crate) fn resources(asked: &[Discrete]) -> Result<Vec<GenericResource>, Error> {
    let mut seen = BTreeSet::new();
    let mut resources = Vec::new();
    for Discrete { kind, count } in asked {
        if !seen.insert(kind) {
            return Err(Error::Usage(format!(
                "generic resource {kind} is given twice, expected one for each kind"
            )));
        }
        let discrete = DiscreteResource {
            kind: Some(kind.clone()),
            value: Some(*count),
            ..DiscreteResource::default()
        };
        resources.push(GenericResource {
            discrete: Some(discrete),
            ..GenericResource::default()
        });
    }
    Ok(resources)
}

/// The variables, a later one in the place of an earlier one of its name.
pub(crate) fn variables(
    from_files: &[String],
    flags: &[String],
    here: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut variables: Vec<String> = Vec::new();
    let flags = flags.iter().map(|flag| match (flag.contains('='), here(flag)) {
        (false, Some(value)) => format!("{flag}={value}"),
        _ => flag.clone(),
    });
    for variable in from_files.iter().cloned().chain(flags) {
        variables.retain(|earlier| name_of(earlier) != name_of(&variable));
        variables.push(variable);
    }
    variables
}

/// The name of `NAME=VALUE`.
pub(crate) fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}
