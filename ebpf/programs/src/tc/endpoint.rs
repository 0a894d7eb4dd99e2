//! tc ingress on the node's side of each endpoint: what a task (or the node itself) sends into the overlay.

use super::deliver::{back, into_endpoint, set_macs};
use super::encapsulate::{self, Unicast};
use super::skb::{self, Skb};
use super::{Env, Outcome, PASS, answer, flows, vip};
use crate::event::Decision;
use crate::{maps, tables};
use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::maps::{TC_EDGE, TC_ICMP_ERROR, TC_REPLY, TC_VIP};
use essaim_abi::{
    Addr, DropReason, Endpoint, EndpointFlags, EndpointKind, FlowKey, Hook, LocalEndpoint,
    LocalEndpointFlags, MacAddr, Protocol, Verdict,
};
use essaim_packet::wire::{ethernet, icmp, protocol};
use essaim_packet::{Fragment, Packet, neighbour, quote, view};

#[classifier]
#[inline(always)]
fn endpoint_tc(ctx: TcContext) -> i32 {
    run!(&ctx, Hook::EndpointTc, endpoint)
}

#[inline(always)]
fn endpoint(env: &Env<'_>) -> Outcome {
    let own = tables::local(skb::ifindex(env.ctx)).ok_or(DropReason::UnknownInterface)?;
    // What leaves the node from an encrypted network is encrypted, whatever becomes of it on the way; nobody else's word
    // counts.
    skb::set_secure(env.ctx, own.flags.has(LocalEndpointFlags::ENCRYPTED));
    skb::pull(env.ctx);
    let header = view::<{ ethernet::LEN }>(&Skb(env.ctx), 0)?;
    if !header.has_mac(ethernet::SOURCE, &own.mac) {
        return Err(DropReason::SpoofedMac);
    }
    let kind: u16 = header.get(ethernet::TYPE);
    if kind == ethernet::ARP {
        return arp(env, own);
    }
    let packet = env.packet()?;
    if packet.v6
        && (packet.source.is_link_local()
            || packet.source.is_unspecified()
            || packet.destination.is_multicast()
            || packet.icmp_type() == Some(icmp::SOLICITATION))
    {
        return link(env, own, packet);
    }
    let own_address = if packet.v6 { own.addr6 } else { Addr::v4(own.addr4) };
    if packet.source != own_address {
        return Err(DropReason::SpoofedAddress);
    }
    if packet.destination.is_multicast() {
        return Err(DropReason::Multicast);
    }
    // The node's side of the link may have such an address: nothing but an answer to its solicitation goes there.
    if packet.destination.is_link_local() && packet.icmp_type() != Some(icmp::ADVERTISEMENT) {
        return Err(DropReason::LinkLocal);
    }
    if let Some(kind) = packet.icmp_type()
        && quote::is_error(packet.v6, kind)
    {
        return env.call(TC_ICMP_ERROR, [1, 0, 0, 0, Hook::EndpointTc as u32]);
    }
    // Replies within the overlay are rare, and the endpoint's word tells where there can be none.
    let translated = may_be_translated(own.slot);
    if !translated && let Some(to) = tables::near_endpoint(&packet.destination) {
        return here(env, own, packet, to);
    }
    // SAFETY: the value is not kept beyond this program.
    let to = unsafe { maps::ENDPOINT_BY_ADDR.get(packet.destination) };
    let maybe_reply = to.is_none_or(|to| to.kind != EndpointKind::Vip as u8 && translated);
    if maybe_reply && is_reply(packet) {
        return env.call(TC_REPLY, [0, 0, 0, 0, Hook::EndpointTc as u32]);
    }
    onward(env, own, packet, to)
}

/// To an overlay address, or to one that is not.
#[inline(always)]
fn onward(env: &Env<'_>, own: &LocalEndpoint, packet: &mut Packet, to: Option<&Endpoint>) -> Outcome {
    if let Some(to) = to {
        within(env, own, packet, to)
    } else {
        outside(env, own, packet)
    }
}

/// Where a packet goes that is no reply to a client: an ICMP error that turned out to be about no translated flow.
#[inline(always)]
pub(super) fn route(env: &Env<'_>, packet: &mut Packet) -> Outcome {
    // SAFETY: the value is not kept beyond this program.
    let own = unsafe { maps::ENDPOINT_BY_IFINDEX.get(skb::ifindex(env.ctx)) }
        .ok_or(DropReason::UnknownInterface)?;
    // SAFETY: the value is not kept beyond this program.
    onward(env, own, packet, unsafe {
        maps::ENDPOINT_BY_ADDR.get(packet.destination)
    })
}

/// Neighbour discovery, and what else is said on the link.
#[inline(always)]
fn link(env: &Env<'_>, own: &LocalEndpoint, packet: &Packet) -> Outcome {
    match packet.icmp_type() {
        Some(icmp::SOLICITATION) => solicitation(env, own),
        // Reports of groups, and the search for routers that are not there: nobody needs to hear them.
        Some(icmp::ROUTER_SOLICITATION | 130..=132 | 143) => Ok(TC_ACT_SHOT),
        _ if packet.destination.is_multicast() => Err(DropReason::Multicast),
        _ => Err(DropReason::LinkLocal),
    }
}

/// What ARP and neighbour solicitations are answered with; `None` where nobody of the network has the address.
#[inline(always)]
fn mac_of(own: &LocalEndpoint, target: &Addr) -> Option<MacAddr> {
    // SAFETY: the value is copied at once.
    let endpoint = unsafe { maps::ENDPOINT_BY_ADDR.get(target) }?;
    if endpoint.vni != own.vni && !own.flags.has(LocalEndpointFlags::NODE) {
        return None;
    }
    Some(endpoint.mac)
}

#[inline(always)]
fn arp(env: &Env<'_>, own: &LocalEndpoint) -> Outcome {
    let Some(question) = neighbour::arp_question(&Skb(env.ctx))? else {
        return Ok(TC_ACT_SHOT);
    };
    if question.sender != Addr::v4(own.addr4) || question.sender_mac != own.mac {
        return Err(DropReason::SpoofedArp);
    }
    let mac = mac_of(own, &question.target).ok_or(DropReason::UnknownDestination)?;
    neighbour::arp_answer(&mut Skb(env.ctx), &question, &mac)?;
    back(env)
}

#[inline(always)]
fn solicitation(env: &Env<'_>, own: &LocalEndpoint) -> Outcome {
    let Some(question) = neighbour::solicitation(&Skb(env.ctx))? else {
        return Ok(TC_ACT_SHOT);
    };
    if question.sender != own.addr6 && !question.sender.is_link_local() {
        return Err(DropReason::SpoofedArp);
    }
    if question.target == own.addr6 {
        return Ok(TC_ACT_SHOT);
    }
    let mac = mac_of(own, &question.target).ok_or(DropReason::UnknownDestination)?;
    if skb::len(env.ctx) != neighbour::ADVERTISEMENT_LEN as u32 {
        skb::resize(env.ctx, neighbour::ADVERTISEMENT_LEN as u32)?;
    }
    neighbour::advertisement(&mut Skb(env.ctx), &question, &mac)?;
    back(env)
}

/// To an endpoint of this node.
#[inline(always)]
fn here(env: &Env<'_>, own: &LocalEndpoint, packet: &mut Packet, to: &Endpoint) -> Outcome {
    if to.kind == EndpointKind::ThisNode as u8 {
        guard(env, packet)?;
    } else if to.vni != own.vni && !own.flags.has(LocalEndpointFlags::NODE) {
        return Err(DropReason::NotInNetwork);
    }
    vip::restore(env, packet, to.slot)?;
    let decision = Decision {
        ifindex: to.ifindex,
        vni: to.vni,
        backend: to.backend,
        ..Decision::default()
    };
    env.report(Verdict::Delivered, None, packet, &decision);
    into_endpoint(env, to.ifindex, &to.mac, &own.mac)
}

/// To an overlay address.
#[inline(always)]
fn within(env: &Env<'_>, own: &LocalEndpoint, packet: &mut Packet, to: &Endpoint) -> Outcome {
    let kind = EndpointKind::of(to.kind).ok_or(DropReason::UnknownDestination)?;
    // The node speaks to every network; every network may answer a node.
    let mixed = to.vni != own.vni
        && !own.flags.has(LocalEndpointFlags::NODE)
        && kind != EndpointKind::ThisNode
        && kind != EndpointKind::OtherNode;
    if mixed {
        return Err(DropReason::NotInNetwork);
    }
    match kind {
        EndpointKind::Local | EndpointKind::ThisNode => here(env, own, packet, to),
        EndpointKind::Remote | EndpointKind::OtherNode => {
            if kind == EndpointKind::OtherNode {
                guard(env, packet)?;
            }
            if to.flags.has(EndpointFlags::ENCRYPTED) {
                skb::set_secure(env.ctx, true);
            }
            let decision = Decision {
                vtep: to.index,
                vni: to.vni,
                backend: to.backend,
                ..Decision::default()
            };
            let sent = encapsulate::to_vtep(
                env,
                packet,
                to.index,
                to.vni,
                &Unicast(to.mac, own.mac),
                &decision,
            );
            if sent == Err(DropReason::TooBig) {
                return answer::too_big_here(env, encapsulate::mtu_to(env, to.index));
            }
            sent
        }
        EndpointKind::Vip => env.call(TC_VIP, [to.index, own.slot, 0, 0, Hook::EndpointTc as u32]),
        EndpointKind::Gateway => gateway(env, packet),
        EndpointKind::Tombstone => answer::refuse_here(env, DropReason::EndpointGone),
    }
}

#[inline(always)]
fn may_be_translated(slot: u32) -> bool {
    maps::TRANSLATED.get(slot).is_some_and(|word| *word != 0)
}

/// Whether the packet answers a client of a published port, or the endpoint itself.
#[inline(always)]
fn is_reply(packet: &Packet) -> bool {
    if packet.fragment == Fragment::Later {
        // The first fragment went that way and left its ports.
        return flows::knows_fragment(packet, Hook::EndpointTc);
    }
    if !packet.has_ports() {
        return false;
    }
    let key = FlowKey {
        remote: packet.destination,
        local: packet.source,
        remote_port: packet.destination_port,
        local_port: packet.source_port,
        protocol: packet.protocol,
        reserved: [0; 3],
    };
    flows::is_reply(&key)
}

/// Only echo requests are for the gateway itself: it is no machine.
#[inline(always)]
fn gateway(env: &Env<'_>, packet: &Packet) -> Outcome {
    match packet.icmp_type() {
        Some(icmp::ECHO | icmp::ECHO6) => answer::echo(env, packet),
        _ => answer::refuse_here(env, DropReason::UnknownDestination),
    }
}

/// To an address that is not of the overlay: a client of a published port, a published port, or the world.
#[inline(always)]
fn outside(env: &Env<'_>, own: &LocalEndpoint, packet: &Packet) -> Outcome {
    if own.flags.has(LocalEndpointFlags::NODE) {
        return Err(DropReason::UnknownDestination);
    }
    if is_node(&packet.destination) {
        let published = if packet.fragment == Fragment::Later {
            // The first fragment went that way and left its ports.
            flows::knows_fragment(packet, Hook::UplinkTc)
        } else {
            Protocol::of_ip(packet.protocol)
                .is_some_and(|transport| tables::port(transport, packet.destination_port).is_some())
        };
        if published {
            return env.call(TC_EDGE, [0, 0, 0, 0, Hook::EndpointTc as u32]);
        }
        guard(env, packet)?;
    }
    if own.flags.has(LocalEndpointFlags::INTERNAL) {
        return Err(DropReason::InternalNetwork);
    }
    // The kernel routes it: it must look like a packet for this host.
    set_macs(env, &MacAddr::GATEWAY, &own.mac)?;
    env.report(
        Verdict::Pass,
        None,
        packet,
        &Decision {
            vni: own.vni,
            ..Decision::default()
        },
    );
    skb::set_secure(env.ctx, false);
    skb::set_host(env.ctx);
    Ok(PASS)
}

/// Whether the address is a node's, this one's or another member's.
#[inline(always)]
fn is_node(address: &Addr) -> bool {
    // SAFETY: the value is not kept.
    tables::is_local(address) || unsafe { maps::VTEP_BY_ADDR.get(address) }.is_some()
}

/// Nothing from a task to a node's VXLAN, gossip or manager port, which trust a node's address; nor fragments of UDP,
/// whose ports cannot be seen.
#[inline(always)]
fn guard(env: &Env<'_>, packet: &Packet) -> Result<(), DropReason> {
    let config = env.config;
    let port = packet.destination_port;
    let forbidden = match packet.protocol {
        protocol::UDP => {
            packet.fragment != Fragment::Whole || port == config.vxlan_port || port == config.gossip_port
        }
        protocol::TCP => port == config.gossip_port || port == config.manager_port,
        _ => false,
    };
    if forbidden {
        Err(DropReason::ForbiddenPort)
    } else {
        Ok(())
    }
}
