//! What must hold for an object to come, change or go: states, references, uses, names.

use super::indexes::Uses;
use crate::{Conflict, Holding, Kind, Object, ObjectId, View};
use essaim_objects::{Network, NetworkId, Protocol};
use std::sync::Arc;

impl View {
    /// What is observed of a task never goes back.
    #[expect(clippy::unused_self, reason = "one of the checks of `put`")]
    pub(super) fn check_state(&self, old: Option<&Object>, new: &Object) -> Result<(), Conflict> {
        match (old, new) {
            (Some(Object::Task(old)), Object::Task(new)) if new.status.state < old.status.state => {
                Err(Conflict::WentBack {
                    task: new.id,
                    from: old.status.state,
                    to: new.status.state,
                })
            }
            _ => Ok(()),
        }
    }

    /// What an object newly refers to is there.
    pub(super) fn check_references(&self, old: Option<&Object>, new: &Object) -> Result<(), Conflict> {
        let object = new.id();
        let there = |to: ObjectId, is_there: bool| {
            let to = to.to_string();
            if is_there {
                Ok(())
            } else {
                Err(Conflict::Missing { object, to })
            }
        };
        match (old, new) {
            (old, Object::Service(service)) => {
                if let Some(Object::Service(old)) = old
                    && Arc::ptr_eq(&old.spec, &service.spec)
                    && old.endpoint == service.endpoint
                {
                    return Ok(());
                }
                for target in service.spec.networks() {
                    let target = target.target.as_deref().unwrap_or_default();
                    if target.parse::<NetworkId>().is_err() {
                        let to = format!("network {target:?} by name, expected its identity");
                        return Err(Conflict::Missing { object, to });
                    }
                }
                let uses = Uses::of(service);
                uses.networks
                    .iter()
                    .try_for_each(|id| there((*id).into(), self.network(*id).is_some()))?;
                uses.secrets
                    .iter()
                    .try_for_each(|id| there((*id).into(), self.secret(*id).is_some()))?;
                uses.configs
                    .iter()
                    .try_for_each(|id| there((*id).into(), self.config(*id).is_some()))
            }
            (old, Object::Task(task)) => {
                let old = match old {
                    Some(Object::Task(old)) => Some(old),
                    _ => None,
                };
                if let Some(service) = task.service_id
                    && old.is_none_or(|old| old.service_id != task.service_id)
                {
                    there(service.into(), self.service(service).is_some())?;
                }
                match task.node_id {
                    Some(node) if old.is_none_or(|old| old.node_id != task.node_id) => {
                        there(node.into(), self.node(node).is_some())
                    }
                    _ => Ok(()),
                }
            }
            (
                _,
                Object::Cluster(_)
                | Object::Node(_)
                | Object::Network(_)
                | Object::Secret(_)
                | Object::Config(_),
            ) => Ok(()),
        }
    }

    /// Nothing uses an object that goes. A service's tasks do not keep it: they are stopped once it is gone; nor do
    /// tasks keep their node.
    pub(super) fn check_unused(&self, object: &Object) -> Result<(), Conflict> {
        let by = match object {
            Object::Network(network) => {
                let service = self
                    .services_on_network(network.id)
                    .next()
                    .map(|service| service.id.into());
                let published = || self.holders.range(Holding::Port(Protocol::Tcp, 0)..).next();
                let published = || published().filter(|(held, _)| matches!(held, Holding::Port(..)));
                let service = service.or_else(|| Some(*published().filter(|_| network.is_ingress())?.1));
                service.or_else(|| self.user_of(network))
            }
            Object::Secret(it) => self
                .services_with_secret(it.id)
                .next()
                .map(|service| service.id.into()),
            Object::Config(it) => self
                .services_with_config(it.id)
                .next()
                .map(|service| service.id.into()),
            Object::Cluster(_) | Object::Node(_) | Object::Service(_) | Object::Task(_) => None,
        };
        let object = object.id();
        by.map_or(Ok(()), |by| Err(Conflict::InUse { object, by }))
    }

    /// What has an address on a network beside itself.
    pub(super) fn user_of(&self, network: &Network) -> Option<ObjectId> {
        let mut holders = self.addresses_on(network.id).map(|(_, holder)| holder);
        holders.find(|holder| *holder != network.id.into())
    }

    pub(super) fn rename(&mut self, old: Option<&Object>, new: Option<&Object>) -> Result<(), Conflict> {
        let named = |object: &Object| object.unique_name().map(|name| (object.kind(), Arc::from(name)));
        let [before, after]: [Option<(Kind, Arc<str>)>; 2] = [old.and_then(named), new.and_then(named)];
        if let Some(new) = new
            && after.as_ref().is_none_or(|(_, name)| name.is_empty())
            && matches!(
                new.kind(),
                Kind::Network | Kind::Service | Kind::Secret | Kind::Config
            )
        {
            return Err(Conflict::NoName { object: new.id() });
        }
        if before == after {
            return Ok(());
        }
        if let Some(before) = before {
            self.names.remove(&before);
        }
        if let (Some(after), Some(new)) = (after, new)
            && let Some(by) = self.names.insert(after.clone(), new.id())
        {
            return Err(Conflict::NameTaken {
                kind: after.0,
                name: after.1.to_string(),
                by,
            });
        }
        Ok(())
    }
}
