//! The event ring: sampled new flows, and every decision while somebody watches or traces.

use crate::maps;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use essaim_abi::{Config, ConfigFlags, DropReason, Event, Hook, Verdict};
use essaim_packet::Packet;

/// What a program found out about a packet on its way to a verdict.
#[derive(Clone, Copy, Default)]
pub(crate) struct Decision {
    pub(crate) service: u32,
    pub(crate) backend: u32,
    pub(crate) vtep: u32,
    pub(crate) ifindex: u32,
    pub(crate) vni: u32,
    /// The flow's hash where the packet opened it, else 0.
    pub(crate) opened: u32,
    pub(crate) trace_mark: u32,
    pub(crate) len: u32,
}

/// Whether anybody wants to know.
#[inline(always)]
pub(crate) fn wanted(config: &Config, decision: &Decision) -> bool {
    config.flags.has(ConfigFlags::WATCH)
        || decision.trace_mark != 0
        || (decision.opened != 0
            && config.sample_mask != u32::MAX
            && decision.opened & config.sample_mask == 0)
}

/// Reports a decision; a full ring loses it.
#[inline(never)]
pub(crate) fn report(
    hook: Hook,
    verdict: Verdict,
    reason: Option<DropReason>,
    packet: &Packet,
    decision: &Decision,
) {
    let Some(mut slot) = maps::EVENTS.reserve_untyped::<Event>(0) else {
        return;
    };
    let event = slot.as_mut_ptr();
    // Field by field, where it stands: a copy on the stack would not fit beside the caller's.
    // SAFETY: the reservation is as large as the event and its own; every field is written.
    unsafe {
        (*event).time_ns = bpf_ktime_get_ns();
        (*event).flow.remote = packet.source;
        (*event).flow.local = packet.destination;
        (*event).flow.remote_port = packet.source_port;
        (*event).flow.local_port = packet.destination_port;
        (*event).flow.protocol = packet.protocol;
        (*event).flow.reserved = [0; 3];
        (*event).service = decision.service;
        (*event).backend = decision.backend;
        (*event).vtep = decision.vtep;
        (*event).ifindex = decision.ifindex;
        (*event).trace_mark = decision.trace_mark;
        (*event).len = decision.len;
        (*event).hook = hook as u8;
        (*event).verdict = verdict as u8;
        (*event).reason = reason.map_or(0, |reason| reason as u8);
        (*event).opened = u8::from(decision.opened != 0);
        (*event).vni = decision.vni;
    }
    slot.submit(0);
}
