//! What the maps hold, as far as this process knows: pure.

#[cfg(test)]
mod tests;

use crate::DatapathError;
use crate::changes::Changes;
use crate::front::Front;
use crate::image::{self, Allocators, Capacity, Environment, Image, Lists};
use crate::indices::{IN_FLIGHT, Indices};
use crate::local_addresses;
use crate::regions::Regions;
use essaim_abi::maps::ENDPOINT_BY_ADDR;
use essaim_abi::{Config, FrontEndpoint, FrontLocal, LocalAddressBucket};
use essaim_model::{AttachmentKey, DesiredState, NodeFacts, ServiceName, ServicePlan};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the slot of a backend that is gone stays its own, so that late packets of its flows are answered.
const BACKEND_QUARANTINE: Duration = Duration::from_mins(1);

/// What the maps were found to hold, or were made to.
#[derive(Clone, Debug)]
pub(crate) struct State {
    allocators: Allocators,
    /// What was found at the start, until the first plan says whose it is.
    found: Option<Image>,
    applied: Option<Applied>,
    services: BTreeMap<ServiceName, (Arc<ServicePlan>, Image)>,
    endpoints: usize,
    front_locals: Front<FrontLocal>,
    front_endpoints: Front<FrontEndpoint>,
}

#[derive(Clone, Debug)]
struct Applied {
    facts: NodeFacts,
    environment: Environment,
    image: Image,
}

/// The arrays as they are, which no image repeats.
pub(crate) struct View<'a> {
    /// Reads a slot of the tables.
    pub(crate) slot: &'a dyn Fn(u32) -> u32,
    /// Reads a place of [`essaim_abi::maps::FRONT_BY_IFINDEX`].
    pub(crate) front_local: &'a dyn Fn(u32) -> FrontLocal,
    /// Reads a place of [`essaim_abi::maps::FRONT_BY_ADDR`].
    pub(crate) front_endpoint: &'a dyn Fn(u32) -> FrontEndpoint,
    pub(crate) config: Config,
    pub(crate) local_addresses: Vec<LocalAddressBucket>,
}

impl State {
    /// The state of maps that hold `found`.
    pub(crate) fn restore(found: Image, capacity: Capacity) -> Self {
        let taken = found
            .services
            .values()
            .flat_map(|service| [service.maglev, service.active]);
        let mut allocators = Allocators {
            services: Indices::new(capacity.services, IN_FLIGHT),
            backends: Indices::new(capacity.backends, BACKEND_QUARANTINE),
            vteps: Indices::new(capacity.vteps, IN_FLIGHT),
            slots: Indices::new(capacity.slots, IN_FLIGHT),
            regions: Regions::new(
                capacity.tables,
                taken.map(|table| (table.offset(), table.footprint())),
            ),
            capacity,
        };
        for (index, service) in &found.services {
            allocators.services.restore(*index, Some(service.id), 1);
        }
        for (index, backend) in &found.backends {
            allocators
                .backends
                .restore(*index, Some(backend.id), backend.generation);
        }
        for (index, vtep) in &found.vteps {
            allocators.vteps.restore(*index, Some(vtep.addr), 1);
        }
        for (ifindex, local) in &found.locals {
            allocators.slots.restore(local.slot, Some(*ifindex), 1);
        }
        let endpoints = found.endpoints.len();
        let (front_locals, front_endpoints) = (Front::of(&found.locals), Front::of(&found.endpoints));
        Self {
            front_locals,
            front_endpoints,
            allocators,
            found: Some(found),
            applied: None,
            services: BTreeMap::new(),
            endpoints,
        }
    }

    /// What must be stored to reach the plan. The state is as if it were stored already; where it is not, or on an
    /// error, the state must be restored anew.
    ///
    /// # Errors
    /// Where a map has no room left, or the plan contradicts itself; nothing has been stored then.
    pub(crate) fn plan(
        &mut self,
        desired: &DesiredState,
        facts: &NodeFacts,
        hz: u32,
        view: &View<'_>,
        now: Instant,
    ) -> Result<Changes, DatapathError> {
        let found = self.found.take();
        let mut image = Image::default();
        let environment =
            Environment::new(&desired.cluster, facts, hz, &mut self.allocators, &mut image, now)?;
        image::cluster(&desired.cluster, facts, &environment, &mut image)?;

        let all = self
            .applied
            .as_ref()
            .is_none_or(|applied| applied.environment != environment);
        let moved = self
            .applied
            .as_ref()
            .map(|applied| moved(&applied.facts, facts))
            .unwrap_or_default();
        let mut lists = Lists {
            read: view.slot,
            writes: Vec::new(),
            now,
        };
        let (mut old, mut new) = (Image::default(), image.clone());
        for (name, plan) in &desired.services {
            let before = self.services.get(name);
            let untouched = !all
                && before.is_some_and(|(before, _)| Arc::ptr_eq(before, plan))
                && (moved.is_empty() || !plan.attachments.keys().any(|key| moved.contains(key)));
            if untouched {
                continue;
            }
            let known = before
                .map(|(_, image)| &image.services)
                .or(found.as_ref().map(|found| &found.services));
            let none = BTreeMap::new();
            let image = image::service(
                plan,
                facts,
                &environment,
                known.unwrap_or(&none),
                &mut self.allocators,
                &mut lists,
            )?;
            new.extend(image.clone());
            if let Some((_, before)) = self.services.insert(name.clone(), (Arc::clone(plan), image)) {
                old.extend(before);
            }
        }
        let gone: Vec<ServiceName> = self
            .services
            .keys()
            .filter(|name| !desired.services.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some((_, before)) = self.services.remove(&name) {
                old.extend(before);
            }
        }
        old.extend(
            self.applied
                .take()
                .map(|applied| applied.image)
                .or(found)
                .unwrap_or_default(),
        );

        let mut changes = Changes::between(&old, &new);
        changes.lists = lists.writes;
        self.front_locals.change(&changes.locals, &changes.locals_gone);
        changes.front_locals = self.front_locals.stores(view.front_local);
        self.front_endpoints
            .change(&changes.endpoints, &changes.endpoints_gone);
        changes.front_endpoints = self.front_endpoints.stores(view.front_endpoint);
        self.release(&changes, now);
        self.count_endpoints(&changes)?;
        let mut buckets = view.local_addresses.clone();
        changes.local_addresses = local_addresses::place(&mut buckets, &image::local_addresses(facts))?;
        let config = image::config(&desired.cluster, facts, &environment, &view.config)?;
        changes.config = (config != view.config).then_some(config);
        self.applied = Some(Applied {
            facts: facts.clone(),
            environment,
            image,
        });
        Ok(changes)
    }

    /// Frees what the removals give up.
    fn release(&mut self, changes: &Changes, now: Instant) {
        let Allocators {
            services,
            backends,
            vteps,
            slots,
            regions,
            capacity: _,
        } = &mut self.allocators;
        for (_, service) in &changes.services_gone {
            services.release(&service.id, now);
            for table in [service.maglev, service.active] {
                regions.free(table.offset(), table.footprint(), now);
            }
        }
        for (_, backend) in &changes.backends_gone {
            backends.release(&backend.id, now);
        }
        for (_, vtep) in &changes.vteps_gone {
            vteps.release(&vtep.addr, now);
        }
        for ifindex in &changes.locals_gone {
            slots.release(ifindex, now);
        }
    }

    fn count_endpoints(&mut self, changes: &Changes) -> Result<(), DatapathError> {
        let capacity = self.allocators.capacity.endpoints;
        // Those that go, go after those that come.
        let peak = self.endpoints + changes.new_endpoints;
        if peak > capacity as usize {
            return Err(DatapathError::Capacity {
                map: ENDPOINT_BY_ADDR,
                needed: peak as u64,
                capacity: u64::from(capacity),
            });
        }
        self.endpoints = peak.saturating_sub(changes.endpoints_gone.len());
        Ok(())
    }
}

/// The attachments of which two observations differ.
fn moved(before: &NodeFacts, after: &NodeFacts) -> BTreeSet<AttachmentKey> {
    let changed = |from: &NodeFacts, to: &NodeFacts| -> Vec<AttachmentKey> {
        let differs = |key: &AttachmentKey| from.attachments.get(key) != to.attachments.get(key);
        from.attachments
            .keys()
            .filter(|key| differs(key))
            .cloned()
            .collect()
    };
    if before.attachments == after.attachments {
        return BTreeSet::new();
    }
    changed(before, after)
        .into_iter()
        .chain(changed(after, before))
        .collect()
}
