use std::io;
use std::path::PathBuf;

/// Why the data plane could not be opened, changed or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The operator must run the agent with more rights; nothing was changed.
    #[error(
        "missing {capability}: run as root, or give the process {capability} (setcap, AmbientCapabilities=)"
    )]
    MissingCapability {
        /// The capability, as capabilities(7) names it.
        capability: &'static str,
    },
    /// The operator must boot a newer kernel; nothing was changed.
    #[error("kernel {found} is older than {oldest}, the oldest that is supported: boot a newer one")]
    KernelTooOld {
        /// What uname(2) says.
        found: String,
        /// The oldest that will do.
        oldest: &'static str,
    },
    /// The kernel lacks something that the programs cannot do without; nothing was changed.
    #[error("the kernel lacks {feature}: {remedy}")]
    MissingFeature {
        /// What is missing.
        feature: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The operator must mount it; nothing was changed.
    #[error("{} is on no BPF file system: `mount -t bpf bpf /sys/fs/bpf`, or choose a folder on one", path.display())]
    BpfFsMissing {
        /// The folder of the pins.
        path: PathBuf,
    },
    /// The operator must name another folder; nothing was changed.
    #[error("{} is no folder of a cgroup v2 hierarchy: mount one (`mount -t cgroup2 none DIR`) or name one", path.display())]
    NotCgroup2 {
        /// The folder that was named.
        path: PathBuf,
    },
    /// The embedded object is broken, or the kernel refuses its maps or programs; what ran before still runs.
    #[error("failed to load {object}")]
    Load {
        /// The object or the program in it.
        object: String,
        /// What aya says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The embedded object lacks something that it should have: a bug.
    #[error("the BPF object has no {kind} `{name}`")]
    Missing {
        /// `map` or `program`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A map is not what its name promises; it was left alone.
    #[error("map {map} is {found}, expected {expected}")]
    MapLayout {
        /// The map.
        map: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// What is pinned was left by a newer build; nothing was changed.
    #[error("the pins in {} have ABI version {found}, this build knows {known}: run the newer build, or `essaim clean`", path.display())]
    NewerAbi {
        /// The folder of the pins.
        path: PathBuf,
        /// The version that is pinned.
        found: u32,
        /// The version of this build.
        known: u32,
    },
    /// Another agent, or a test, works with these pins; nothing was changed.
    #[error("the pins in {} are in use by another process: stop the other agent, or choose another folder", path.display())]
    InUse {
        /// The folder of the pins.
        path: PathBuf,
    },
    /// Nothing is pinned where a running data plane should be.
    #[error("no data plane is pinned in {}: is the agent of this node running?", path.display())]
    NotRunning {
        /// The folder of the pins.
        path: PathBuf,
    },
    /// A system call failed; the state is as after the last step that worked, and applying again goes on.
    #[error("failed to {action} {object}")]
    Syscall {
        /// What was tried.
        action: &'static str,
        /// On what.
        object: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// An index outside of a map: a bug.
    #[error("index {index} is outside of map {map} of {len} entries")]
    Index {
        /// The map.
        map: &'static str,
        /// The index.
        index: u32,
        /// The length.
        len: u32,
    },
    /// A map is too small; nothing was changed. [`crate::Datapath::grow`] makes room.
    #[error("map {map} has room for {capacity} entries, {needed} are needed: grow it")]
    Capacity {
        /// The map.
        map: &'static str,
        /// How many are needed.
        needed: u64,
        /// How many fit.
        capacity: u64,
    },
    /// The node has more local addresses than the set of them can place; nothing was changed.
    #[error("no place for local address {address} among {count}: the set holds at most {}", essaim_abi::LOCAL_ADDRESS_BUCKETS as usize * essaim_abi::LOCAL_ADDRESS_WAYS)]
    LocalAddresses {
        /// The address that found no place.
        address: std::net::IpAddr,
        /// How many addresses the node has.
        count: usize,
    },
    /// The plan contradicts itself or the node's facts: a bug of the planner.
    #[error("{subject}: {problem}")]
    Plan {
        /// What the plan speaks of.
        subject: String,
        /// What is wrong.
        problem: String,
    },
    /// The kernel's tick rate could not be learnt; nothing was changed.
    #[error(
        "failed to learn the kernel's tick rate: {ticks} ticks in {micros} µs is no rate that kernels are built with"
    )]
    TickRate {
        /// Ticks that were counted.
        ticks: u32,
        /// In how many microseconds.
        micros: u128,
    },
}

/// Wraps the error of a system call with what was tried on what.
pub(crate) fn syscall(
    action: &'static str,
    object: impl std::fmt::Display,
) -> impl FnOnce(io::Error) -> DatapathError {
    let object = object.to_string();
    move |source| DatapathError::Syscall {
        action,
        object,
        source,
    }
}
