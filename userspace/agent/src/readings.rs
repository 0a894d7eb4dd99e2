//! Reads what the maps say, in the words of the plan.

use crate::status::{Count, DropStatus, MapStatus, Readings};
use essaim_abi::{Counters, DropReason, VtepFlags};
use essaim_datapath::{Datapath, DatapathError, Maps};
use essaim_model::{BackendKey, DesiredState, NodeName, ServiceKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// What the indices of the maps stand for.
///
/// Index and identity are read from the maps, the name belonging to an identity comes from the plan.
#[derive(Debug, Default)]
pub struct Names {
    /// By index.
    pub services: BTreeMap<u32, ServiceKey>,
    /// By index.
    pub backends: BTreeMap<u32, BackendKey>,
    /// By index.
    pub vteps: BTreeMap<u32, (IpAddr, Option<NodeName>)>,
}

impl Names {
    /// Reads them.
    ///
    /// # Errors
    /// Where a map cannot be read.
    pub(crate) fn read(maps: &Maps, desired: &DesiredState) -> Result<Self, DatapathError> {
        let plans = || desired.services.values();
        let services: HashMap<u64, &ServiceKey> = plans()
            .flat_map(|plan| plan.groups.keys().map(|key| (key.id(), key)))
            .collect();
        let backends: HashMap<u64, &BackendKey> = plans()
            .flat_map(|plan| plan.backends.keys().map(|key| (key.id(), key)))
            .collect();
        let mut names = Self::default();
        for index in 1..maps.services.len() {
            let key = services.get(&maps.services.read(index)?.id).copied().cloned();
            names.services.extend(key.map(|key| (index, key)));
        }
        for index in 1..maps.backends.len() {
            let key = backends.get(&maps.backends.read(index)?.id).copied().cloned();
            names.backends.extend(key.map(|key| (index, key)));
        }
        for index in 1..maps.vteps.len() {
            let vtep = maps.vteps.read(index)?;
            if vtep.flags.has(VtepFlags::USED) {
                let address = IpAddr::from(vtep.addr);
                names
                    .vteps
                    .insert(index, (address, desired.cluster.vteps.get(&address).cloned()));
            }
        }
        Ok(names)
    }
}

/// Reads counters, known ways and how full the maps are.
///
/// # Errors
/// Where a map cannot be read.
pub(crate) fn read(datapath: &Datapath, desired: &DesiredState) -> Result<Readings, DatapathError> {
    let maps = datapath.maps();
    let counters = datapath.counters(desired)?;
    let mut resolved = BTreeSet::new();
    for index in 1..maps.vteps.len() {
        let vtep = maps.vteps.read(index)?;
        if vtep.flags.has(VtepFlags::RESOLVED) {
            resolved.insert(vtep.addr.into());
        }
    }
    let mut fills = fills(maps)?;
    let memory = datapath.memory()?;
    for fill in &mut fills {
        fill.bytes = memory.get(&fill.map).copied().unwrap_or(0);
    }
    Ok(Readings {
        groups: counters
            .services
            .into_iter()
            .map(|(key, counters)| (key, count(&counters)))
            .collect(),
        backends: counters
            .backends
            .into_iter()
            .map(|(key, counters)| (key, count(&counters)))
            .collect(),
        drops: counters
            .drops
            .into_iter()
            .map(|(reason, counters)| dropped(reason, &counters))
            .collect(),
        resolved,
        maps: fills,
        memory: memory.values().sum(),
    })
}

fn count(counters: &Counters) -> Count {
    let Counters {
        packets,
        bytes,
        flows,
    } = *counters;
    Count {
        packets,
        bytes,
        flows,
    }
}

fn dropped(reason: DropReason, counters: &Counters) -> DropStatus {
    DropStatus {
        reason: reason.name().to_owned(),
        text: reason.text().to_owned(),
        packets: counters.packets,
        bytes: counters.bytes,
    }
}

fn fills(maps: &Maps) -> Result<Vec<MapStatus>, DatapathError> {
    use essaim_abi::maps as name;
    let mut fills = Vec::new();
    let mut note = |map: &str, used: u64, capacity: u32| {
        fills.push(MapStatus {
            map: map.to_owned(),
            used,
            capacity: u64::from(capacity),
            bytes: 0,
        });
    };
    let mut used = 0;
    for index in 1..maps.services.len() {
        used += u64::from(maps.services.read(index)?.id != 0);
    }
    note(name::SERVICES, used, maps.services.len());
    used = 0;
    for index in 1..maps.backends.len() {
        used += u64::from(maps.backends.read(index)?.id != 0);
    }
    note(name::BACKENDS, used, maps.backends.len());
    note(name::TABLES, table_slots(maps)?, maps.tables.len());
    for (map, table) in [
        (name::ENDPOINT_BY_ADDR, scanned(&maps.endpoint_by_addr)?),
        (name::ENDPOINT_BY_IFINDEX, scanned(&maps.endpoint_by_ifindex)?),
        (name::VTEP_BY_ADDR, scanned(&maps.vtep_by_addr)?),
        (name::FLOWS, scanned(&maps.flows)?),
        (name::HALF_OPEN_FLOWS, scanned(&maps.half_open_flows)?),
        (name::FRAGMENTS, scanned(&maps.fragments)?),
        (name::NETNS_BY_COOKIE, scanned(&maps.netns_by_cookie)?),
    ] {
        note(map, table.0, table.1);
    }
    Ok(fills)
}

fn scanned<K: essaim_abi::Pod, V: essaim_abi::Pod>(
    table: &essaim_datapath::Table<K, V>,
) -> Result<(u64, u32), DatapathError> {
    let mut used = 0;
    table.scan(|_, _| used += 1)?;
    Ok((used, table.capacity()))
}

fn table_slots(maps: &Maps) -> Result<u64, DatapathError> {
    let mut slots = 0;
    for index in 1..maps.services.len() {
        let service = maps.services.read(index)?;
        slots += u64::from(service.maglev.footprint()) + u64::from(service.active.footprint());
    }
    Ok(slots)
}
