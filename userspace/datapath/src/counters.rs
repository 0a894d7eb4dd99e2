use crate::DatapathError;
use crate::maps::Maps;
use essaim_abi::{Counters, DropReason};
use essaim_model::{BackendKey, DesiredState, ServiceKey};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;

/// What the programs counted, summed over the CPUs. What nothing was counted for is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountersReport {
    /// Drops by reason.
    pub drops: BTreeMap<DropReason, Counters>,
    /// By group of backends.
    pub services: BTreeMap<ServiceKey, Counters>,
    /// By backend.
    pub backends: BTreeMap<BackendKey, Counters>,
}

/// Reads the counters of what a plan names.
///
/// # Errors
/// Where a map cannot be read.
pub(crate) fn read(maps: &Maps, desired: &DesiredState) -> Result<CountersReport, DatapathError> {
    let mut report = CountersReport::default();
    for (number, counters) in maps.drop_counters.sums()? {
        if let Some(reason) = u8::try_from(number).ok().and_then(DropReason::of) {
            report.drops.insert(reason, counters);
        }
    }
    let plans = || desired.services.values();
    let services: BTreeMap<u64, &ServiceKey> = plans()
        .flat_map(|plan| plan.groups.keys())
        .map(|key| (key.id(), key))
        .collect();
    for (index, counters) in maps.service_counters.sums()? {
        if let Some(key) = services.get(&maps.services.read(index)?.id) {
            report.services.insert((*key).clone(), counters);
        }
    }
    let backends: BTreeMap<u64, &BackendKey> = plans()
        .flat_map(|plan| plan.backends.keys())
        .map(|key| (key.id(), key))
        .collect();
    for (index, counters) in maps.backend_counters.sums()? {
        if let Some(key) = backends.get(&maps.backends.read(index)?.id) {
            report.backends.insert((*key).clone(), counters);
        }
    }
    Ok(report)
}

/// Bytes of kernel memory that each map takes, as the kernel accounts for them.
///
/// # Errors
/// Where `/proc` cannot be read.
pub(crate) fn memory(maps: &Maps) -> Result<BTreeMap<String, u64>, DatapathError> {
    let mut sizes = BTreeMap::new();
    for (name, fd) in maps.all() {
        let path = format!("/proc/self/fdinfo/{}", fd.as_raw_fd());
        let info = fs::read_to_string(&path).map_err(crate::syscall("read", &path))?;
        let bytes = info
            .lines()
            .find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
        sizes.insert(name.clone(), bytes.unwrap_or(0));
    }
    Ok(sizes)
}
