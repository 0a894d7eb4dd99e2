//! Making packets: for the program under test, and for a wire.

use crate::maps;
use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_adjust_room, bpf_xdp_adjust_head};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use core::ops::Range;
use essaim_bench_programs::{Driver, FRAME_LEN, TEMPLATE_LEN, flow_of};
use essaim_packet::wire::{ethernet, ipv4, ipv6};
use essaim_packet::{Frame, FrameMut, ViewMut, view_mut};

/// `BPF_F_ADJ_ROOM_FIXED_GSO`.
const FIXED_GSO: u64 = 1;

/// The bytes of a packet.
pub(crate) struct Bytes(pub(crate) Range<usize>);

// SAFETY: made from the context's two words, after the last call that moves the packet.
unsafe impl Frame for Bytes {
    #[inline(always)]
    fn data(&self) -> usize {
        self.0.start
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        self.0.end
    }
}

// SAFETY: the programs own the packet.
unsafe impl FrameMut for Bytes {}

/// The only entry of the map.
#[inline(always)]
pub(crate) fn driver() -> Option<&'static mut Driver> {
    let driver = maps::DRIVER.get_ptr_mut(0)?;
    // SAFETY: an entry of an array that lives as long as the program; one CPU runs a driver at a time.
    Some(unsafe { &mut *driver })
}

/// Writes the template and the next flow.
#[inline(always)]
fn write(to: &mut ViewMut<'_, TEMPLATE_LEN>, driver: &mut Driver) {
    let mut at = 0;
    while at < TEMPLATE_LEN / 8 {
        to.put(at * 8, driver.template[at]);
        at += 1;
    }
    let flow = flow_of(driver.counter, driver.mask);
    driver.counter = driver.counter.wrapping_add(1);
    let (address, port) = ((flow >> 16) as u16, flow as u16);
    if driver.v6 == 0 {
        let low: u16 = to.get(V4_ADDRESS);
        to.put(V4_ADDRESS, low ^ address);
        to.put(V4_PORT, port);
    } else {
        let low: u16 = to.get(V6_ADDRESS);
        to.put(V6_ADDRESS, low ^ address);
        to.put(V6_PORT, port);
    }
}

/// Source port, behind an IPv4 header without options.
const V4_PORT: usize = ethernet::LEN + ipv4::LEN;
/// Low half of the source address.
const V4_ADDRESS: usize = ethernet::LEN + ipv4::SOURCE + 2;
const V6_PORT: usize = ethernet::LEN + ipv6::LEN;
const V6_ADDRESS: usize = ethernet::LEN + ipv6::SOURCE + 14;

#[xdp(frags)]
fn driver_xdp(ctx: XdpContext) -> u32 {
    let Some(driver) = driver() else {
        return XDP_ABORTED;
    };
    // Always called, so that it costs the same whether or not the last run moved the packet's start.
    let over = (ctx.data_end() - ctx.data()) as i32 - FRAME_LEN as i32;
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, over) } != 0 {
        return XDP_ABORTED;
    }
    let mut frame = Bytes(ctx.data()..ctx.data_end());
    let Ok(mut to) = view_mut::<TEMPLATE_LEN>(&mut frame, 0) else {
        return XDP_ABORTED;
    };
    write(&mut to, driver);
    // SAFETY: a tail call replaces this program; nothing here needs to be dropped.
    unsafe { maps::XDP_UNDER_TEST.tail_call(&ctx, 0) };
    XDP_ABORTED
}

#[xdp]
fn generate_xdp(ctx: XdpContext) -> u32 {
    let Some(driver) = driver() else {
        return XDP_ABORTED;
    };
    let mut frame = Bytes(ctx.data()..ctx.data_end());
    let Ok(mut to) = view_mut::<TEMPLATE_LEN>(&mut frame, 0) else {
        return XDP_ABORTED;
    };
    write(&mut to, driver);
    // SAFETY: the helper has no condition.
    unsafe { bpf_redirect(driver.ifindex, 0) as u32 }
}

#[classifier]
fn driver_tc(ctx: TcContext) -> i32 {
    let Some(driver) = driver() else {
        return TC_ACT_SHOT;
    };
    let skb: *mut __sk_buff = ctx.skb.skb;
    let over = ctx.len() as i32 - FRAME_LEN as i32;
    if over != 0 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_adjust_room(skb, -over, BPF_ADJ_ROOM_MAC, FIXED_GSO) };
    }
    // Word by word: the verifier wants each access at a constant offset of the context.
    // SAFETY: words of the context that tc programs may write.
    unsafe {
        (&raw mut (*skb).cb[0]).write_volatile(driver.cb[0]);
        (&raw mut (*skb).cb[1]).write_volatile(driver.cb[1]);
        (&raw mut (*skb).cb[2]).write_volatile(driver.cb[2]);
        (&raw mut (*skb).cb[3]).write_volatile(driver.cb[3]);
        (&raw mut (*skb).cb[4]).write_volatile(driver.cb[4]);
    }
    let mut frame = Bytes(ctx.data()..ctx.data_end());
    let Ok(mut to) = view_mut::<TEMPLATE_LEN>(&mut frame, 0) else {
        return TC_ACT_SHOT;
    };
    write(&mut to, driver);
    // SAFETY: a tail call replaces this program; nothing here needs to be dropped.
    unsafe { maps::TC_UNDER_TEST.tail_call(&ctx, 0) };
    TC_ACT_SHOT
}
