//! Answers of both, this node and its engine, as one.

use essaim_protocol::{DRIVER, NETWORK_OPTION};
use serde_json::{Value, json};

/// Members of `/info` that are this node's, whatever its engine says.
const OF_THE_NODE: [&str; 4] = ["Swarm", "Name", "ServerVersion", "GenericResources"];

/// `/info`: the engine's containers, images and drivers; the node's name and its part in the cluster.
pub(crate) fn info(mut own: Value, engine: Value) -> Value {
    let (Some(own_members), Value::Object(engine)) = (own.as_object_mut(), engine) else {
        return own;
    };
    for (name, value) in engine {
        if name == "Labels" {
            let labels = own_members.entry(name).or_insert_with(|| json!([]));
            *labels = union(labels.take(), value);
        } else if !OF_THE_NODE.contains(&name.as_str()) {
            own_members.insert(name, value);
        }
    }
    own
}

/// Two lists as one, what is in both once.
fn union(one: Value, other: Value) -> Value {
    let items = |value| match value {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let mut all = items(one);
    for item in items(other) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    Value::Array(all)
}

/// `/version`: this software's, with the engine and its parts among the components.
pub(crate) fn version(mut own: Value, mut engine: Value) -> Value {
    let components = own.get_mut("Components").and_then(Value::as_array_mut);
    let parts = engine.get_mut("Components").map(Value::take);
    if let (Some(components), Some(Value::Array(parts))) = (components, parts) {
        components.extend(parts.into_iter().map(|mut part| {
            if part.get("Name").and_then(Value::as_str) == Some("Engine") {
                part["Name"] = "Docker Engine".into();
            }
            part
        }));
    }
    own
}

/// `/networks`: the cluster's, then the node's own.
pub(crate) fn networks(own: Vec<Value>, engine: Value) -> Vec<Value> {
    let mut all = own;
    let Value::Array(engine) = engine else {
        return all;
    };
    for network in engine {
        let shown = of_the_cluster(network);
        // One that stands for a network of the cluster's is listed as that already, where this node is a manager.
        let is_listed = shown["Id"].is_string() && all.iter().any(|own| own["Id"] == shown["Id"]);
        if !is_listed {
            all.push(shown);
        }
    }
    all
}

/// The engine's network; where it stands for one of the cluster's, as that.
fn of_the_cluster(mut network: Value) -> Value {
    if network["Driver"] != DRIVER {
        return network;
    }
    if let Some(of) = network["Options"]
        .get(NETWORK_OPTION)
        .filter(|of| of.is_string())
        .cloned()
    {
        network["Id"] = of;
        network["Driver"] = "overlay".into();
        network["Scope"] = "swarm".into();
        network["Attachable"] = true.into();
    }
    network
}

/// `/networks/prune`: the names of those that are gone.
pub(crate) fn pruned(own: Vec<String>, engine: &Value) -> Vec<String> {
    let engine = engine.get("NetworksDeleted").and_then(Value::as_array);
    let engine = engine.into_iter().flatten();
    let engine = engine.filter_map(|name| Some(name.as_str()?.to_owned()));
    own.into_iter().chain(engine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_the_engines_but_for_what_is_the_nodes() {
        let own = json!({
            "Name": "n1", "ServerVersion": "0.1.0", "Swarm": {"NodeID": "a"}, "Containers": 0, "Driver": "essaim",
            "Labels": ["disk=ssd"], "GenericResources": null, "NCPU": 2,
        });
        let engine = json!({
            "Name": "box", "ServerVersion": "20.10.24", "Swarm": {"LocalNodeState": "inactive"}, "Containers": 3,
            "Driver": "overlay2", "Labels": ["disk=ssd", "zone=b"], "InitBinary": "docker-init", "NCPU": 2,
        });
        let expected = json!({
            "Name": "n1", "ServerVersion": "0.1.0", "Swarm": {"NodeID": "a"}, "Containers": 3, "Driver": "overlay2",
            "Labels": ["disk=ssd", "zone=b"], "GenericResources": null, "InitBinary": "docker-init", "NCPU": 2,
        });
        assert_eq!(info(own.clone(), engine), expected);
        assert_eq!(info(own.clone(), json!("nonsense")), own);
    }

    #[test]
    fn version_names_the_engine_and_its_parts() {
        let own = json!({"Version": "0.1.0", "Components": [{"Name": "Engine", "Version": "0.1.0"}]});
        let engine = json!({"Version": "20.10", "Components": [
            {"Name": "Engine", "Version": "20.10"}, {"Name": "runc", "Version": "1.1"},
        ]});
        let expected = json!({"Version": "0.1.0", "Components": [
            {"Name": "Engine", "Version": "0.1.0"}, {"Name": "Docker Engine", "Version": "20.10"},
            {"Name": "runc", "Version": "1.1"},
        ]});
        assert_eq!(version(own.clone(), engine), expected);
        assert_eq!(version(own.clone(), json!({"Version": "1.0"})), own);
    }

    #[test]
    fn what_stands_for_a_network_of_the_clusters_is_listed_as_that_and_once() {
        let of = |id: &str| json!({"essaim.network": id});
        let shadow =
            json!({"Name": "app", "Id": "f00", "Driver": "essaim", "Scope": "local", "Options": of("n1")});
        let own = json!({"Name": "app", "Id": "n1", "Driver": "overlay", "Scope": "swarm"});
        assert_eq!(networks(vec![own.clone()], json!([shadow])), [own]);
        let on_a_worker = networks(Vec::new(), json!([shadow]));
        let [shown] = &on_a_worker[..] else {
            panic!("{on_a_worker:?}")
        };
        for (member, expected) in [
            ("Id", "n1"),
            ("Driver", "overlay"),
            ("Scope", "swarm"),
            ("Name", "app"),
        ] {
            assert_eq!(shown[member], expected, "{member}");
        }
        let other = json!({"Name": "app", "Id": "f01", "Driver": "bridge", "Options": of("n1")});
        assert_eq!(networks(Vec::new(), json!([other])), [other]);
    }

    #[test]
    fn networks_of_both_are_listed_and_told_when_they_go() {
        let (ours, theirs) = (json!({"Name": "front"}), json!({"Name": "bridge"}));
        assert_eq!(
            networks(vec![ours.clone()], json!([theirs])),
            [ours.clone(), theirs]
        );
        assert_eq!(networks(vec![ours.clone()], json!({"message": "no"})), [ours]);
        let own = vec!["front".to_owned()];
        assert_eq!(
            pruned(own.clone(), &json!({"NetworksDeleted": ["own"]})),
            ["front", "own"]
        );
        assert_eq!(pruned(own, &json!({"NetworksDeleted": null})), ["front"]);
    }
}
