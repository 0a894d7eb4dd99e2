//! What the maps should hold: pure, from the plan, the node's facts and the indices given out.

mod cluster;
mod endpoint;
mod environment;
mod lists;
mod service;
mod vtep;

pub(crate) use cluster::{cluster, config, local_addresses};
pub(crate) use environment::Environment;
pub(crate) use lists::Lists;
pub(crate) use service::service;

use crate::indices::{Assigned, Indices};
use crate::{DatapathError, Maps, regions::Regions};
use essaim_abi::{Addr, Backend, Endpoint, LocalEndpoint, NetnsInfo, Port, Service, Vtep};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

/// A part of what the maps hold: that of a service, that of the cluster, or that which was found at the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Image {
    /// By index.
    pub(crate) services: BTreeMap<u32, Service>,
    /// By index.
    pub(crate) backends: BTreeMap<u32, Backend>,
    /// By index.
    pub(crate) vteps: BTreeMap<u32, Vtep>,
    pub(crate) vtep_by_addr: BTreeMap<Addr, u32>,
    /// By [`Vtep::number`].
    pub(crate) vtep_by_number: BTreeMap<u32, u32>,
    /// By VNI.
    pub(crate) encrypted_vnis: BTreeMap<u32, u32>,
    pub(crate) endpoints: BTreeMap<Addr, Endpoint>,
    /// By interface index.
    pub(crate) locals: BTreeMap<u32, LocalEndpoint>,
    pub(crate) netns: BTreeMap<u64, NetnsInfo>,
    /// By [`essaim_abi::Protocol::port_index`].
    pub(crate) ports: BTreeMap<u32, Port>,
}

impl Image {
    /// Takes in another part.
    pub(crate) fn extend(&mut self, other: Self) {
        let Self {
            services,
            backends,
            vteps,
            vtep_by_addr,
            vtep_by_number,
            encrypted_vnis,
            endpoints,
            locals,
            netns,
            ports,
        } = other;
        self.services.extend(services);
        self.backends.extend(backends);
        self.vteps.extend(vteps);
        self.vtep_by_addr.extend(vtep_by_addr);
        self.vtep_by_number.extend(vtep_by_number);
        self.encrypted_vnis.extend(encrypted_vnis);
        self.endpoints.extend(endpoints);
        self.locals.extend(locals);
        self.netns.extend(netns);
        self.ports.extend(ports);
    }
}

/// Who has which index and which part of the tables.
#[derive(Clone, Debug)]
pub(crate) struct Allocators {
    /// By [`Service::id`].
    pub(crate) services: Indices<u64>,
    /// By [`Backend::id`].
    pub(crate) backends: Indices<u64>,
    /// By underlay address.
    pub(crate) vteps: Indices<Addr>,
    /// [`LocalEndpoint::slot`] by interface index.
    pub(crate) slots: Indices<u32>,
    pub(crate) regions: Regions,
    pub(crate) capacity: Capacity,
}

/// How much the maps hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) services: u32,
    pub(crate) backends: u32,
    pub(crate) tables: u32,
    pub(crate) vteps: u32,
    pub(crate) slots: u32,
    pub(crate) endpoints: u32,
}

impl Capacity {
    pub(crate) fn of(maps: &Maps) -> Self {
        Self {
            services: maps.services.len(),
            backends: maps.backends.len(),
            tables: maps.tables.len(),
            vteps: maps.vteps.len(),
            slots: maps.translated.len(),
            endpoints: maps.endpoint_by_addr.capacity(),
        }
    }
}

impl Allocators {
    pub(crate) fn service(&mut self, id: u64, now: Instant) -> Result<Assigned, DatapathError> {
        let full = full(essaim_abi::maps::SERVICES, self.capacity.services);
        self.services.assign(&id, now).ok_or(full)
    }

    pub(crate) fn backend(&mut self, id: u64, now: Instant) -> Result<Assigned, DatapathError> {
        let full = full(essaim_abi::maps::BACKENDS, self.capacity.backends);
        self.backends.assign(&id, now).ok_or(full)
    }

    pub(crate) fn vtep(&mut self, address: IpAddr, now: Instant) -> Result<u32, DatapathError> {
        let full = full(essaim_abi::maps::VTEPS, self.capacity.vteps);
        self.vteps
            .assign(&address.into(), now)
            .map(|given| given.index)
            .ok_or(full)
    }

    pub(crate) fn slot(&mut self, ifindex: u32, now: Instant) -> Result<u32, DatapathError> {
        let full = full(essaim_abi::maps::TRANSLATED, self.capacity.slots);
        self.slots
            .assign(&ifindex, now)
            .map(|given| given.index)
            .ok_or(full)
    }
}

fn full(map: &'static str, capacity: u32) -> DatapathError {
    DatapathError::Capacity {
        map,
        needed: u64::from(capacity) + 1,
        capacity: u64::from(capacity),
    }
}

/// The IPv4 address among these as entries hold it; 0 where there is none.
fn v4_word(addresses: impl IntoIterator<Item = IpAddr>) -> u32 {
    addresses
        .into_iter()
        .find(IpAddr::is_ipv4)
        .map_or(0, |address| Addr::from(address).v4_word())
}

/// The IPv6 address among these; unspecified where there is none.
fn v6_addr(addresses: impl IntoIterator<Item = IpAddr>) -> Addr {
    addresses
        .into_iter()
        .find(IpAddr::is_ipv6)
        .map_or(Addr::UNSPECIFIED, Addr::from)
}
