//! How the store's objects are shown: without what is Essaim's own, and with the members that Docker always writes.

use crate::EngineError;
use essaim_objects::{Cluster, Config, Network, NetworkId, NetworkResource, Node, Secret, Service, Task};
use essaim_store::View;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

fn value(object: &impl Serialize) -> Result<Value, EngineError> {
    serde_json::to_value(object)
        .map_err(|error| EngineError::internal(format_args!("the object cannot be written: {error}")))
}

/// Takes members away.
fn without(value: &mut Value, members: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| !members.contains(&name.as_str()));
    }
}

/// Gives a member where it is absent.
fn with(value: &mut Value, member: &str, default: Value) {
    if let Some(object) = value.as_object_mut() {
        object.entry(member).or_insert(default);
    }
}

/// Labels, which Docker writes also where there are none.
fn labelled(value: &mut Value, spec: &str) {
    if let Some(spec) = value.get_mut(spec) {
        with(spec, "Labels", json!({}));
    }
}

/// A task's spec as clients may see it: without what its image is pulled with.
fn without_credentials(spec: &mut Value) {
    if let Some(container) = spec.get_mut("ContainerSpec") {
        without(container, &["PullOptions"]);
    }
}

/// A service, with what `insertDefaults` asks for.
pub(crate) fn service(service: &Service, insert_defaults: bool) -> Result<Value, EngineError> {
    let mut shown = value(service)?;
    without(&mut shown, &["SpecVersion", "PreviousSpecVersion"]);
    for spec in ["Spec", "PreviousSpec"] {
        labelled(&mut shown, spec);
        let template = shown.get_mut(spec).and_then(|spec| spec.get_mut("TaskTemplate"));
        if let Some(template) = template {
            without_credentials(template);
        }
    }
    with(&mut shown, "Endpoint", json!({}));
    with(&mut shown["Endpoint"], "Spec", json!({}));
    if insert_defaults {
        insert_service_defaults(&mut shown["Spec"]);
    }
    Ok(shown)
}

/// The defaults of what a service's spec leaves open, as Docker's `insertDefaults` writes them.
fn insert_service_defaults(spec: &mut Value) {
    let is_job = ["ReplicatedJob", "GlobalJob"]
        .iter()
        .any(|mode| spec.get("Mode").is_some_and(|it| it.get(mode).is_some()));
    if let Some(template) = spec.get_mut("TaskTemplate") {
        if let Some(container) = template.get_mut("ContainerSpec") {
            with(container, "StopGracePeriod", json!(10_000_000_000_u64));
            with(container, "DNSConfig", json!({}));
        }
        with(template, "RestartPolicy", json!({}));
        let policy = &mut template["RestartPolicy"];
        with(
            policy,
            "Condition",
            json!(if is_job { "on-failure" } else { "any" }),
        );
        with(policy, "Delay", json!(5_000_000_000_u64));
        with(policy, "MaxAttempts", json!(0));
    }
    if !is_job {
        for config in ["UpdateConfig", "RollbackConfig"] {
            let is_absent = spec.get(config).is_none();
            with(spec, config, json!({}));
            let config = &mut spec[config];
            with(config, "Parallelism", json!(u8::from(is_absent)));
            with(config, "FailureAction", json!("pause"));
            with(config, "Monitor", json!(5_000_000_000_u64));
            with(config, "MaxFailureRatio", json!(0));
            with(config, "Order", json!("stop-first"));
        }
    }
    with(spec, "EndpointSpec", json!({}));
    with(&mut spec["EndpointSpec"], "Mode", json!("vip"));
}

/// A task, with its networks.
pub(crate) fn task(task: &Task, view: &View) -> Result<Value, EngineError> {
    let network = |id: NetworkId| view.network(id).cloned();
    let shown = task.to_api(network);
    let mut shown =
        shown.map_err(|error| EngineError::internal(format_args!("the task cannot be written: {error}")))?;
    without(&mut shown, &["SpecVersion"]);
    if let Some(spec) = shown.get_mut("Spec") {
        without_credentials(spec);
    }
    if task.job_iteration.is_some() {
        // The slots of Docker's jobs begin with 0, which it does not write; its CLI counts on both.
        match task.slot.and_then(|slot| slot.checked_sub(1)) {
            None | Some(0) => without(&mut shown, &["Slot"]),
            Some(slot) => shown["Slot"] = slot.into(),
        }
    }
    with(&mut shown, "Labels", json!({}));
    with(&mut shown["Status"], "PortStatus", json!({}));
    for attachment in shown
        .get_mut("NetworksAttachments")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(network) = attachment.get_mut("Network") {
            labelled(network, "Spec");
        }
    }
    Ok(shown)
}

/// A node; what it is among the managers is the caller's to say.
pub(crate) fn node(node: &Node) -> Result<Value, EngineError> {
    let mut shown = value(node)?;
    without(&mut shown, &["Attachments", "CertificateRole"]);
    labelled(&mut shown, "Spec");
    with(&mut shown["Spec"], "Role", json!(node.spec.role()));
    with(
        &mut shown["Spec"],
        "Availability",
        json!(node.spec.availability()),
    );
    without(&mut shown["Status"], &["DataPathAddr"]);
    if let Some(status) = shown.get_mut("ManagerStatus") {
        without(status, &["RaftID"]);
    }
    Ok(shown)
}

/// A secret, without its data.
pub(crate) fn secret(secret: &Secret) -> Result<Value, EngineError> {
    let mut shown = value(&secret.to_public())?;
    labelled(&mut shown, "Spec");
    Ok(shown)
}

/// A config.
pub(crate) fn config(config: &Config) -> Result<Value, EngineError> {
    let mut shown = value(config)?;
    labelled(&mut shown, "Spec");
    Ok(shown)
}

/// A network in the words of the network routes.
pub(crate) fn network(network: &Arc<Network>) -> Result<Value, EngineError> {
    let mut shown = value(&NetworkResource::from(&**network))?;
    with(&mut shown["IPAM"], "Options", Value::Null);
    Ok(shown)
}

/// The cluster, with the tokens that nodes join with only where they are asked for.
pub(crate) fn cluster(cluster: &Cluster, with_tokens: bool) -> Result<Value, EngineError> {
    let mut shown = value(&cluster.to_public())?;
    if !with_tokens {
        without(&mut shown, &["JoinTokens"]);
    }
    with(&mut shown, "DefaultAddrPool", Value::Null);
    with(&mut shown, "SubnetSize", json!(24));
    with(&mut shown, "DataPathPort", json!(4789));
    with(&mut shown, "TLSInfo", json!({}));
    let raft = json!({
        "SnapshotInterval": 10000, "KeepOldSnapshots": 0, "LogEntriesForSlowFollowers": 500, "ElectionTick": 10,
        "HeartbeatTick": 1,
    });
    let asked = &cluster.spec;
    let spec = &mut shown["Spec"];
    for (member, defaults) in [
        (
            "Orchestration",
            json!({ "TaskHistoryRetentionLimit": asked.task_history_limit() }),
        ),
        ("Raft", raft),
        (
            "Dispatcher",
            json!({ "HeartbeatPeriod": asked.heartbeat_period() }),
        ),
        ("CAConfig", json!({ "NodeCertExpiry": asked.node_cert_expiry() })),
        ("TaskDefaults", json!({})),
        (
            "EncryptionConfig",
            json!({ "AutoLockManagers": asked.auto_lock_managers() }),
        ),
    ] {
        with(spec, member, json!({}));
        for (name, default) in defaults.as_object().into_iter().flatten() {
            with(&mut spec[member], name, default.clone());
        }
    }
    with(spec, "Name", json!("default"));
    labelled(&mut shown, "Spec");
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::{TaskId, TaskSpec, Version};
    use essaim_store::Store;

    #[test]
    fn what_a_tasks_image_is_pulled_with_is_not_shown() {
        let spec = json!({"ContainerSpec": {"Image": "i", "PullOptions": {"RegistryAuth": "a"}}});
        let spec: TaskSpec = serde_json::from_value(spec).unwrap();
        let task = Task::new(TaskId::from_bits(1), None, Arc::new(spec));
        let shown = super::task(&task, Store::new().view()).unwrap();
        assert_eq!(shown["Spec"]["ContainerSpec"], json!({"Image": "i"}));
    }

    #[test]
    fn a_jobs_first_slot_is_not_written() {
        let store = Store::new();
        let mut task = Task::new(TaskId::from_bits(1), None, Arc::new(TaskSpec::default()));
        let mut slot = |job, slot| {
            task.job_iteration = job;
            task.slot = Some(slot);
            super::task(&task, store.view()).unwrap().get("Slot").cloned()
        };
        let run = Some(Version::default());
        assert_eq!([slot(None, 1), slot(None, 2)], [Some(json!(1)), Some(json!(2))]);
        assert_eq!([slot(run, 1), slot(run, 2)], [None, Some(json!(1))]);
    }
}
