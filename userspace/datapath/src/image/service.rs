use super::{Allocators, Environment, Image, Lists, v4_word, v6_addr};
use crate::DatapathError;
use crate::indices::Assigned;
use essaim_abi::{Backend, BackendState, EARLIER_OWNERS, Service, ServiceFlags};
use essaim_model::{
    AttachmentKey, BackendKey, BackendPlan, GroupPlan, MaglevTable, NodeFacts, Scope, ServiceKey,
    ServicePlan, TaskState,
};
use std::collections::BTreeMap;

/// What a service needs of indices while its entries are made.
pub(super) struct Indexed<'a> {
    pub(super) facts: &'a NodeFacts,
    pub(super) environment: &'a Environment,
    services: BTreeMap<&'a ServiceKey, u32>,
    pub(super) backends: BTreeMap<&'a BackendKey, Assigned>,
    slots: BTreeMap<u32, u32>,
}

/// The entries of one service; `old` are those that the maps hold of it.
///
/// # Errors
/// Where a map has no room left, or the plan contradicts itself.
pub(crate) fn service(
    plan: &ServicePlan,
    facts: &NodeFacts,
    environment: &Environment,
    old: &BTreeMap<u32, Service>,
    allocators: &mut Allocators,
    lists: &mut Lists<'_>,
) -> Result<Image, DatapathError> {
    let ServicePlan {
        groups,
        backends,
        addresses,
        published,
        attachments,
    } = plan;
    let now = lists.now;
    let mut indexed = Indexed {
        facts,
        environment,
        services: BTreeMap::new(),
        backends: BTreeMap::new(),
        slots: BTreeMap::new(),
    };
    for key in groups.keys() {
        indexed
            .services
            .insert(key, allocators.service(key.id(), now)?.index);
    }
    for key in backends.keys() {
        indexed.backends.insert(key, allocators.backend(key.id(), now)?);
    }
    for key in attachments.keys() {
        if let Some(attachment) = facts.attachments.get(key) {
            indexed
                .slots
                .insert(attachment.ifindex, allocators.slot(attachment.ifindex, now)?);
        }
    }
    let mut image = Image::default();
    for (key, backend) in backends {
        let Some(given) = indexed.backends.get(key) else {
            continue;
        };
        image
            .backends
            .insert(given.index, indexed.backend(key.id(), *given, backend));
    }
    for (key, group) in groups {
        let Some(index) = indexed.services.get(key).copied() else {
            continue;
        };
        let old = old
            .get(&index)
            .copied()
            .filter(|old| old.id == key.id())
            .unwrap_or_default();
        image
            .services
            .insert(index, indexed.group(key, group, &old, allocators, lists)?);
    }
    for (address, what) in addresses {
        image.endpoints.insert((*address).into(), indexed.address(what)?);
    }
    for ((protocol, port), published) in published {
        image
            .ports
            .insert(protocol.port_index(*port), indexed.port(published)?);
    }
    for (key, attachment) in attachments {
        indexed.attachment(key, attachment, &mut image)?;
    }
    Ok(image)
}

impl<'a> Indexed<'a> {
    /// For addresses that belong to no service.
    pub(super) fn none(facts: &'a NodeFacts, environment: &'a Environment) -> Self {
        Self {
            facts,
            environment,
            services: BTreeMap::new(),
            backends: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    pub(super) fn service(&self, key: &ServiceKey) -> Result<u32, DatapathError> {
        self.services
            .get(key)
            .copied()
            .ok_or_else(|| DatapathError::Plan {
                subject: key.to_string(),
                problem: "no such group in the plan of its service".to_owned(),
            })
    }

    pub(super) fn backend_index(&self, key: &BackendKey) -> Result<u32, DatapathError> {
        self.backends
            .get(key)
            .map(|given| given.index)
            .ok_or_else(|| DatapathError::Plan {
                subject: key.to_string(),
                problem: "no such backend in the plan of its service".to_owned(),
            })
    }

    fn ifindex(&self, key: &AttachmentKey) -> Option<u32> {
        self.facts
            .attachments
            .get(key)
            .map(|attachment| attachment.ifindex)
    }

    pub(super) fn slot(&self, ifindex: u32) -> u32 {
        self.slots.get(&ifindex).copied().unwrap_or(0)
    }

    fn backend(&self, id: u64, given: Assigned, plan: &BackendPlan) -> Backend {
        let BackendPlan {
            node: _,
            vtep,
            vni,
            addresses,
            mac,
            state,
            attachment,
        } = plan;
        let ifindex = attachment.as_ref().map(|key| self.ifindex(key));
        let vtep = self.environment.vtep(*vtep).0;
        let state = match (state, ifindex) {
            // Not there (yet), or on a node that is no member: whoever asks for it is refused, not left waiting.
            (_, Some(None)) => BackendState::Gone,
            (_, None) if vtep == 0 => BackendState::Gone,
            (TaskState::Ready, _) => BackendState::Active,
            (TaskState::Starting | TaskState::Draining, _) => BackendState::Draining,
            (TaskState::Gone, _) => BackendState::Gone,
        };
        let ifindex = ifindex.flatten().unwrap_or(0);
        Backend {
            id,
            addr6: v6_addr(addresses.iter().copied()),
            addr4: v4_word(addresses.iter().copied()),
            vni: vni.get(),
            vtep,
            ifindex,
            generation: given.generation,
            state: state as u8,
            reserved: 0,
            mac: *mac,
            slot: self.slot(ifindex),
            reserved2: 0,
        }
    }

    fn group(
        &self,
        key: &ServiceKey,
        plan: &GroupPlan,
        old: &Service,
        allocators: &mut Allocators,
        lists: &mut Lists<'_>,
    ) -> Result<Service, DatapathError> {
        let GroupPlan {
            vips,
            vni,
            affinity,
            encrypted,
            timeouts,
            active,
            maglev,
        } = plan;
        let active = active
            .iter()
            .map(|key| self.backend_index(key))
            .collect::<Result<Vec<u32>, _>>()?;
        let active = lists.place(old.active, active.len(), active, allocators)?;
        let maglev = match maglev {
            Some(table) => {
                let (len, slots) = self.maglev(table)?;
                lists.place(old.maglev, len, slots, allocators)?
            }
            None => lists.place(old.maglev, 0, Vec::new(), allocators)?,
        };
        let ingress = match key.scope {
            Scope::Ingress | Scope::HostPort => true,
            Scope::Network(_) => false,
        };
        let flags = [
            (true, ServiceFlags::USED),
            (*affinity, ServiceFlags::AFFINITY),
            (ingress, ServiceFlags::INGRESS),
            (*encrypted, ServiceFlags::ENCRYPTED),
        ];
        Ok(Service {
            maglev,
            active,
            id: key.id(),
            vip6: v6_addr(vips.iter().copied()),
            vip4: v4_word(vips.iter().copied()),
            vni: vni.get(),
            flags: flags
                .into_iter()
                .filter(|(on, _)| *on)
                .fold(ServiceFlags::NONE, |all, (_, flag)| all.with(flag)),
            established_timeout: self.environment.jiffies(timeouts.established),
            closing_timeout: self.environment.jiffies(timeouts.closing),
            udp_timeout: self.environment.jiffies(timeouts.udp),
        })
    }

    /// Number of slots, and the slots with their earlier owners behind them.
    fn maglev(&self, table: &MaglevTable) -> Result<(usize, Vec<u32>), DatapathError> {
        let MaglevTable {
            members,
            owners,
            earlier,
        } = table;
        let members = members
            .iter()
            .map(|key| self.backend_index(key))
            .collect::<Result<Vec<u32>, _>>()?;
        let index = |number: u16| match usize::from(number).checked_sub(1) {
            Some(member) => members.get(member).copied().unwrap_or(0),
            None => 0,
        };
        let mut slots: Vec<u32> = Vec::with_capacity(owners.len() * (1 + EARLIER_OWNERS as usize));
        slots.extend(owners.iter().map(|number| index(*number)));
        if let Some(earlier) = earlier {
            slots.extend(
                earlier
                    .iter()
                    .take(owners.len())
                    .flatten()
                    .map(|number| index(*number)),
            );
        }
        Ok((owners.len(), slots))
    }
}
