//! The embedded DNS of every task.
#![deny(unsafe_code)]

mod asker;
mod bench;
mod cache;
mod counters;
mod fuzz;
mod resolv_conf;
mod respond;
mod server;
mod shuffle;
#[cfg(test)]
mod testing;
mod upstream;
mod wire;
mod zone;

pub use asker::{AskerId, AskerInfo, Outside};
#[doc(hidden)]
pub use bench::Bench;
pub use counters::Counters;
#[doc(hidden)]
pub use fuzz::{fuzz_query, fuzz_upstream};
pub use resolv_conf::{DNS_PORT, RESOLVER_ADDRESS, resolv_conf, upstreams_of};
pub use server::{DnsServer, OpenError, ServerError, open_sockets};
pub use zone::{ANSWER_TTL, DENIAL_TTL, Zone};
