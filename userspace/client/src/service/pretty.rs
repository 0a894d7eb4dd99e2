//! `service inspect --pretty`.

use super::list::mode_word;
use crate::human::{bytes, capital, duration};
use essaim_objects::{
    ContainerSpec, Labels, Mode, NodeResources, PortConfig, Service, TaskSpec, UpdatePolicy,
};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Writing to a string does not fail.
macro_rules! line {
    ($text:expr, $($part:tt)*) => { let _ = writeln!($text, $($part)*); };
}

/// A service as people read it; `networks` are the names of its networks by their identity.
pub(crate) fn pretty(service: &Service, networks: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    let spec = &service.spec;
    line!(text, "\nID:\t\t{}", service.id);
    line!(text, "Name:\t\t{}", spec.name());
    labels(&mut text, "", spec.labels.as_ref());
    line!(text, "Service Mode:\t{}", capital(mode_word(spec.mode())));
    match spec.mode() {
        Mode::Replicated { replicas } => {
            line!(text, " Replicas:\t{replicas}");
        }
        Mode::ReplicatedJob {
            max_concurrent,
            total_completions,
        } => {
            line!(text, " Max Concurrent:\t{max_concurrent}");
            line!(text, " Total Completions:\t{total_completions}");
        }
        Mode::Global | Mode::GlobalJob => {}
    }
    if let Some(status) = &service.update_status {
        line!(text, "UpdateStatus:");
        line!(
            text,
            " State:\t\t{}",
            status
                .state
                .map(essaim_objects::UpdateState::as_str)
                .unwrap_or_default()
        );
        for (name, time) in [("Started", status.started_at), ("Completed", status.completed_at)] {
            if let Some(time) = time {
                line!(text, " {name}:\t{}", crate::human::time(time));
            }
        }
        line!(
            text,
            " Message:\t{}",
            status.message.as_deref().unwrap_or_default()
        );
    }
    placement(&mut text, &spec.task_template);
    if spec.update_config.is_some() {
        policy(&mut text, "Update", spec.update());
    }
    if spec.rollback_config.is_some() {
        policy(&mut text, "Rollback", spec.rollback());
    }
    if let Some(spec) = &spec.task_template.container {
        container(&mut text, spec);
    }
    resources(&mut text, &spec.task_template);
    let targets: Vec<_> = spec
        .networks()
        .iter()
        .filter_map(|network| network.target.clone())
        .collect();
    if !targets.is_empty() {
        let names: Vec<_> = targets
            .iter()
            .map(|target| networks.get(target).unwrap_or(target).clone())
            .collect();
        line!(text, "Networks: {} ", names.join(" "));
    }
    let asked = spec.endpoint_spec.clone().unwrap_or_default();
    line!(text, "Endpoint Mode:\t{}", asked.mode());
    let allotted = service
        .endpoint
        .as_ref()
        .map(essaim_objects::Endpoint::ports)
        .unwrap_or_default();
    ports(&mut text, allotted);
    text.push('\n');
    text
}

fn labels(text: &mut String, indent: &str, labels: Option<&Labels>) {
    let Some(labels) = labels.filter(|labels| !labels.is_empty()) else {
        return;
    };
    line!(text, "{indent}Labels:");
    for (name, value) in labels {
        line!(text, "{indent} {name}={value}");
    }
}

fn placement(text: &mut String, task: &TaskSpec) {
    let Some(placement) = &task.placement else { return };
    line!(text, "Placement:");
    if !task.constraints().is_empty() {
        line!(text, " Constraints:\t[{}]", task.constraints().join(" "));
    }
    let spread = placement
        .preferences
        .iter()
        .flatten()
        .filter_map(|preference| preference.spread.as_ref()?.spread_descriptor.clone());
    let spread: Vec<_> = spread.map(|over| format!("spread={over}")).collect();
    if !spread.is_empty() {
        line!(text, " Preferences:\t[{}]", spread.join(" "));
    }
    if let Some(most) = placement.max_replicas.filter(|most| *most > 0) {
        line!(text, " Max Replicas Per Node:   {most}");
    }
}

fn policy(text: &mut String, kind: &str, policy: UpdatePolicy) {
    line!(text, "{kind}Config:");
    line!(text, " Parallelism:\t{}", policy.parallelism);
    if policy.delay.0 != 0 {
        line!(text, " Delay:\t\t{}", duration(policy.delay));
    }
    line!(text, " On failure:\t{}", policy.failure_action);
    line!(text, " Monitoring Period: {}", duration(policy.monitor));
    line!(text, " Max failure ratio: {}", policy.max_failure_ratio);
    let name = format!("{kind} order:");
    line!(text, " {name:<18} {}", policy.order);
}

fn container(text: &mut String, container: &ContainerSpec) {
    let ContainerSpec {
        image,
        args,
        command,
        env,
        dir,
        user,
        init,
        mounts,
        hostname,
        secrets,
        configs,
        capability_add,
        capability_drop,
        ..
    } = container;
    line!(text, "ContainerSpec:");
    line!(text, " Image:\t\t{}", image.as_deref().unwrap_or_default());
    for (name, words) in [("Entrypoint", command), ("Args", args)] {
        if let Some(words) = words.as_ref().filter(|words| !words.is_empty()) {
            line!(text, " {name}:\t\t{} ", words.join(" "));
        }
    }
    if let Some(env) = env.as_ref().filter(|env| !env.is_empty()) {
        line!(text, " Env:\t\t{} ", env.join(" "));
    }
    for (name, value) in [("Hostname", hostname), ("Dir", dir), ("User", user)] {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            line!(text, " {name}:\t\t{value}");
        }
    }
    if let Some(init) = init {
        line!(text, " Init:\t\t{init}");
    }
    for (name, list) in [
        ("Add capabilities", capability_add),
        ("Drop capabilities", capability_drop),
    ] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            line!(text, " {name}: {}", list.join(" "));
        }
    }
    if let Some(mounts) = mounts.as_ref().filter(|mounts| !mounts.is_empty()) {
        line!(text, "Mounts:");
        for mount in mounts {
            line!(text, " Target:\t{}", mount.target.as_deref().unwrap_or_default());
            line!(text, "  Source:\t{}", mount.source.as_deref().unwrap_or_default());
            line!(text, "  ReadOnly:\t{}", mount.read_only.unwrap_or_default());
            line!(text, "  Type:\t\t{}", mount.kind.as_deref().unwrap_or_default());
        }
    }
    let files = |file: &Option<essaim_objects::FileTarget>| {
        file.as_ref()
            .and_then(|file| file.name.clone())
            .unwrap_or_default()
    };
    if let Some(secrets) = secrets.as_ref().filter(|secrets| !secrets.is_empty()) {
        line!(text, "Secrets:");
        for secret in secrets {
            line!(text, " Target:\t{}", files(&secret.file));
            line!(
                text,
                "  Source:\t{}",
                secret.secret_name.as_deref().unwrap_or_default()
            );
        }
    }
    if let Some(configs) = configs.as_ref().filter(|configs| !configs.is_empty()) {
        line!(text, "Configs:");
        for config in configs {
            line!(text, " Target:\t{}", files(&config.file));
            line!(
                text,
                "  Source:\t{}",
                config.config_name.as_deref().unwrap_or_default()
            );
        }
    }
}

fn resources(text: &mut String, task: &TaskSpec) {
    let Some(resources) = &task.resources else { return };
    line!(text, "Resources:");
    let reserved = resources.reservations.as_ref().map(
        |NodeResources {
             nano_cpus,
             memory_bytes,
             ..
         }| (*nano_cpus, *memory_bytes),
    );
    let limited = resources
        .limits
        .as_ref()
        .map(|limits| (limits.nano_cpus, limits.memory_bytes));
    for (name, found) in [("Reservations", reserved), ("Limits", limited)] {
        let Some((cpus, memory)) = found.filter(|(cpus, memory)| cpus.is_some() || memory.is_some()) else {
            continue;
        };
        line!(text, " {name}:");
        if let Some(cpus) = cpus {
            line!(
                text,
                "  CPU:\t\t{}.{:03}",
                cpus / 1_000_000_000,
                cpus.unsigned_abs() % 1_000_000_000 / 1_000_000
            );
        }
        if let Some(memory) = memory {
            line!(text, "  Memory:\t{}", bytes(memory));
        }
    }
    if let Some(pids) = resources.limits.as_ref().and_then(|limits| limits.pids) {
        line!(text, "  PIDs:\t\t{pids}");
    }
}

fn ports(text: &mut String, ports: &[PortConfig]) {
    if ports.is_empty() {
        return;
    }
    line!(text, "Ports:");
    for port in ports {
        line!(text, " PublishedPort = {}", port.published());
        line!(text, "  Protocol = {}", port.protocol());
        line!(text, "  TargetPort = {}", port.target());
        line!(text, "  PublishMode = {} ", port.publish_mode());
    }
}
