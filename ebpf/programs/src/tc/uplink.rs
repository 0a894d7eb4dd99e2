//! tc ingress on the uplinks: what XDP left, and published ports of this node's own tasks.

use super::skb::{self, Skb};
use super::{Env, Outcome, PASS, flows};
use crate::tables;
use aya_ebpf::bindings::{BPF_FIB_LKUP_RET_NOT_FWDED, bpf_fib_lookup as Route};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::{TC_EDGE, TC_ICMP_ERROR};
use essaim_abi::{DropReason, Hook, Protocol};
use essaim_packet::wire::protocol;
use essaim_packet::{Fragment, Packet, encap, quote};

/// Of `socket(2)`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

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
    if tables::port(transport, packet.destination_port).is_none() {
        return Ok(PASS);
    }
    if tables::is_local(&packet.destination) || is_taken_over(env, packet) {
        return env.call(TC_EDGE, cb);
    }
    Ok(PASS)
}

/// Whether the kernel would take the packet for its own, though the agent has not said yet that the address is the node's: as
/// when it takes over another edge's. The kernel would reset connections that the others know.
#[inline(always)]
fn is_taken_over(env: &Env<'_>, packet: &Packet) -> bool {
    let address = &packet.destination;
    if !skb::is_to_host(env.ctx) || address.is_loopback() || address.is_link_local() || address.is_multicast()
    {
        return false;
    }
    // The overlay's addresses are nobody's to publish at.
    tables::endpoint(address).is_none() && is_delivered_here(env, packet)
}

/// What the kernel's routes say: not to be forwarded. So they say of an address without a route, too. (Essaim has the node
/// forward; of an interface that was told not to, nothing is known.)
#[inline(always)]
fn is_delivered_here(env: &Env<'_>, packet: &Packet) -> bool {
    const LEN: i32 = size_of::<Route>() as i32;
    let (from, to) = (&packet.source, &packet.destination);
    // SAFETY: numbers only.
    let mut asked: Route = unsafe { core::mem::zeroed() };
    asked.ifindex = skb::ifindex(env.ctx);
    if packet.v6 {
        asked.family = AF_INET6;
        asked.__bindgen_anon_3.ipv6_src = from.words;
        asked.__bindgen_anon_4.ipv6_dst = to.words;
    } else {
        asked.family = AF_INET;
        asked.__bindgen_anon_3.ipv4_src = from.v4_word();
        asked.__bindgen_anon_4.ipv4_dst = to.v4_word();
    }
    // SAFETY: what is asked is as long as the kernel is told.
    let found = unsafe { bpf_fib_lookup(env.ctx.skb.skb.cast(), &raw mut asked, LEN, 0) };
    found == BPF_FIB_LKUP_RET_NOT_FWDED.into()
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
