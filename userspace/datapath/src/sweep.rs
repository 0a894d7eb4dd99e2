//! Taking out of the flow table what no packet will ask for again.

use crate::DatapathError;
use crate::maps::Maps;
use essaim_abi::{Addr, Backend, Flow, FlowKey, FlowKind, Service};
use std::collections::{BTreeMap, BTreeSet};

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Flows that stay.
    pub live: usize,
    /// Flows that had idled past their timeout.
    pub expired: usize,
    /// Flows whose backend is gone.
    pub orphaned: usize,
    /// Endpoints that have no translated flow any more, so that their packets are not looked up.
    pub untranslated: usize,
}

/// Sweeps once; `now` is in jiffies.
///
/// # Errors
/// Where a map cannot be read or written; the next sweep goes on.
pub(crate) fn sweep(maps: &mut Maps, now: u32) -> Result<SweepReport, DatapathError> {
    let mut report = SweepReport::default();
    let (mut expired, mut orphaned) = (Vec::new(), Vec::new());
    let slots = local_slots(maps)?;
    let mut translated = BTreeSet::new();
    let Maps {
        flows,
        backends,
        services,
        ..
    } = &*maps;
    flows.scan(|key, flow| {
        if flow.is_expired(now) {
            expired.push(key);
        } else if is_orphan(
            &flow,
            |index| backends.read(index).ok(),
            |index| services.read(index).ok(),
        ) {
            orphaned.push(key);
        } else {
            report.live += 1;
            translated.extend(translated_slot(&key, &flow, &slots));
        }
    })?;
    // A packet may have revived one, or opened it anew, since it was read.
    for key in expired {
        if maps.flows.entry(&key)?.is_some_and(|flow| flow.is_expired(now)) {
            maps.flows.remove(&key)?;
            report.expired += 1;
        }
    }
    report.orphaned = orphaned.len();
    maps.flows.remove_all(&orphaned)?;
    report.untranslated = clear_translated(maps, &slots, translated, now)?;
    Ok(report)
}

/// Whether no packet of the flow will find the backend it was made for.
fn is_orphan(
    flow: &Flow,
    backend: impl Fn(u32) -> Option<Backend>,
    service: impl Fn(u32) -> Option<Service>,
) -> bool {
    let backend = backend(flow.backend).filter(|backend| backend.generation == flow.backend_generation);
    let dead = flow.backend != 0 && !backend.is_some_and(|backend| backend.is_alive());
    dead || flow.service != 0 && service(flow.service).is_none_or(|service| service.id == 0)
}

/// The endpoint whose packets within the overlay must be looked up because of this flow.
fn translated_slot(key: &FlowKey, flow: &Flow, slots: &BTreeMap<Addr, u32>) -> Option<u32> {
    let from_outside = flow.kind == FlowKind::Ingress as u8 && flow.edge_token != 0;
    if from_outside {
        None
    } else {
        slots.get(&key.local).copied()
    }
}

fn local_slots(maps: &Maps) -> Result<BTreeMap<Addr, u32>, DatapathError> {
    let mut slots = BTreeMap::new();
    maps.endpoint_by_ifindex.scan(|_, local| {
        if local.addr4 != 0 {
            slots.insert(Addr::v4(local.addr4), local.slot);
        }
        if !local.addr6.is_unspecified() {
            slots.insert(local.addr6, local.slot);
        }
    })?;
    Ok(slots)
}

/// Clears the words of the endpoints without translated flows.
///
/// The programs make a flow first and then set the word. A flow that is made while the word is cleared may find its own
/// mark wiped away, so the tables are read once more behind it.
fn clear_translated(
    maps: &mut Maps,
    slots: &BTreeMap<Addr, u32>,
    mut translated: BTreeSet<u32>,
    now: u32,
) -> Result<usize, DatapathError> {
    note(maps, slots, now, &mut translated, true)?;
    let mut cleared = BTreeSet::new();
    for slot in 0..maps.translated.len() {
        if !translated.contains(&slot) && maps.translated.read(slot)? != 0 {
            maps.translated.store_u32(slot, 0, 0)?;
            cleared.insert(slot);
        }
    }
    if cleared.is_empty() {
        return Ok(0);
    }
    let mut again = BTreeSet::new();
    note(maps, slots, now, &mut again, false)?;
    for slot in again.intersection(&cleared) {
        maps.translated.store_u32(*slot, 0, 1)?;
    }
    Ok(cleared.difference(&again).count())
}

fn note(
    maps: &Maps,
    slots: &BTreeMap<Addr, u32>,
    now: u32,
    translated: &mut BTreeSet<u32>,
    half_open_only: bool,
) -> Result<(), DatapathError> {
    let mut visit = |key: FlowKey, flow: Flow| {
        if !flow.is_expired(now) {
            translated.extend(translated_slot(&key, &flow, slots));
        }
    };
    maps.half_open_flows.scan(&mut visit)?;
    if half_open_only {
        return Ok(());
    }
    maps.flows.scan(&mut visit)
}
