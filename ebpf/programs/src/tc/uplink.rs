//! tc ingress on the uplinks: what XDP left, and published ports of this node's own tasks.

use super::skb::{self, Skb};
use super::{Env, Outcome, PASS, flows};
use crate::tables;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::{TC_EDGE, TC_ICMP_ERROR};
use essaim_abi::{DropReason, Hook, Protocol};
use essaim_packet::wire::protocol;
use essaim_packet::{Fragment, Packet, encap, quote};

#[classifier]
#[inline(always)]
fn uplink_tc(ctx: TcContext) -> i32 {
    run!(&ctx, Hook::UplinkTc, uplink)
}

#[inline(always)]
fn uplink(env: &Env<'_>) -> Outcome {
    // Only an inbound security association says of a packet from the wire that it came through IPsec.
    skb::set_secure(env.ctx, false);
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
    if is_clear_vxlan(env, packet) {
        return Err(DropReason::NotEncrypted);
    }
    if tables::port(transport, packet.destination_port).is_none() || !tables::is_local(&packet.destination) {
        return Ok(PASS);
    }
    env.call(TC_EDGE, cb)
}

/// Whether it is VXLAN of an encrypted network, for this node, as anybody may make it: what the kernel decrypts does not
/// come by here.
#[inline(always)]
fn is_clear_vxlan(env: &Env<'_>, packet: &Packet) -> bool {
    packet.protocol == protocol::UDP
        && packet.destination_port == env.config.vxlan_port
        && encap::vni_behind(&Skb(env.ctx), packet).is_ok_and(tables::is_encrypted)
        && tables::is_local(&packet.destination)
}
