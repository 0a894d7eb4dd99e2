//! ICMP errors about translated flows: they reach the one who sent the quoted packet, who finds his own packet quoted.

use super::backend::Asked;
use super::deliver::{Edge, into_endpoint, to_client};
use super::edge::{backend_words, caller, read_back};
use super::skb::{self, Skb};
use super::translate::{self, End};
use super::{Env, Outcome, PASS, encapsulate, endpoint, flows};
use crate::event::Decision;
use crate::ingress_xdp::token;
use crate::{context, tables};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::TC_BACKEND;
use essaim_abi::{
    Addr, Backend, DropReason, Flow, FlowKey, FlowKind, MacAddr, Protocol, ServiceFlags, Verdict,
};
use essaim_packet::steer::Steering;
use essaim_packet::wire::{icmp, ipv4, ipv6};
use essaim_packet::{Packet, checksum, view_mut};

#[classifier]
#[inline(always)]
fn icmp_error_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, icmp_error)
}

#[inline(always)]
fn icmp_error(env: &Env<'_>) -> Outcome {
    let packet = env.packet()?;
    let quoted = env.quoted(packet);
    if skb::cb::<0>(env.ctx) == 0 {
        return match quoted {
            Ok(Some(quoted)) => from_uplink(env, packet, quoted),
            // Not about a flow of ours: the kernel's own sockets may want it.
            _ => Ok(PASS),
        };
    }
    if let Some(quoted) = quoted?
        && let Some(flow) = flow_of(quoted)
    {
        return from_endpoint(env, packet, quoted, &flow);
    }
    endpoint::route(env, context::forget(packet))
}

/// From the world, about a packet that a published port sent: to the node that has the task.
#[inline(always)]
fn from_uplink(env: &Env<'_>, packet: &Packet, quoted: &Packet) -> Outcome {
    let Some(transport) = Protocol::of_ip(quoted.protocol) else {
        return Ok(PASS);
    };
    let Some(port) = tables::port(transport, quoted.source_port) else {
        return Ok(PASS);
    };
    let Some(service) = tables::service(port.service) else {
        return Ok(PASS);
    };
    let Some(token) = token(env.config, skb::ifindex(env.ctx)) else {
        return Ok(PASS);
    };
    if !tables::is_local(&quoted.source) {
        return Ok(PASS);
    }
    skb::set_secure(env.ctx, service.flags.has(ServiceFlags::ENCRYPTED));
    let asked = Asked::of_quote(quoted);
    let hash = tables::flow_hash(
        service,
        &asked.client,
        &asked.published,
        asked.client_port,
        asked.published_port,
        asked.protocol,
    );
    let slot = tables::slot(service.maglev, hash)?;
    let (owner, backend, hop) = tables::living_owner(service.maglev, slot).ok_or(DropReason::NoBackend)?;
    let mut steering = Steering::request(transport, asked.published_port, token, hash);
    steering.hop = hop as u8;
    let edge = Edge {
        vtep: env.config.own_vtep,
        token,
    };
    if backend.ifindex != 0 {
        return env.call(TC_BACKEND, backend_words(edge, &steering, env.hook));
    }
    let steering = read_back(env, edge, &steering);
    let decision = Decision {
        service: port.service,
        backend: owner,
        vtep: backend.vtep,
        ..Decision::default()
    };
    encapsulate::to_vtep(
        env,
        packet,
        backend.vtep,
        env.config.ingress_vni,
        &steering,
        &decision,
    )
}

/// Delivers an error about a reply of the task: it finds its own address quoted.
#[inline(always)]
pub(super) fn to_backend(
    env: &Env<'_>,
    packet: &Packet,
    asked: &Asked,
    at: QuoteAt,
    backend: &Backend,
    target_port: u16,
) -> Outcome {
    let address = backend.addr_like(&asked.client);
    let end = QuotedEnd {
        which: End::Source,
        old: &asked.published,
        old_port: asked.published_port,
        new: &address,
        new_port: target_port,
    };
    translate_quote(env, packet, at, &end)?;
    translate::end(env, packet, End::Destination, &address, 0, true)?;
    env.report(
        Verdict::Delivered,
        None,
        packet,
        &Decision {
            ifindex: backend.ifindex,
            ..Decision::default()
        },
    );
    into_endpoint(env, backend.ifindex, &backend.mac, &MacAddr::GATEWAY)
}

/// The flow of a published port that a packet to its task is of.
#[inline(always)]
fn flow_of(quoted: &Packet) -> Option<Flow> {
    let key = FlowKey {
        remote: quoted.source,
        local: quoted.destination,
        remote_port: quoted.source_port,
        local_port: quoted.destination_port,
        protocol: quoted.protocol,
        reserved: [0; 3],
    };
    let flow = flows::find(&key)?.flow();
    if flow.kind == FlowKind::Ingress as u8 {
        Some(flow)
    } else {
        None
    }
}

/// From a task, about a packet that it received: where a client of a published port sent that, it asked the published
/// address.
#[inline(always)]
fn from_endpoint(env: &Env<'_>, packet: &Packet, quoted: &Packet, flow: &Flow) -> Outcome {
    let end = QuotedEnd {
        which: End::Destination,
        old: &quoted.destination,
        old_port: quoted.destination_port,
        new: &flow.translated,
        new_port: flow.translated_port,
    };
    translate_quote(env, packet, QuoteAt::of(quoted), &end)?;
    translate::end(env, packet, End::Source, &flow.translated, 0, true)?;
    let edge = Edge {
        vtep: flow.edge_vtep,
        token: flow.edge_token,
    };
    let decision = Decision {
        service: flow.service,
        backend: flow.backend,
        ..Decision::default()
    };
    to_client(env, packet, edge, &packet.destination, &decision)
}

/// From a backend to the endpoint that asked its VIP: the quote gets the VIP back, and so does the source where the
/// backend itself speaks.
#[inline(always)]
pub(super) fn restore(env: &Env<'_>, packet: &Packet) -> Result<(), DropReason> {
    let Ok(Some(quoted)) = env.quoted(packet) else {
        return Ok(());
    };
    let key = FlowKey {
        remote: quoted.destination,
        local: quoted.source,
        remote_port: quoted.destination_port,
        local_port: quoted.source_port,
        protocol: quoted.protocol,
        reserved: [0; 3],
    };
    let Some(found) = flows::find(&key) else {
        return Ok(());
    };
    let flow = found.flow();
    if flow.kind != FlowKind::Reverse as u8 {
        return Ok(());
    }
    let end = QuotedEnd {
        which: End::Destination,
        old: &quoted.destination,
        old_port: quoted.destination_port,
        new: &flow.translated,
        new_port: flow.translated_port,
    };
    translate_quote(env, packet, QuoteAt::of(quoted), &end)?;
    if packet.source == quoted.destination {
        translate::end(env, packet, End::Source, &flow.translated, 0, false)?;
    }
    Ok(())
}

/// Where the quoted headers stand in the frame.
#[derive(Clone, Copy)]
pub(super) struct QuoteAt {
    network: u16,
    transport: u16,
}

impl QuoteAt {
    #[inline(always)]
    pub(super) const fn of(quoted: &Packet) -> Self {
        Self {
            network: quoted.network,
            transport: quoted.transport,
        }
    }
}

/// An address and port of the quote: what they are and what they become.
struct QuotedEnd<'a> {
    which: End,
    old: &'a Addr,
    old_port: u16,
    new: &'a Addr,
    new_port: u16,
}

/// Changes an address and its port within the quote, and the ICMP checksum with them. The quoted transport checksum stays:
/// nobody verifies it, and eight bytes of TCP do not hold it.
///
/// In IPv4 the quoted header's checksum balances its address in the ICMP checksum; in IPv6 nothing does.
#[inline(always)]
fn translate_quote(
    env: &Env<'_>,
    packet: &Packet,
    at: QuoteAt,
    end: &QuotedEnd<'_>,
) -> Result<(), DropReason> {
    let source = end.which == End::Source;
    let network = at.network as usize;
    let mut change = u64::from(!u32::from(end.old_port)) + u64::from(u32::from(end.new_port));
    if packet.v6 {
        let mut header = view_mut::<{ ipv6::LEN }>(&mut Skb(env.ctx), network)?;
        header.put_address(
            if source { ipv6::SOURCE } else { ipv6::DESTINATION },
            end.new,
            true,
        );
        change += translate::sum_of_change(end.old, end.new, true);
    } else {
        let mut header = view_mut::<{ ipv4::LEN }>(&mut Skb(env.ctx), network)?;
        header.put_address(
            if source { ipv4::SOURCE } else { ipv4::DESTINATION },
            end.new,
            false,
        );
        let sum = checksum::replace(header.get(ipv4::CHECKSUM), end.old.v4_word(), end.new.v4_word());
        header.put(ipv4::CHECKSUM, sum);
    }
    let port_at = at.transport as usize + if source { 0 } else { 2 };
    view_mut::<2>(&mut Skb(env.ctx), port_at)?.put(0, end.new_port);
    let mut field = view_mut::<2>(&mut Skb(env.ctx), packet.transport as usize + icmp::CHECKSUM)?;
    let sum: u16 = field.get(0);
    field.put(0, !checksum::fold(u64::from(!sum) + change));
    Ok(())
}
