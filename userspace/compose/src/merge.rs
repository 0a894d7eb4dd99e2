//! Several files as one: what a later one says goes before what an earlier one says.
//!
//! By docker's rules: networks, volumes, secrets and configs are replaced whole; in services single values are
//! replaced, mappings merged by key, lists put together; commands and checks are replaced; secrets, configs and ulimits are
//! merged by name, mounts by target, ports as a set. Where docker takes a later `false`, `0` or empty text for not said, it is
//! said here.

use crate::model::{Attachment, Deploy, FileUse, Health, MountUse, Service, Stack};
use essaim_objects::{
    Driver, HealthConfig, NodeResources, PortConfig, Protocol, PublishMode, ResourceLimits, RestartPolicy,
    UpdateConfig,
};
use std::collections::BTreeMap;

/// The later one where there is one.
fn later<T>(earlier: Option<T>, later: Option<T>) -> Option<T> {
    later.or(earlier)
}

/// The two as one where there are both.
fn both<T>(earlier: Option<T>, later: Option<T>, merge: impl FnOnce(T, T) -> T) -> Option<T> {
    match (earlier, later) {
        (Some(earlier), Some(later)) => Some(merge(earlier, later)),
        (earlier, later) => later.or(earlier),
    }
}

fn put_together<T>(mut earlier: Vec<T>, later: Vec<T>) -> Vec<T> {
    earlier.extend(later);
    earlier
}

fn by_key<V>(mut earlier: BTreeMap<String, V>, later: BTreeMap<String, V>) -> BTreeMap<String, V> {
    earlier.extend(later);
    earlier
}

/// In the order of the keys where both have some.
fn by<T>(earlier: Vec<T>, later: Vec<T>, key: impl Fn(&T) -> String) -> Vec<T> {
    if earlier.is_empty() || later.is_empty() {
        return put_together(earlier, later);
    }
    let all = earlier.into_iter().chain(later);
    let all: BTreeMap<String, T> = all.map(|item| (key(&item), item)).collect();
    all.into_values().collect()
}

impl Stack {
    /// This one with what a later file says.
    pub(crate) fn merge(self, later: Self) -> Self {
        let Self {
            version,
            mut services,
            networks,
            volumes,
            secrets,
            configs,
            own,
            files,
        } = self;
        for (name, service) in later.services {
            let merged = match services.remove(&name) {
                Some(earlier) => earlier.merge(service),
                None => service,
            };
            services.insert(name, merged);
        }
        Self {
            version,
            services,
            networks: by_key(networks, later.networks),
            volumes: by_key(volumes, later.volumes),
            secrets: by_key(secrets, later.secrets),
            configs: by_key(configs, later.configs),
            own: by_key(own, later.own),
            files,
        }
    }
}

impl Service {
    fn merge(self, over: Self) -> Self {
        let Self {
            at,
            image,
            entrypoint,
            command,
            environment,
            labels,
            hostname,
            user,
            groups,
            working_dir,
            stop_signal,
            stop_grace_period,
            isolation,
            tty,
            stdin_open,
            init,
            read_only,
            cap_add,
            cap_drop,
            dns,
            dns_search,
            extra_hosts,
            sysctls,
            ulimits,
            oom_score_adj,
            healthcheck,
            logging,
            ports,
            networks,
            secrets,
            configs,
            volumes,
            restart,
            deploy,
        } = self;
        Self {
            at,
            image: later(image, over.image),
            entrypoint: later(entrypoint, over.entrypoint),
            command: later(command, over.command),
            environment: by_key(environment, over.environment),
            labels: by_key(labels, over.labels),
            hostname: later(hostname, over.hostname),
            user: later(user, over.user),
            groups: put_together(groups, over.groups),
            working_dir: later(working_dir, over.working_dir),
            stop_signal: later(stop_signal, over.stop_signal),
            stop_grace_period: later(stop_grace_period, over.stop_grace_period),
            isolation: later(isolation, over.isolation),
            tty: later(tty, over.tty),
            stdin_open: later(stdin_open, over.stdin_open),
            init: later(init, over.init),
            read_only: later(read_only, over.read_only),
            cap_add: put_together(cap_add, over.cap_add),
            cap_drop: put_together(cap_drop, over.cap_drop),
            dns: put_together(dns, over.dns),
            dns_search: put_together(dns_search, over.dns_search),
            extra_hosts: put_together(extra_hosts, over.extra_hosts),
            sysctls: by_key(sysctls, over.sysctls),
            ulimits: by_key(ulimits, over.ulimits),
            oom_score_adj: later(oom_score_adj, over.oom_score_adj),
            healthcheck: both(healthcheck, over.healthcheck, merge_health),
            logging: both(logging, over.logging, merge_logging),
            ports: merge_ports(ports, over.ports),
            networks: merge_networks(networks, over.networks),
            secrets: by(secrets, over.secrets, |used: &FileUse| used.source.clone()),
            configs: by(configs, over.configs, |used: &FileUse| used.source.clone()),
            volumes: by(volumes, over.volumes, |used: &MountUse| {
                used.mount.target.clone().unwrap_or_default()
            }),
            restart: later(restart, over.restart),
            deploy: deploy.merge(over.deploy),
        }
    }
}

impl Deploy {
    fn merge(self, over: Self) -> Self {
        let Self {
            mode,
            replicas,
            endpoint_mode,
            labels,
            update,
            rollback,
            limits,
            reservations,
            restart,
            constraints,
            preferences,
            max_replicas,
        } = self;
        Self {
            mode: later(mode, over.mode),
            replicas: later(replicas, over.replicas),
            endpoint_mode: later(endpoint_mode, over.endpoint_mode),
            labels: by_key(labels, over.labels),
            update: both(update, over.update, |earlier, over| merge_update(earlier, &over)),
            rollback: both(rollback, over.rollback, |earlier, over| {
                merge_update(earlier, &over)
            }),
            limits: both(limits, over.limits, |earlier, over| merge_limits(earlier, &over)),
            reservations: both(reservations, over.reservations, merge_reservations),
            restart: both(restart, over.restart, |earlier, over| {
                merge_restart(earlier, &over)
            }),
            constraints: put_together(constraints, over.constraints),
            preferences: put_together(preferences, over.preferences),
            max_replicas: later(max_replicas, over.max_replicas),
        }
    }
}

/// Options of another driver are of no use.
fn merge_logging(earlier: Driver, over: Driver) -> Driver {
    if earlier.name.is_some() && over.name.is_some() && earlier.name != over.name {
        return over;
    }
    Driver {
        name: later(earlier.name, over.name),
        options: both(earlier.options, over.options, by_key),
        extra: earlier.extra,
    }
}

fn merge_networks(
    mut earlier: BTreeMap<String, Attachment>,
    over: BTreeMap<String, Attachment>,
) -> BTreeMap<String, Attachment> {
    for (name, attachment) in over {
        match earlier.get_mut(&name) {
            Some(known) => {
                if !attachment.aliases.is_empty() {
                    known.aliases = attachment.aliases;
                }
                known.driver_opts.extend(attachment.driver_opts);
            }
            None => drop(earlier.insert(name, attachment)),
        }
    }
    earlier
}

/// Each port once, by what clients use.
fn merge_ports(earlier: Vec<PortConfig>, over: Vec<PortConfig>) -> Vec<PortConfig> {
    if earlier.is_empty() || over.is_empty() {
        return put_together(earlier, over);
    }
    let ports = earlier.into_iter().chain(over).map(|port| {
        let protocol = port.protocol.map(Protocol::as_str);
        let mode = port.publish_mode.map(PublishMode::as_str);
        ((port.published_port, port.target_port, protocol, mode), port)
    });
    let ports: BTreeMap<_, _> = ports.collect();
    ports.into_values().collect()
}

fn merge_health(earlier: Health, over: Health) -> Health {
    let HealthConfig {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
        extra,
    } = earlier.config;
    Health {
        disable: later(earlier.disable, over.disable),
        config: HealthConfig {
            test: later(test, over.config.test),
            interval: later(interval, over.config.interval),
            timeout: later(timeout, over.config.timeout),
            start_period: later(start_period, over.config.start_period),
            start_interval: later(start_interval, over.config.start_interval),
            retries: later(retries, over.config.retries),
            extra,
        },
    }
}

fn merge_update(earlier: UpdateConfig, over: &UpdateConfig) -> UpdateConfig {
    let UpdateConfig {
        parallelism,
        delay,
        failure_action,
        monitor,
        max_failure_ratio,
        order,
        extra,
    } = earlier;
    UpdateConfig {
        parallelism: later(parallelism, over.parallelism),
        delay: later(delay, over.delay),
        failure_action: later(failure_action, over.failure_action),
        monitor: later(monitor, over.monitor),
        max_failure_ratio: later(max_failure_ratio, over.max_failure_ratio),
        order: later(order, over.order),
        extra,
    }
}

fn merge_restart(earlier: RestartPolicy, over: &RestartPolicy) -> RestartPolicy {
    let RestartPolicy {
        condition,
        delay,
        max_attempts,
        window,
        extra,
    } = earlier;
    RestartPolicy {
        condition: later(condition, over.condition),
        delay: later(delay, over.delay),
        max_attempts: later(max_attempts, over.max_attempts),
        window: later(window, over.window),
        extra,
    }
}

fn merge_limits(earlier: ResourceLimits, over: &ResourceLimits) -> ResourceLimits {
    let ResourceLimits {
        nano_cpus,
        memory_bytes,
        pids,
        generic_resources,
        extra,
    } = earlier;
    ResourceLimits {
        nano_cpus: later(nano_cpus, over.nano_cpus),
        memory_bytes: later(memory_bytes, over.memory_bytes),
        pids: later(pids, over.pids),
        generic_resources,
        extra,
    }
}

fn merge_reservations(earlier: NodeResources, over: NodeResources) -> NodeResources {
    let NodeResources {
        nano_cpus,
        memory_bytes,
        generic_resources,
        extra,
    } = earlier;
    NodeResources {
        nano_cpus: later(nano_cpus, over.nano_cpus),
        memory_bytes: later(memory_bytes, over.memory_bytes),
        generic_resources: both(generic_resources, over.generic_resources, put_together),
        extra,
    }
}
