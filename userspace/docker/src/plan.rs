//! What a task's container is to be, as the engine's API says it. Pure.

mod mounts;
#[cfg(test)]
mod tests;

use bollard::auth::DockerCredentials;
use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use essaim_objects::{ContainerSpec, Extra, Nanoseconds, NodeId, Privileges, Task};
use essaim_runner::TaskFile;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

/// The task that a container or a sandbox belongs to.
pub(crate) const TASK_LABEL: &str = "io.essaim.task";
/// The state directory of the runner that made it.
pub(crate) const OWNER_LABEL: &str = "io.essaim.owner";
/// What the engine calls the image of sandboxes.
pub(crate) const SANDBOX_IMAGE: &str = "essaim-sandbox:1";
/// The program in it.
pub(crate) const SANDBOX_PROGRAM: &str = "/pause";

/// A member of a spec that a container cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct PlanError {
    /// The member, as the API names it.
    pub field: String,
    /// What was found, and what is expected.
    pub reason: String,
}

impl PlanError {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// What a container is made from.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its container, with all placeholders filled in.
    pub container: &'a ContainerSpec,
    /// The node.
    pub node: NodeId,
    /// The name of its service.
    pub service_name: &'a str,
    /// Its own name, `SERVICE.SLOT.TASK`.
    pub task_name: &'a str,
    /// The name of its machine.
    pub hostname: &'a str,
    /// Variables beside those of the spec, `NAME=VALUE`.
    pub env: &'a [String],
    /// Its secrets and configs.
    pub files: &'a [TaskFile],
    /// What stands in its `/etc/hosts`.
    pub hosts: &'a str,
    /// What is mounted as its `/etc/resolv.conf`.
    pub resolv_conf: &'a std::path::Path,
    /// The name of its network namespace in `/run/netns`.
    pub netns: &'a str,
}

/// How a task is run as a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerTask {
    /// The container's name.
    pub(crate) name: String,
    /// The image, with a tag or a digest.
    pub(crate) image: String,
    /// Who asks the registry for it; in memory only.
    #[serde(skip)]
    pub(crate) credentials: Option<DockerCredentials>,
    /// What holds the network namespace.
    pub(crate) sandbox: ContainerCreateBody,
    /// The container, but for what lies in directories of the runner's.
    pub(crate) container: ContainerCreateBody,
    /// The name of its network namespace in `/run/netns`.
    pub(crate) netns: String,
    /// Secrets and configs.
    pub(crate) files: Vec<TaskFile>,
    /// What stands in its `/etc/hosts`.
    pub(crate) hosts: String,
    /// What is mounted as its `/etc/resolv.conf`.
    pub(crate) resolv_conf: PathBuf,
    /// From the signal that asks it to stop to the one that ends it.
    pub(crate) stop_grace: Duration,
}

/// The name of a task's sandbox.
pub(crate) fn sandbox_name(task: &str) -> String {
    format!("essaim-sandbox-{task}")
}

impl ContainerTask {
    /// Plans a task's container and its sandbox.
    ///
    /// Host name and kernel settings of the network are the sandbox's: the engine refuses them of a container that is in
    /// another one's namespace.
    ///
    /// # Errors
    /// What a container cannot have; the member is named.
    pub fn plan(asked: Asked<'_>) -> Result<Self, PlanError> {
        let (task, container) = (asked.task, asked.container);
        refuse(container)?;
        let image = container.image.clone().unwrap_or_default();
        if image.is_empty() {
            return Err(PlanError::new("ContainerSpec.Image", "is missing"));
        }
        let (of_network, others): (HashMap<_, _>, HashMap<_, _>) = container
            .sysctls
            .iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .partition(|(name, _)| name.starts_with("net."));
        let id = task.id.to_string();
        let env = container.env.iter().flatten().chain(asked.env).cloned();
        let body = ContainerCreateBody {
            image: Some(with_tag(&image)),
            entrypoint: filled(container.command.as_ref()),
            cmd: filled(container.args.as_ref()),
            env: Some(env.collect()),
            user: container.user.clone().filter(|user| !user.is_empty()),
            working_dir: container.dir.clone().filter(|dir| !dir.is_empty()),
            tty: container.tty,
            open_stdin: container.open_stdin,
            healthcheck: container.healthcheck.as_ref().map(health),
            stop_signal: container.stop_signal.clone().filter(|signal| !signal.is_empty()),
            stop_timeout: seconds(container.stop_grace_period()),
            labels: Some(labels(asked)),
            host_config: Some(host_config(asked, others)?),
            ..ContainerCreateBody::default()
        };
        let sandbox = ContainerCreateBody {
            image: Some(SANDBOX_IMAGE.to_owned()),
            entrypoint: Some(vec![SANDBOX_PROGRAM.to_owned()]),
            hostname: Some(asked.hostname.to_owned()),
            // What is process 1 of its namespace passes over all others.
            stop_signal: Some("SIGKILL".to_owned()),
            labels: Some(HashMap::from([(TASK_LABEL.to_owned(), id.clone())])),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                readonly_rootfs: Some(true),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                log_config: Some(HostConfigLogConfig {
                    typ: Some("none".to_owned()),
                    config: None,
                }),
                sysctls: (!of_network.is_empty()).then_some(of_network),
                restart_policy: Some(never()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        Ok(Self {
            name: asked.task_name.trim_start_matches('.').to_owned(),
            image: with_tag(&image),
            credentials: credentials(container)?,
            sandbox,
            container: body,
            netns: asked.netns.to_owned(),
            files: asked.files.to_vec(),
            hosts: asked.hosts.to_owned(),
            resolv_conf: asked.resolv_conf.to_owned(),
            stop_grace: container.stop_grace_period().to_duration(),
        })
    }
}

fn refuse(container: &ContainerSpec) -> Result<(), PlanError> {
    match container.isolation.as_deref().unwrap_or_default() {
        "" | "default" => {}
        _ => {
            let reason = "there is none on Linux, expected \"default\"";
            return Err(PlanError::new("ContainerSpec.Isolation", reason));
        }
    }
    let privileges = container.privileges.as_ref();
    if privileges.is_some_and(|privileges| privileges.credential_spec.is_some()) {
        let field = "ContainerSpec.Privileges.CredentialSpec";
        return Err(PlanError::new(field, "is of Windows"));
    }
    Ok(())
}

fn host_config(asked: Asked<'_>, sysctls: HashMap<String, String>) -> Result<HostConfig, PlanError> {
    let (task, container) = (asked.task, asked.container);
    let requirements = task.spec.resources.clone().unwrap_or_default();
    let limits = requirements.limits.unwrap_or_default();
    let reserved = requirements.reservations.unwrap_or_default();
    let above_zero = |value: Option<i64>| value.filter(|value| *value > 0);
    let memory = above_zero(limits.memory_bytes);
    // The engine counts memory and swap together, -1 stands for any amount.
    let memory_swap = match (requirements.swap_bytes, memory) {
        (Some(-1), _) => Some(-1),
        (Some(swap), Some(memory)) => Some(memory.saturating_add(swap)),
        (Some(_), None) => {
            let reason = "a limit of swap needs one of memory";
            return Err(PlanError::new("Resources.SwapBytes", reason));
        }
        (None, _) => None,
    };
    let ulimits = container.ulimits.iter().flatten();
    let ulimits = ulimits.map(|limit| ResourcesUlimits {
        name: limit.name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    });
    Ok(HostConfig {
        network_mode: Some(format!("container:{}", sandbox_name(task.id.as_str()))),
        restart_policy: Some(never()),
        mounts: Some(mounts::mounts(container)?),
        group_add: filled(container.groups.as_ref()),
        readonly_rootfs: container.read_only,
        init: container.init,
        cap_add: filled(container.capability_add.as_ref()),
        cap_drop: filled(container.capability_drop.as_ref()),
        security_opt: container.privileges.as_ref().map(security).transpose()?,
        ulimits: container.ulimits.as_ref().map(|_| ulimits.collect()),
        sysctls: (!sysctls.is_empty()).then_some(sysctls),
        oom_score_adj: container.oom_score_adj,
        log_config: task.spec.log_driver.as_ref().map(|driver| HostConfigLogConfig {
            typ: driver.name.clone(),
            config: driver
                .options
                .as_ref()
                .map(|options| options.clone().into_iter().collect()),
        }),
        nano_cpus: above_zero(limits.nano_cpus),
        memory,
        memory_swap,
        memory_swappiness: requirements.memory_swappiness,
        memory_reservation: above_zero(reserved.memory_bytes),
        pids_limit: above_zero(limits.pids),
        ..HostConfig::default()
    })
}

/// Swarm's labels, which tools find the containers of services by, and the spec's.
fn labels(asked: Asked<'_>) -> HashMap<String, String> {
    let task = asked.task;
    let own = [
        ("com.docker.swarm.task", String::new()),
        ("com.docker.swarm.task.id", task.id.to_string()),
        ("com.docker.swarm.task.name", asked.task_name.to_owned()),
        ("com.docker.swarm.node.id", asked.node.to_string()),
        (
            "com.docker.swarm.service.id",
            task.service_id.map(|id| id.to_string()).unwrap_or_default(),
        ),
        ("com.docker.swarm.service.name", asked.service_name.to_owned()),
        (TASK_LABEL, task.id.to_string()),
    ];
    let given = asked.container.labels.clone().unwrap_or_default().into_iter();
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    given.chain(own).collect()
}

fn security(privileges: &Privileges) -> Result<Vec<String>, PlanError> {
    let mut options = Vec::new();
    if privileges.no_new_privileges == Some(true) {
        options.push("no-new-privileges".to_owned());
    }
    let text = |extra: &Extra, name: &str| {
        let value = extra.get(name).and_then(serde_json::Value::as_str);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    if let Some(context) = &privileges.selinux_context {
        if context.get("Disable") == Some(&serde_json::Value::Bool(true)) {
            options.push("label=disable".to_owned());
        }
        for (member, name) in [
            ("User", "user"),
            ("Role", "role"),
            ("Type", "type"),
            ("Level", "level"),
        ] {
            options.extend(text(context, member).map(|value| format!("label={name}:{value}")));
        }
    }
    if let Some(seccomp) = &privileges.seccomp {
        const FIELD: &str = "ContainerSpec.Privileges.Seccomp";
        match text(seccomp, "Mode").as_deref() {
            None | Some("default") => {}
            Some("unconfined") => options.push("seccomp=unconfined".to_owned()),
            Some("custom") => {
                let profile = text(seccomp, "Profile").unwrap_or_default();
                let profile = data_encoding::BASE64.decode(profile.as_bytes()).ok();
                let profile = profile.and_then(|profile| String::from_utf8(profile).ok());
                let profile = profile.filter(|profile| !profile.is_empty()).ok_or_else(|| {
                    PlanError::new(FIELD, "Profile is no text in base64, expected one of JSON")
                })?;
                options.push(format!("seccomp={profile}"));
            }
            Some(mode) => {
                let reason =
                    format!("Mode is \"{mode}\", expected \"default\", \"unconfined\" or \"custom\"");
                return Err(PlanError::new(FIELD, reason));
            }
        }
    }
    if let Some(profile) = &privileges.app_armor {
        match text(profile, "Mode").as_deref() {
            None | Some("default") => {}
            Some("disabled") => options.push("apparmor=unconfined".to_owned()),
            Some(mode) => {
                let reason = format!("Mode is \"{mode}\", expected \"default\" or \"disabled\"");
                return Err(PlanError::new("ContainerSpec.Privileges.AppArmor", reason));
            }
        }
    }
    Ok(options)
}

fn health(check: &essaim_objects::HealthConfig) -> HealthConfig {
    let nanoseconds = |given: Option<Nanoseconds>| {
        given.and_then(|given| i64::try_from(given.to_duration().as_nanos()).ok())
    };
    HealthConfig {
        test: check.test.clone(),
        interval: nanoseconds(check.interval),
        timeout: nanoseconds(check.timeout),
        retries: check.retries,
        start_period: nanoseconds(check.start_period),
        start_interval: nanoseconds(check.start_interval),
    }
}

/// Who asks the registry, as a client sent it (`X-Registry-Auth`) and the managers pass it on.
fn credentials(container: &ContainerSpec) -> Result<Option<DockerCredentials>, PlanError> {
    const FIELD: &str = "ContainerSpec.PullOptions.RegistryAuth";
    let Some(auth) = container.registry_auth() else {
        return Ok(None);
    };
    // What stands in it is not to be shown.
    let wrong = || PlanError::new(FIELD, "is no credentials in base64");
    let auth = auth.replace('-', "+").replace('_', "/");
    let text = data_encoding::BASE64
        .decode(auth.as_bytes())
        .map_err(|_| wrong())?;
    serde_json::from_slice(&text).map(Some).map_err(|_| wrong())
}

/// An image's name with the tag that it means: without one, the engine pulls all that there are.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or_default();
    if name.contains([':', '@']) {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

fn filled<T: Clone>(list: Option<&Vec<T>>) -> Option<Vec<T>> {
    list.filter(|list| !list.is_empty()).cloned()
}

/// Whole seconds, rounded up.
fn seconds(given: Nanoseconds) -> Option<i64> {
    let duration = given.to_duration();
    let up = u64::from(duration.subsec_nanos() > 0);
    i64::try_from(duration.as_secs().saturating_add(up)).ok()
}

fn never() -> RestartPolicy {
    RestartPolicy {
        name: Some(RestartPolicyNameEnum::NO),
        maximum_retry_count: None,
    }
}
