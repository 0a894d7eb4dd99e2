//! The edge: a packet to a published port goes to the node of the backend that the Maglev table names. No state.

use super::deliver::Edge;
use super::encapsulate;
use super::{Env, Outcome, answer, backend, flows, skb};
use crate::event::Decision;
use crate::ingress_xdp::token;
use crate::tables;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::TC_BACKEND;
use essaim_abi::{DropReason, Hook, PortFlags, Protocol, ServiceFlags};
use essaim_packet::steer::Steering;
use essaim_packet::{flow, wire};

/// The hook that an inner program was called from.
#[inline(always)]
pub(super) fn caller(ctx: &TcContext) -> Hook {
    match skb::cb::<4>(ctx) & 0xff {
        1 => Hook::IngressXdp,
        2 => Hook::UplinkTc,
        3 => Hook::OverlayTc,
        _ => Hook::EndpointTc,
    }
}

#[classifier]
#[inline(always)]
fn edge_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, edge)
}

/// The words of `cb` that [`super::backend`] reads.
#[inline(always)]
pub(super) fn backend_words(edge: Edge, steering: &Steering, hook: Hook) -> [u32; 5] {
    let asked = u32::from(steering.only_if_known) | u32::from(steering.last) << 1;
    [
        edge.vtep,
        u32::from(edge.token) | u32::from(steering.hop) << 8 | u32::from(steering.budget) << 16 | asked << 24,
        steering.hash,
        u32::from(steering.port) | u32::from(steering.protocol) << 16,
        hook as u32,
    ]
}

/// The steering, by way of `cb`: what it was made of is then any number to the verifier, which would follow the rest of the
/// program once for each uplink, protocol and owner (that of Linux 6.1 does).
#[inline(always)]
pub(super) fn read_back(env: &Env<'_>, edge: Edge, steering: &Steering) -> Steering {
    skb::set_cb(env.ctx, backend_words(edge, steering, env.hook));
    backend::steering(env.ctx).1
}

#[inline(always)]
fn edge(env: &Env<'_>) -> Outcome {
    let packet = env.packet()?;
    flows::add_ports(env, Hook::UplinkTc, packet)?;
    let packet = &*packet;
    let transport = Protocol::of_ip(packet.protocol).ok_or(DropReason::UnsupportedProtocol)?;
    let port = tables::port(transport, packet.destination_port).ok_or(DropReason::UnknownService)?;
    let service = tables::service(port.service).ok_or(DropReason::UnknownService)?;
    skb::set_secure(env.ctx, service.flags.has(ServiceFlags::ENCRYPTED));
    let token = if env.hook == Hook::EndpointTc {
        0
    } else {
        token(env.config, skb::ifindex(env.ctx)).ok_or(DropReason::UnknownInterface)?
    };
    let hash = tables::flow_hash(
        service,
        &packet.source,
        &packet.destination,
        packet.source_port,
        packet.destination_port,
        packet.protocol,
    );
    let Ok(slot) = tables::slot(service.maglev, hash) else {
        return answer::refuse_here(env, DropReason::NoBackend);
    };
    let Some((owner, backend, hop)) = tables::living_owner(service.maglev, slot) else {
        return answer::refuse_here(env, DropReason::NoBackend);
    };
    if hop > 0 && packet.protocol != wire::protocol::UDP && flow::opens(packet) {
        return answer::refuse_here(env, DropReason::NoBackend);
    }
    if backend.addr_like(&packet.source).is_unspecified() {
        return answer::refuse_here(env, DropReason::NoBackendInFamily);
    }
    let mut steering = Steering::request(transport, packet.destination_port, token, hash);
    steering.hop = hop as u8;
    let decision = Decision {
        service: port.service,
        backend: owner,
        vtep: backend.vtep,
        vni: env.config.ingress_vni,
        ..Decision::default()
    };
    env.count_for(port.service, owner, 0);
    let edge = Edge {
        vtep: env.config.own_vtep,
        token,
    };
    if backend.ifindex != 0 || port.flags.has(PortFlags::HOST) {
        return env.call(TC_BACKEND, backend_words(edge, &steering, env.hook));
    }
    let steering = read_back(env, edge, &steering);
    let sent = encapsulate::to_vtep(
        env,
        packet,
        backend.vtep,
        env.config.ingress_vni,
        &steering,
        &decision,
    );
    if sent == Err(DropReason::TooBig) {
        return answer::too_big_here(env, encapsulate::mtu_to(env, backend.vtep));
    }
    sent
}
