//! The cluster's objects as the Docker Engine API shapes them: nodes, services, tasks, networks, secrets, configs.
//!
//! The store keeps these types, and the API shows them. So they are read and written as that API's clients expect:
//! - Members have the API's names, and are read whatever their case (as Docker's own server does; docker-py relies on it).
//! - What a client posts comes back: members that this version does not know are kept in `extra`, at every depth, and
//!   what was not given is not invented. `null` stands for an absent member.
//! - Defaults are in methods that say so (`mode()`, `update()`, `restart()`), never in the stored object.
//! - Times are RFC 3339 with nanoseconds, spans are nanoseconds, data is base64.
//!
//! A few members are Essaim's own and say so; `to_public` and [`Task::to_api`] give what the API may show.
//!
//! Beside the types are the pure functions about them: the checks of what a client asks, placement
//! constraints, placeholders, and values as people write them.
#![forbid(unsafe_code)]

mod check;
mod cluster;
mod constraint;
mod container;
mod endpoint;
mod id;
mod network;
mod node;
mod object;
mod secret;
mod service;
mod task;
mod task_spec;
mod template;
mod value;
pub mod written;

pub use check::{Invalid, MAX_CONFIG_SIZE, MAX_SECRET_SIZE, check_address_pools, check_data_path_port};
pub use cluster::*;
pub use constraint::{Constraint, ConstraintError, ConstraintKey, SpreadKey};
pub use container::*;
pub use endpoint::*;
pub use id::*;
pub use network::*;
pub use node::*;
pub use object::{Extra, WordError, first_asked};
pub use secret::*;
pub use service::*;
pub use task::*;
pub use task_spec::*;
pub use template::{Template, TemplateContext, TemplateError};
pub use value::*;
