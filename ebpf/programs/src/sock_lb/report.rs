//! What the event ring learns of the socket programs: a sample of what they assigned, everything while
//! somebody watches.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use essaim_abi::{Addr, ConfigFlags, DropReason, Event, FlowKey, Hook, Protocol, Verdict};

use super::call::Peer;
use crate::{maps, tables};

/// A socket's call to a service.
pub(super) struct Assignment {
    /// What the program asked for.
    pub(super) asked: Peer,
    /// The protocol.
    pub(super) protocol: Protocol,
    /// Index into `SERVICES`.
    pub(super) service: u32,
    /// The service's network.
    pub(super) vni: u32,
    /// The backend's index, or why there is none.
    pub(super) backend: Result<u32, DropReason>,
}

/// Reports the assignment where anybody wants to know.
#[inline(always)]
pub(super) fn report(assignment: &Assignment) {
    let Some(config) = tables::config() else { return };
    if config.flags.has(ConfigFlags::WATCH)
        || (assignment.backend.is_ok()
            && config.sample_mask != u32::MAX
            && random() & config.sample_mask == 0)
    {
        submit(assignment);
    }
}

/// Stands in for the hash of a flow whose source is not known yet.
#[inline(always)]
fn random() -> u32 {
    // SAFETY: the helper has no condition.
    unsafe { bpf_get_prandom_u32() }
}

/// Writes the event; a full ring loses it.
#[inline(never)]
fn submit(assignment: &Assignment) {
    let Some(mut slot) = maps::EVENTS.reserve_untyped::<Event>(0) else {
        return;
    };
    let (verdict, backend, reason) = match assignment.backend {
        Ok(backend) => (Verdict::Pass, backend, 0),
        Err(reason) => (Verdict::Answered, 0, reason as u8),
    };
    slot.write(Event {
        // SAFETY: the helper has no condition.
        time_ns: unsafe { bpf_ktime_get_ns() },
        flow: FlowKey {
            // The kernel chooses the socket's own address later.
            remote: Addr::UNSPECIFIED,
            local: assignment.asked.addr,
            remote_port: 0,
            local_port: assignment.asked.port,
            protocol: assignment.protocol.ip(),
            reserved: [0; 3],
        },
        service: assignment.service,
        backend,
        vtep: 0,
        ifindex: 0,
        trace_mark: 0,
        len: 0,
        hook: Hook::SockLb as u8,
        verdict: verdict as u8,
        reason,
        opened: u8::from(assignment.backend.is_ok()),
        vni: assignment.vni,
    });
    slot.submit(0);
}
