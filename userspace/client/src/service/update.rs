//! `service update`: from flags and a spec to another spec. Removals are done before additions.

use super::create::{by_name, name_of, resources, variable};
use super::flags::{self, SharedFlags, Words};
use super::names::{Names, References};
use crate::error::Error;
use crate::parse::{
    AttachmentFlag, Discrete, FileFlag, HostEntry, MountFlag, Placed, PortRemoval, Ports, ascii_word,
    capability, key_value, name_server, ulimit,
};
use essaim_objects::{ContainerSpec, Labels, NetworkTarget, ServiceMode, ServiceSpec, Ulimit};

/// What `service update` takes.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct UpdateArgs {
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
    /// Rollback to previous specification
    #[arg(long)]
    pub(crate) rollback: bool,
    #[command(flatten)]
    changes: Changes,
    /// The service's name or ID
    pub(crate) service: String,
}

/// The flags that change a spec.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct Changes {
    /// Force update even if no changes require it
    #[arg(long)]
    force: bool,
    /// Service image tag
    #[arg(long)]
    image: Option<String>,
    /// Service command args
    #[arg(long, value_name = "COMMAND")]
    args: Option<Words>,
    /// Number of tasks
    #[arg(long, value_name = "NUMBER")]
    replicas: Option<u64>,
    /// Number of job tasks to run concurrently
    #[arg(long, value_name = "NUMBER")]
    max_concurrent: Option<u64>,
    /// Add or update a service label
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    label_add: Vec<(String, String)>,
    /// Remove a label by its key
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Add or update a container label
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    container_label_add: Vec<(String, String)>,
    /// Remove a container label by its key
    #[arg(long, value_name = "KEY")]
    container_label_rm: Vec<String>,
    /// Add or update an environment variable
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env_add: Vec<String>,
    /// Remove an environment variable
    #[arg(long, value_name = "NAME")]
    env_rm: Vec<String>,
    /// Add or update a mount on a service
    #[arg(long, value_name = "MOUNT")]
    mount_add: Vec<MountFlag>,
    /// Remove a mount by its target path
    #[arg(long, value_name = "TARGET")]
    mount_rm: Vec<String>,
    /// Add or update a published port
    #[arg(long, value_name = "PORT")]
    publish_add: Vec<Ports>,
    /// Remove a published port by its target port
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    publish_rm: Vec<PortRemoval>,
    /// Add a network
    #[arg(long, value_name = "NETWORK")]
    network_add: Vec<AttachmentFlag>,
    /// Remove a network
    #[arg(long, value_name = "NETWORK")]
    network_rm: Vec<String>,
    /// Add or update a secret on a service
    #[arg(long, value_name = "SECRET")]
    secret_add: Vec<FileFlag>,
    /// Remove a secret
    #[arg(long, value_name = "SECRET")]
    secret_rm: Vec<String>,
    /// Add or update a config file on a service
    #[arg(long, value_name = "CONFIG")]
    config_add: Vec<FileFlag>,
    /// Remove a configuration file
    #[arg(long, value_name = "CONFIG")]
    config_rm: Vec<String>,
    /// Add or update a placement constraint
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    constraint_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref_add: Vec<Placed>,
    /// Remove a placement preference
    #[arg(long, value_name = "PREFERENCE")]
    placement_pref_rm: Vec<Placed>,
    /// Add a generic resource
    #[arg(long, value_name = "KIND=COUNT")]
    generic_resource_add: Vec<Discrete>,
    /// Remove a generic resource
    #[arg(long, value_name = "KIND")]
    generic_resource_rm: Vec<String>,
    /// Add an additional supplementary user group to the container
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Remove a previously added supplementary user group from the container
    #[arg(long, value_name = "GROUP")]
    group_rm: Vec<String>,
    /// Add a custom host-to-IP mapping
    #[arg(long, value_name = "HOST:IP", value_parser = HostEntry::parse)]
    host_add: Vec<HostEntry>,
    /// Remove a custom host-to-IP mapping
    #[arg(long, value_name = "HOST[:IP]", value_parser = HostEntry::removal)]
    host_rm: Vec<HostEntry>,
    /// Add or update a custom DNS server
    #[arg(long, value_name = "ADDRESS", value_parser = name_server)]
    dns_add: Vec<String>,
    /// Remove a custom DNS server
    #[arg(long, value_name = "ADDRESS", value_parser = name_server)]
    dns_rm: Vec<String>,
    /// Add or update a DNS option
    #[arg(long, value_name = "OPTION", value_parser = ascii_word)]
    dns_option_add: Vec<String>,
    /// Remove a DNS option
    #[arg(long, value_name = "OPTION")]
    dns_option_rm: Vec<String>,
    /// Add or update a custom DNS search domain
    #[arg(long, value_name = "DOMAIN", value_parser = ascii_word)]
    dns_search_add: Vec<String>,
    /// Remove a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    dns_search_rm: Vec<String>,
    /// Add Linux capabilities; one that was dropped is as the default has it again
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_add: Vec<String>,
    /// Drop Linux capabilities; one that was added is as the default has it again
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_drop: Vec<String>,
    /// Add or update a sysctl option
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    sysctl_add: Vec<(String, String)>,
    /// Remove a sysctl option
    #[arg(long, value_name = "KEY")]
    sysctl_rm: Vec<String>,
    /// Add or update a ulimit option
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit)]
    ulimit_add: Vec<Ulimit>,
    /// Remove a ulimit option
    #[arg(long, value_name = "NAME")]
    ulimit_rm: Vec<String>,
    #[command(flatten)]
    shared: SharedFlags,
}

impl UpdateArgs {
    /// What must be looked up before a spec can be made. Networks to remove may be given by name.
    pub(crate) fn references(&self) -> References {
        let changes = &self.changes;
        References::of(&changes.network_add, &changes.secret_add, &changes.config_add)
    }

    /// Networks that are to be removed; they need not be there any more.
    pub(crate) fn removed_networks(&self) -> &[String] {
        &self.changes.network_rm
    }

    /// Whether nothing but the rollback is asked, where one is.
    ///
    /// # Errors
    /// Other flags are given beside it.
    pub(crate) fn check_rollback(&self) -> Result<(), Error> {
        if self.rollback && self.changes != Changes::default() {
            return Err(Error::Usage(
                "other flags may not be combined with --rollback".to_owned(),
            ));
        }
        Ok(())
    }

    /// The changed spec.
    ///
    /// # Errors
    /// Flags that do not go together or not with the service; an object that was not found.
    pub(crate) fn apply(
        &self,
        spec: &ServiceSpec,
        names: &Names,
        here: impl Fn(&str) -> Option<String>,
    ) -> Result<ServiceSpec, Error> {
        let mut after = spec.clone();
        let changes = &self.changes;
        changes.shared.apply(&mut after)?;
        pairs(&mut after.labels, &changes.label_add, &changes.label_rm);
        changes.change_container(flags::container(&mut after), names, here)?;
        changes.change_mode(&mut after)?;
        changes.change_networks(&mut after, names)?;
        changes.change_placement(&mut after)?;
        if !changes.publish_add.is_empty() || !changes.publish_rm.is_empty() {
            changes.change_ports(&mut after);
        }
        if changes.force {
            let count = &mut flags::task(&mut after).force_update;
            *count = Some(count.unwrap_or_default().wrapping_add(1));
        }
        Ok(after)
    }
}

impl Changes {
    fn change_container(
        &self,
        container: &mut ContainerSpec,
        names: &Names,
        here: impl Fn(&str) -> Option<String>,
    ) -> Result<(), Error> {
        if let Some(image) = &self.image {
            container.image = Some(image.clone());
        }
        if let Some(Words(words)) = &self.args {
            container.args = flags::list(words.clone());
        }
        pairs(
            &mut container.labels,
            &self.container_label_add,
            &self.container_label_rm,
        );
        pairs(&mut container.sysctls, &self.sysctl_add, &self.sysctl_rm);
        self.change_variables(&mut container.env, here);
        self.change_mounts(container);
        self.change_files(container, names)?;
        items(&mut container.groups, &self.group_add, &self.group_rm);
        if !self.host_add.is_empty() || !self.host_rm.is_empty() {
            let mut lines = container.hosts.take().unwrap_or_default();
            lines.retain(|line| !self.host_rm.iter().any(|entry| entry.matches(line)));
            for line in self.host_add.iter().map(HostEntry::line) {
                if !lines.contains(&line) {
                    lines.push(line);
                }
            }
            container.hosts = flags::list(lines);
        }
        let dns = [
            &self.dns_add,
            &self.dns_rm,
            &self.dns_search_add,
            &self.dns_search_rm,
            &self.dns_option_add,
            &self.dns_option_rm,
        ];
        if dns.iter().any(|flag| !flag.is_empty()) {
            let config = container.dns_config.get_or_insert_default();
            items(&mut config.nameservers, &self.dns_add, &self.dns_rm);
            items(&mut config.search, &self.dns_search_add, &self.dns_search_rm);
            items(&mut config.options, &self.dns_option_add, &self.dns_option_rm);
        }
        if !self.cap_add.is_empty() || !self.cap_drop.is_empty() {
            self.change_capabilities(container);
        }
        if !self.ulimit_add.is_empty() || !self.ulimit_rm.is_empty() {
            let mut limits = container.ulimits.take().unwrap_or_default();
            limits.retain(|limit| {
                !self
                    .ulimit_rm
                    .iter()
                    .any(|name| limit.name.as_ref() == Some(name))
            });
            limits.extend(self.ulimit_add.iter().cloned());
            container.ulimits = flags::list(by_name(&limits));
        }
        Ok(())
    }

    /// A variable that is there keeps its place.
    fn change_variables(&self, env: &mut Option<Vec<String>>, here: impl Fn(&str) -> Option<String>) {
        if self.env_add.is_empty() && self.env_rm.is_empty() {
            return;
        }
        let mut variables = env.take().unwrap_or_default();
        variables.retain(|variable| !self.env_rm.iter().any(|name| name == name_of(variable)));
        for added in &self.env_add {
            let added = match (added.contains('='), here(added)) {
                (false, Some(value)) => format!("{added}={value}"),
                _ => added.clone(),
            };
            match variables
                .iter_mut()
                .find(|variable| name_of(variable) == name_of(&added))
            {
                Some(variable) => *variable = added,
                None => variables.push(added),
            }
        }
        *env = flags::list(variables);
    }

    fn change_mounts(&self, container: &mut ContainerSpec) {
        if self.mount_add.is_empty() && self.mount_rm.is_empty() {
            return;
        }
        let mut mounts = container.mounts.take().unwrap_or_default();
        mounts.retain(|mount| {
            !self
                .mount_rm
                .iter()
                .any(|target| mount.target.as_ref() == Some(target))
        });
        for MountFlag(added) in &self.mount_add {
            mounts.retain(|mount| mount.target != added.target);
            mounts.push(added.clone());
        }
        mounts.sort_by(|a, b| (&a.source, &a.target).cmp(&(&b.source, &b.target)));
        container.mounts = flags::list(mounts);
    }

    /// A file that is added takes the place of one with its target.
    fn change_files(&self, container: &mut ContainerSpec, names: &Names) -> Result<(), Error> {
        if !self.secret_add.is_empty() || !self.secret_rm.is_empty() {
            let mut secrets = container.secrets.take().unwrap_or_default();
            secrets.retain(|secret| {
                !self
                    .secret_rm
                    .iter()
                    .any(|name| secret.secret_name.as_ref() == Some(name))
            });
            for added in names.secrets(&self.secret_add)? {
                let target = |file: &Option<essaim_objects::FileTarget>| {
                    file.as_ref().and_then(|file| file.name.clone())
                };
                secrets.retain(|secret| target(&secret.file) != target(&added.file));
                secrets.push(added);
            }
            container.secrets = flags::list(secrets);
        }
        if !self.config_add.is_empty() || !self.config_rm.is_empty() {
            let mut configs = container.configs.take().unwrap_or_default();
            configs.retain(|config| {
                !self
                    .config_rm
                    .iter()
                    .any(|name| config.config_name.as_ref() == Some(name))
            });
            for added in names.configs(&self.config_add)? {
                let target = |file: &Option<essaim_objects::FileTarget>| {
                    file.as_ref().and_then(|file| file.name.clone())
                };
                configs.retain(|config| config.file.is_none() || target(&config.file) != target(&added.file));
                configs.push(added);
            }
            container.configs = flags::list(configs);
        }
        Ok(())
    }

    fn change_capabilities(&self, container: &mut ContainerSpec) {
        let mut added = container.capability_add.take().unwrap_or_default();
        let mut dropped = container.capability_drop.take().unwrap_or_default();
        let move_to = |names: &[String], list: &mut Vec<String>, other: &mut Vec<String>| {
            for name in names {
                if name == "ALL" {
                    *list = vec![name.clone()];
                    continue;
                }
                let before = other.len();
                other.retain(|known| known != name);
                if other.len() == before && !list.contains(name) {
                    list.push(name.clone());
                }
            }
        };
        move_to(&self.cap_drop, &mut dropped, &mut added);
        move_to(&self.cap_add, &mut added, &mut dropped);
        added.sort();
        dropped.sort();
        container.capability_add = flags::list(added);
        container.capability_drop = flags::list(dropped);
    }

    fn change_mode(&self, spec: &mut ServiceSpec) -> Result<(), Error> {
        let mode = spec.mode.get_or_insert_with(|| ServiceMode::replicated(1));
        if let Some(replicas) = self.replicas {
            let replicated = mode.replicated.as_mut();
            let replicated = replicated
                .ok_or_else(|| Error::Usage("--replicas can only be used with replicated mode".to_owned()))?;
            replicated.replicas = Some(replicas);
        }
        if let Some(most) = self.max_concurrent {
            let job = mode.replicated_job.as_mut();
            let job = job.ok_or_else(|| {
                Error::Usage("--max-concurrent can only be used with replicated-job mode".to_owned())
            })?;
            job.max_concurrent = Some(most);
        }
        Ok(())
    }

    fn change_networks(&self, spec: &mut ServiceSpec, names: &Names) -> Result<(), Error> {
        if self.network_add.is_empty() && self.network_rm.is_empty() {
            return Ok(());
        }
        let mut networks: Vec<NetworkTarget> = spec.networks().to_vec();
        let is_removed = |target: &str| {
            self.network_rm
                .iter()
                .any(|name| name == target || names.networks.get(name).is_some_and(|id| id == target))
        };
        networks.retain(|network| !is_removed(network.target.as_deref().unwrap_or_default()));
        for added in &self.network_add {
            let id = names.network(&added.network)?;
            let attached = |network: &NetworkTarget| {
                network.target.as_deref() == Some(id) || network.target.as_ref() == Some(&added.network)
            };
            if networks.iter().any(attached) {
                return Err(Error::Usage(format!(
                    "service is already attached to network {}",
                    added.network
                )));
            }
            networks.push(added.to_target(id));
        }
        networks.sort_by(|a, b| a.target.cmp(&b.target));
        // Old clients put them beside the task template, where a removal would not reach them.
        spec.networks = None;
        flags::task(spec).networks = flags::list(networks);
        Ok(())
    }

    fn change_placement(&self, spec: &mut ServiceSpec) -> Result<(), Error> {
        if !self.constraint_add.is_empty() || !self.constraint_rm.is_empty() {
            let constraints = &mut flags::placement(spec).constraints;
            items(constraints, &self.constraint_add, &self.constraint_rm);
            if let Some(constraints) = constraints {
                constraints.sort();
            }
        }
        if !self.placement_pref_add.is_empty() || !self.placement_pref_rm.is_empty() {
            let placement = flags::placement(spec);
            let mut preferences = placement.preferences.take().unwrap_or_default();
            preferences.retain(|preference| {
                !self
                    .placement_pref_rm
                    .iter()
                    .any(|removed| removed.to_preference() == *preference)
            });
            preferences.extend(self.placement_pref_add.iter().map(Placed::to_preference));
            placement.preferences = flags::list(preferences);
        }
        if !self.generic_resource_add.is_empty() || !self.generic_resource_rm.is_empty() {
            let kind = |resource: &essaim_objects::GenericResource| {
                resource
                    .discrete
                    .as_ref()
                    .and_then(|discrete| discrete.kind.clone())
            };
            let reserved = flags::reservations(spec);
            let mut known = reserved.generic_resources.take().unwrap_or_default();
            for removed in &self.generic_resource_rm {
                let before = known.len();
                known.retain(|resource| kind(resource).as_ref() != Some(removed));
                if known.len() == before {
                    return Err(Error::Usage(format!(
                        "--generic-resource-rm: the service asks for no {removed}"
                    )));
                }
            }
            for added in resources(&self.generic_resource_add)? {
                known.retain(|resource| kind(resource) != kind(&added));
                known.push(added);
            }
            reserved.generic_resources = flags::list(known);
        }
        Ok(())
    }

    fn change_ports(&self, spec: &mut ServiceSpec) {
        let endpoint = flags::endpoint(spec);
        let mut ports = endpoint.ports.take().unwrap_or_default();
        ports.retain(|port| !self.publish_rm.iter().any(|removed| removed.matches(port)));
        for added in self.publish_add.iter().flat_map(|ports| &ports.0) {
            if !ports.contains(added) {
                ports.push(added.clone());
            }
        }
        ports.sort_by_key(|port| {
            (
                port.published(),
                port.target(),
                port.protocol().as_str(),
                port.publish_mode().as_str() == "ingress",
            )
        });
        endpoint.ports = flags::list(ports);
    }
}

/// Removes and adds labels and the like.
fn pairs(labels: &mut Option<Labels>, added: &[(String, String)], removed: &[String]) {
    if added.is_empty() && removed.is_empty() {
        return;
    }
    let labels = labels.get_or_insert_default();
    for name in removed {
        labels.remove(name);
    }
    labels.extend(added.iter().cloned());
}

/// Removes items, and adds those that are not there.
fn items(list: &mut Option<Vec<String>>, added: &[String], removed: &[String]) {
    if added.is_empty() && removed.is_empty() {
        return;
    }
    let mut items = list.take().unwrap_or_default();
    items.retain(|item| !removed.contains(item));
    for item in added {
        if !items.contains(item) {
            items.push(item.clone());
        }
    }
    *list = flags::list(items);
}
