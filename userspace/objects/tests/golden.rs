//! What real clients posted and what Docker's own server answered reads into the types and is written unchanged.
//!
//! `testdata` holds recordings of the docker CLI 28.2 and 29.7, docker-py, aiodocker and bollard against dockerd 20.10
//! and a development version of 2026, one of each shape, with keys, tokens and certificates cut out.
#![allow(clippy::unwrap_used, reason = "tests")]

use essaim_objects::{
    Cluster, ClusterSpec, Config, ConfigSpec, InitRequest, JoinRequest, Network, NetworkCreate,
    NetworkResource, NetworkSpec, Node, NodeSpec, Secret, SecretSpec, Service, ServiceSpec, Task,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Without what stands for absence: `null`.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let present = members.iter().filter(|(_, member)| !member.is_null());
            present
                .map(|(name, member)| (name.clone(), without_nulls(member)))
                .collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn unchanged<T: Serialize + DeserializeOwned>(recordings: &str, at_least: usize) -> Vec<T> {
    let recorded: Vec<Value> = serde_json::from_str(recordings).unwrap();
    assert!(recorded.len() >= at_least, "{} recordings", recorded.len());
    let read_back = recorded.iter().map(|recorded| {
        let read: T = serde_json::from_value(recorded.clone()).unwrap();
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written, without_nulls(recorded));
        read
    });
    read_back.collect()
}

macro_rules! golden {
    ($name:ident, $type:ty, $file:literal, $at_least:literal) => {
        #[test]
        fn $name() {
            unchanged::<$type>(
                include_str!(concat!("../testdata/", $file, ".json")),
                $at_least,
            );
        }
    };
}

golden!(services, Service, "services", 10);
golden!(nodes, Node, "nodes", 2);
golden!(node_specs, NodeSpec, "node-specs", 2);
golden!(clusters, Cluster, "clusters", 2);
golden!(cluster_specs, ClusterSpec, "cluster-specs", 2);
golden!(init_requests, InitRequest, "init-requests", 2);
golden!(join_requests, JoinRequest, "join-requests", 1);
golden!(network_creates, NetworkCreate, "network-creates", 2);
golden!(secrets, Secret, "secrets", 1);
golden!(secret_specs, SecretSpec, "secret-specs", 1);
golden!(configs, Config, "configs", 1);
golden!(config_specs, ConfigSpec, "config-specs", 1);

/// With every member's name in lower case, for clients that do not write it as the API does.
fn folded(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let folded = members
                .iter()
                .map(|(name, member)| (name.to_ascii_lowercase(), folded(member)));
            folded.collect()
        }
        Value::Array(items) => items.iter().map(folded).collect(),
        other => other.clone(),
    }
}

#[test]
fn service_specs_of_every_client() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("../testdata/service-specs.json")).unwrap();
    assert!(recorded.len() >= 15);
    for recorded in recorded {
        let read: ServiceSpec = serde_json::from_value(recorded.clone()).unwrap();
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(folded(&written), {
            let mut expected = folded(&without_nulls(&recorded));
            // The one member that is always there.
            expected
                .as_object_mut()
                .unwrap()
                .entry("tasktemplate")
                .or_insert_with(|| Value::Object(serde_json::Map::new()));
            expected
        });
        assert!(!has_extra(&written, &read), "{written}");
    }
}

/// Whether a member of the container was not understood; all that real clients send is.
fn has_extra(written: &Value, read: &ServiceSpec) -> bool {
    let container = read.task_template.container.as_ref().unwrap();
    assert!(written.get("TaskTemplate").is_some());
    !read.extra.is_empty()
        || !read.task_template.extra.is_empty()
        || !container.extra.is_empty()
        || read.mode.as_ref().is_some_and(|mode| !mode.extra.is_empty())
}

#[test]
fn lower_case_members_of_docker_py_are_understood() {
    let spec: ServiceSpec = serde_json::from_str(
        r#"{"name":"a","MODE":{"global":{}},"tasktemplate":{"containerspec":{"IMAGE":"x"}}}"#,
    )
    .unwrap();
    assert!(spec.mode().is_global());
    assert_eq!(
        spec.task_template.container.as_ref().unwrap().image.as_deref(),
        Some("x")
    );
    assert_eq!(
        serde_json::to_string(&spec).unwrap(),
        r#"{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"x"}},"Mode":{"Global":{}}}"#
    );
}

#[test]
fn unknown_members_come_back_at_every_depth() {
    let text = r#"{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"x","Mounts":[{"Type":"bind","Novel":[1,{"a":null}]}],"New":1.5},"Later":"x"},"EndpointSpec":{"Ports":[{"TargetPort":80,"HostIP":"10.0.0.1"}]},"Z":null}"#;
    let spec: ServiceSpec = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&spec).unwrap(), text);
}

#[test]
fn tasks_are_shown_with_their_networks() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("../testdata/tasks.json")).unwrap();
    assert!(recorded.len() >= 10);
    for recorded in recorded {
        let task: Task = serde_json::from_value(recorded.clone()).unwrap();
        let recorded = without_nulls(&recorded);
        let attachments = recorded.get("NetworksAttachments").and_then(Value::as_array);
        let networks: Vec<Network> = attachments
            .into_iter()
            .flatten()
            .map(|attachment| serde_json::from_value(attachment["Network"].clone()).unwrap())
            .collect();
        let shown = task.to_api(|id| {
            networks
                .iter()
                .find(|network| network.id == id)
                .cloned()
                .map(Into::into)
        });
        assert_eq!(shown.unwrap(), recorded);
        // A task kept and read back is the same.
        let kept: Task = serde_json::from_str(&serde_json::to_string(&task).unwrap()).unwrap();
        assert_eq!(kept, task);
    }
}

#[test]
fn networks_are_shown_in_the_network_routes_words() {
    let networks: Vec<Network> = unchanged(include_str!("../testdata/swarm-networks.json"), 3);
    let shown: Vec<Value> = serde_json::from_str(include_str!("../testdata/networks.json")).unwrap();
    let mut compared = 0;
    for network in networks {
        assert!(network.vni().is_some_and(|vni| vni >= 4096), "{network:?}");
        assert!(network.subnets().all(|subnet| subnet.gateway.is_some()));
        let ours = serde_json::to_value(NetworkResource::from(&network)).unwrap();
        for theirs in shown.iter().filter(|shown| shown["Id"] == ours["Id"]) {
            for member in [
                "Name",
                "Scope",
                "Driver",
                "Internal",
                "Attachable",
                "Ingress",
                "ConfigFrom",
                "ConfigOnly",
            ] {
                assert_eq!(ours[member], theirs[member], "{member}");
            }
            assert_eq!(ours["Options"], theirs["Options"]);
            assert_eq!(ours["IPAM"]["Config"], theirs["IPAM"]["Config"]);
            compared += 1;
        }
    }
    assert!(compared >= 1);
}

#[test]
fn a_created_network_is_what_was_asked() {
    for create in unchanged::<NetworkCreate>(include_str!("../testdata/network-creates.json"), 2) {
        let spec = NetworkSpec::from(create.clone());
        assert_eq!((&spec.name, &spec.labels), (&create.name, &create.labels));
        let asked = create.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let got: Vec<_> = spec.configs().iter().map(|config| &config.subnet).collect();
        assert_eq!(got, asked.iter().map(|pool| &pool.subnet).collect::<Vec<_>>());
        assert_eq!(spec.attachable, create.attachable);
    }
}
