//! Looking objects up as Docker does: by identity, else by name, else by the beginning of the identity.

use crate::EngineError;
use essaim_objects::{Config, Network, Node, Secret, Service, Task};
use essaim_store::{Kind, View};
use std::sync::Arc;

/// An object that clients name.
pub(crate) trait Named: Sized + 'static {
    /// Its kind.
    const KIND: Kind;

    /// Its identity.
    fn id(&self) -> &str;

    /// Its name.
    fn name(&self, view: &View) -> String;

    /// Whether it goes by the name.
    fn is_named(&self, view: &View, name: &str) -> bool {
        self.name(view) == name
    }

    /// The one of an identity.
    fn by_id(view: &View, id: &str) -> Option<Arc<Self>>;

    /// All of them.
    fn all(view: &View) -> impl Iterator<Item = &Arc<Self>>;
}

/// Looks an object up.
///
/// # Errors
/// There is none, or more than one.
pub(crate) fn find<T: Named>(view: &View, text: &str) -> Result<Arc<T>, EngineError> {
    let not_found = || EngineError::not_found(format_args!("{} {text} not found", T::KIND));
    if text.is_empty() {
        return Err(not_found());
    }
    if let Some(found) = T::by_id(view, text) {
        return Ok(found);
    }
    let one_of = |mut found: Vec<&Arc<T>>| match (found.pop(), found.len()) {
        (None, _) => Ok(None),
        (Some(one), 0) => Ok(Some(one.clone())),
        (Some(_), others) => Err(EngineError::invalid(format_args!(
            "{} {text} is ambiguous ({} matches found)",
            T::KIND,
            others + 1
        ))),
    };
    if let Some(found) = one_of(T::all(view).filter(|it| it.is_named(view, text)).collect())? {
        return Ok(found);
    }
    let found = one_of(T::all(view).filter(|it| it.id().starts_with(text)).collect())?;
    found.ok_or_else(not_found)
}

macro_rules! named {
    ($($kind:ident $one:ident $all:ident: $name:expr;)*) => {
        $(impl Named for $kind {
            const KIND: Kind = Kind::$kind;

            fn id(&self) -> &str {
                self.id.as_str()
            }

            fn name(&self, view: &View) -> String {
                let name: fn(&$kind, &View) -> String = $name;
                name(self, view)
            }

            fn by_id(view: &View, id: &str) -> Option<Arc<Self>> {
                view.$one(id.parse().ok()?).cloned()
            }

            fn all(view: &View) -> impl Iterator<Item = &Arc<Self>> {
                view.$all()
            }
        })*
    };
}

named! {
    Service service services: |service, _| service.spec.name().to_owned();
    Task task tasks: task_name;
    Network network networks: |network, _| network.name().to_owned();
    Secret secret secrets: |secret, _| secret.spec.name.clone().unwrap_or_default();
    Config config configs: |config, _| config.spec.name.clone().unwrap_or_default();
}

impl Named for Node {
    const KIND: Kind = Kind::Node;

    fn id(&self) -> &str {
        self.id.as_str()
    }

    fn name(&self, _view: &View) -> String {
        hostname(self).to_owned()
    }

    fn is_named(&self, _view: &View, name: &str) -> bool {
        let given = self.spec.name.as_deref().unwrap_or_default();
        hostname(self).eq_ignore_ascii_case(name) || given == name
    }

    fn by_id(view: &View, id: &str) -> Option<Arc<Self>> {
        view.node(id.parse().ok()?).cloned()
    }

    fn all(view: &View) -> impl Iterator<Item = &Arc<Self>> {
        view.nodes()
    }
}

/// A node's host name, as it says it.
pub(crate) fn hostname(node: &Node) -> &str {
    let description = node.description.as_ref();
    description
        .and_then(|description| description.hostname.as_deref())
        .unwrap_or_default()
}

/// `SERVICE.SLOT.TASK`, or `SERVICE.NODE.TASK` where every node has one.
pub(crate) fn task_name(task: &Task, view: &View) -> String {
    let service = task.service_id.and_then(|service| view.service(service));
    let service = service.map(|service| service.spec.name());
    match (service, task.slot, task.node_id) {
        (None, _, _) => task.name.clone().unwrap_or_else(|| task.id.to_string()),
        (Some(service), Some(slot), _) => format!("{service}.{slot}.{}", task.id),
        (Some(service), None, Some(node)) => format!("{service}.{node}.{}", task.id),
        (Some(service), None, None) => format!("{service}.{}", task.id),
    }
}
