//! The embedded DNS of every task: names of the cluster, and a caching way to the upstream servers for all others.
//!
//! A task asks 127.0.0.11:53. Nothing listens there: the agent opens sockets inside the task's namespace at random
//! ports of that address ([`open_sockets`]), and the `sock_lb` programs translate, so a task can still bind
//! `0.0.0.0:53` itself. [`DnsServer`] serves the sockets of all tasks of a node.
//!
//! ```
//! use essaim_dns::{AskerId, AskerInfo, DnsServer, Zone};
//! use essaim_model::{Catalog, Liveness, example};
//! use std::net::{TcpListener, UdpSocket};
//! use std::sync::Arc;
//!
//! let catalog = Catalog::parse(example())?;
//! let server = DnsServer::start()?;
//! server.set_zone(Arc::new(Zone::new(&catalog, &Liveness::of(&catalog))));
//!
//! let web = &catalog.services[0];
//! let info = AskerInfo::of(&catalog, web, &web.tasks[0]);
//! let (udp, tcp) = (UdpSocket::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
//! let address = udp.local_addr()?;
//! server.add_asker(AskerId(1), info, udp, tcp)?;
//!
//! // `web A`
//! let client = UdpSocket::bind("127.0.0.1:0")?;
//! client.send_to(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03web\0\0\x01\0\x01", address)?;
//! let mut answer = [0; 512];
//! let length = client.recv(&mut answer)?;
//! assert_eq!(answer[length - 4..length], [10, 0, 1, 2]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which part does what
//!
//! | part | is | does |
//! |---|---|---|
//! | `zone` | pure | every name of the cluster, made of one part a service and shared between revisions; what a question of a task is answered with, which sees its own networks only |
//! | `wire` | pure | reads a question and writes an answer, bounded and without an allocation |
//! | `respond` | pure | a datagram in, a datagram out, or the word that upstream servers must be asked |
//! | `cache` | pure | what they said, within a bound of memory and of time; the time comes in |
//! | `upstream` | pure, and a shell | whether a message is the answer to a question; asking all servers at once, equal questions once |
//! | `kernel` | pure, over a trait | which answers the kernel gives by itself from then on, and when they end |
//! | `server` | a shell | threads that take UDP in batches, and a runtime for TCP and the upstream servers |
//!
//! # Why not `hickory-server`
//!
//! For its price. With a handler that returns one ready record, so without a zone, a cache or a task's view, one
//! thread of it takes some 6.5 microseconds of CPU a question, and this crate with all of them 5; the target is 6.
//! `benches/README.md` has both programs, the commands and the figures. What is left is the kernel's: 98 % of the time
//! is system time, and an answer alone takes 0.4 microseconds. So datagrams are taken and given in batches, and an
//! answer is written straight behind its question.
//!
//! `hickory-proto` is what the tests read and write messages with: two implementations that must agree. The messages of
//! upstream servers are walked over and passed on as they are, unknown types included, so nothing here decodes them.
#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod asker;
mod bench;
mod cache;
mod counters;
mod fuzz;
mod kernel;
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
pub use fuzz::{fuzz_kernel, fuzz_query, fuzz_upstream};
pub use kernel::KernelAnswers;
pub use resolv_conf::{DNS_PORT, RESOLVER_ADDRESS, resolv_conf, upstreams_of};
pub use server::{DnsServer, OpenError, ServerError, open_sockets};
pub use zone::{ANSWER_TTL, DENIAL_TTL, Zone};
