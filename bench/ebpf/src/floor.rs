//! What the programs under test are compared with.

use crate::driver::{Bytes, driver};
use crate::maps;
use aya_ebpf::bindings::TC_ACT_OK;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_TX};
use aya_ebpf::helpers::generated::bpf_redirect_peer;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use essaim_abi::{Addr, FlowKey};
use essaim_packet::wire::{ethernet, ipv4};
use essaim_packet::{View, view};

/// Floor A.
#[xdp(frags)]
fn tx_xdp(_: XdpContext) -> u32 {
    XDP_TX
}

/// Floor B: the least that a balancer with a connection table does, nothing written to the packet.
#[xdp(frags)]
fn lookup_xdp(ctx: XdpContext) -> u32 {
    let frame = Bytes(ctx.data()..ctx.data_end());
    let Ok(header) = view::<{ ethernet::LEN + ipv4::LEN + 4 }>(&frame, 0) else {
        return XDP_ABORTED;
    };
    match chosen(&key(&header)) {
        Some(_) => XDP_TX,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn key(header: &View<'_, { ethernet::LEN + ipv4::LEN + 4 }>) -> FlowKey {
    FlowKey {
        remote: Addr::v4(header.get(ethernet::LEN + ipv4::SOURCE)),
        local: Addr::v4(header.get(ethernet::LEN + ipv4::DESTINATION)),
        remote_port: header.get(ethernet::LEN + ipv4::LEN),
        local_port: header.get(ethernet::LEN + ipv4::LEN + 2),
        protocol: header.get(ethernet::LEN + ipv4::PROTOCOL),
        reserved: [0; 3],
    }
}

/// The backend of a flow; a flow that is not known gets one (the first turn fills the table).
#[inline(always)]
fn chosen(key: &FlowKey) -> Option<u64> {
    // SAFETY: the value is copied at once.
    let index = if let Some(index) = unsafe { maps::FLOOR_TABLE.get(key) } {
        *index
    } else {
        let index = u32::from(key.remote_port) & 127;
        maps::FLOOR_TABLE.insert(key, index, 0).ok()?;
        index
    };
    maps::FLOOR_BACKENDS.get(index).copied()
}

/// Floor of tc.
#[classifier]
fn ok_tc(_: TcContext) -> i32 {
    TC_ACT_OK
}

/// The bare redirect into another namespace.
#[classifier]
fn peer_tc(_: TcContext) -> i32 {
    let Some(driver) = driver() else {
        return TC_ACT_OK;
    };
    // SAFETY: the helper has no condition.
    unsafe { bpf_redirect_peer(driver.peer, 0) as i32 }
}
