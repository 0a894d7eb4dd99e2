//! Objects for tests, from the JSON that clients would post.

use essaim_objects::{Node, NodeId, Service, ServiceId, ServiceSpec, Version};
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) fn node_id(number: u128) -> NodeId {
    NodeId::from_bits(number)
}

pub(crate) fn service_id(number: u128) -> ServiceId {
    ServiceId::from_bits(number)
}

/// A node that is ready, with what is given beside.
pub(crate) fn node(number: u128, with: &Value) -> Node {
    let mut value = json!({
        "ID": node_id(number),
        "Spec": {"Availability": "active", "Labels": {}},
        "Description": {
            "Hostname": format!("n{number}"),
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 4_000_000_000_i64, "MemoryBytes": 4_000_000_000_i64},
        },
        "Status": {"State": "ready", "Addr": format!("10.0.0.{number}")},
    });
    merge(&mut value, with);
    serde_json::from_value(value).unwrap()
}

/// A spec's service.
pub(crate) fn service(number: u128, spec: &Value) -> Service {
    let spec: ServiceSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut service = Service::new(service_id(number), Arc::new(spec));
    service.spec_version = Some(Version { index: 1 });
    service
}

/// What an operator's update makes of a service.
pub(crate) fn respecified(service: &Service, spec: ServiceSpec, index: u64) -> Service {
    let mut next = service.clone();
    next.previous_spec = Some(service.spec.clone());
    next.previous_spec_version = service.spec_version;
    next.spec = Arc::new(spec);
    next.spec_version = Some(Version { index });
    next.update_status = None;
    if next.spec.mode().is_job() {
        let mut status = next.job_status.unwrap_or_default();
        status.job_iteration.index += 1;
        next.job_status = Some(status);
    }
    next
}

/// Puts the members of `with` into `value`, at every depth.
pub(crate) fn merge(value: &mut Value, with: &Value) {
    match (value, with) {
        (Value::Object(value), Value::Object(with)) => {
            for (key, with) in with {
                merge(value.entry(key).or_insert(Value::Null), with);
            }
        }
        (value, with) => *value = with.clone(),
    }
}
