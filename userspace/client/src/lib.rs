//! The operator's commands: `swarm`, `node`, `service`, `stack`, `network`, `secret` and `config`.
//!
//! They speak the Docker Engine API over a Unix socket or TCP, and have the flags, defaults and tables that users of the
//! docker CLI know. [`Command`] and [`NodeCommand`] are what clap reads, [`HostArgs`] says where the daemon is, and
//! [`run`] and [`run_node`] do what is asked in the surroundings of a [`Console`]. [`completions`] writes what a shell
//! needs to complete them.
//!
//! What can be pure is: from flags to a spec, from a spec and flags to another, from objects to the rows of a table,
//! from what the daemon shows to how far a service is. Round that is a thin shell for HTTP.
//!
//! | part | pure | does |
//! |---|---|---|
//! | `parse` | yes | spans, sizes, ports, mounts, and what else is typed after a flag |
//! | `template`, `table`, `human`, `inspect` | yes, but for the reading of objects | what is printed, and through which template |
//! | `service::create`, `update`, `flags` | yes | the specs of services |
//! | `service::progress`, `logs` | yes | how far a service is; the lines of its tasks |
//! | `swarm`, `node`, `service`, `stack`, `network`, `data` | no | the requests of each command |
//! | `api` | no | one request after another, the version that both sides speak |
#![forbid(unsafe_code)]

mod api;
mod command;
mod console;
mod data;
mod error;
mod host;
mod human;
mod inspect;
mod network;
mod node;
mod parse;
mod registry;
mod service;
mod stack;
mod swarm;
mod table;
mod tasks;
mod template;
mod tls;

pub use clap_complete::Shell;
pub use command::{Command, completions, run, run_node};
pub use console::{Console, Exit};
pub use data::{ConfigCommand, SecretCommand};
pub use error::Error;
pub use host::{DEFAULT_HOST, Endpoint, HostArgs, HostError};
pub use network::NetworkCommand;
pub use node::NodeCommand;
pub use service::ServiceCommand;
pub use stack::StackCommand;
pub use swarm::SwarmCommand;
pub use template::TemplateError;
pub use tls::{TlsError, TlsFiles};
