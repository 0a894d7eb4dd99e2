//! How a task is run: as a process where its image stands for the node, as a container of any other. Pure.

mod files;
mod hosts;
mod settings;
#[cfg(test)]
mod tests;

use crate::describe::Facts;
use essaim_docker::{Asked, ContainerTask, PlanError};
use essaim_health::{HealthCheck, Pace, Probe, StopSignal};
use essaim_objects::{
    Config, ConfigId, ContainerSpec, Driver, GenericResource, HealthConfig, Labels, Runtime, Secret,
    SecretId, Task, TemplateContext,
};
use essaim_runner::{EtcFile, NetworkNamespace, ProcessSpec, TaskFile};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The image that stands for the node itself.
const IMAGE: &str = "host";
/// As the docker CLI writes it: it adds a tag to a name that has none.
const TAGGED_IMAGE: &str = "host:latest";
/// Characters of a task's identity that are its host name where its spec names none, as Docker does with a container's.
const SHORT_ID: usize = 12;

/// A task that this node cannot run as it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Unsupported {
    /// The part of its spec, as the API names it.
    pub field: String,
    /// What was found, and what is expected.
    pub reason: String,
}

impl Unsupported {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// What a spec is made from, besides the task.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The node.
    pub node: &'a Facts,
    /// The secrets that are there.
    pub secrets: &'a BTreeMap<SecretId, Arc<Secret>>,
    /// The configs that are there.
    pub configs: &'a BTreeMap<ConfigId, Arc<Config>>,
}

/// The name of a task's network namespace.
pub fn netns_name(task: &Task) -> String {
    format!("es-{}", task.id)
}

/// The file of a task's network namespace.
pub fn netns_path(task: &Task) -> PathBuf {
    PathBuf::from("/run/netns").join(netns_name(task))
}

/// How a task is run.
#[derive(Clone, Debug)]
pub enum TaskSpec {
    /// As a process of the node.
    Process(Box<ProcessSpec>),
    /// As a container of the node's engine.
    Container(Box<ContainerTask>),
}

impl From<PlanError> for Unsupported {
    fn from(PlanError { field, reason }: PlanError) -> Self {
        Self { field, reason }
    }
}

/// The container of a task.
fn container_of(task: &Task) -> Result<&ContainerSpec, Unsupported> {
    let runtime = task.spec.runtime.unwrap_or(Runtime::Unset);
    match runtime {
        Runtime::Unset | Runtime::Container => {}
        Runtime::Plugin | Runtime::Attachment => {
            let reason = format!("this node runs no task of runtime \"{runtime}\", expected \"container\"");
            return Err(Unsupported::new("Runtime", reason));
        }
    }
    let container = task.spec.container.as_ref();
    container.ok_or_else(|| Unsupported::new("ContainerSpec", "is missing"))
}

/// How a task is run. `resolv_conf` is mounted as the file of that name.
///
/// # Errors
/// What its runner does not have, or what is missing; the field is named.
pub fn task_spec(task: &Task, given: Given<'_>, resolv_conf: PathBuf) -> Result<TaskSpec, Unsupported> {
    let container = container_of(task)?;
    let is_host = matches!(
        container.image.as_deref().unwrap_or_default(),
        IMAGE | TAGGED_IMAGE
    );
    if is_host {
        settings::refuse_what_is_not_there(container)?;
    }
    let context = context(task, given.node, container)?;
    let expanded = context
        .expand(container)
        .map_err(|error| Unsupported::new("ContainerSpec", error.to_string()))?;
    let hostname = expanded
        .hostname
        .clone()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| task.id.as_str().chars().take(SHORT_ID).collect());
    let files = files::files(&expanded, given, &context)?;
    let hosts = hosts::hosts(task, &expanded, &hostname);
    health_check(container)?;
    if is_host {
        let spec = process_spec(task, &expanded, hostname, files, hosts, resolv_conf)?;
        return Ok(TaskSpec::Process(Box::new(spec)));
    }
    let env: Vec<String> = generic_variables(task)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let plan = ContainerTask::plan(Asked {
        task,
        container: &expanded,
        node: given.node.id,
        service_name: &context.service_name,
        task_name: &context.task_name,
        hostname: &hostname,
        env: &env,
        files: &files,
        hosts: &hosts,
        resolv_conf: &resolv_conf,
        netns: &netns_name(task),
    })?;
    Ok(TaskSpec::Container(Box::new(plan)))
}

/// How the process runner runs a task, whose placeholders are filled in.
fn process_spec(
    task: &Task,
    expanded: &ContainerSpec,
    hostname: String,
    files: Vec<TaskFile>,
    hosts: String,
    resolv_conf: PathBuf,
) -> Result<ProcessSpec, Unsupported> {
    let spec = ProcessSpec {
        command: expanded.command.clone().unwrap_or_default(),
        args: expanded.args.clone().unwrap_or_default(),
        env: environment(task, expanded),
        dir: expanded
            .dir
            .clone()
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from),
        user: expanded.user.clone().unwrap_or_default(),
        groups: expanded.groups.clone().unwrap_or_default(),
        network: NetworkNamespace::Create(netns_name(task)),
        read_only_root: expanded.read_only.unwrap_or(false),
        mounts: settings::mounts(expanded)?,
        files,
        resolv_conf: Some(EtcFile::File(resolv_conf)),
        hosts: Some(EtcFile::Text(hosts)),
        hostname: Some(hostname),
        stop_signal: stop_signal(expanded)?,
        stop_grace: expanded.stop_grace_period().to_duration(),
        init: expanded.init.unwrap_or(false),
        cap_add: settings::capabilities("ContainerSpec.CapabilityAdd", expanded.capability_add.as_deref())?,
        cap_drop: settings::capabilities(
            "ContainerSpec.CapabilityDrop",
            expanded.capability_drop.as_deref(),
        )?,
        no_new_privileges: expanded
            .privileges
            .as_ref()
            .and_then(|privileges| privileges.no_new_privileges)
            .unwrap_or(false),
        ulimits: settings::ulimits(expanded),
        sysctls: expanded.sysctls.clone().unwrap_or_default(),
        oom_score_adj: settings::oom_score_adj(expanded)?,
        resources: settings::resources(task)?,
        log: settings::log_options(task.spec.log_driver.as_ref())?,
        ..ProcessSpec::default()
    };
    let checked = spec.check();
    checked.map_err(|error| Unsupported::new(error.field, error.reason))?;
    Ok(spec)
}

/// What placeholders stand for.
///
/// A node has no services: their name and labels are those of the task's `ServiceAnnotations` (Swarm's own name for
/// them), which the managers add to what they send.
fn context(task: &Task, node: &Facts, container: &ContainerSpec) -> Result<TemplateContext, Unsupported> {
    let annotations = task.extra.get("ServiceAnnotations");
    let name = annotations
        .and_then(|annotations| annotations.get("Name"))
        .and_then(serde_json::Value::as_str);
    let labels = annotations
        .and_then(|annotations| annotations.get("Labels"))
        .and_then(|labels| serde_json::from_value::<Labels>(labels.clone()).ok());
    if name.is_none() && names_its_service(container) {
        let reason = "it has placeholders for its service's name or labels, which the managers did not send";
        return Err(Unsupported::new("ServiceAnnotations", reason));
    }
    let service_name = name.unwrap_or_default().to_owned();
    let slot = task.slot.filter(|slot| *slot != 0);
    let task_slot = slot.map_or_else(|| node.id.to_string(), |slot| slot.to_string());
    Ok(TemplateContext {
        service_id: task.service_id.map(|id| id.to_string()).unwrap_or_default(),
        service_labels: labels.unwrap_or_default(),
        node_id: node.id.to_string(),
        node_hostname: node.hostname.clone(),
        node_architecture: node.architecture.clone(),
        node_os: node.os.clone(),
        task_id: task.id.to_string(),
        task_name: format!("{service_name}.{task_slot}.{}", task.id),
        task_slot,
        env: container.env.clone().unwrap_or_default(),
        service_name,
    })
}

/// Whether a container's own texts have a placeholder for what is the service's.
fn names_its_service(container: &ContainerSpec) -> bool {
    let mounts = container.mounts.iter().flatten();
    let of_mounts = mounts.flat_map(|mount| mount.source.iter().chain(&mount.target));
    let env = container.env.iter().flatten();
    let mut texts = container.hostname.iter().chain(env).chain(of_mounts);
    texts.any(|text| asks_for_the_service(text))
}

/// Whether a text has a placeholder for what only its service knows.
fn asks_for_the_service(text: &str) -> bool {
    let fields = [".Service.Name", ".Service.Labels", ".Task.Name"];
    text.contains("{{") && fields.iter().any(|field| text.contains(field))
}

/// The last of each name counts; a name alone would take the value of an image, which there is none of.
fn environment(task: &Task, container: &ContainerSpec) -> BTreeMap<String, String> {
    let variables = container.env.iter().flatten();
    let mut env: BTreeMap<String, String> = variables
        .filter_map(|variable| variable.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    env.extend(generic_variables(task));
    env
}

/// What tells a task which of the operator's own resources it was given.
fn generic_variables(task: &Task) -> impl Iterator<Item = (String, String)> {
    generic_resources(task).into_iter().map(|(kind, values)| {
        let name = format!("DOCKER_RESOURCE_{}", kind.to_uppercase());
        (name, values.join(","))
    })
}

/// The operator's own resources that a task was given, by kind.
fn generic_resources(task: &Task) -> BTreeMap<String, Vec<String>> {
    let mut by_kind: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for GenericResource { named, discrete, .. } in task.generic_resources.iter().flatten() {
        if let Some(named) = named {
            let values = by_kind.entry(named.kind.clone().unwrap_or_default()).or_default();
            values.push(named.value.clone().unwrap_or_default());
        }
        if let Some(discrete) = discrete {
            let values = by_kind
                .entry(discrete.kind.clone().unwrap_or_default())
                .or_default();
            values.push(discrete.value.unwrap_or_default().to_string());
        }
    }
    by_kind
}

fn stop_signal(container: &ContainerSpec) -> Result<StopSignal, Unsupported> {
    match container.stop_signal.as_deref().unwrap_or_default() {
        "" => Ok(StopSignal::TERM),
        text => text
            .parse::<StopSignal>()
            .map_err(|error| Unsupported::new("ContainerSpec.StopSignal", error.to_string())),
    }
}

/// How a container is checked, where it is.
///
/// # Errors
/// The check makes no sense.
pub fn health_check(container: &ContainerSpec) -> Result<Option<HealthCheck>, Unsupported> {
    const FIELD: &str = "ContainerSpec.Healthcheck";
    let Some(HealthConfig {
        test,
        interval,
        timeout,
        start_period,
        start_interval,
        retries,
        extra: _,
    }) = &container.healthcheck
    else {
        return Ok(None);
    };
    // An empty test is the image's own.
    let Some(test) = test.as_ref().filter(|test| !test.is_empty()) else {
        return Ok(None);
    };
    let probe = Probe::from_docker(test).map_err(|error| Unsupported::new(FIELD, error.to_string()))?;
    let Some(probe) = probe else {
        return Ok(None);
    };
    let duration = |given: &Option<essaim_objects::Nanoseconds>| {
        given.map_or(Duration::ZERO, essaim_objects::Nanoseconds::to_duration)
    };
    let retries = u32::try_from(retries.unwrap_or_default());
    let pace = Pace {
        interval: duration(interval),
        timeout: duration(timeout),
        retries: retries.map_err(|_| Unsupported::new(FIELD, "Retries is out of range"))?,
        start_period: duration(start_period),
        start_interval: duration(start_interval),
    };
    let check = HealthCheck::new(probe, pace);
    check
        .map(Some)
        .map_err(|error| Unsupported::new(FIELD, error.to_string()))
}

/// A driver's name and options.
fn driver(driver: Option<&Driver>) -> (&str, impl Iterator<Item = (&String, &String)>) {
    let name = driver
        .and_then(|driver| driver.name.as_deref())
        .unwrap_or_default();
    let options = driver.and_then(|driver| driver.options.as_ref());
    (name, options.into_iter().flatten())
}
