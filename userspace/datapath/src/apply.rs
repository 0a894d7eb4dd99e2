//! Storing changes in the maps, and reading back what they hold.

use crate::DatapathError;
use crate::changes::Changes;
use crate::image::Image;
use crate::maps::Maps;
use crate::state::View;
use essaim_abi::{
    Backend, Endpoint, FrontEndpoint, FrontLocal, LocalAddressBucket, Pod, Port, Service, Vtep, VtepFlags,
};
use std::collections::BTreeMap;
use std::mem::offset_of;
use std::time::Duration;

/// What applying a plan changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyReport {
    /// Entries of maps that were written.
    pub written: usize,
    /// Entries of maps that were removed.
    pub removed: usize,
    /// Lists of backends that were written.
    pub lists: usize,
    /// How long it took, planning included.
    pub duration: Duration,
}

impl ApplyReport {
    /// Whether the maps held the plan already.
    pub fn is_unchanged(&self) -> bool {
        self.written + self.removed + self.lists == 0
    }
}

/// Reads everything that plans write.
pub(crate) fn read(maps: &Maps) -> Result<Image, DatapathError> {
    let services = (1..maps.services.len()).map(|index| Ok((index, maps.services.read(index)?)));
    let backends = (1..maps.backends.len()).map(|index| Ok((index, maps.backends.read(index)?)));
    let vteps = (1..maps.vteps.len()).map(|index| Ok((index, maps.vteps.read(index)?)));
    let numbers =
        (0..maps.vtep_by_number.len()).map(|number| Ok((number, maps.vtep_by_number.read(number)?)));
    let ports = (0..maps.ports.len()).map(|index| Ok((index, maps.ports.read(index)?)));
    Ok(Image {
        services: used(services, |service: &Service| service.id != 0)?,
        backends: used(backends, |backend: &Backend| backend.id != 0)?,
        vteps: used(vteps, |vtep: &Vtep| vtep.flags.has(VtepFlags::USED))?,
        vtep_by_number: used(numbers, |index: &u32| *index != 0)?,
        vtep_by_addr: maps.vtep_by_addr.entries()?.into_iter().collect(),
        encrypted_vnis: maps.encrypted_vnis.entries()?.into_iter().collect(),
        endpoints: maps.endpoint_by_addr.entries()?.into_iter().collect(),
        locals: maps.endpoint_by_ifindex.entries()?.into_iter().collect(),
        netns: maps.netns_by_cookie.entries()?.into_iter().collect(),
        ports: used(ports, |port: &Port| *port != Port::default())?,
    })
}

fn used<V>(
    entries: impl Iterator<Item = Result<(u32, V), DatapathError>>,
    in_use: impl Fn(&V) -> bool,
) -> Result<BTreeMap<u32, V>, DatapathError> {
    entries
        .filter(|entry| entry.as_ref().map_or(true, |(_, value)| in_use(value)))
        .collect()
}

/// Calls `with` with the arrays as they are.
pub(crate) fn view<R>(maps: &Maps, with: impl FnOnce(&View<'_>) -> R) -> Result<R, DatapathError> {
    let slot = |index| maps.tables.read(index).unwrap_or(0);
    let front_local = |place| maps.front_by_ifindex.read(place).unwrap_or_default();
    let front_endpoint = |place| maps.front_by_addr.read(place).unwrap_or_default();
    let buckets = (0..maps.local_addresses.len()).map(|index| maps.local_addresses.read(index));
    let view = View {
        slot: &slot,
        front_local: &front_local,
        front_endpoint: &front_endpoint,
        config: maps.config.read(0)?,
        local_addresses: buckets.collect::<Result<Vec<LocalAddressBucket>, _>>()?,
    };
    Ok(with(&view))
}

/// Stores changes, in the order of the fields of [`Changes`].
///
/// # Errors
/// Where the kernel refuses; what came before in that order is stored then.
pub(crate) fn store(maps: &mut Maps, changes: &Changes) -> Result<ApplyReport, DatapathError> {
    let mut report = ApplyReport {
        lists: changes.lists.len(),
        ..ApplyReport::default()
    };
    put(maps, changes, &mut report)?;
    remove(maps, changes, &mut report)?;
    Ok(report)
}

fn put(maps: &mut Maps, changes: &Changes, report: &mut ApplyReport) -> Result<(), DatapathError> {
    for (index, vtep) in &changes.vteps {
        store_vtep(maps, *index, vtep)?;
    }
    maps.vtep_by_addr.insert_all(&changes.vtep_by_addr)?;
    for (number, index) in &changes.vtep_by_number {
        maps.vtep_by_number.store_u32(*number, 0, *index)?;
    }
    maps.encrypted_vnis.insert_all(&changes.encrypted_vnis)?;
    if let Some(config) = &changes.config {
        maps.config.store(0, config, 0)?;
    }
    maps.backend_counters.clear_all(&changes.new_backends)?;
    for (index, backend) in &changes.backends {
        // The word with generation and state last: until then a flow of the slot's last owner finds that one, gone.
        maps.backends
            .store(*index, backend, offset_of!(Backend, generation))?;
    }
    for (offset, slots) in &changes.lists {
        for (index, slot) in (*offset..).zip(slots) {
            maps.tables.write(index, *slot)?;
        }
    }
    maps.service_counters.clear_all(&changes.new_services)?;
    for (index, service) in &changes.services {
        maps.services
            .store(*index, service, offset_of!(Service, maglev))?;
    }
    maps.endpoint_by_ifindex.insert_all(&changes.locals)?;
    maps.netns_by_cookie.insert_all(&changes.netns)?;
    maps.endpoint_by_addr.insert_all(&changes.endpoints)?;
    put_front(maps, changes)?;
    for (index, port) in &changes.ports {
        maps.ports.store(*index, port, 0)?;
    }
    for placement in &changes.local_addresses {
        let mut bucket = maps.local_addresses.read(placement.bucket)?;
        bucket.ways[placement.way] = placement.address;
        maps.local_addresses.store(placement.bucket, &bucket, 0)?;
    }
    report.written = changes.vteps.len()
        + changes.vtep_by_addr.len()
        + changes.vtep_by_number.len()
        + changes.encrypted_vnis.len()
        + changes.backends.len()
        + changes.services.len()
        + changes.locals.len()
        + changes.netns.len()
        + changes.endpoints.len()
        + changes.front_locals.len()
        + changes.front_endpoints.len()
        + changes.ports.len()
        + changes.local_addresses.len()
        + usize::from(changes.config.is_some());
    Ok(())
}

fn remove(maps: &mut Maps, changes: &Changes, report: &mut ApplyReport) -> Result<(), DatapathError> {
    for index in &changes.ports_gone {
        maps.ports.store(*index, &Port::default(), 0)?;
    }
    maps.endpoint_by_addr.remove_all(&changes.endpoints_gone)?;
    maps.netns_by_cookie.remove_all(&changes.netns_gone)?;
    maps.endpoint_by_ifindex.remove_all(&changes.locals_gone)?;
    for (index, _) in &changes.services_gone {
        maps.services
            .store(*index, &Service::default(), offset_of!(Service, id))?;
    }
    for (index, backend) in &changes.backends_gone {
        if maps.backends.read(*index)? != *backend {
            maps.backends
                .store(*index, backend, offset_of!(Backend, generation))?;
            report.removed += 1;
        }
    }
    // After the endpoints: nothing of the network is delivered any more.
    maps.encrypted_vnis.remove_all(&changes.encrypted_vnis_gone)?;
    maps.vtep_by_addr.remove_all(&changes.vtep_by_addr_gone)?;
    for number in &changes.vtep_by_number_gone {
        maps.vtep_by_number.store_u32(*number, 0, 0)?;
    }
    for (index, _) in &changes.vteps_gone {
        store_vtep(maps, *index, &Vtep::zeroed())?;
    }
    report.removed += changes.ports_gone.len()
        + changes.endpoints_gone.len()
        + changes.netns_gone.len()
        + changes.locals_gone.len()
        + changes.services_gone.len()
        + changes.vtep_by_addr_gone.len()
        + changes.vtep_by_number_gone.len()
        + changes.encrypted_vnis_gone.len()
        + changes.vteps_gone.len();
    Ok(())
}

/// Each entry is out of use while it changes: packets go by the hash meanwhile.
fn put_front(maps: &mut Maps, changes: &Changes) -> Result<(), DatapathError> {
    const IFINDEX: usize = offset_of!(FrontLocal, ifindex);
    /// The eight bytes that the kind lies in.
    const KIND: usize = (offset_of!(FrontEndpoint, endpoint) + offset_of!(Endpoint, kind)) / 8 * 8;
    for (place, entry) in &changes.front_locals {
        maps.front_by_ifindex.store_u64(*place, IFINDEX, 0)?;
        maps.front_by_ifindex.store(*place, entry, IFINDEX)?;
    }
    for (place, entry) in &changes.front_endpoints {
        maps.front_by_addr.store_u64(*place, KIND, 0)?;
        maps.front_by_addr.store(*place, entry, KIND)?;
    }
    Ok(())
}

/// Takes the entry's header out of use while it changes: packets go through the VXLAN device meanwhile.
fn store_vtep(maps: &mut Maps, index: u32, vtep: &Vtep) -> Result<(), DatapathError> {
    let old = maps.vteps.read(index)?;
    if old.flags.has(VtepFlags::RESOLVED) && old.header != vtep.header {
        let flags = VtepFlags(old.flags.0 & !VtepFlags::RESOLVED.0);
        maps.vteps
            .store(index, &Vtep { flags, ..old }, offset_of!(Vtep, flags))?;
    }
    maps.vteps.store(index, vtep, offset_of!(Vtep, flags))
}
