use essaim_abi::maps;
use std::collections::BTreeMap;

/// How many entries the maps have whose sizes depend on the catalog.
///
/// Too low: applying a plan fails with [`crate::DatapathError::Capacity`] until the maps are grown. Too high: the
/// kernel's memory is taken for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Groups of backends, the reserved entry included.
    pub services: u32,
    /// Backends, the reserved entry included.
    pub backends: u32,
    /// Slots of all lists and Maglev tables, earlier owners included.
    pub tables: u32,
    /// Overlay addresses.
    pub endpoints: u32,
    /// Established flows.
    pub flows: u32,
}

impl Default for Sizing {
    fn default() -> Self {
        Self {
            services: maps::MIN_SERVICES,
            backends: maps::MIN_BACKENDS,
            tables: maps::MIN_TABLES,
            endpoints: maps::MIN_ENDPOINTS,
            flows: maps::MAX_FLOWS,
        }
    }
}

impl Sizing {
    /// The larger of both, map by map.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            services: self.services.max(other.services),
            backends: self.backends.max(other.backends),
            tables: self.tables.max(other.tables),
            endpoints: self.endpoints.max(other.endpoints),
            flows: self.flows.max(other.flows),
        }
    }

    /// The maps concerned, with their sizes.
    pub(crate) fn entries(self) -> BTreeMap<&'static str, u32> {
        let Self {
            services,
            backends,
            tables,
            endpoints,
            flows,
        } = self;
        BTreeMap::from([
            (maps::SERVICES, services),
            (maps::NEXT_PICK, services),
            (maps::SERVICE_COUNTERS, services),
            (maps::BACKENDS, backends),
            (maps::BACKEND_COUNTERS, backends),
            (maps::TABLES, tables),
            (maps::ENDPOINT_BY_ADDR, endpoints),
            (maps::FLOWS, flows),
        ])
    }
}
