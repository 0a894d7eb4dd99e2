//! What the BPF programs and userspace must agree on: map names, keys, values, drop reasons.
//!
//! Every type is `repr(C)` without implicit padding, every pattern of bits is valid, and every type is its
//! own bytes: userspace writes them into maps as they lie in memory. Numbers are in host byte order unless the
//! name of the field or its documentation says "network order". Index 0 of every dense table is reserved, so
//! that a zeroed slot can never route.
#![cfg_attr(not(test), no_std)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::many_single_char_names,
    reason = "programs are one function each for the verifier, and widths are those of the wire"
)]

mod addr;
mod config;
mod counters;
mod dns;
mod endpoint;
mod event;
mod flow;
mod front;
mod ipsec;
pub mod maps;
mod pod;
mod reason;
mod service;
mod vtep;

pub use addr::{Addr, MacAddr};
pub use config::{Config, ConfigFlags, NETNS_MAX_NETWORKS, NetnsFlags, NetnsInfo, SocketState};
pub use counters::Counters;
pub use dns::{DNS_NAME_LEN, DNS_RECORDS_LEN, DnsAnswer, DnsFlags, DnsKey, DnsState};
pub use endpoint::{Endpoint, EndpointFlags, EndpointKind, LocalEndpoint, LocalEndpointFlags};
pub use event::{Event, Hook, Verdict};
pub use flow::{Flow, FlowFlags, FlowKey, FlowKind, FlowState, FragmentKey, FragmentPorts};
pub use front::{FRONT_PLACES, FrontEndpoint, FrontLocal};
pub use ipsec::{ESP_OVERHEAD, IPSEC_COUNTS, IPSEC_MARK, IPSEC_MARK_MASK, IPSEC_RECEIVED, IPSEC_SENT};
pub use pod::Pod;
pub use reason::DropReason;
pub use service::{
    Backend, BackendState, EARLIER_OWNERS, LOCAL_ADDRESS_BUCKETS, LOCAL_ADDRESS_WAYS, LocalAddressBucket,
    PORT_ENTRIES, Port, PortFlags, Protocol, Service, ServiceFlags, TableRef,
};
pub use vtep::{VXLAN_OVERHEAD_V4, VXLAN_OVERHEAD_V6, Vtep, VtepFlags};

/// The version of everything in this crate. A loader refuses, or migrates from, pinned maps of another version.
///
/// Bump it with any change of a key, a value, or the meaning of a field.
pub const ABI_VERSION: u32 = 1;
