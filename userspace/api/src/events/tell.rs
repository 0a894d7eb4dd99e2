//! What Docker tells of a change.

use crate::find::hostname;
use essaim_objects::{Labels, Mode, Node, Service, Timestamp};
use essaim_store::{Event, Object};
use serde_json::{Map, Value, json};

/// An event as it is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) kind: &'static str,
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) labels: Option<Labels>,
    attributes: Map<String, Value>,
    time: Timestamp,
}

impl Told {
    /// What is told of a change; nothing of the cluster and of tasks, as Docker tells nothing of them. `now` is when
    /// something was removed.
    pub(super) fn of(event: &Event, now: Timestamp) -> Option<Self> {
        let (action, old, object) = match event {
            Event::Created(object) => ("create", None, object),
            Event::Updated { old, new } => ("update", Some(old), new),
            Event::Removed(object) => ("remove", None, object),
        };
        let (name, labels, updated_at) = match object {
            Object::Cluster(_) | Object::Task(_) => return None,
            Object::Node(it) => (Some(hostname(it)), &it.spec.labels, it.updated_at),
            Object::Service(it) => (it.spec.name.as_deref(), &it.spec.labels, it.updated_at),
            Object::Network(it) => (it.spec.name.as_deref(), &it.spec.labels, it.updated_at),
            Object::Secret(it) => (it.spec.name.as_deref(), &it.spec.labels, it.updated_at),
            Object::Config(it) => (it.spec.name.as_deref(), &it.spec.labels, it.updated_at),
        };
        let name = name.unwrap_or_default().to_owned();
        let mut attributes = Attributes(Map::new());
        attributes.0.insert("name".to_owned(), name.clone().into());
        match (old, object) {
            (Some(Object::Service(old)), Object::Service(new)) => attributes.of_service(old, new),
            (Some(Object::Node(old)), Object::Node(new)) => attributes.of_node(old, new),
            _ => {}
        }
        let id = object.id().to_string();
        let (_, id) = id.rsplit_once(' ').unwrap_or(("", &id));
        Some(Self {
            kind: object.kind().as_str(),
            action,
            id: id.to_owned(),
            name,
            labels: labels.clone(),
            attributes: attributes.0,
            time: if action == "remove" { now } else { updated_at },
        })
    }

    /// As the API writes it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "Type": self.kind,
            "Action": self.action,
            "Actor": { "ID": self.id, "Attributes": self.attributes },
            "scope": "swarm",
            "time": self.time.as_second(),
            "timeNano": i64::try_from(self.time.as_nanosecond()).unwrap_or(i64::MAX),
        })
    }
}

struct Attributes(Map<String, Value>);

impl Attributes {
    fn changed(&mut self, name: &str, old: &str, new: &str) {
        if old != new {
            self.0.insert(format!("{name}.old"), old.into());
            self.0.insert(format!("{name}.new"), new.into());
        }
    }

    fn of_service(&mut self, old: &Service, new: &Service) {
        let image = |service: &Service| {
            let container = service.spec.task_template.container.as_ref();
            container
                .and_then(|container| container.image.clone())
                .unwrap_or_default()
        };
        let replicas = |service: &Service| match service.spec.mode() {
            Mode::Replicated { replicas } => replicas.to_string(),
            Mode::Global | Mode::ReplicatedJob { .. } | Mode::GlobalJob => String::new(),
        };
        let state = |service: &Service| {
            let status = service.update_status.as_ref();
            let state = status.and_then(|status| status.state);
            state.map_or(String::new(), |state| state.to_string())
        };
        self.changed("image", &image(old), &image(new));
        self.changed("replicas", &replicas(old), &replicas(new));
        self.changed("updatestate", &state(old), &state(new));
    }

    fn of_node(&mut self, old: &Node, new: &Node) {
        let leader = |node: &Node| {
            let status = node.manager_status.as_ref();
            (status.and_then(|status| status.leader) == Some(true)).to_string()
        };
        let reachability = |node: &Node| {
            let status = node.manager_status.as_ref();
            status.map_or(String::new(), |status| status.reachability.to_string())
        };
        self.changed("state", old.status.state.as_str(), new.status.state.as_str());
        self.changed(
            "availability",
            old.spec.availability().as_str(),
            new.spec.availability().as_str(),
        );
        self.changed("role", old.spec.role().as_str(), new.spec.role().as_str());
        self.changed("leader", &leader(old), &leader(new));
        self.changed("reachability", &reachability(old), &reachability(new));
    }
}
