//! The next catalog out of the one before: only the services that something happened to are made anew.

use super::{assembled, attachment, catalog_of, names_of, networks, nodes, service};
use crate::attachments::is_attachment;
use essaim_model::{Catalog, Service, ServiceName};
use essaim_objects::{ServiceId, TaskId};
use essaim_store::{Event, Object, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happened since a catalog was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Something that every service may depend on, or not known what.
    everything: bool,
    /// Services that changed, or whose tasks did.
    services: BTreeSet<ServiceId>,
    /// The names that such services have or had.
    names: BTreeSet<String>,
    /// Containers that are not the cluster's.
    attachments: BTreeSet<TaskId>,
}

impl Touched {
    /// Anything may have happened.
    pub fn everything() -> Self {
        Self {
            everything: true,
            ..Self::default()
        }
    }

    /// Notes what happened.
    pub fn note(&mut self, event: &Event) {
        match event {
            Event::Created(object) | Event::Removed(object) => self.object(object),
            Event::Updated { old, new } => {
                self.object(old);
                self.object(new);
            }
        }
    }

    fn object(&mut self, object: &Object) {
        match object {
            Object::Cluster(_) | Object::Network(_) => self.everything = true,
            Object::Service(service) => {
                self.services.insert(service.id);
                self.names.insert(service.spec.name().to_owned());
            }
            Object::Task(task) if is_attachment(task) => drop(self.attachments.insert(task.id)),
            Object::Task(task) => self.services.extend(task.service_id),
            // Nodes are looked at in any case.
            Object::Node(_) | Object::Secret(_) | Object::Config(_) => {}
        }
    }
}

/// The catalog of `view`, made of the one before where there is one: a [`CatalogOf`](crate::CatalogOf).
pub fn catalog_since(view: &View, before: Option<(&Catalog, &Touched)>) -> Arc<Catalog> {
    Arc::new(match before {
        Some((before, touched)) => catalog_after(before, touched, view),
        None => catalog_of(view),
    })
}

/// As [`catalog_of`] of `view`, made of what `before` was and `touched` since.
pub fn catalog_after(before: &Catalog, touched: &Touched, view: &View) -> Catalog {
    if touched.everything {
        return catalog_of(view);
    }
    let networks = networks(view);
    let nodes = nodes(view);
    let known = names_of(&nodes);
    if known != names_of(&before.nodes) {
        return catalog_of(view);
    }
    let gone = touched
        .names
        .iter()
        .filter_map(|name| ServiceName::new(name).ok());
    let mut changed: BTreeMap<ServiceName, Option<Service>> = gone.map(|name| (name, None)).collect();
    for id in &touched.attachments {
        let made = view
            .task(*id)
            .and_then(|task| attachment(view, task, &networks, &known));
        if let Ok(name) = ServiceName::new(id.as_str()) {
            changed.insert(name, made);
        }
    }
    for id in &touched.services {
        let Some(found) = view.service(*id) else { continue };
        if let Some(made) = service(view, found, &networks, &known) {
            changed.insert(made.name.clone(), Some(made));
        }
    }
    let unchanged = before
        .services
        .iter()
        .filter(|service| !changed.contains_key(&service.name));
    let mut services: Vec<Service> = unchanged.cloned().collect();
    services.extend(changed.into_values().flatten());
    assembled(view, networks, services, nodes)
}
