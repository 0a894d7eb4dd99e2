//! Where live packets end.

use crate::maps;
use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

#[inline(always)]
fn count() {
    if let Some(received) = maps::RECEIVED.get_ptr_mut(0) {
        // SAFETY: this CPU's own cell, which lives as long as the program.
        unsafe { *received = (*received).wrapping_add(1) };
    }
}

#[xdp]
fn drop_xdp(_: XdpContext) -> u32 {
    count();
    XDP_DROP
}

#[classifier]
fn drop_tc(_: TcContext) -> i32 {
    count();
    TC_ACT_SHOT
}
