//! The maps of a node with their types; their names, and what they mean, stand in [`essaim_abi::maps`].

use crate::mapped::MappedArray;
use crate::table::{CounterArray, Table};
use crate::{DatapathError, syscall};
use essaim_abi::maps;
use essaim_abi::{
    Addr, Backend, Config, DnsAnswer, DnsKey, DnsState, Endpoint, Flow, FlowKey, FragmentKey, FragmentPorts,
    FrontEndpoint, FrontLocal, LocalAddressBucket, LocalEndpoint, NetnsInfo, Port, Service, Vtep,
};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Every map of a generation, open.
#[derive(Debug)]
pub struct Maps {
    /// [`maps::CONFIG`].
    pub config: MappedArray<Config>,
    /// [`maps::LOCAL_ADDRESSES`].
    pub local_addresses: MappedArray<LocalAddressBucket>,
    /// [`maps::PORTS`].
    pub ports: MappedArray<Port>,
    /// [`maps::SERVICES`].
    pub services: MappedArray<Service>,
    /// [`maps::BACKENDS`].
    pub backends: MappedArray<Backend>,
    /// [`maps::TABLES`].
    pub tables: MappedArray<u32>,
    /// [`maps::VTEPS`].
    pub vteps: MappedArray<Vtep>,
    /// [`maps::TRANSLATED`].
    pub translated: MappedArray<u32>,
    /// [`maps::VTEP_BY_ADDR`].
    pub vtep_by_addr: Table<Addr, u32>,
    /// [`maps::VTEP_BY_NUMBER`].
    pub vtep_by_number: MappedArray<u32>,
    /// [`maps::ENCRYPTED_VNIS`].
    pub encrypted_vnis: Table<u32, u32>,
    /// [`maps::ENDPOINT_BY_ADDR`].
    pub endpoint_by_addr: Table<Addr, Endpoint>,
    /// [`maps::ENDPOINT_BY_IFINDEX`].
    pub endpoint_by_ifindex: Table<u32, LocalEndpoint>,
    /// [`maps::FRONT_BY_IFINDEX`].
    pub front_by_ifindex: MappedArray<FrontLocal>,
    /// [`maps::FRONT_BY_ADDR`].
    pub front_by_addr: MappedArray<FrontEndpoint>,
    /// [`maps::NETNS_BY_COOKIE`].
    pub netns_by_cookie: Table<u64, NetnsInfo>,
    /// [`maps::FLOWS`].
    pub flows: Table<FlowKey, Flow>,
    /// [`maps::HALF_OPEN_FLOWS`].
    pub half_open_flows: Table<FlowKey, Flow>,
    /// [`maps::FRAGMENTS`].
    pub fragments: Table<FragmentKey, FragmentPorts>,
    /// [`maps::NEXT_PICK`].
    pub next_pick: Table<u32, u64>,
    /// [`maps::DROP_COUNTERS`].
    pub drop_counters: CounterArray,
    /// [`maps::SERVICE_COUNTERS`].
    pub service_counters: CounterArray,
    /// [`maps::BACKEND_COUNTERS`].
    pub backend_counters: CounterArray,
    /// [`maps::IPSEC_COUNTERS`].
    pub ipsec_counters: CounterArray,
    /// [`maps::DNS_ANSWERS`].
    pub dns_answers: Table<DnsKey, DnsAnswer>,
    /// [`maps::DNS_STATE`].
    pub dns_state: MappedArray<DnsState>,
    /// [`maps::DNS_COUNTERS`].
    pub dns_counters: CounterArray,
    all: BTreeMap<String, OwnedFd>,
}

impl Maps {
    /// Opens the maps of a loaded object.
    ///
    /// # Errors
    /// Where one is missing or is not what its name promises.
    pub(crate) fn new(all: BTreeMap<String, OwnedFd>) -> Result<Self, DatapathError> {
        let fd = |name: &'static str| {
            all.get(name)
                .ok_or_else(|| DatapathError::Missing {
                    kind: "map",
                    name: name.to_owned(),
                })?
                .try_clone()
                .map_err(syscall("open map", name))
        };
        Ok(Self {
            config: MappedArray::new(maps::CONFIG, fd(maps::CONFIG)?)?,
            local_addresses: MappedArray::new(maps::LOCAL_ADDRESSES, fd(maps::LOCAL_ADDRESSES)?)?,
            ports: MappedArray::new(maps::PORTS, fd(maps::PORTS)?)?,
            services: MappedArray::new(maps::SERVICES, fd(maps::SERVICES)?)?,
            backends: MappedArray::new(maps::BACKENDS, fd(maps::BACKENDS)?)?,
            tables: MappedArray::new(maps::TABLES, fd(maps::TABLES)?)?,
            vteps: MappedArray::new(maps::VTEPS, fd(maps::VTEPS)?)?,
            translated: MappedArray::new(maps::TRANSLATED, fd(maps::TRANSLATED)?)?,
            vtep_by_addr: Table::new(maps::VTEP_BY_ADDR, fd(maps::VTEP_BY_ADDR)?)?,
            vtep_by_number: MappedArray::new(maps::VTEP_BY_NUMBER, fd(maps::VTEP_BY_NUMBER)?)?,
            encrypted_vnis: Table::new(maps::ENCRYPTED_VNIS, fd(maps::ENCRYPTED_VNIS)?)?,
            endpoint_by_addr: Table::new(maps::ENDPOINT_BY_ADDR, fd(maps::ENDPOINT_BY_ADDR)?)?,
            endpoint_by_ifindex: Table::new(maps::ENDPOINT_BY_IFINDEX, fd(maps::ENDPOINT_BY_IFINDEX)?)?,
            front_by_ifindex: MappedArray::new(maps::FRONT_BY_IFINDEX, fd(maps::FRONT_BY_IFINDEX)?)?,
            front_by_addr: MappedArray::new(maps::FRONT_BY_ADDR, fd(maps::FRONT_BY_ADDR)?)?,
            netns_by_cookie: Table::new(maps::NETNS_BY_COOKIE, fd(maps::NETNS_BY_COOKIE)?)?,
            flows: Table::new(maps::FLOWS, fd(maps::FLOWS)?)?,
            half_open_flows: Table::new(maps::HALF_OPEN_FLOWS, fd(maps::HALF_OPEN_FLOWS)?)?,
            fragments: Table::new(maps::FRAGMENTS, fd(maps::FRAGMENTS)?)?,
            next_pick: Table::new(maps::NEXT_PICK, fd(maps::NEXT_PICK)?)?,
            drop_counters: CounterArray::new(maps::DROP_COUNTERS, fd(maps::DROP_COUNTERS)?)?,
            service_counters: CounterArray::new(maps::SERVICE_COUNTERS, fd(maps::SERVICE_COUNTERS)?)?,
            backend_counters: CounterArray::new(maps::BACKEND_COUNTERS, fd(maps::BACKEND_COUNTERS)?)?,
            ipsec_counters: CounterArray::new(maps::IPSEC_COUNTERS, fd(maps::IPSEC_COUNTERS)?)?,
            dns_answers: Table::new(maps::DNS_ANSWERS, fd(maps::DNS_ANSWERS)?)?,
            dns_state: MappedArray::new(maps::DNS_STATE, fd(maps::DNS_STATE)?)?,
            dns_counters: CounterArray::new(maps::DNS_COUNTERS, fd(maps::DNS_COUNTERS)?)?,
            all,
        })
    }

    /// The descriptor of a map by its name in [`essaim_abi::maps`].
    ///
    /// # Errors
    /// Where there is no such map.
    pub fn fd(&self, name: &str) -> Result<BorrowedFd<'_>, DatapathError> {
        self.all
            .get(name)
            .map(AsFd::as_fd)
            .ok_or_else(|| DatapathError::Missing {
                kind: "map",
                name: name.to_owned(),
            })
    }

    /// All maps by name.
    pub(crate) fn all(&self) -> &BTreeMap<String, OwnedFd> {
        &self.all
    }
}
