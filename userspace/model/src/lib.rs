//! The catalog, liveness, and the pure plan of what the data plane of one node should hold.
//!
//! ```
//! use essaim_model::{Catalog, Liveness, NodeName, example, plan};
//!
//! let catalog = Catalog::parse(example())?;
//! let desired = plan(&catalog, &Liveness::of(&catalog), &NodeName::new("n1")?)?;
//! assert_eq!(desired.services.len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod catalog;
mod desired;
mod facts;
mod host_names;
mod ids;
mod liveness;
mod maglev;
mod names;
mod plan;

pub use catalog::{
    Affinity, Catalog, CatalogDelta, CatalogError, CatalogErrors, Changes, Cluster, DeltaError, Endpoint,
    HISTORY_GENERATIONS, HealthCheck, HealthTest, MASQUERADE_PORTS, Network, Node, NodeState, Place, Port,
    PortMode, Problem, ReturnPath, SERVICE_MAX_DNS_SERVERS, Service, ServiceDns, ServiceNetwork,
    TASK_MAX_NETWORKS, Task,
};
pub use desired::{
    AddressKind, AddressPlan, AttachmentPlan, BackendPlan, ClusterPlan, DesiredState, GroupPlan,
    PublishedPort, ServicePlan, SubnetPlan, TaskState, Timeouts,
};
pub use facts::{AttachmentFacts, NextHop, NodeFacts, ResolverPorts, Uplink};
pub use host_names::{ContainerId, HostName, PortName, ResolverOption};
pub use ids::stable_id;
pub use liveness::Liveness;
pub use maglev::{MaglevTable, Membership, TABLE_SIZES, table_size};
pub use names::{
    AttachmentKey, BackendKey, InterfaceName, NameError, NetworkName, NodeName, Scope, ServiceKey,
    ServiceName, TaskId, Vni, VniError,
};
pub use plan::{PlanError, plan, replan};

/// The catalog that the documentation shows: nodes `n1` to `n3`, one dual-stack network, services `web` and `api`.
pub const fn example() -> &'static str {
    include_str!("../../../docs/catalog-example.toml")
}
