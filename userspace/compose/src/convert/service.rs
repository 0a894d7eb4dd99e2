//! A service's spec.

use super::{DEFAULT_NETWORK, IMAGE_LABEL, Namespace, some};
use crate::model::{Deploy, DeployMode, FileObject, FileUse, Health, MountUse, Service, Stack};
use crate::place::{At, Findings};
use essaim_objects::written::capabilities;
use essaim_objects::{
    ConfigReference, ContainerSpec, DnsConfig, Driver, EndpointSpec, FileTarget, GlobalJob, GlobalService,
    HealthConfig, Mount, NetworkTarget, NodeResources, Placement, PlacementPreference, Privileges, Ratio,
    ReplicatedJob, ReplicatedService, ResourceLimits, ResourceRequirements, SecretReference, ServiceMode,
    ServiceSpec, SpreadOver, TaskSpec, Ulimit, UpdateConfig, UpdateOrder, VolumeOptions,
};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Service {
    /// The spec; what is wrong is told, and left out.
    pub(super) fn to_spec(
        &self,
        key: &str,
        stack: &Stack,
        namespace: Namespace<'_>,
        findings: &mut Findings,
    ) -> ServiceSpec {
        let path = format!("services.{key}");
        let image = self.image.clone().unwrap_or_default();
        if image.is_empty() {
            findings.problem(self.at, &path, "image is missing; images are not built here");
        }
        let mut labels = namespace.label(self.deploy.labels.clone());
        labels.insert(IMAGE_LABEL.to_owned(), image.clone());
        let (capability_add, capability_drop) = capabilities(&self.cap_add, &self.cap_drop);
        let container = ContainerSpec {
            image: Some(image),
            labels: Some(namespace.label(self.labels.clone())),
            command: self.entrypoint.clone().and_then(some),
            args: self.command.clone().and_then(some),
            hostname: self.hostname.clone().filter(|name| !name.is_empty()),
            env: some(self.env()),
            dir: self.working_dir.clone().filter(|dir| !dir.is_empty()),
            user: self.user.clone().filter(|user| !user.is_empty()),
            groups: some(self.groups.clone()),
            privileges: Some(Privileges {
                no_new_privileges: Some(false),
                ..Privileges::default()
            }),
            init: self.init,
            stop_signal: self.stop_signal.clone().filter(|signal| !signal.is_empty()),
            tty: self.tty.filter(|tty| *tty),
            open_stdin: self.stdin_open.filter(|open| *open),
            read_only: self.read_only.filter(|read_only| *read_only),
            mounts: some(self.mounts(&path, stack, namespace, findings)),
            stop_grace_period: self.stop_grace_period,
            healthcheck: self
                .healthcheck
                .as_ref()
                .map(|health| check(health, self.at, &path, findings)),
            hosts: some(self.hosts()),
            dns_config: self.dns_config(),
            secrets: some(self.secret_references(&path, stack, namespace, findings)),
            configs: some(self.config_references(&path, stack, namespace, findings)),
            isolation: self.isolation.clone().filter(|isolation| !isolation.is_empty()),
            sysctls: some(self.sysctls.clone()),
            capability_add: some(capability_add),
            capability_drop: some(capability_drop),
            ulimits: some(self.limits()),
            oom_score_adj: self.oom_score_adj.filter(|score| *score != 0),
            ..ContainerSpec::default()
        };
        let task = TaskSpec {
            container: Some(container),
            resources: Some(self.deploy.resources()),
            restart_policy: self.deploy.restart.clone().or_else(|| self.restart.clone()),
            placement: Some(self.deploy.placement()),
            networks: some(self.targets(key, &path, stack, namespace, findings)),
            log_driver: self.logging.clone().map(|logging| Driver {
                name: logging.name.filter(|name| !name.is_empty()),
                ..logging
            }),
            force_update: Some(0),
            ..TaskSpec::default()
        };
        let mut ports = self.ports.clone();
        ports.sort_by_key(|port| port.published_port);
        ServiceSpec {
            name: Some(namespace.scope(key)),
            labels: Some(labels),
            task_template: Arc::new(task),
            mode: Some(self.mode(&path, findings)),
            update_config: self.deploy.update.as_ref().map(update),
            rollback_config: self.deploy.rollback.as_ref().map(update),
            endpoint_spec: Some(EndpointSpec {
                mode: self.deploy.endpoint_mode,
                ports: some(ports),
                ..EndpointSpec::default()
            }),
            ..ServiceSpec::default()
        }
    }

    fn env(&self) -> Vec<String> {
        let variables = self.environment.iter();
        let mut env: Vec<String> = variables
            .map(|(name, value)| {
                value
                    .as_ref()
                    .map_or_else(|| name.clone(), |value| format!("{name}={value}"))
            })
            .collect();
        env.sort();
        env
    }

    /// `ADDRESS NAME` of `NAME:ADDRESS`.
    fn hosts(&self) -> Vec<String> {
        let hosts = self.extra_hosts.iter().filter_map(|host| host.split_once(':'));
        hosts.map(|(name, address)| format!("{address} {name}")).collect()
    }

    fn dns_config(&self) -> Option<DnsConfig> {
        let config = DnsConfig {
            nameservers: some(self.dns.clone()),
            search: some(self.dns_search.clone()),
            ..DnsConfig::default()
        };
        Some(config).filter(|config| *config != DnsConfig::default())
    }

    fn limits(&self) -> Vec<Ulimit> {
        let limits = self.ulimits.iter().map(|(name, (soft, hard))| Ulimit {
            name: Some(name.clone()),
            soft: Some(*soft),
            hard: Some(*hard),
            ..Ulimit::default()
        });
        limits.collect()
    }

    fn mode(&self, path: &str, findings: &mut Findings) -> ServiceMode {
        let replicas = self.deploy.replicas;
        let global = matches!(self.deploy.mode, Some(DeployMode::Global | DeployMode::GlobalJob));
        if global && replicas.is_some() {
            findings.problem(
                self.at,
                &format!("{path}.deploy.replicas"),
                "replicas can only be used with replicated or replicated-job mode",
            );
        }
        let mut mode = ServiceMode::default();
        match self.deploy.mode {
            None | Some(DeployMode::Replicated) => {
                mode.replicated = Some(ReplicatedService {
                    replicas,
                    ..ReplicatedService::default()
                });
            }
            Some(DeployMode::Global) => mode.global = Some(GlobalService::default()),
            Some(DeployMode::ReplicatedJob) => {
                mode.replicated_job = Some(ReplicatedJob {
                    max_concurrent: replicas,
                    total_completions: replicas,
                    ..ReplicatedJob::default()
                });
            }
            Some(DeployMode::GlobalJob) => mode.global_job = Some(GlobalJob::default()),
        }
        mode
    }

    fn targets(
        &self,
        service: &str,
        path: &str,
        stack: &Stack,
        namespace: Namespace<'_>,
        findings: &mut Findings,
    ) -> Vec<NetworkTarget> {
        let mut targets = Vec::new();
        let mut add = |key: &str, mut aliases: Vec<String>, options: BTreeMap<String, String>| {
            let known = stack.networks.get(key);
            let name = known.and_then(|network| network.name.clone());
            let target = name.unwrap_or_else(|| namespace.scope(key));
            if !is_predefined(&target) {
                aliases.push(service.to_owned());
            }
            targets.push(NetworkTarget {
                target: Some(target),
                aliases: some(aliases),
                driver_opts: some(options),
                ..NetworkTarget::default()
            });
        };
        if self.networks.is_empty() {
            add(DEFAULT_NETWORK, Vec::new(), BTreeMap::new());
        }
        for (key, attachment) in &self.networks {
            if !stack.networks.contains_key(key) && key != DEFAULT_NETWORK {
                undefined(
                    findings,
                    attachment.at,
                    path,
                    "network",
                    key,
                    stack.networks.keys(),
                );
            }
            add(key, attachment.aliases.clone(), attachment.driver_opts.clone());
        }
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets
    }

    fn secret_references(
        &self,
        path: &str,
        stack: &Stack,
        namespace: Namespace<'_>,
        findings: &mut Findings,
    ) -> Vec<SecretReference> {
        let files = files(&self.secrets, &stack.secrets, "secret", path, namespace, findings);
        let references = files.into_iter().map(|(name, file)| SecretReference {
            file: Some(file),
            secret_name: Some(name),
            ..SecretReference::default()
        });
        references.collect()
    }

    fn config_references(
        &self,
        path: &str,
        stack: &Stack,
        namespace: Namespace<'_>,
        findings: &mut Findings,
    ) -> Vec<ConfigReference> {
        let files = files(&self.configs, &stack.configs, "config", path, namespace, findings);
        let references = files.into_iter().map(|(name, file)| ConfigReference {
            file: Some(file),
            config_name: Some(name),
            ..ConfigReference::default()
        });
        references.collect()
    }

    fn mounts(
        &self,
        path: &str,
        stack: &Stack,
        namespace: Namespace<'_>,
        findings: &mut Findings,
    ) -> Vec<Mount> {
        let mut mounts: Vec<Mount> = Vec::new();
        for MountUse { at, mount } in &self.volumes {
            if mounts.iter().any(|other| other.target == mount.target) {
                let target = mount.target.as_deref().unwrap_or_default();
                findings.problem(
                    *at,
                    &format!("{path}.volumes"),
                    format!("the target {target} is mounted twice"),
                );
            }
            let mut mount = mount.clone();
            if mount.kind.as_deref() == Some("volume")
                && let Some(key) = mount.source.take().filter(|source| !source.is_empty())
            {
                match stack.volumes.get(&key) {
                    None => undefined(findings, *at, path, "volume", &key, stack.volumes.keys()),
                    Some(volume) => {
                        let options: &mut VolumeOptions = mount.volume_options.get_or_insert_default();
                        mount.source = Some(volume.name.clone().unwrap_or_else(|| namespace.scope(&key)));
                        if !volume.external {
                            options.labels = Some(namespace.label(volume.labels.clone()));
                            let driver = Driver {
                                name: volume.driver.clone(),
                                options: some(volume.driver_opts.clone()),
                                ..Driver::default()
                            };
                            options.driver_config =
                                Some(driver).filter(|driver| *driver != Driver::default());
                        }
                    }
                }
            }
            mounts.push(mount);
        }
        mounts
    }
}

/// The files of secrets or configs, by the object's name.
fn files(
    uses: &[FileUse],
    known: &BTreeMap<String, FileObject>,
    kind: &str,
    path: &str,
    namespace: Namespace<'_>,
    findings: &mut Findings,
) -> Vec<(String, FileTarget)> {
    let mut files: Vec<(String, FileTarget)> = Vec::new();
    for used in uses {
        let Some(object) = known.get(&used.source) else {
            undefined(findings, used.at, path, kind, &used.source, known.keys());
            continue;
        };
        let file = FileTarget {
            name: Some(used.file.name.clone().unwrap_or_else(|| used.source.clone())),
            uid: Some(used.file.uid.clone().unwrap_or_else(|| "0".to_owned())),
            gid: Some(used.file.gid.clone().unwrap_or_else(|| "0".to_owned())),
            mode: Some(used.file.mode.unwrap_or(0o444)),
            ..FileTarget::default()
        };
        files.push((object.full_name(namespace, &used.source), file));
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    files
}

fn undefined<'a>(
    findings: &mut Findings,
    at: At,
    path: &str,
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a String>,
) {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let expected = if known.is_empty() {
        format!("the top-level {kind}s has none")
    } else {
        format!("expected one of {}", known.join(", "))
    };
    findings.problem(
        at,
        &format!("{path}.{kind}s"),
        format!("there is no {kind} {name:?}, {expected}"),
    );
}

/// Networks that every node has by itself; tasks have no further names there.
pub fn is_predefined(network: &str) -> bool {
    matches!(network, "default" | "bridge" | "host" | "none") || network.starts_with("container:")
}

fn check(health: &Health, at: At, path: &str, findings: &mut Findings) -> HealthConfig {
    if health.disable == Some(true) {
        if health.config.test.is_some() {
            findings.problem(
                at,
                &format!("{path}.healthcheck"),
                "test and disable are both given, expected only one of them",
            );
        }
        return HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        };
    }
    let HealthConfig {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
        extra,
    } = health.config.clone();
    // Nothing is sent of what is 0: the default is meant.
    HealthConfig {
        test,
        interval: interval.filter(|span| span.0 != 0),
        timeout: timeout.filter(|span| span.0 != 0),
        start_period: start_period.filter(|span| span.0 != 0),
        start_interval: start_interval.filter(|span| span.0 != 0),
        retries: retries.filter(|retries| *retries != 0),
        extra,
    }
}

/// As docker sends it: a parallelism of 1 where none is given, the share and the order always.
fn update(config: &UpdateConfig) -> UpdateConfig {
    UpdateConfig {
        parallelism: Some(config.parallelism.unwrap_or(1)),
        delay: config.delay.filter(|span| span.0 != 0),
        monitor: config.monitor.filter(|span| span.0 != 0),
        max_failure_ratio: Some(config.max_failure_ratio.unwrap_or(Ratio(0.0))),
        order: Some(config.order.unwrap_or(UpdateOrder::Unset)),
        ..config.clone()
    }
}

impl Deploy {
    fn resources(&self) -> ResourceRequirements {
        let given = |amount: &i64| *amount != 0;
        ResourceRequirements {
            limits: self.limits.as_ref().map(|limits| ResourceLimits {
                nano_cpus: limits.nano_cpus.filter(given),
                memory_bytes: limits.memory_bytes.filter(given),
                pids: limits.pids.filter(given),
                ..ResourceLimits::default()
            }),
            reservations: self.reservations.as_ref().map(|reservations| NodeResources {
                nano_cpus: reservations.nano_cpus.filter(given),
                memory_bytes: reservations.memory_bytes.filter(given),
                generic_resources: reservations.generic_resources.clone(),
                ..NodeResources::default()
            }),
            ..ResourceRequirements::default()
        }
    }

    fn placement(&self) -> Placement {
        let preferences = self.preferences.iter().map(|over| PlacementPreference {
            spread: Some(SpreadOver {
                spread_descriptor: Some(over.clone()),
                ..SpreadOver::default()
            }),
            ..PlacementPreference::default()
        });
        Placement {
            constraints: some(self.constraints.clone()),
            preferences: some(preferences.collect::<Vec<_>>()),
            max_replicas: self.max_replicas.filter(|most| *most != 0),
            ..Placement::default()
        }
    }
}
