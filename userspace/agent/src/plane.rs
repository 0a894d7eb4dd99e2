use essaim_abi::EARLIER_OWNERS;
use essaim_datapath::{
    AttachReport, Datapath, DatapathError, DatapathOptions, EventRing, Maps, Sizing, XdpAttachment,
};
use essaim_model::{DesiredState, GroupPlan, NodeFacts};
use nix::net::if_::if_indextoname;

/// The data plane as the agent uses it: grows maps that are too small, and says what concerns the operator.
#[derive(Debug)]
pub(crate) struct Plane {
    datapath: Datapath,
}

/// How often one plan may find a map too small: each of those that grow, some more than once.
const GROW_LIMIT: usize = 16;

impl Plane {
    /// Adopts what is pinned, or makes it.
    pub(crate) fn open(options: &DatapathOptions) -> Result<Self, DatapathError> {
        let mut datapath = Datapath::open(options)?;
        // A watcher of an agent that was killed does not watch any more.
        datapath.set_watch(false)?;
        // Counted since the start, as all that the resolver does.
        datapath.maps_mut().dns_counters.clear(0)?;
        Ok(Self { datapath })
    }

    /// Makes the maps hold a plan, growing those that are too small.
    pub(crate) fn apply(&mut self, desired: &DesiredState, facts: &NodeFacts) -> Result<(), DatapathError> {
        for _ in 0..GROW_LIMIT {
            match self.datapath.apply(desired, facts) {
                Ok(report) => {
                    if !report.is_unchanged() {
                        tracing::debug!(?report, revision = desired.revision, "maps changed");
                    }
                    return Ok(());
                }
                Err(DatapathError::Capacity {
                    map,
                    needed,
                    capacity,
                }) => {
                    tracing::info!(map, needed, capacity, "growing the maps");
                    let sizing = self.datapath.sizing()?.max(sizing_for(desired));
                    let sizing = grown(sizing, map, needed).ok_or(DatapathError::Capacity {
                        map,
                        needed,
                        capacity,
                    })?;
                    self.datapath.grow(sizing)?;
                }
                Err(error) => return Err(error),
            }
        }
        self.datapath.apply(desired, facts).map(drop)
    }

    /// Hangs the programs in where they should be.
    pub(crate) fn attach(&mut self, facts: &NodeFacts) -> Result<(), DatapathError> {
        let AttachReport {
            attached,
            detached,
            xdp,
        } = self.datapath.attach(facts)?;
        if !attached.is_empty() || !detached.is_empty() {
            tracing::info!(
                attached = attached.len(),
                detached = detached.len(),
                "programs attached"
            );
        }
        for (ifindex, attachment) in xdp {
            let uplink = if_indextoname(ifindex)
                .map_or_else(|_| ifindex.to_string(), |name| name.to_string_lossy().into());
            match attachment {
                XdpAttachment::Native => tracing::info!(uplink, "XDP runs in the driver"),
                XdpAttachment::Generic => {
                    tracing::warn!(
                        uplink,
                        "the driver has no XDP: it runs in the kernel's generic mode, slower"
                    );
                }
                XdpAttachment::LeftOut => {
                    tracing::warn!(uplink, "XDP cannot be attached: uplink_tc does its work, slower");
                }
            }
        }
        Ok(())
    }

    pub(crate) fn datapath(&self) -> &Datapath {
        &self.datapath
    }

    pub(crate) fn datapath_mut(&mut self) -> &mut Datapath {
        &mut self.datapath
    }

    pub(crate) fn maps(&self) -> &Maps {
        self.datapath.maps()
    }

    pub(crate) fn events(&self) -> Result<EventRing, DatapathError> {
        self.datapath.events()
    }

    /// Removes flows whose time is over.
    pub(crate) fn sweep(&mut self) {
        match self.datapath.sweep_flows() {
            Ok(report) => tracing::trace!(?report, "flows swept"),
            Err(error) => tracing::warn!(
                error = crate::chain(&error),
                "failed to remove flows whose time is over"
            ),
        }
    }

    pub(crate) fn set_watch(&mut self, on: bool) -> Result<(), DatapathError> {
        self.datapath.set_watch(on)
    }
}

/// Sizes that a plan fits into, with room for half as much again; tables for twice as much, because a list that changes
/// stands beside its predecessor for a while.
pub(crate) fn sizing_for(desired: &DesiredState) -> Sizing {
    let plans = || desired.services.values();
    let groups = || plans().flat_map(|plan| plan.groups.values());
    let with_room = |count: usize| u32::try_from(count + count / 2 + 1).unwrap_or(u32::MAX);
    let table = |group: &GroupPlan| {
        let maglev = group.maglev.as_ref().map_or(0, |table| {
            table.owners.len()
                + table
                    .earlier
                    .as_ref()
                    .map_or(0, |earlier| earlier.len() * EARLIER_OWNERS as usize)
        });
        group.active.len() + maglev
    };
    let addresses = plans().map(|plan| plan.addresses.len()).sum::<usize>() + desired.cluster.addresses.len();
    let smallest = Sizing::default();
    smallest.max(Sizing {
        services: with_room(groups().count()),
        backends: with_room(plans().map(|plan| plan.backends.len()).sum()),
        tables: u32::try_from(groups().map(table).sum::<usize>().saturating_mul(2)).unwrap_or(u32::MAX),
        endpoints: with_room(addresses),
        flows: smallest.flows,
    })
}

/// Sizes with room for half as much again as is needed of one map; `None` where that map does not grow.
fn grown(mut sizing: Sizing, map: &str, needed: u64) -> Option<Sizing> {
    use essaim_abi::maps as name;
    let size = match map {
        name::SERVICES => &mut sizing.services,
        name::BACKENDS => &mut sizing.backends,
        name::TABLES => &mut sizing.tables,
        name::ENDPOINT_BY_ADDR => &mut sizing.endpoints,
        _ => return None,
    };
    let room = u32::try_from(needed.saturating_add(needed / 2)).ok()?;
    if u64::from(*size) <= needed {
        *size = room.max(size.saturating_add(*size / 2));
    }
    Some(sizing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{Catalog, Liveness, NodeName, ServiceName, plan};
    use std::sync::Arc;

    #[test]
    fn a_map_grows_by_half_of_what_is_needed_and_never_shrinks() {
        let sizing = Sizing::default();
        let larger = grown(sizing, essaim_abi::maps::BACKENDS, 100_000).unwrap();
        assert_eq!(
            larger,
            Sizing {
                backends: 150_000,
                ..sizing
            }
        );
        assert_eq!(grown(larger, essaim_abi::maps::BACKENDS, 1), Some(larger));
        let larger = grown(sizing, essaim_abi::maps::TABLES, u64::from(sizing.tables)).unwrap();
        assert_eq!(
            larger,
            Sizing {
                tables: sizing.tables + sizing.tables / 2,
                ..sizing
            }
        );
    }

    #[test]
    fn what_is_of_fixed_size_does_not_grow() {
        assert_eq!(grown(Sizing::default(), essaim_abi::maps::VTEPS, 5000), None);
        assert_eq!(
            grown(Sizing::default(), essaim_abi::maps::SERVICES, u64::MAX),
            None
        );
    }

    #[test]
    fn a_plan_fits_the_sizes_made_for_it() {
        let catalog = Catalog::parse(essaim_model::example()).unwrap();
        let mut desired = plan(&catalog, &Liveness::of(&catalog), &NodeName::new("n1").unwrap()).unwrap();
        assert_eq!(
            sizing_for(&desired),
            Sizing::default(),
            "a small plan fits the smallest maps"
        );
        let web = desired
            .services
            .remove(&ServiceName::new("web").unwrap())
            .unwrap();
        for number in 0..4000 {
            let name = ServiceName::new(&format!("web{number}")).unwrap();
            desired.services.insert(name, Arc::clone(&web));
        }
        let sizing = sizing_for(&desired);
        assert!(
            sizing.services > 4000 * 2 && sizing.backends > 4000 * 3,
            "{sizing:?}"
        );
        assert!(
            sizing.tables >= 4000 * 1499 && sizing.endpoints > 4000 * 8,
            "{sizing:?}"
        );
    }
}
