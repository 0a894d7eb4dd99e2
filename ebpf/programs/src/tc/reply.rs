//! The task's side of an ingress flow: the published address is put back, and the packet goes to the client.

use super::deliver::{Edge, out, to_client};
use super::edge::caller;
use super::encapsulate;
use super::translate::{self, End};
use super::{Env, Outcome, answer, flows, vip};
use crate::event::Decision;
use crate::tables;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use essaim_abi::{DropReason, FlowFlags, FlowKind, Hook};

#[classifier]
#[inline(always)]
fn reply_tc(ctx: TcContext) -> i32 {
    let hook = caller(&ctx);
    run!(&ctx, hook, reply)
}

#[inline(always)]
fn reply(env: &Env<'_>) -> Outcome {
    let packet = env.packet()?;
    flows::add_ports(env, Hook::EndpointTc, packet)?;
    let key = vip::sent(packet);
    let found = flows::find(&key).ok_or(DropReason::NotEstablished)?;
    let flow = found.flow();
    if flow.kind == FlowKind::Reverse as u8 && flow.flags.has(FlowFlags::HAIRPIN) {
        return vip::hairpin_reply(env, packet, &flow);
    }
    if flow.kind != FlowKind::Ingress as u8 {
        return Err(DropReason::NotEstablished);
    }
    let edge = Edge {
        vtep: flow.edge_vtep,
        token: flow.edge_token,
    };
    let here = edge.vtep == env.config.own_vtep;
    let direct = !here && edge.token != 0 && flow.flags.has(FlowFlags::DSR);
    if !here && !direct {
        let vtep = tables::vtep(edge.vtep).ok_or(DropReason::UnknownDestination)?;
        let mtu = encapsulate::mtu(env, vtep);
        if packet.dont_fragment && !encapsulate::fits(env, packet, mtu) {
            return answer::too_big_here(env, mtu);
        }
    }
    flows::touch(env, &key, &found, packet, false)?;
    // The client's packets are encapsulated too, wherever they enter: all VTEPs share the underlay's MTU.
    if let Some(vtep) = tables::vtep(env.config.own_vtep) {
        translate::clamp_mss(env, packet, encapsulate::mtu(env, vtep))?;
    }
    match translate::end(
        env,
        packet,
        End::Source,
        &flow.translated,
        flow.translated_port,
        true,
    ) {
        Err(DropReason::TtlExceeded) => return answer::refuse_here(env, DropReason::TtlExceeded),
        other => other?,
    }
    if flow.flags.has(FlowFlags::HAIRPIN) {
        // The task is its own client.
        let client = packet.source;
        translate::end(
            env,
            packet,
            End::Destination,
            &client,
            packet.destination_port,
            false,
        )?;
        packet.destination = client;
    }
    packet.source = flow.translated;
    packet.source_port = flow.translated_port;
    let decision = Decision {
        service: flow.service,
        backend: flow.backend,
        ..Decision::default()
    };
    if direct {
        return out(env, packet, env.config.uplinks[0], &decision);
    }
    to_client(env, packet, edge, &packet.destination, &decision)
}
