//! What files ask for as one file that can be read again.

mod text;

use crate::model::{
    Attachment, Deploy, DeployMode, FileObject, FileUse, Health, MountUse, Network, Service, Stack, Volume,
};
use essaim_objects::written::span;
use essaim_objects::{
    FailureAction, HealthConfig, Labels, Mount, Nanoseconds, NodeResources, PortConfig, Protocol,
    PublishMode, ResolutionMode, ResourceLimits, RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use text::{entry, quoted};

impl Stack {
    /// As the text of one file. Variables are filled in, and `$` is written as `$$`, so that reading it gives the same.
    pub fn to_yaml(&self) -> String {
        let Self {
            version,
            services,
            networks,
            volumes,
            secrets,
            configs,
            own,
            files: _,
        } = self;
        let mut text = String::new();
        if let Some(version) = version {
            let _ = writeln!(text, "version: {}", quoted(version));
        }
        let sections = [
            ("services", each(services, service)),
            ("networks", each(networks, network)),
            ("volumes", each(volumes, volume)),
            ("secrets", each(secrets, file_object)),
            ("configs", each(configs, file_object)),
        ];
        for (name, section) in sections {
            // A file must ask for something, were it nothing.
            if !section.is_empty() || name == "services" {
                entry(&mut text, 0, name, &Value::Object(section));
            }
        }
        for (name, value) in own {
            entry(&mut text, 0, name, value);
        }
        text
    }
}

fn each<T>(all: &BTreeMap<String, T>, one: impl Fn(&T) -> Value) -> Map<String, Value> {
    all.iter().map(|(name, item)| (name.clone(), one(item))).collect()
}

/// A mapping that leaves out what is not given.
#[derive(Default)]
struct Out(Map<String, Value>);

impl Out {
    fn put(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.0.insert(key.to_owned(), value.into());
        }
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        if !texts.is_empty() {
            self.put(key, Some(texts.to_vec()));
        }
    }

    fn labels(&mut self, key: &str, labels: &Labels) {
        if !labels.is_empty() {
            let labels = labels
                .iter()
                .map(|(name, value)| (name.clone(), value.clone().into()));
            self.put(key, Some(labels.collect::<Map<_, _>>()));
        }
    }

    fn list<T>(&mut self, key: &str, items: &[T], one: impl Fn(&T) -> Value) {
        if !items.is_empty() {
            self.put(key, Some(items.iter().map(one).collect::<Vec<_>>()));
        }
    }

    fn span(&mut self, key: &str, value: Option<Nanoseconds>) {
        self.put(key, value.map(span));
    }

    fn within(&mut self, key: &str, inner: Self) {
        if !inner.0.is_empty() {
            self.put(key, Some(inner.0));
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

fn service(service: &Service) -> Value {
    let Service {
        at: _,
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
    } = service;
    let mut out = Out::default();
    out.put("image", image.clone());
    out.put("entrypoint", entrypoint.clone());
    out.put("command", command.clone());
    if !environment.is_empty() {
        out.put(
            "environment",
            Some(each(environment, |value| {
                value.clone().map_or(Value::Null, Value::from)
            })),
        );
    }
    out.labels("labels", labels);
    out.put("hostname", hostname.clone());
    out.put("user", user.clone());
    out.texts("group_add", groups);
    out.put("working_dir", working_dir.clone());
    out.put("stop_signal", stop_signal.clone());
    out.span("stop_grace_period", *stop_grace_period);
    out.put("isolation", isolation.clone());
    out.put("tty", *tty);
    out.put("stdin_open", *stdin_open);
    out.put("init", *init);
    out.put("read_only", *read_only);
    out.texts("cap_add", cap_add);
    out.texts("cap_drop", cap_drop);
    out.texts("dns", dns);
    out.texts("dns_search", dns_search);
    out.texts("extra_hosts", extra_hosts);
    out.labels("sysctls", sysctls);
    if !ulimits.is_empty() {
        let limit = |(soft, hard): &(i64, i64)| {
            let mut out = Out::default();
            out.put("soft", Some(*soft));
            out.put("hard", Some(*hard));
            out.done()
        };
        out.put("ulimits", Some(each(ulimits, limit)));
    }
    out.put("oom_score_adj", *oom_score_adj);
    out.put("healthcheck", healthcheck.as_ref().map(health));
    out.put(
        "logging",
        logging.as_ref().map(|logging| {
            let mut out = Out::default();
            out.put("driver", logging.name.clone());
            out.labels("options", &logging.options.clone().unwrap_or_default());
            out.done()
        }),
    );
    out.list("ports", ports, port);
    if !networks.is_empty() {
        out.put("networks", Some(each(networks, attachment)));
    }
    out.list("secrets", secrets, file_use);
    out.list("configs", configs, file_use);
    out.list("volumes", volumes, mount);
    let mut deploy = deploy_section(deploy);
    if let (Some(policy), false) = (restart, deploy.0.contains_key("restart_policy")) {
        deploy.put("restart_policy", Some(restart_policy(policy)));
    }
    out.within("deploy", deploy);
    out.done()
}

fn health(health: &Health) -> Value {
    let HealthConfig {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
        extra: _,
    } = &health.config;
    let mut out = Out::default();
    out.put("disable", health.disable);
    out.put("test", test.clone());
    out.span("interval", *interval);
    out.span("timeout", *timeout);
    out.span("start_period", *start_period);
    out.span("start_interval", *start_interval);
    out.put("retries", *retries);
    out.done()
}

/// In the short form where that says all.
fn port(port: &PortConfig) -> Value {
    if let (Some(target), Some(protocol), Some(PublishMode::Ingress)) =
        (port.target_port, port.protocol, port.publish_mode)
    {
        let published = port
            .published_port
            .map(|port| format!("{port}:"))
            .unwrap_or_default();
        return format!("{published}{target}/{protocol}").into();
    }
    let mut out = Out::default();
    out.put("target", port.target_port);
    out.put("published", port.published_port);
    out.put("protocol", port.protocol.map(Protocol::as_str));
    out.put("mode", port.publish_mode.map(PublishMode::as_str));
    out.done()
}

fn attachment(attachment: &Attachment) -> Value {
    let mut out = Out::default();
    out.texts("aliases", &attachment.aliases);
    out.labels("driver_opts", &attachment.driver_opts);
    if out.0.is_empty() { Value::Null } else { out.done() }
}

fn file_use(used: &FileUse) -> Value {
    let mut out = Out::default();
    out.put("source", Some(used.source.clone()));
    out.put("target", used.file.name.clone());
    out.put("uid", used.file.uid.clone());
    out.put("gid", used.file.gid.clone());
    out.put("mode", used.file.mode);
    out.done()
}

fn mount(used: &MountUse) -> Value {
    let Mount {
        kind,
        source,
        target,
        read_only,
        consistency,
        bind_options,
        volume_options,
        tmpfs_options,
        extra: _,
    } = &used.mount;
    let mut out = Out::default();
    out.put("type", kind.clone());
    out.put("source", source.clone());
    out.put("target", target.clone());
    out.put("read_only", *read_only);
    out.put("consistency", consistency.clone());
    if let Some(bind) = bind_options {
        let mut inner = Out::default();
        inner.put("propagation", bind.propagation.clone());
        out.within("bind", inner);
    }
    if let Some(volume) = volume_options {
        let mut inner = Out::default();
        inner.put("nocopy", volume.no_copy);
        inner.put("subpath", volume.subpath.clone());
        out.within("volume", inner);
    }
    if let Some(tmpfs) = tmpfs_options {
        let mut inner = Out::default();
        inner.put("size", tmpfs.size_bytes);
        inner.put("mode", tmpfs.mode);
        out.within("tmpfs", inner);
    }
    out.done()
}

fn deploy_section(deploy: &Deploy) -> Out {
    let Deploy {
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
    } = deploy;
    let mut out = Out::default();
    out.put("mode", mode.map(DeployMode::as_str));
    out.put("replicas", *replicas);
    out.put("endpoint_mode", endpoint_mode.map(ResolutionMode::as_str));
    out.labels("labels", labels);
    out.put("update_config", update.as_ref().map(update_config));
    out.put("rollback_config", rollback.as_ref().map(update_config));
    let mut resources = Out::default();
    resources.put("limits", limits.as_ref().map(resource_limits));
    resources.put("reservations", reservations.as_ref().map(resource_reservations));
    out.within("resources", resources);
    out.put("restart_policy", restart.as_ref().map(restart_policy));
    let mut placement = Out::default();
    placement.texts("constraints", constraints);
    placement.list("preferences", preferences, |over| {
        let mut out = Out::default();
        out.put("spread", Some(over.clone()));
        out.done()
    });
    placement.put("max_replicas_per_node", *max_replicas);
    out.within("placement", placement);
    out
}

fn update_config(config: &UpdateConfig) -> Value {
    let UpdateConfig {
        parallelism,
        delay,
        failure_action,
        monitor,
        max_failure_ratio,
        order,
        extra: _,
    } = config;
    let mut out = Out::default();
    out.put("parallelism", *parallelism);
    out.span("delay", *delay);
    out.put("failure_action", failure_action.map(FailureAction::as_str));
    out.span("monitor", *monitor);
    out.put("max_failure_ratio", max_failure_ratio.map(|ratio| ratio.0));
    out.put("order", order.map(UpdateOrder::as_str));
    out.done()
}

fn restart_policy(policy: &RestartPolicy) -> Value {
    let RestartPolicy {
        condition,
        delay,
        max_attempts,
        window,
        extra: _,
    } = policy;
    let mut out = Out::default();
    out.put("condition", condition.map(RestartCondition::as_str));
    out.span("delay", *delay);
    out.put("max_attempts", *max_attempts);
    out.span("window", *window);
    out.done()
}

fn resource_limits(limits: &ResourceLimits) -> Value {
    let mut out = Out::default();
    out.put("cpus", limits.nano_cpus.map(cpus));
    out.put("memory", limits.memory_bytes.map(|bytes| bytes.to_string()));
    out.put("pids", limits.pids);
    out.done()
}

fn resource_reservations(reservations: &NodeResources) -> Value {
    let mut out = Out::default();
    out.put("cpus", reservations.nano_cpus.map(cpus));
    out.put("memory", reservations.memory_bytes.map(|bytes| bytes.to_string()));
    let generic = reservations.generic_resources.clone().unwrap_or_default();
    out.list("generic_resources", &generic, |resource| {
        let discrete = resource.discrete.clone().unwrap_or_default();
        let mut inner = Out::default();
        inner.put("kind", discrete.kind);
        inner.put("value", discrete.value);
        let mut out = Out::default();
        out.put("discrete_resource_spec", Some(inner.done()));
        out.done()
    });
    out.done()
}

/// Billionths as a decimal number.
fn cpus(billionths: i64) -> String {
    let text = format!("{}.{:09}", billionths / 1_000_000_000, billionths % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn network(network: &Network) -> Value {
    let Network {
        at: _,
        name,
        external,
        driver,
        driver_opts,
        ipam_driver,
        subnets,
        internal,
        attachable,
        labels,
    } = network;
    let mut out = Out::default();
    out.put("name", name.clone());
    out.put("external", external.then_some(true));
    out.put("driver", driver.clone());
    out.labels("driver_opts", driver_opts);
    let mut ipam = Out::default();
    ipam.put("driver", ipam_driver.clone());
    ipam.list("config", subnets, |subnet| {
        let mut out = Out::default();
        out.put("subnet", Some(subnet.clone()));
        out.done()
    });
    out.within("ipam", ipam);
    out.put("internal", *internal);
    out.put("attachable", *attachable);
    out.labels("labels", labels);
    out.done()
}

fn volume(volume: &Volume) -> Value {
    let Volume {
        name,
        external,
        driver,
        driver_opts,
        labels,
    } = volume;
    let mut out = Out::default();
    out.put("name", name.clone());
    out.put("external", external.then_some(true));
    out.put("driver", driver.clone());
    out.labels("driver_opts", driver_opts);
    out.labels("labels", labels);
    out.done()
}

fn file_object(object: &FileObject) -> Value {
    let FileObject {
        at: _,
        name,
        external,
        file,
        driver,
        driver_opts,
        template_driver,
        labels,
    } = object;
    let mut out = Out::default();
    out.put("name", name.clone());
    out.put("external", external.then_some(true));
    out.put("file", file.clone());
    out.put("driver", driver.clone());
    out.labels("driver_opts", driver_opts);
    out.put("template_driver", template_driver.clone());
    out.labels("labels", labels);
    out.done()
}
