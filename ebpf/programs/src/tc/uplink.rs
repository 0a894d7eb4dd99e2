//! tc ingress on the uplinks: what XDP left, and published ports of this node's own tasks.

use super::{Env, Outcome, PASS, flows};
use crate::tables;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::{TC_EDGE, TC_ICMP_ERROR};
use essaim_abi::{Hook, Protocol};
use essaim_packet::{Fragment, quote};

#[classifier]
#[inline(always)]
fn uplink_tc(ctx: TcContext) -> i32 {
    run!(&ctx, Hook::UplinkTc, uplink)
}

#[inline(always)]
fn uplink(env: &Env<'_>) -> Outcome {
    // What cannot be read is not ours: the kernel judges it.
    let Ok(packet) = env.packet() else { return Ok(PASS) };
    let cb = [0, 0, 0, 0, Hook::UplinkTc as u32];
    if packet.fragment == Fragment::Later {
        return if flows::knows_fragment(packet, Hook::UplinkTc) {
            env.call(TC_EDGE, cb)
        } else {
            Ok(PASS)
        };
    }
    if let Some(kind) = packet.icmp_type() {
        if quote::is_error(packet.v6, kind) && tables::is_local(&packet.destination) {
            return env.call(TC_ICMP_ERROR, cb);
        }
        return Ok(PASS);
    }
    let Some(transport) = Protocol::of_ip(packet.protocol) else {
        return Ok(PASS);
    };
    if tables::port(transport, packet.destination_port).is_none() || !tables::is_local(&packet.destination) {
        return Ok(PASS);
    }
    env.call(TC_EDGE, cb)
}
