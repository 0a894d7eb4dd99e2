//! Ingress traffic on the node that has the task: whose flow is it, and where none knows it, who is asked next.

use super::deliver::{Edge, into_endpoint};
use super::edge::{backend_words, caller};
use super::icmp_error::{self, QuoteAt};
use super::overlay::require_secure;
use super::translate::{self, End};
use super::{Env, Outcome, answer, encapsulate, flows, skb};
use crate::event::Decision;
use crate::{clock, context, maps, tables};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::TC_BACKEND_ERROR;
use essaim_abi::{
    Addr, Backend, DropReason, EARLIER_OWNERS, Flow, FlowFlags, FlowKey, FlowKind, FlowState, Hook, MacAddr,
    Port, PortFlags, Protocol, Verdict,
};
use essaim_packet::steer::{MAX_BUDGET, Steering};
use essaim_packet::{Packet, flow, quote, wire};

/// A client's flow as the client knows it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(super) client: Addr,
    pub(super) published: Addr,
    pub(super) client_port: u16,
    pub(super) published_port: u16,
    pub(super) protocol: u8,
}

impl Asked {
    #[inline(always)]
    fn of(packet: &Packet) -> Self {
        Self {
            client: packet.source,
            published: packet.destination,
            client_port: packet.source_port,
            published_port: packet.destination_port,
            protocol: packet.protocol,
        }
    }

    /// The flow that an ICMP error is about: it quotes a packet of the published port to the client.
    #[inline(always)]
    pub(super) fn of_quote(quoted: &Packet) -> Self {
        Self {
            client: quoted.destination,
            published: quoted.source,
            client_port: quoted.destination_port,
            published_port: quoted.source_port,
            protocol: quoted.protocol,
        }
    }

    /// The flow's key at a backend.
    #[inline(always)]
    fn key(&self, backend: &Addr, target_port: u16) -> FlowKey {
        FlowKey {
            // A task that meets itself would not believe its own address: it sees the published one.
            remote: if self.client == *backend {
                self.published
            } else {
                self.client
            },
            local: *backend,
            remote_port: self.client_port,
            local_port: target_port,
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }
}

#[classifier]
#[inline(always)]
fn backend_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, backend)
}

/// What `cb` says: the edge, and the steering the packet came with.
#[inline(always)]
pub(super) fn steering(ctx: &TcContext) -> (Edge, Steering) {
    let (word, port) = (skb::cb::<1>(ctx), skb::cb::<3>(ctx));
    let edge = Edge {
        vtep: skb::cb::<0>(ctx),
        token: word as u8,
    };
    let steering = Steering {
        reply: false,
        only_if_known: word >> 24 & 1 != 0,
        last: word >> 25 & 1 != 0,
        protocol: (port >> 16) as u8 & 3,
        port: port as u16,
        token: edge.token,
        budget: (word >> 16) as u8 & 15,
        hop: (word >> 8) as u8 & 15,
        hash: skb::cb::<2>(ctx),
        edge: 0,
    };
    (edge, steering)
}

/// The protocol that steering names.
#[inline(always)]
fn protocol_of(number: u8) -> Option<Protocol> {
    match number {
        0 => Some(Protocol::Tcp),
        1 => Some(Protocol::Udp),
        2 => Some(Protocol::Sctp),
        _ => None,
    }
}

#[inline(always)]
fn backend(env: &Env<'_>) -> Outcome {
    let (edge, steering) = steering(env.ctx);
    let transport = protocol_of(steering.protocol).ok_or(DropReason::BadSteering)?;
    let port = tables::port(transport, steering.port).ok_or(DropReason::UnknownService)?;
    secure(env, &port)?;
    let packet = env.packet()?;
    if packet.icmp_type().is_some() {
        return env.call(TC_BACKEND_ERROR, backend_words(edge, &steering, env.hook));
    }
    flows::add_ports(env, Hook::OverlayTc, packet)?;
    let packet = &*packet;
    if packet.destination_port != steering.port || packet.protocol != transport.ip() {
        return Err(DropReason::BadSteering);
    }
    let asked = set_aside(&Asked::of(packet)).ok_or(DropReason::HelperFailed)?;
    walk(env, packet, asked, &port, edge, steering, None)
}

/// Takes a packet for an encrypted network from another node only where it came through IPsec; what is handed on or
/// answered goes that way, too.
#[inline(always)]
fn secure(env: &Env<'_>, port: &Port) -> Result<(), DropReason> {
    let is_encrypted = tables::is_encrypted_service(port.service);
    require_secure(env, is_encrypted && env.hook == Hook::OverlayTc)?;
    skb::set_secure(env.ctx, is_encrypted);
    Ok(())
}

#[classifier]
#[inline(always)]
fn backend_error_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, backend_error)
}

#[inline(always)]
fn backend_error(env: &Env<'_>) -> Outcome {
    let (edge, steering) = steering(env.ctx);
    let transport = protocol_of(steering.protocol).ok_or(DropReason::BadSteering)?;
    let port = tables::port(transport, steering.port).ok_or(DropReason::UnknownService)?;
    secure(env, &port)?;
    let packet = env.packet()?;
    if !packet
        .icmp_type()
        .is_some_and(|kind| quote::is_error(packet.v6, kind))
    {
        return Err(DropReason::BadSteering);
    }
    let quoted = env.quoted(packet)?.ok_or(DropReason::UnmatchedError)?;
    let at = QuoteAt::of(quoted);
    let asked = set_aside(&Asked::of_quote(quoted)).ok_or(DropReason::HelperFailed)?;
    walk(env, packet, asked, &port, edge, steering, Some(at))
}

/// Keeps what was asked off the stack, which has no room for two packets.
#[inline(always)]
fn set_aside(asked: &Asked) -> Option<&'static Asked> {
    let place = maps::ASKED.get_ptr_mut(0)?;
    // SAFETY: this CPU's own; no other packet is handled on it before this one is done.
    let place = unsafe { &mut *place };
    *place = *asked;
    Some(context::forget(place))
}

/// What the walk over the owners comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// An owner elsewhere is asked.
    HandOn,
    /// An owner here knows the flow.
    Known,
    /// An owner here takes the flow that the packet opens.
    Opens,
    /// Another flow has the same translated addresses.
    Conflict,
    /// Nobody is left.
    Nobody,
}

/// Goes through the owners of the flow's slot, from the one that the packet was sent to.
///
/// An owner on this node that knows the flow takes the packet, whatever its place: while a change of owners spreads, two
/// nodes count the owners of a slot differently. Where none does, the first owner from there on decides: one here takes
/// what opens a flow, one elsewhere is handed the packet. UDP opens nothing: in a slot that has moved every owner is asked, and the packet returns to the
/// first one marked as the last word.
#[inline(always)]
fn walk(
    env: &Env<'_>,
    packet: &Packet,
    asked: &Asked,
    port: &Port,
    edge: Edge,
    mut steering: Steering,
    error: Option<QuoteAt>,
) -> Outcome {
    let service = tables::service(port.service).ok_or(DropReason::UnknownService)?;
    let table = service.maglev;
    let Ok(slot) = tables::slot(table, steering.hash) else {
        return refuse(env, edge, DropReason::NoBackend, error);
    };
    let udp = asked.protocol == wire::protocol::UDP;
    let opens = error.is_none()
        && if udp {
            steering.last || tables::owner(table, slot, 1) == 0
        } else {
            flow::opens(packet)
        };
    let first = u32::from(steering.hop);
    // The loop only chooses: what follows stands in the program once.
    let mut step = Step::Nobody;
    let mut index = 0;
    for hop in 0..=EARLIER_OWNERS {
        let candidate = tables::owner(table, slot, hop);
        // The current owner may be nobody while the last task drains; earlier owners have no gaps.
        if candidate == 0 && hop > 0 {
            break;
        }
        let Some(owner) = tables::backend(candidate) else {
            continue;
        };
        if owner.ifindex == 0 {
            if step == Step::Nobody && hop >= first {
                (step, index, steering.hop) = (Step::HandOn, candidate, hop as u8);
            }
            continue;
        }
        let address = owner.addr_like(&asked.client);
        if address.is_unspecified() {
            return refuse(env, edge, DropReason::NoBackendInFamily, error);
        }
        let found = look(asked, &asked.key(&address, port.target_port), opens);
        if found == Step::Known {
            (step, index) = (found, candidate);
            break;
        }
        if step == Step::Nobody && hop >= first {
            (step, index) = (found, candidate);
        }
    }
    let Some(owner) = tables::backend(index) else {
        return nobody(env, packet, asked, port, edge, steering, slot, error);
    };
    let address = owner.addr_like(&asked.client);
    match step {
        Step::HandOn => {
            steering.only_if_known = udp && steering.hop > 0;
            hand_on(env, packet, owner.vtep, steering, port.service, index, edge)
        }
        Step::Known => {
            if let Some(at) = error {
                return icmp_error::to_backend(env, packet, asked, at, owner, port.target_port);
            }
            let key = asked.key(&address, port.target_port);
            let found = flows::find(&key).ok_or(DropReason::UnknownFlow)?;
            if !env.dry() {
                found.follow_edge(edge);
            }
            flows::touch(env, &key, &found, packet, true)?;
            deliver(env, packet, owner, index, port, &address, edge, 0)
        }
        Step::Opens => {
            make(
                env,
                packet,
                &asked.key(&address, port.target_port),
                asked,
                owner,
                index,
                port,
                edge,
            )?;
            deliver(env, packet, owner, index, port, &address, edge, steering.hash | 1)
        }
        Step::Conflict => refuse(env, edge, DropReason::FlowConflict, error),
        Step::Nobody => nobody(env, packet, asked, port, edge, steering, slot, error),
    }
}

/// What an owner on this node does with the packet.
#[inline(always)]
fn look(asked: &Asked, key: &FlowKey, opens: bool) -> Step {
    let udp = asked.protocol == wire::protocol::UDP;
    let Some(found) = flows::find(key) else {
        return if opens { Step::Opens } else { Step::Nobody };
    };
    let flow = found.flow();
    let same = flow.kind == FlowKind::Ingress as u8
        && flow.translated == asked.published
        && flow.translated_port == asked.published_port;
    let reopens = opens && !udp && flow.state == FlowState::Closing as u8;
    if same && !reopens {
        Step::Known
    } else if reopens || (opens && udp) {
        Step::Opens
    } else if opens {
        Step::Conflict
    } else {
        Step::Nobody
    }
}

/// No owner knows the flow, and the packet opens none.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "the last step of the walk, with all that the walk knows"
)]
fn nobody(
    env: &Env<'_>,
    packet: &Packet,
    asked: &Asked,
    port: &Port,
    edge: Edge,
    steering: Steering,
    slot: u32,
    error: Option<QuoteAt>,
) -> Outcome {
    if error.is_some() {
        return Err(DropReason::UnmatchedError);
    }
    if asked.protocol == wire::protocol::UDP {
        return last_word(env, packet, asked, port, edge, steering, slot);
    }
    answer::refuse(env, edge, DropReason::UnknownFlow)
}

/// Refuses a client's packet; an ICMP error is only dropped.
#[inline(always)]
fn refuse(env: &Env<'_>, edge: Edge, reason: DropReason, error: Option<QuoteAt>) -> Outcome {
    if error.is_some() {
        Err(reason)
    } else {
        answer::refuse(env, edge, reason)
    }
}

/// Every owner was asked about a UDP flow and none knows it: the first one makes it.
#[inline(always)]
fn last_word(
    env: &Env<'_>,
    packet: &Packet,
    asked: &Asked,
    port: &Port,
    edge: Edge,
    mut steering: Steering,
    slot: u32,
) -> Outcome {
    let service = tables::service(port.service).ok_or(DropReason::UnknownService)?;
    let index = tables::owner(service.maglev, slot, 0);
    let Some(owner) = tables::backend(index) else {
        return answer::refuse(env, edge, DropReason::NoBackend);
    };
    steering.hop = 0;
    steering.last = true;
    steering.only_if_known = false;
    if owner.ifindex == 0 {
        return hand_on(env, packet, owner.vtep, steering, port.service, index, edge);
    }
    let address = owner.addr_like(&asked.client);
    if address.is_unspecified() {
        return answer::refuse(env, edge, DropReason::NoBackendInFamily);
    }
    make(
        env,
        packet,
        &asked.key(&address, port.target_port),
        asked,
        owner,
        index,
        port,
        edge,
    )?;
    deliver(env, packet, owner, index, port, &address, edge, steering.hash | 1)
}

/// Enters the flow that the packet opens.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "one call site per way to open a flow; a struct would only rename them"
)]
fn make(
    env: &Env<'_>,
    packet: &Packet,
    key: &FlowKey,
    asked: &Asked,
    owner: &Backend,
    index: u32,
    port: &Port,
    edge: Edge,
) -> Result<(), DropReason> {
    let service = tables::service(port.service);
    let flow = Flow {
        translated: asked.published,
        translated_port: asked.published_port,
        kind: FlowKind::Ingress as u8,
        state: FlowState::HalfOpen as u8,
        flags: if key.local == asked.client {
            FlowFlags::HAIRPIN
        } else if port.flags.has(PortFlags::DSR) {
            FlowFlags::DSR
        } else {
            FlowFlags::NONE
        },
        edge_token: edge.token,
        reserved: [0; 2],
        service: port.service,
        backend: index,
        backend_generation: owner.generation,
        edge_vtep: edge.vtep,
        seen: clock::now(),
        timeout: flows::timeout(env, service, packet.protocol, FlowState::HalfOpen),
    };
    flows::open(env, key, &flow)?;
    if edge.token == 0 && !env.dry() {
        mark_translated(owner.slot);
    }
    Ok(())
}

/// Tells `endpoint_tc` that packets of this endpoint within the overlay may belong to a translated flow.
#[inline(always)]
pub(super) fn mark_translated(slot: u32) {
    if let Some(word) = maps::TRANSLATED.get_ptr_mut(slot) {
        // SAFETY: a word of an array; every writer stores the same.
        unsafe { word.write(1) };
    }
}

/// Translates the packet and delivers it to the task.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "one call site per way to find the flow; a struct would only rename them"
)]
fn deliver(
    env: &Env<'_>,
    packet: &Packet,
    owner: &Backend,
    index: u32,
    port: &Port,
    address: &Addr,
    edge: Edge,
    opened: u32,
) -> Outcome {
    let decision = Decision {
        service: port.service,
        backend: index,
        ifindex: owner.ifindex,
        vni: owner.vni,
        opened,
        ..Decision::default()
    };
    let flows = u64::from(opened != 0);
    if edge.vtep != env.config.own_vtep {
        env.count_for(port.service, index, flows);
    } else if flows != 0 && !env.dry() {
        tables::count_flow(port.service, index);
    }
    env.report(Verdict::Delivered, None, packet, &decision);
    match translate::end(env, packet, End::Destination, address, port.target_port, true) {
        Err(DropReason::TtlExceeded) => return answer::refuse(env, edge, DropReason::TtlExceeded),
        other => other?,
    }
    if *address == packet.source {
        translate::end(
            env,
            packet,
            End::Source,
            &packet.destination,
            packet.source_port,
            false,
        )?;
    }
    into_endpoint(env, owner.ifindex, &owner.mac, &MacAddr::GATEWAY)
}

/// Hands the packet to another owner's node; the reply goes to the edge, so the packet names it from here on.
#[inline(always)]
fn hand_on(
    env: &Env<'_>,
    packet: &Packet,
    vtep: u32,
    mut steering: Steering,
    service: u32,
    backend: u32,
    edge: Edge,
) -> Outcome {
    steering.edge = tables::vtep(edge.vtep).map_or(0, |vtep| vtep.number as u16);
    steering.budget += 1;
    if steering.budget > MAX_BUDGET {
        return Err(DropReason::HandedOnTooOften);
    }
    let decision = Decision {
        service,
        backend,
        vtep,
        vni: env.config.ingress_vni,
        ..Decision::default()
    };
    let sent = encapsulate::to_vtep(env, packet, vtep, env.config.ingress_vni, &steering, &decision);
    if sent == Err(DropReason::TooBig) {
        return answer::too_big(env, edge, encapsulate::mtu_to(env, vtep));
    }
    sent
}
