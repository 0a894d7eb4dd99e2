//! A bench for the programs: a node's maps filled by hand, packets built header by header, and tables of what comes out.
//!
//! Nothing here shares code with the packet code under test: headers, checksums, the flow hash and the steering are written
//! out again from their specifications. The tests need root, and fail without it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "a harness of tests: it fails by panicking, where the test that uses it stands in the backtrace"
)]

mod check;
mod checksum;
mod fill;
mod frame;
mod hash;
mod hostile;
pub mod index;
mod node;
mod outer;
mod row;
pub mod uplink;

pub use check::sound;
pub use frame::{Fragment, Packet, Payload, Tcp, arp, ethernet, mac_of};
pub use hash::{of_client, of_flow};
pub use hostile::Random;
pub use node::{Node, addr};
pub use outer::{Steering, vxlan};
pub use row::{
    DROP, Input, PASS, REDIRECT, Ran, Row, Watched, check, check_each, encapsulated, kernel_version,
    source_port, xdp,
};
