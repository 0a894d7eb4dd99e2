//! The embedded DNS of every task.

mod asker;
mod resolv_conf;
mod server;
mod wire;
mod zone;

pub use asker::{AskerId, AskerInfo, Outside};
pub use resolv_conf::{DNS_PORT, RESOLVER_ADDRESS, resolv_conf, upstreams_of};
pub use server::{Counters, DnsServer, OpenError, ServerError, open_sockets};
pub use zone::Zone;
