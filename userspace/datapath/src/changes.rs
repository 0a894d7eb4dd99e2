//! What must be stored so that the maps hold a plan: pure.

use crate::image::Image;
use crate::local_addresses::Placement;
use essaim_abi::{
    Addr, Backend, BackendState, Config, Endpoint, FrontEndpoint, FrontLocal, LocalEndpoint, NetnsInfo, Port,
    Service, Vtep,
};
use std::collections::BTreeMap;

/// Stores to be made, in the order in which they are safe for the packets meanwhile: what is pointed to first, then
/// what points; removals the other way round.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub(crate) vteps: Vec<(u32, Vtep)>,
    pub(crate) vtep_by_addr: Vec<(Addr, u32)>,
    pub(crate) vtep_by_number: Vec<(u32, u32)>,
    pub(crate) encrypted_vnis: Vec<(u32, u32)>,
    pub(crate) config: Option<Config>,
    pub(crate) backends: Vec<(u32, Backend)>,
    /// Indices that belonged to nobody known: their counters start anew.
    pub(crate) new_backends: Vec<u32>,
    /// Offset and content.
    pub(crate) lists: Vec<(u32, Vec<u32>)>,
    pub(crate) services: Vec<(u32, Service)>,
    /// As `new_backends`.
    pub(crate) new_services: Vec<u32>,
    pub(crate) locals: Vec<(u32, LocalEndpoint)>,
    pub(crate) netns: Vec<(u64, NetnsInfo)>,
    pub(crate) endpoints: Vec<(Addr, Endpoint)>,
    /// How many of `endpoints` are new.
    pub(crate) new_endpoints: usize,
    /// By place; after what they are copies of, and emptied before that goes.
    pub(crate) front_locals: Vec<(u32, FrontLocal)>,
    /// As `front_locals`.
    pub(crate) front_endpoints: Vec<(u32, FrontEndpoint)>,
    pub(crate) ports: Vec<(u32, Port)>,
    pub(crate) local_addresses: Vec<Placement>,
    pub(crate) ports_gone: Vec<u32>,
    pub(crate) endpoints_gone: Vec<Addr>,
    pub(crate) netns_gone: Vec<u64>,
    pub(crate) locals_gone: Vec<u32>,
    pub(crate) services_gone: Vec<(u32, Service)>,
    /// As they will stand: gone, but their slot not free. Those that stand so already are among them.
    pub(crate) backends_gone: Vec<(u32, Backend)>,
    pub(crate) encrypted_vnis_gone: Vec<u32>,
    pub(crate) vtep_by_addr_gone: Vec<Addr>,
    pub(crate) vtep_by_number_gone: Vec<u32>,
    pub(crate) vteps_gone: Vec<(u32, Vtep)>,
}

impl Changes {
    /// What leads from `old` to `new`, parts of the image that hold the same things.
    pub(crate) fn between(old: &Image, new: &Image) -> Self {
        let backends_gone = gone(&old.backends, &new.backends)
            .into_iter()
            .map(|(index, backend)| {
                (
                    index,
                    Backend {
                        state: BackendState::Gone as u8,
                        ..backend
                    },
                )
            });
        Self {
            vteps: put(&old.vteps, &new.vteps),
            vtep_by_addr: put(&old.vtep_by_addr, &new.vtep_by_addr),
            vtep_by_number: put(&old.vtep_by_number, &new.vtep_by_number),
            encrypted_vnis: put(&old.encrypted_vnis, &new.encrypted_vnis),
            backends: put(&old.backends, &new.backends),
            new_backends: absent(&old.backends, &new.backends),
            services: put(&old.services, &new.services),
            new_services: absent(&old.services, &new.services),
            locals: put(&old.locals, &new.locals),
            netns: put(&old.netns, &new.netns),
            endpoints: put(&old.endpoints, &new.endpoints),
            new_endpoints: new
                .endpoints
                .keys()
                .filter(|key| !old.endpoints.contains_key(key))
                .count(),
            ports: put(&old.ports, &new.ports),
            ports_gone: keys(gone(&old.ports, &new.ports)),
            endpoints_gone: keys(gone(&old.endpoints, &new.endpoints)),
            netns_gone: keys(gone(&old.netns, &new.netns)),
            locals_gone: keys(gone(&old.locals, &new.locals)),
            services_gone: gone(&old.services, &new.services),
            backends_gone: backends_gone.collect(),
            encrypted_vnis_gone: keys(gone(&old.encrypted_vnis, &new.encrypted_vnis)),
            vtep_by_addr_gone: keys(gone(&old.vtep_by_addr, &new.vtep_by_addr)),
            vtep_by_number_gone: keys(gone(&old.vtep_by_number, &new.vtep_by_number)),
            vteps_gone: gone(&old.vteps, &new.vteps),
            lists: Vec::new(),
            front_locals: Vec::new(),
            front_endpoints: Vec::new(),
            local_addresses: Vec::new(),
            config: None,
        }
    }
}

fn put<K: Ord + Copy, V: Copy + PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<(K, V)> {
    new.iter()
        .filter(|(key, value)| old.get(key) != Some(value))
        .map(|(key, value)| (*key, *value))
        .collect()
}

fn absent<V>(old: &BTreeMap<u32, V>, new: &BTreeMap<u32, V>) -> Vec<u32> {
    new.keys().filter(|key| !old.contains_key(key)).copied().collect()
}

fn gone<K: Ord + Copy, V: Copy>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Vec<(K, V)> {
    old.iter()
        .filter(|(key, _)| !new.contains_key(key))
        .map(|(key, value)| (*key, *value))
        .collect()
}

fn keys<K, V>(entries: Vec<(K, V)>) -> Vec<K> {
    entries.into_iter().map(|(key, _)| key).collect()
}
