//! Applying transactions: the same on every manager, whatever its version's policies are.

mod checks;
mod hold;
mod indexes;

use crate::{Change, Conflict, MAX_CHANGES, Object, ObjectId, Transaction, View};
use essaim_objects::{TaskSpec, Timestamp, Version};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a transaction did to an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It was made.
    Created(Object),
    /// It changed.
    Updated {
        /// What it was.
        old: Object,
        /// What it is.
        new: Object,
    },
    /// It is gone.
    Removed(Object),
}

impl Event {
    /// The object's identity.
    pub fn id(&self) -> ObjectId {
        self.object().id()
    }

    /// The object as it is now, or was last.
    pub const fn object(&self) -> &Object {
        match self {
            Self::Created(object) | Self::Removed(object) | Self::Updated { new: object, .. } => object,
        }
    }
}

/// The managers' state machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    view: View,
}

impl From<View> for Store {
    fn from(view: View) -> Self {
        Self { view }
    }
}

impl Store {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it holds now.
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Applies what the log has at an index; `time` is the leader's when it wrote it there.
    ///
    /// # Errors
    /// The transaction does not go with what is there; nothing of it is done. All managers find the same.
    pub fn apply(
        &mut self,
        index: u64,
        transaction: &Transaction,
        time: Timestamp,
    ) -> Result<Vec<Event>, Conflict> {
        let changes = &transaction.changes;
        if index <= self.view.index {
            let last = self.view.index;
            return Err(Conflict::Index { found: index, last });
        }
        if changes.len() > MAX_CHANGES {
            return Err(Conflict::TooMany { found: changes.len() });
        }
        let mut touched = BTreeSet::new();
        if let Some(twice) = changes.iter().find(|change| !touched.insert(change.id())) {
            return Err(Conflict::Twice { object: twice.id() });
        }
        let mut next = self.view.clone();
        next.index = index;
        let stamp = Stamp {
            version: Version { index },
            time,
        };
        let events = changes.iter().map(|change| next.change(change, stamp));
        let events = events.collect::<Result<_, _>>()?;
        self.view = next;
        Ok(events)
    }
}

/// What a change leaves on its object.
#[derive(Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) version: Version,
    pub(crate) time: Timestamp,
}

impl View {
    /// Makes one change.
    pub(crate) fn change(
        &mut self,
        change: &Change,
        Stamp { version, time }: Stamp,
    ) -> Result<Event, Conflict> {
        let id = change.id();
        let old = self.object(id);
        match (change, old) {
            (Change::Create(_), Some(_)) => Err(Conflict::Exists { object: id }),
            (Change::Create(object), None) => {
                let new = object.clone().stamped(version, time, time);
                Ok(Event::Created(self.put(None, new)?))
            }
            (Change::Update(..) | Change::Remove(..), None) => Err(Conflict::NotFound { object: id }),
            (Change::Update(_, read) | Change::Remove(_, read), Some(old)) if old.version() != *read => {
                Err(Conflict::OutOfSequence {
                    object: id,
                    found: old.version(),
                    expected: *read,
                })
            }
            (Change::Update(object, _), Some(old)) => {
                let new = object.clone().stamped(version, old.created_at(), time);
                let new = self.put(Some(&old), new)?;
                Ok(Event::Updated { old, new })
            }
            (Change::Remove(..), Some(old)) => {
                self.take(&old)?;
                Ok(Event::Removed(old))
            }
        }
    }

    /// Puts an object in its place, after all checks.
    fn put(&mut self, old: Option<&Object>, new: Object) -> Result<Object, Conflict> {
        let new = self.shared(old, new);
        self.check_state(old, &new)?;
        self.check_references(old, &new)?;
        self.rename(old, Some(&new))?;
        self.hold(old, Some(&new))?;
        self.insert(&new);
        Ok(new)
    }

    /// Puts an object of a snapshot in its place. A task may have outlived its service or node, so those references are
    /// not checked.
    pub(crate) fn put_back(&mut self, object: Object) -> Result<Object, Conflict> {
        let object = self.shared(None, object);
        if !matches!(object, Object::Task(_)) {
            self.check_references(None, &object)?;
        }
        self.rename(None, Some(&object))?;
        self.hold(None, Some(&object))?;
        self.insert(&object);
        Ok(object)
    }

    /// Takes an object out, after all checks.
    fn take(&mut self, old: &Object) -> Result<(), Conflict> {
        self.check_unused(old)?;
        self.rename(Some(old), None)?;
        self.hold(Some(old), None)?;
        self.index_out(old);
        match old.id() {
            ObjectId::Cluster(id) => drop(self.clusters.remove(&id)),
            ObjectId::Node(id) => drop(self.nodes.remove(&id)),
            ObjectId::Network(id) => {
                self.networks.remove(&id);
                self.cursors.remove(&id);
            }
            ObjectId::Service(id) => drop(self.services.remove(&id)),
            ObjectId::Task(id) => drop(self.tasks.remove(&id)),
            ObjectId::Secret(id) => drop(self.secrets.remove(&id)),
            ObjectId::Config(id) => drop(self.configs.remove(&id)),
        }
        Ok(())
    }

    /// Puts an object in its table and the indexes.
    pub(crate) fn insert(&mut self, new: &Object) {
        if let Some(old) = self.object(new.id()) {
            self.index_out(&old);
        }
        self.index_in(new);
        match new.clone() {
            Object::Cluster(it) => drop(self.clusters.insert(it.id, it)),
            Object::Node(it) => drop(self.nodes.insert(it.id, it)),
            Object::Network(it) => drop(self.networks.insert(it.id, it)),
            Object::Service(it) => drop(self.services.insert(it.id, it)),
            Object::Task(it) => drop(self.tasks.insert(it.id, it)),
            Object::Secret(it) => drop(self.secrets.insert(it.id, it)),
            Object::Config(it) => drop(self.configs.insert(it.id, it)),
        }
    }

    /// The object with its task spec shared with its service's, or with what it was before: a hundred thousand tasks
    /// hold as many specs as there are services.
    fn shared(&self, old: Option<&Object>, mut new: Object) -> Object {
        match (&mut new, old) {
            (Object::Task(task), old) => {
                let before = match old {
                    Some(Object::Task(old)) => Some(&old.spec),
                    _ => None,
                };
                let service = task.service_id.and_then(|id| self.service(id));
                let of_service = service.map(|service| &service.spec.task_template);
                let known = [before, of_service];
                let is_same = |spec: &&Arc<TaskSpec>| Arc::ptr_eq(spec, &task.spec) || **spec == task.spec;
                let same = known.into_iter().flatten().find(is_same);
                if let Some(same) = same.filter(|same| !Arc::ptr_eq(same, &task.spec)) {
                    let same = same.clone();
                    Arc::make_mut(task).spec = same;
                }
            }
            (Object::Service(service), Some(Object::Service(old))) => {
                if service.spec == old.spec && !Arc::ptr_eq(&service.spec, &old.spec) {
                    Arc::make_mut(service).spec = old.spec.clone();
                }
                let before = &old.spec.task_template;
                if service.spec.task_template == *before && !Arc::ptr_eq(&service.spec.task_template, before)
                {
                    let spec = &mut Arc::make_mut(service).spec;
                    Arc::make_mut(spec).task_template = before.clone();
                }
                let service = Arc::make_mut(service);
                if service.previous_spec.as_ref() == Some(&old.spec) {
                    service.previous_spec = Some(old.spec.clone());
                }
            }
            _ => {}
        }
        new
    }
}

#[cfg(test)]
mod tests;
