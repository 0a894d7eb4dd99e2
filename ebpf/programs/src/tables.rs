//! Look-ups that every hook shares: published ports, local addresses, the owners of a flow's slot.

use crate::maps;
use essaim_abi::{
    Addr, Backend, Config, Counters, DropReason, EARLIER_OWNERS, Endpoint, FrontEndpoint, FrontLocal,
    LocalAddressBucket, LocalEndpoint, Port, Protocol, Service, ServiceFlags, TableRef, Vtep, VtepFlags,
};
use essaim_packet::hash;
use essaim_packet::steer::HASH_MASK;

/// The node's configuration; absent only before userspace has written it.
#[inline(always)]
pub(crate) fn config() -> Option<&'static Config> {
    maps::CONFIG.get(0)
}

/// The published port; `None` where nothing is published there. `port` in network order.
#[inline(always)]
pub(crate) fn port(protocol: Protocol, port: u16) -> Option<Port> {
    let entry = maps::PORTS.get(protocol.port_index(u16::from_be(port)))?;
    if entry.service == 0 { None } else { Some(*entry) }
}

/// The service with this index, where it is in use.
#[inline(always)]
pub(crate) fn service(index: u32) -> Option<&'static Service> {
    maps::SERVICES
        .get(index)
        .filter(|service| service.flags.has(ServiceFlags::USED))
}

/// Whether the service is on an encrypted network.
#[inline(always)]
pub(crate) fn is_encrypted_service(index: u32) -> bool {
    service(index).is_some_and(|service| service.flags.has(ServiceFlags::ENCRYPTED))
}

/// The backend with this index, where it lives.
#[inline(always)]
pub(crate) fn backend(index: u32) -> Option<&'static Backend> {
    if index == 0 {
        return None;
    }
    maps::BACKENDS.get(index).filter(|backend| backend.is_alive())
}

/// The endpoint of this node behind an interface.
#[inline(always)]
pub(crate) fn local(ifindex: u32) -> Option<&'static LocalEndpoint> {
    if let Some(front) = maps::FRONT_BY_IFINDEX.get(FrontLocal::place(ifindex))
        && front.ifindex == ifindex
    {
        return Some(&front.local);
    }
    // SAFETY: the kernel keeps the entry readable for as long as the program runs.
    unsafe { maps::ENDPOINT_BY_IFINDEX.get(ifindex) }
}

/// The endpoint of this node that has an overlay address; `None` also where only the hash knows it.
#[inline(always)]
pub(crate) fn near_endpoint(address: &Addr) -> Option<&'static Endpoint> {
    maps::FRONT_BY_ADDR
        .get(FrontEndpoint::place(address))
        .filter(|front| front.endpoint.kind != 0 && same(&front.address, address))
        .map(|front| &front.endpoint)
}

/// What an overlay address stands for; cheapest where that is an endpoint of this node.
#[inline(always)]
pub(crate) fn endpoint(address: &Addr) -> Option<&'static Endpoint> {
    if let Some(near) = near_endpoint(address) {
        return Some(near);
    }
    // SAFETY: the kernel keeps the entry readable for as long as the program runs.
    unsafe { maps::ENDPOINT_BY_ADDR.get(address) }
}

/// The VTEP with this index, where it is in use.
#[inline(always)]
pub(crate) fn vtep(index: u32) -> Option<&'static Vtep> {
    maps::VTEPS
        .get(index)
        .filter(|vtep| vtep.flags.has(VtepFlags::USED))
}

/// Whether the network is encrypted.
#[inline(always)]
pub(crate) fn is_encrypted(vni: u32) -> bool {
    // SAFETY: the value is not kept.
    unsafe { maps::ENCRYPTED_VNIS.get(vni) }.is_some()
}

/// Counts a packet that goes through IPsec ([`essaim_abi::IPSEC_SENT`]) or came through it.
#[inline(always)]
pub(crate) fn count_secure(which: u32, bytes: u64) {
    count(maps::IPSEC_COUNTERS.get_ptr_mut(which), bytes, 0);
}

/// Whether the address is one of the node's own on the underlay.
#[inline(always)]
pub(crate) fn is_local(address: &Addr) -> bool {
    let [first, second] = LocalAddressBucket::buckets(address);
    holds(first, address) || holds(second, address)
}

/// Word by word: compared as a whole the address would be written to the stack, and read back in other widths.
#[inline(always)]
fn holds(bucket: u32, address: &Addr) -> bool {
    let Some(bucket) = maps::LOCAL_ADDRESSES.get(bucket) else {
        return false;
    };
    let is = |way: &Addr| same(way, address);
    is(&bucket.ways[0]) || is(&bucket.ways[1]) || is(&bucket.ways[2]) || is(&bucket.ways[3])
}

/// Compares addresses, the word that differs most first.
#[inline(always)]
fn same(one: &Addr, other: &Addr) -> bool {
    let (one, other) = (&one.words, &other.words);
    one[3] == other[3] && one[2] == other[2] && one[1] == other[1] && one[0] == other[0]
}

/// An entry of a table; 0 where there is none.
#[inline(always)]
fn entry(index: u32) -> u32 {
    maps::TABLES.get(index).map_or(0, |owner| *owner)
}

/// The owner of a slot: 0 the current one, 1 and on the earlier ones; 0 where there is none.
#[inline(always)]
pub(crate) fn owner(table: TableRef, slot: u32, hop: u32) -> u32 {
    if hop == 0 {
        return entry(table.offset().wrapping_add(slot));
    }
    if hop > EARLIER_OWNERS || !table.has_earlier() {
        return 0;
    }
    entry(table.earlier_offset(slot).wrapping_add(hop - 1))
}

/// The first owner of a slot that lives: its number, its backend, and its place among the owners.
#[inline(always)]
pub(crate) fn living_owner(table: TableRef, slot: u32) -> Option<(u32, &'static Backend, u32)> {
    for hop in 0..=EARLIER_OWNERS {
        let owner = owner(table, slot, hop);
        // The current owner may be nobody while the last task drains; earlier owners have no gaps.
        if owner == 0 && hop > 0 {
            break;
        }
        if let Some(backend) = backend(owner) {
            return Some((owner, backend, hop));
        }
    }
    None
}

/// The slot of a flow in the service's Maglev table.
///
/// # Errors
/// [`DropReason::NoBackend`] where the table is empty.
#[inline(always)]
pub(crate) fn slot(table: TableRef, hash: u32) -> Result<u32, DropReason> {
    if table.is_empty() {
        Err(DropReason::NoBackend)
    } else {
        Ok(hash::slot(hash, table.len()))
    }
}

/// The hash that places a client's flow on the service's table.
#[inline(always)]
pub(crate) fn flow_hash(
    service: &Service,
    client: &Addr,
    published: &Addr,
    client_port: u16,
    published_port: u16,
    protocol: u8,
) -> u32 {
    let hash = if service.flags.has(ServiceFlags::AFFINITY) {
        hash::of_client(client)
    } else {
        hash::of_flow(client, published, client_port, published_port, protocol)
    };
    hash & HASH_MASK
}

/// Entry `index` of a service's list of active backends, modulo its length; 0 where it is empty.
#[inline(always)]
pub(crate) fn active(service: &Service, index: u64) -> u32 {
    let list = service.active;
    let len = list.len();
    if len == 0 {
        0
    } else {
        entry(list.offset().wrapping_add((index % u64::from(len)) as u32))
    }
}

/// Counts a packet of `bytes` bytes; `flows` is 1 where it opened one.
#[inline(always)]
pub(crate) fn count(cell: Option<*mut Counters>, bytes: u64, flows: u64) {
    if let Some(cell) = cell {
        // SAFETY: the cell is this CPU's own and lives as long as the program.
        let cell = unsafe { &mut *cell };
        cell.packets = cell.packets.wrapping_add(1);
        cell.bytes = cell.bytes.wrapping_add(bytes);
        cell.flows = cell.flows.wrapping_add(flows);
    }
}

/// Counts a packet for a service and a backend.
#[inline(always)]
pub(crate) fn count_for(service: u32, backend: u32, bytes: u64, flows: u64) {
    count(maps::SERVICE_COUNTERS.get_ptr_mut(service), bytes, flows);
    count(maps::BACKEND_COUNTERS.get_ptr_mut(backend), bytes, flows);
}

/// Counts a flow whose packets are counted elsewhere.
#[inline(always)]
pub(crate) fn count_flow(service: u32, backend: u32) {
    let cells = [
        maps::SERVICE_COUNTERS.get_ptr_mut(service),
        maps::BACKEND_COUNTERS.get_ptr_mut(backend),
    ];
    for cell in cells.into_iter().flatten() {
        // SAFETY: the cell is this CPU's own and lives as long as the program.
        let cell = unsafe { &mut *cell };
        cell.flows = cell.flows.wrapping_add(1);
    }
}

/// Counts a drop.
#[inline(always)]
pub(crate) fn count_drop(reason: DropReason, bytes: u64) {
    count(maps::DROP_COUNTERS.get_ptr_mut(reason as u32), bytes, 0);
}
