//! The cluster's names.
//!
//! A zone is made of one part for each service and two indices over them, by name and by address. A change of one
//! service makes its part anew and shares the rest with the zone before. When a task only changes its state the
//! service has the same names as before, and the indices are shared whole.

mod answer;
mod changes;
mod part;
mod shards;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Answer, Family};
pub(crate) use part::Host;

use changes::Changes;
use essaim_model::{Catalog, Liveness, NetworkName, Service, ServiceName, Vni};
use ipnet::IpNet;
use part::Part;
use shards::Shards;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// How long a client may keep an answer about the cluster, in seconds. Answers change at once when a task does; what
/// a client holds on to for longer sends it to a task that is gone. Peers say 600, which costs their users that long.
/// Asking again costs microseconds, so only bursts are worth a cache.
pub const ANSWER_TTL: u32 = 2;
/// How long a client may keep a denial about the cluster, in seconds: the name of a service that is being started is
/// asked for by clients that wait for it.
pub const DENIAL_TTL: u32 = 1;

/// Every name of the cluster, with what it stands for. Cheap to copy and to change in one place.
#[derive(Clone, Debug)]
pub struct Zone {
    revision: u64,
    networks: Arc<Networks>,
    /// The place of each service in `parts`.
    services: Arc<HashMap<ServiceName, u32>>,
    /// Empty parts where a service was.
    parts: Vec<Arc<Part>>,
    names: Shards<Box<[Binding]>>,
    addresses: Shards<AddressOwner>,
}

/// What a name stands for on one network, for one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Binding {
    vni: Vni,
    service: u32,
    /// The place in [`Part::names`].
    name: u32,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct AddressOwner {
    vni: Vni,
    service: u32,
    /// The place in [`Part::hosts`].
    host: u32,
}

/// The networks that have names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Networks {
    vnis: BTreeMap<NetworkName, Vni>,
    /// All overlay addresses, those of the ingress network included: nobody else knows a name for them.
    subnets: Vec<IpNet>,
}

impl Networks {
    fn of(catalog: &Catalog) -> Self {
        let networks = catalog.networks.iter();
        let subnets = networks.clone().flat_map(|network| &network.subnets);
        Self {
            vnis: networks
                .clone()
                .map(|network| (network.name.clone(), network.vni))
                .collect(),
            subnets: subnets.chain(&catalog.cluster.ingress_subnets).copied().collect(),
        }
    }

    /// A network has another VNI now, so that parts made before are wrong. One that came or went is on the lists of
    /// services that changed with it.
    fn moved(&self, now: &Self) -> bool {
        let mut vnis = self.vnis.iter();
        vnis.any(|(name, vni)| now.vni_of(name).is_some_and(|now| now != *vni))
    }

    fn vni_of(&self, network: &NetworkName) -> Option<Vni> {
        self.vnis.get(network).copied()
    }
}

impl Default for Zone {
    /// No names at all.
    fn default() -> Self {
        Self {
            revision: 0,
            networks: Arc::default(),
            services: Arc::default(),
            parts: Vec::new(),
            names: Shards::new(),
            addresses: Shards::new(),
        }
    }
}

impl Zone {
    /// The names of a catalog (one that [`Catalog::check`] accepts) with the tasks that are ready.
    pub fn new(catalog: &Catalog, liveness: &Liveness) -> Self {
        let mut zone = Self {
            revision: catalog.revision,
            networks: Arc::new(Networks::of(catalog)),
            ..Self::default()
        };
        for service in &catalog.services {
            zone.put(service, liveness);
        }
        zone
    }

    /// As [`Zone::new`] of `now`, where this is the zone of `before`: makes anew only what changed between them.
    #[must_use]
    pub fn rebuild(&self, before: (&Catalog, &Liveness), now: (&Catalog, &Liveness)) -> Self {
        let (catalog, liveness) = now;
        let same_catalog = std::ptr::eq(before.0, catalog);
        let mut zone = self.clone();
        if !same_catalog {
            let networks = Networks::of(catalog);
            if self.networks.moved(&networks) {
                return Self::new(catalog, liveness);
            }
            zone.networks = Arc::new(networks);
        }
        zone.revision = catalog.revision;
        let changes = Changes::between(before.1, liveness);
        if same_catalog {
            for service in catalog.services.iter().filter(|service| changes.touch(service)) {
                zone.put(service, liveness);
            }
            return zone;
        }
        let mut old: HashMap<&ServiceName, &Service> = before
            .0
            .services
            .iter()
            .map(|service| (&service.name, service))
            .collect();
        // Those that are no more first: their places are used again.
        let kept = catalog
            .services
            .iter()
            .map(|service| (service, old.remove(&service.name)));
        let kept: Vec<_> = kept.collect();
        for name in old.into_keys() {
            zone.remove(name);
        }
        for (service, was) in kept {
            if was != Some(service) || changes.touch(service) {
                zone.put(service, liveness);
            }
        }
        zone
    }

    /// The revision of the catalog that it was made of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Makes the part of a service, and the indices where its names are others than before.
    fn put(&mut self, service: &Service, liveness: &Liveness) {
        let new = Part::new(service, &self.networks, |task| liveness.state_of(task));
        let place = self.place_of(&service.name);
        self.replace(place, new);
    }

    fn remove(&mut self, service: &ServiceName) {
        if let Some(place) = Arc::make_mut(&mut self.services).remove(service) {
            self.replace(place, Part::default());
        }
    }

    /// The service's place among the parts: a new one for a new service.
    fn place_of(&mut self, service: &ServiceName) -> u32 {
        if let Some(place) = self.services.get(service) {
            return *place;
        }
        let services = Arc::make_mut(&mut self.services);
        // As many parts as services, or there is a place without one.
        let free = (self.parts.len() > services.len()).then(|| {
            let used: std::collections::HashSet<u32> = services.values().copied().collect();
            (0..u32::MAX).find(|place| !used.contains(place)).unwrap_or(0)
        });
        let place = free.unwrap_or_else(|| {
            self.parts.push(Arc::default());
            u32::try_from(self.parts.len())
                .unwrap_or(u32::MAX)
                .saturating_sub(1)
        });
        services.insert(service.clone(), place);
        place
    }

    fn replace(&mut self, place: u32, new: Part) {
        let Some(part) = self.parts.get_mut(place as usize) else {
            return;
        };
        let new = Arc::new(new);
        let old = std::mem::replace(part, new.clone());
        let same_names = old.names.len() == new.names.len()
            && old
                .names
                .iter()
                .zip(&new.names)
                .all(|(old, new)| (&old.name, old.vni) == (&new.name, new.vni));
        if !same_names {
            for name in &old.names {
                self.unbind(&name.name, place);
            }
            for (index, name) in (0..).zip(&new.names) {
                self.bind(
                    &name.name,
                    Binding {
                        vni: name.vni,
                        service: place,
                        name: index,
                    },
                );
            }
        }
        if old.addresses != new.addresses {
            for (address, ..) in &old.addresses {
                let key = AddressKey::of(*address);
                // Another service may have it by now.
                if self
                    .addresses
                    .get(key.bytes())
                    .is_some_and(|owner| owner.service == place)
                {
                    self.addresses.remove(key.bytes());
                }
            }
            for (address, vni, host) in &new.addresses {
                let owner = AddressOwner {
                    vni: *vni,
                    service: place,
                    host: *host,
                };
                self.addresses.insert(AddressKey::of(*address).bytes(), owner);
            }
        }
    }

    fn bind(&mut self, name: &[u8], binding: Binding) {
        let mut bindings = self
            .names
            .get(name)
            .map(|known| known.to_vec())
            .unwrap_or_default();
        let place = bindings.partition_point(|known| *known < binding);
        bindings.insert(place, binding);
        self.names.insert(name, bindings.into());
    }

    fn unbind(&mut self, name: &[u8], service: u32) {
        let Some(known) = self.names.get(name) else { return };
        let rest: Box<[Binding]> = known
            .iter()
            .copied()
            .filter(|binding| binding.service != service)
            .collect();
        if rest.is_empty() {
            self.names.remove(name);
        } else {
            self.names.insert(name, rest);
        }
    }
}

/// An address as a key, without an allocation.
#[derive(Clone, Copy)]
enum AddressKey {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl AddressKey {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(address.octets()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}
