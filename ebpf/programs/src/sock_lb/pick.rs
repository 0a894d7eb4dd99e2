//! The choice of a backend, and what is counted of it.

use core::num::NonZeroU64;
use core::ptr::read_volatile;

use essaim_abi::{Addr, DropReason, Service, ServiceFlags, TableRef};
use essaim_packet::hash;

use super::atomic;
use crate::maps::{BACKEND_COUNTERS, NEXT_PICK, SERVICE_COUNTERS, TABLES};
use crate::tables;

/// How many entries of the list are tried past the first: it may lag behind the death of a backend.
const MORE_TRIES: u64 = 4;

/// A backend that was picked.
pub(super) struct Choice {
    /// Index into `BACKENDS`.
    pub(super) backend: u32,
    /// Its generation.
    pub(super) generation: u32,
    /// Its address, of the family that was asked for.
    pub(super) addr: Addr,
}

/// Picks a live backend of the group, in the family of `like`.
///
/// In turn, by the group's counter, so that the spread is exact; with affinity by the namespace's cookie,
/// which all sockets of a task share.
#[inline(always)]
pub(super) fn pick(index: u32, service: &Service, like: &Addr, cookie: u64) -> Result<Choice, DropReason> {
    let start = if service.flags.has(ServiceFlags::AFFINITY) {
        let hash = u64::from(hash::of_cookie([cookie as u32, (cookie >> 32) as u32]));
        if let Some((offset, len)) = slots(&raw const service.maglev)
            && let Ok(choice) = entry(offset, hash % len, like)
        {
            return Ok(choice);
        }
        // The slot's owner is gone and the table not rebuilt yet: the list of the active ones decides, stable
        // too.
        hash
    } else {
        next(index)
    };
    let (offset, len) = slots(&raw const service.active).ok_or(DropReason::NoBackend)?;
    let first = start % len;
    let mut slot = first;
    let mut refusal = DropReason::NoBackend;
    for _ in 0..=MORE_TRIES {
        match entry(offset, slot, like) {
            Ok(choice) => return Ok(choice),
            Err(reason) => refusal = reason,
        }
        slot += 1;
        if slot == len.get() {
            slot = 0;
        }
        if slot == first {
            break;
        }
    }
    Err(refusal)
}

/// Offset and length of a list; none where it is empty. Read once: userspace swaps the word.
#[inline(always)]
fn slots(table: *const TableRef) -> Option<(u32, NonZeroU64)> {
    // SAFETY: the pointer comes from a reference into the map's value.
    let table = unsafe { read_volatile(table) };
    NonZeroU64::new(u64::from(table.len())).map(|len| (table.offset(), len))
}

/// The backend in a slot, where it lives and has an address of the family.
#[inline(always)]
fn entry(offset: u32, slot: u64, like: &Addr) -> Result<Choice, DropReason> {
    let index = *TABLES
        .get(offset.wrapping_add(slot as u32))
        .ok_or(DropReason::NoBackend)?;
    let backend = tables::backend(index).ok_or(DropReason::NoBackend)?;
    let addr = backend.addr_like(like);
    if addr.is_unspecified() {
        return Err(DropReason::NoBackendInFamily);
    }
    Ok(Choice {
        backend: index,
        generation: backend.generation,
        addr,
    })
}

/// The group's counter, which goes on by one.
#[inline(always)]
fn next(index: u32) -> u64 {
    match NEXT_PICK.get_ptr_mut(index) {
        // SAFETY: the map's value is an aligned u64.
        Some(counter) => unsafe { atomic::fetch_increment(counter) },
        None => 0,
    }
}

/// Counts a new flow for the service and the backend.
///
/// Atomically although the counters are this CPU's own: socket programs interrupt each other.
#[inline(always)]
pub(super) fn count_flow(service: u32, choice: &Choice) {
    if let Some(counters) = SERVICE_COUNTERS.get_ptr_mut(service) {
        // SAFETY: the map's value holds aligned u64 fields.
        unsafe { atomic::increment(&raw mut (*counters).flows) };
    }
    if let Some(counters) = BACKEND_COUNTERS.get_ptr_mut(choice.backend) {
        // SAFETY: as above.
        unsafe { atomic::increment(&raw mut (*counters).flows) };
    }
}
