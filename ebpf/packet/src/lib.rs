//! The only code that reads or writes packet bytes: headers, checksums, encapsulation, flow hash, answers.
//!
//! It builds for BPF and for the host, so that what runs in the kernel is tested as ordinary Rust. Numbers read from
//! a packet are kept as they lie in it (network order) where they are only compared or copied; a name that says `len`
//! or `mtu` is in host order. Nothing here indexes unchecked, wraps or panics on bytes from the network.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    target_arch = "bpf",
    feature(asm_experimental_arch, core_intrinsics),
    allow(
        internal_features,
        reason = "an optimisation barrier that the verifier needs has no other name"
    )
)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::many_single_char_names,
    reason = "programs are one function each for the verifier, and widths are those of the wire"
)]

pub mod answer;
pub mod checksum;
pub mod dns;
pub mod encap;
pub mod flow;
mod frame;
pub mod hash;
pub mod neighbour;
mod parse;
pub mod quote;
pub mod steer;
pub mod wire;

pub use frame::{Frame, FrameMut, Slice, SliceMut, View, ViewMut, Wire, load, view, view_mut};
pub use parse::{Fragment, Packet, parse, parse_into, parse_ip};
