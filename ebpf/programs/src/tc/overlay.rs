//! tc ingress on the VXLAN device: who may enter, and to whom.

use super::deliver::{Edge, at_edge, into_endpoint};
use super::edge::backend_words;
use super::skb::{self, Skb};
use super::{Env, Outcome, translate, vip};
use crate::event::Decision;
use crate::{maps, tables};
use aya_ebpf::bindings::{BPF_F_TUNINFO_IPV6, bpf_tunnel_key};
use aya_ebpf::helpers::generated::bpf_skb_get_tunnel_key;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::{TC_BACKEND, TC_OVERLAY_INNER};
use essaim_abi::{Addr, DropReason, EndpointFlags, EndpointKind, Hook, IPSEC_RECEIVED, Protocol, Verdict};
use essaim_packet::steer::Steering;
use essaim_packet::{Packet, view};

#[classifier]
#[inline(always)]
fn overlay_tc(ctx: TcContext) -> i32 {
    run!(&ctx, Hook::OverlayTc, overlay)
}

/// Reads the tunnel key, which a test run cannot set, and leaves the rest to the inner program.
#[inline(always)]
fn overlay(env: &Env<'_>) -> Outcome {
    let (vni, remote) = tunnel(env.ctx)?;
    // SAFETY: the value is copied at once.
    let vtep = *unsafe { maps::VTEP_BY_ADDR.get(remote) }.ok_or(DropReason::NotMember)?;
    env.call(TC_OVERLAY_INNER, [vni, vtep, 0, 0, Hook::OverlayTc as u32])
}

/// VNI and outer source address.
#[inline(always)]
fn tunnel(ctx: &TcContext) -> Result<(u32, Addr), DropReason> {
    // SAFETY: integers; all zero is a valid key.
    let mut key: bpf_tunnel_key = unsafe { core::mem::zeroed() };
    let size = size_of::<bpf_tunnel_key>() as u32;
    // SAFETY: the key lives on the stack and its size is given.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &raw mut key, size, 0) } == 0 {
        // SAFETY: the helper has filled in the IPv4 member.
        let remote = unsafe { key.__bindgen_anon_1.remote_ipv4 };
        return Ok((key.tunnel_id, Addr::v4(remote.to_be())));
    }
    // SAFETY: as above; the helper refuses the flag where the underlay is IPv4.
    if unsafe { bpf_skb_get_tunnel_key(ctx.skb.skb, &raw mut key, size, u64::from(BPF_F_TUNINFO_IPV6)) } == 0
    {
        // SAFETY: the helper has filled in the IPv6 member.
        let remote = unsafe { key.__bindgen_anon_1.remote_ipv6 };
        return Ok((key.tunnel_id, Addr { words: remote }));
    }
    Err(DropReason::HelperFailed)
}

#[classifier]
#[inline(always)]
fn overlay_inner_tc(ctx: TcContext) -> i32 {
    run!(&ctx, Hook::OverlayTc, inner)
}

#[inline(always)]
fn inner(env: &Env<'_>) -> Outcome {
    let (vni, vtep) = (skb::cb::<0>(env.ctx), skb::cb::<1>(env.ctx));
    let packet = env.packet()?;
    if vni == env.config.ingress_vni {
        let steering = Steering::of(&view(&Skb(env.ctx), 0)?);
        if let Some(steering) = steering {
            return steered(env, packet, &steering, vtep);
        }
    }
    let endpoint = tables::endpoint(&packet.destination).ok_or(DropReason::UnknownDestination)?;
    if endpoint.vni != vni {
        return Err(DropReason::UnknownVni);
    }
    let to_node = endpoint.kind == EndpointKind::ThisNode as u8;
    let is_encrypted = endpoint.flags.has(EndpointFlags::ENCRYPTED)
        // A node is on no network: what is said to it is encrypted where its sender is.
        || (to_node && comes_from_encrypted(&packet.source));
    require_secure(env, is_encrypted)?;
    match EndpointKind::of(endpoint.kind) {
        Some(EndpointKind::Local | EndpointKind::ThisNode) => {}
        Some(EndpointKind::Tombstone) => return Err(DropReason::EndpointGone),
        _ => return Err(DropReason::UnknownDestination),
    }
    let header = view::<12>(&Skb(env.ctx), 0)?;
    let source = header.mac(6);
    vip::restore(env, packet, endpoint.slot)?;
    let decision = Decision {
        ifindex: endpoint.ifindex,
        vni,
        backend: endpoint.backend,
        ..Decision::default()
    };
    env.report(Verdict::Delivered, None, packet, &decision);
    into_endpoint(env, endpoint.ifindex, &endpoint.mac, &source)
}

/// Drops what must be encrypted and came in clear. (A dry run comes from nowhere.)
#[inline(always)]
pub(super) fn require_secure(env: &Env<'_>, is_encrypted: bool) -> Result<(), DropReason> {
    if !is_encrypted || env.dry() {
        return Ok(());
    }
    if !skb::is_secure(env.ctx) {
        return Err(DropReason::NotEncrypted);
    }
    tables::count_secure(IPSEC_RECEIVED, u64::from(skb::len(env.ctx)));
    Ok(())
}

/// Whether an overlay address is on an encrypted network.
#[inline(always)]
fn comes_from_encrypted(address: &Addr) -> bool {
    tables::endpoint(address).is_some_and(|endpoint| endpoint.flags.has(EndpointFlags::ENCRYPTED))
}

/// Whether a packet is from a published port of an encrypted network.
#[inline(always)]
fn answers_for_encrypted(packet: &Packet) -> bool {
    packet.has_ports()
        && Protocol::of_ip(packet.protocol)
            .and_then(|transport| tables::port(transport, packet.source_port))
            .is_some_and(|port| tables::is_encrypted_service(port.service))
}

/// A packet between the edge and a backend's node.
#[inline(always)]
fn steered(env: &Env<'_>, packet: &Packet, steering: &Steering, vtep: u32) -> Outcome {
    if !steering.reply {
        let vtep = if steering.edge == 0 {
            vtep
        } else {
            match maps::VTEP_BY_NUMBER.get(u32::from(steering.edge)) {
                Some(index) if *index != 0 => *index,
                _ => return Err(DropReason::BadSteering),
            }
        };
        let edge = Edge {
            vtep,
            token: steering.token,
        };
        return env.call(TC_BACKEND, backend_words(edge, steering, Hook::OverlayTc));
    }
    require_secure(env, answers_for_encrypted(packet))?;
    if steering.token != 0 {
        translate::decrement_ttl(env, packet)?;
    }
    at_edge(
        env,
        packet,
        steering.token,
        &packet.destination,
        &Decision::default(),
    )
}
