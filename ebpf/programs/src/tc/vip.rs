//! East-west by packet: what the socket programs did not see, or leave to us (connected UDP, SCTP, other namespaces).

use super::backend::mark_translated;
use super::deliver::into_endpoint;
use super::edge::caller;
use super::encapsulate::{self, Unicast};
use super::translate::{self, End};
use super::{Env, Outcome, answer, flows, icmp_error, skb};
use crate::event::Decision;
use crate::sock_lb::atomic;
use crate::{clock, maps, tables};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

use essaim_abi::{
    Addr, Backend, DropReason, Flow, FlowFlags, FlowKey, FlowKind, FlowState, Hook, MacAddr, Service,
    ServiceFlags, Verdict,
};
use essaim_packet::wire::{icmp, protocol};
use essaim_packet::{Packet, flow, hash, quote};

#[classifier]
#[inline(always)]
fn vip_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, vip)
}

/// The key of a packet that an endpoint of this node sends.
#[inline(always)]
pub(super) fn sent(packet: &Packet) -> FlowKey {
    FlowKey {
        remote: packet.destination,
        local: packet.source,
        remote_port: packet.destination_port,
        local_port: packet.source_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    }
}

/// The key of a packet that an endpoint of this node is about to receive.
#[inline(always)]
fn received(packet: &Packet) -> FlowKey {
    FlowKey {
        remote: packet.source,
        local: packet.destination,
        remote_port: packet.source_port,
        local_port: packet.destination_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    }
}

#[inline(always)]
fn vip(env: &Env<'_>) -> Outcome {
    let (index, slot) = (skb::cb::<0>(env.ctx), skb::cb::<1>(env.ctx));
    let packet = env.packet()?;
    flows::add_ports(env, Hook::EndpointTc, packet)?;
    let packet = &*packet;
    let service = tables::service(index).ok_or(DropReason::UnknownService)?;
    if let Some(kind) = packet.icmp_type() {
        return ping(env, packet, service, kind);
    }
    if !packet.has_ports() {
        return Err(DropReason::UnsupportedProtocol);
    }
    let key = sent(packet);
    if let Some(found) = flows::find(&key) {
        let flow = found.flow();
        if flow.kind == FlowKind::Reverse as u8 && flow.flags.has(FlowFlags::HAIRPIN) {
            return hairpin_reply(env, packet, &flow);
        }
        let reopens =
            packet.protocol != protocol::UDP && flow::opens(packet) && flow.state == FlowState::Closing as u8;
        if flow.kind == FlowKind::Forward as u8 && !reopens {
            let backend = tables::backend(flow.backend).ok_or(DropReason::NoBackend)?;
            keep_pair(env, &key, &flow, &found, packet)?;
            return send(env, packet, backend, flow.backend, index, service, 0);
        }
    }
    if !flow::opens(packet) {
        return answer::refuse_here(env, DropReason::UnknownFlow);
    }
    let Some((chosen, backend)) = pick(env, index, service) else {
        return answer::refuse_here(env, DropReason::NoBackend);
    };
    if backend.addr_like(&packet.source).is_unspecified() {
        return answer::refuse_here(env, DropReason::NoBackendInFamily);
    }
    open_pair(env, &key, packet, backend, chosen, index, slot)?;
    env.count_for(index, chosen, 1);
    send(env, packet, backend, chosen, index, service, 1)
}

/// Ping to a VIP is answered here as long as somebody stands behind it.
#[inline(always)]
fn ping(env: &Env<'_>, packet: &Packet, service: &Service, kind: u8) -> Outcome {
    if kind != icmp::ECHO && kind != icmp::ECHO6 {
        return Err(DropReason::UnmatchedError);
    }
    if service.active.is_empty() {
        return answer::refuse_here(env, DropReason::NoBackend);
    }
    answer::echo(env, packet)
}

/// How many backends are tried where one has just died.
const TRIES: u64 = 4;

/// Chooses a backend: by the client's address where the service wants that, else in turn.
#[inline(always)]
fn pick<'a>(env: &Env<'_>, index: u32, service: &'a Service) -> Option<(u32, &'a Backend)> {
    if service.flags.has(ServiceFlags::AFFINITY) && !service.maglev.is_empty() {
        // SAFETY: the value is copied at once.
        let cookie = unsafe { maps::ENDPOINT_BY_IFINDEX.get(skb::ifindex(env.ctx)) }?.netns_cookie;
        // As the socket programs choose.
        let slot = hash::of_cookie(cookie) % service.maglev.len();
        let chosen = tables::owner(service.maglev, slot, 0);
        return Some((chosen, tables::backend(chosen)?));
    }
    let turn = match maps::NEXT_PICK.get_ptr_mut(index) {
        // SAFETY: an aligned word of an array that lives as long as the program.
        Some(next) if !env.dry() => unsafe { atomic::fetch_increment(next) },
        _ => 0,
    };
    for step in 0..TRIES {
        let chosen = tables::active(service, turn.wrapping_add(step));
        if let Some(backend) = tables::backend(chosen) {
            return Some((chosen, backend));
        }
    }
    None
}

/// Whom a task sees that meets itself behind its VIP: it would not believe its own address.
///
/// The VIP; but not for UDP, whose answer to a VIP the socket programs would balance: there the node.
#[inline(always)]
fn hairpin_peer(env: &Env<'_>, key: &FlowKey) -> Addr {
    if key.protocol == protocol::UDP {
        // SAFETY: the value is copied at once.
        if let Some(node) = unsafe { maps::ENDPOINT_BY_IFINDEX.get(env.config.node_ifindex) } {
            let own = if key.local.is_v4() {
                Addr::v4(node.addr4)
            } else {
                node.addr6
            };
            if own.is_v4() == key.local.is_v4() && own != Addr::v4(0) && !own.is_unspecified() {
                return own;
            }
        }
    }
    key.remote
}

/// The key that the backend's answers have at the client.
#[inline(always)]
fn reverse_key(env: &Env<'_>, key: &FlowKey, backend: &Backend, hairpin: bool) -> FlowKey {
    if hairpin {
        // The task answers from the port that was asked.
        FlowKey {
            remote: hairpin_peer(env, key),
            remote_port: key.local_port,
            local_port: key.remote_port,
            ..*key
        }
    } else {
        FlowKey {
            remote: backend.addr_like(&key.local),
            ..*key
        }
    }
}

/// Enters both directions of a new flow, half-open.
#[inline(always)]
fn open_pair(
    env: &Env<'_>,
    key: &FlowKey,
    packet: &Packet,
    backend: &Backend,
    chosen: u32,
    service: u32,
    slot: u32,
) -> Result<(), DropReason> {
    let address = backend.addr_like(&packet.source);
    let hairpin = address == packet.source;
    let forward = Flow {
        translated: address,
        translated_port: packet.destination_port,
        kind: FlowKind::Forward as u8,
        state: FlowState::HalfOpen as u8,
        flags: if hairpin {
            FlowFlags::HAIRPIN
        } else {
            FlowFlags::NONE
        },
        edge_token: 0,
        reserved: [0; 2],
        service,
        backend: chosen,
        backend_generation: backend.generation,
        edge_vtep: 0,
        seen: clock::now(),
        timeout: flows::timeout(
            env,
            tables::service(service),
            packet.protocol,
            FlowState::HalfOpen,
        ),
    };
    flows::open(env, key, &forward)?;
    let reverse = Flow {
        translated: packet.destination,
        kind: FlowKind::Reverse as u8,
        ..forward
    };
    flows::open(env, &reverse_key(env, key, backend, hairpin), &reverse)?;
    if !env.dry() {
        mark_translated(slot);
    }
    Ok(())
}

/// Keeps both directions alive, and establishes both once the backend has answered.
#[inline(always)]
fn keep_pair(
    env: &Env<'_>,
    key: &FlowKey,
    flow: &Flow,
    found: &flows::Found,
    packet: &Packet,
) -> Result<(), DropReason> {
    let quarter = (flow.timeout >> 2) | 1;
    let now = clock::now();
    let refresh = now / quarter != flow.seen / quarter;
    flows::touch(env, key, found, packet, true)?;
    let after = found.flow();
    let established = after.state == FlowState::Established as u8 && flow.state != after.state;
    if (refresh || established) && !env.dry() {
        let backend = tables::backend(flow.backend).ok_or(DropReason::NoBackend)?;
        let reverse = reverse_key(env, key, backend, flow.flags.has(FlowFlags::HAIRPIN));
        if established {
            let entry = Flow {
                translated: key.remote,
                translated_port: key.remote_port,
                kind: FlowKind::Reverse as u8,
                ..after
            };
            flows::promote(&reverse, &entry)?;
        } else if let Some(found) = flows::find(&reverse) {
            flows::refresh(&found);
        }
    }
    Ok(())
}

/// To the backend, here or elsewhere.
#[inline(always)]
fn send(
    env: &Env<'_>,
    packet: &Packet,
    backend: &Backend,
    chosen: u32,
    index: u32,
    service: &Service,
    opened: u32,
) -> Outcome {
    let address = backend.addr_like(&packet.source);
    let decision = Decision {
        service: index,
        backend: chosen,
        vtep: if backend.ifindex == 0 { backend.vtep } else { 0 },
        ifindex: backend.ifindex,
        vni: service.vni,
        opened,
        ..Decision::default()
    };
    if opened == 0 {
        env.count_for(index, chosen, 0);
    }
    if backend.ifindex == 0 {
        skb::set_secure(env.ctx, service.flags.has(ServiceFlags::ENCRYPTED));
        let vtep = tables::vtep(backend.vtep).ok_or(DropReason::NoBackend)?;
        let mtu = encapsulate::mtu(env, vtep);
        if packet.dont_fragment && !encapsulate::fits(env, packet, mtu) {
            return answer::too_big_here(env, mtu);
        }
    }
    if address == packet.source {
        let peer = hairpin_peer(env, &sent(packet));
        translate::end(env, packet, End::Source, &peer, packet.source_port, false)?;
    }
    translate::end(
        env,
        packet,
        End::Destination,
        &address,
        packet.destination_port,
        false,
    )?;
    if backend.ifindex != 0 {
        env.report(Verdict::Delivered, None, packet, &decision);
        return into_endpoint(env, backend.ifindex, &backend.mac, &MacAddr::GATEWAY);
    }
    let addresses = Unicast(backend.mac, MacAddr::GATEWAY);
    encapsulate::to_vtep(env, packet, backend.vtep, service.vni, &addresses, &decision)
}

/// A task that reached itself through its VIP answers: the answer goes to itself, from the VIP.
#[inline(always)]
pub(super) fn hairpin_reply(env: &Env<'_>, packet: &Packet, flow: &Flow) -> Outcome {
    let backend = tables::backend(flow.backend).ok_or(DropReason::NoBackend)?;
    if !env.dry() {
        let forward = FlowKey {
            remote: flow.translated,
            remote_port: packet.source_port,
            local_port: packet.destination_port,
            ..sent(packet)
        };
        if let Some(found) = flows::find(&forward) {
            flows::touch(env, &forward, &found, packet, false)?;
        }
    }
    translate::end(
        env,
        packet,
        End::Source,
        &flow.translated,
        packet.source_port,
        false,
    )?;
    translate::end(
        env,
        packet,
        End::Destination,
        &packet.source,
        packet.destination_port,
        false,
    )?;
    into_endpoint(env, backend.ifindex, &backend.mac, &MacAddr::GATEWAY)
}

/// Gives a backend's answer the VIP as its source, where the endpoint with this slot asked the VIP.
#[inline(always)]
pub(super) fn restore(env: &Env<'_>, packet: &mut Packet, slot: u32) -> Result<(), DropReason> {
    if maps::TRANSLATED.get(slot).is_none_or(|word| *word == 0) {
        return Ok(());
    }
    if let Some(kind) = packet.icmp_type() {
        return if quote::is_error(packet.v6, kind) {
            icmp_error::restore(env, packet)
        } else {
            Ok(())
        };
    }
    if !packet.has_ports() {
        return Ok(());
    }
    if flows::add_ports(env, Hook::SockLb, packet).is_err() {
        // A fragment of something that is not translated: its first part left no ports here.
        return Ok(());
    }
    let packet = &*packet;
    let key = received(packet);
    let Some(found) = flows::find(&key) else {
        return Ok(());
    };
    let flow = found.flow();
    if flow.kind != FlowKind::Reverse as u8 {
        return Ok(());
    }
    if !env.dry() {
        let replied = flow.flags.has(FlowFlags::REPLIED);
        flows::touch(env, &key, &found, packet, false)?;
        if !replied {
            let forward = FlowKey {
                remote: flow.translated,
                ..key
            };
            if let Some(found) = flows::find(&forward) {
                flows::touch(env, &forward, &found, packet, false)?;
            }
        }
    }
    translate::end(
        env,
        packet,
        End::Source,
        &flow.translated,
        flow.translated_port,
        false,
    )
}
