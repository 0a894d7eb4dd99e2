//! Into an endpoint on this node, or out to the client at the edge.

use super::skb::{self, Skb};
use super::{Env, Outcome, encapsulate};
use crate::event::Decision;
use crate::maps;
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer};
use essaim_abi::{Addr, DropReason, EndpointKind, MacAddr, Verdict};
use essaim_packet::steer::Steering;
use essaim_packet::{Packet, view_mut, wire};

/// Writes both Ethernet addresses.
#[inline(always)]
pub(super) fn set_macs(env: &Env<'_>, destination: &MacAddr, source: &MacAddr) -> Result<(), DropReason> {
    let mut header = view_mut::<{ wire::ethernet::LEN }>(&mut Skb(env.ctx), 0)?;
    header.put_mac(0, destination);
    header.put_mac(wire::ethernet::SOURCE, source);
    Ok(())
}

/// Straight into the namespace behind the veth `ifindex`, as if it came over its wire from `from`.
#[inline(always)]
pub(super) fn into_endpoint(env: &Env<'_>, ifindex: u32, mac: &MacAddr, from: &MacAddr) -> Outcome {
    set_macs(env, mac, from)?;
    skb::set_secure(env.ctx, false);
    if ifindex == env.config.node_ifindex {
        // The node's own endpoint: `bpf_redirect_peer` refuses a peer in the same namespace.
        // SAFETY: the helper has no condition.
        return Ok(unsafe { bpf_redirect(ifindex, 0) } as i32);
    }
    skb::set_host(env.ctx);
    // SAFETY: the helper has no condition.
    Ok(unsafe { bpf_redirect_peer(ifindex, 0) } as i32)
}

/// Back out of the interface where it came in; the Ethernet addresses are as they shall be.
#[inline(always)]
pub(super) fn back(env: &Env<'_>) -> Outcome {
    // SAFETY: the helper has no condition.
    Ok(unsafe { bpf_redirect(skb::ifindex(env.ctx), 0) } as i32)
}

/// The way from a backend's node to a client.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// The edge's VTEP.
    pub(super) vtep: u32,
    /// The interface there, as in [`Steering::token`].
    pub(super) token: u8,
}

/// To the client: through the edge that its packet came by, or from here where that is this node.
#[inline(always)]
pub(super) fn to_client(
    env: &Env<'_>,
    packet: &Packet,
    edge: Edge,
    client: &Addr,
    decision: &Decision,
) -> Outcome {
    if edge.vtep == env.config.own_vtep {
        return at_edge(env, packet, edge.token, client, decision);
    }
    let decision = Decision {
        vtep: edge.vtep,
        vni: env.config.ingress_vni,
        ..*decision
    };
    encapsulate::to_vtep(
        env,
        packet,
        edge.vtep,
        env.config.ingress_vni,
        &Steering::reply(edge.token),
        &decision,
    )
}

/// Out at the edge, past its stack: to an endpoint of this node, or out of the uplink where the client came in.
#[inline(always)]
pub(super) fn at_edge(
    env: &Env<'_>,
    packet: &Packet,
    token: u8,
    client: &Addr,
    decision: &Decision,
) -> Outcome {
    if token == 0 {
        // SAFETY: the value is not kept.
        let endpoint = unsafe { maps::ENDPOINT_BY_ADDR.get(client) }.ok_or(DropReason::UnknownDestination)?;
        return match EndpointKind::of(endpoint.kind) {
            Some(EndpointKind::Local | EndpointKind::ThisNode) => {
                let decision = Decision {
                    ifindex: endpoint.ifindex,
                    vni: endpoint.vni,
                    ..*decision
                };
                env.report(Verdict::Delivered, None, packet, &decision);
                into_endpoint(env, endpoint.ifindex, &endpoint.mac, &MacAddr::GATEWAY)
            }
            _ => Err(DropReason::UnknownDestination),
        };
    }
    // 0 names none: it wraps to a place that there is not.
    let place = skb::settled(usize::from(token).wrapping_sub(1));
    let ifindex = env.config.uplinks.get(place).copied().unwrap_or(0);
    if ifindex == 0 {
        return Err(DropReason::UnknownInterface);
    }
    out(env, packet, ifindex, decision)
}

/// Out of an uplink; the kernel finds the next hop.
#[inline(always)]
pub(super) fn out(env: &Env<'_>, packet: &Packet, ifindex: u32, decision: &Decision) -> Outcome {
    env.report(
        Verdict::Forwarded,
        None,
        packet,
        &Decision { ifindex, ..*decision },
    );
    // The client's side has no part in it, and the kernel would block what leaves so marked.
    skb::set_secure(env.ctx, false);
    // SAFETY: no parameters: the helper looks the route and the neighbour up by the packet's destination.
    Ok(unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) } as i32)
}
