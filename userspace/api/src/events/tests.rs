use super::*;
use essaim_objects::{Node, NodeId, NodeSpec, Service, ServiceId};
use essaim_store::Event;
use serde_json::json;
use std::sync::Arc;

fn service(replicas: u64, image: &str) -> Service {
    let spec = json!({
        "Name": "web", "Labels": {"a": "1"}, "Mode": {"Replicated": {"Replicas": replicas}},
        "TaskTemplate": {"ContainerSpec": {"Image": image}},
    });
    let mut service = Service::new(
        ServiceId::from_bits(7),
        Arc::new(serde_json::from_value(spec).unwrap()),
    );
    service.updated_at = Timestamp::new(60, 5).unwrap();
    service
}

fn told(event: &Event) -> Told {
    Told::of(event, Timestamp::new(90, 0).unwrap()).unwrap()
}

#[test]
fn an_update_tells_what_is_different() {
    let event = Event::Updated {
        old: service(1, "a").into(),
        new: service(2, "b").into(),
    };
    let id = ServiceId::from_bits(7);
    let expected = json!({
        "Type": "service", "Action": "update",
        "Actor": {"ID": id, "Attributes": {
            "name": "web", "replicas.old": "1", "replicas.new": "2", "image.old": "a", "image.new": "b",
        }},
        "scope": "swarm", "time": 60, "timeNano": 60_000_000_005_u64,
    });
    assert_eq!(told(&event).shown(), expected);
}

#[test]
fn a_removal_is_of_now() {
    let shown = told(&Event::Removed(service(1, "a").into())).shown();
    assert_eq!((&shown["Action"], &shown["time"]), (&json!("remove"), &json!(90)));
}

#[test]
fn a_node_tells_how_it_changed() {
    let node = |text| {
        let spec: NodeSpec = serde_json::from_value(text).unwrap();
        let mut node = Node::new(NodeId::from_bits(1), spec);
        node.description = serde_json::from_value(json!({"Hostname": "n1"})).unwrap();
        node
    };
    let event = Event::Updated {
        old: node(json!({"Role": "worker", "Availability": "active"})).into(),
        new: node(json!({"Role": "manager", "Availability": "drain"})).into(),
    };
    let expected = json!({
        "name": "n1", "role.old": "worker", "role.new": "manager", "availability.old": "active",
        "availability.new": "drain",
    });
    assert_eq!(told(&event).shown()["Actor"]["Attributes"], expected);
}

#[test]
fn filters_choose_events() {
    let told = told(&Event::Created(service(1, "a").into()));
    for (text, expected) in [
        ("{}", true),
        (r#"{"type":["service"]}"#, true),
        (r#"{"type":["node","network"]}"#, false),
        (r#"{"service":["web"]}"#, true),
        (r#"{"service":["other"]}"#, false),
        (r#"{"node":["web"]}"#, false),
        (r#"{"node":["n1"],"service":["web"]}"#, true),
        (r#"{"event":["create"]}"#, true),
        (r#"{"event":["remove"]}"#, false),
        (r#"{"scope":["local"]}"#, false),
        (r#"{"label":["a=1"]}"#, true),
        (r#"{"label":["a=2"]}"#, false),
        (r#"{"container":["web"]}"#, false),
    ] {
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("filters", text)
            .finish();
        let known = ["type", "service", "node", "event", "scope", "label", "container"];
        let filters = Filters::of(&crate::request::Query::parse(&query), &known).unwrap();
        assert_eq!(fits(&told, &filters), expected, "{text}");
    }
}
