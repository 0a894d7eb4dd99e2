//! The tables of flows: half-open ones may be evicted, established ones never are.

use super::Env;
use super::deliver::Edge;
use crate::{clock, maps, tables};
use essaim_abi::{DropReason, Flow, FlowFlags, FlowKey, FlowKind, FlowState, Hook, Service};
use essaim_abi::{FragmentKey, FragmentPorts};
use essaim_packet::{Fragment, Packet, flow, wire};

/// Where a live entry stands.
#[derive(Clone, Copy)]
pub(super) struct Found {
    entry: *mut Flow,
    established: bool,
}

impl Found {
    /// The entry as it is now.
    #[inline(always)]
    pub(super) fn flow(&self) -> Flow {
        // SAFETY: the kernel keeps entries of both tables readable for as long as the program runs.
        unsafe { *self.entry }
    }

    /// Replies follow the client's packets when these come through another edge.
    #[inline(always)]
    pub(super) fn follow_edge(&self, edge: Edge) {
        let entry = self.entry();
        if entry.edge_vtep != edge.vtep || entry.edge_token != edge.token {
            entry.edge_vtep = edge.vtep;
            entry.edge_token = edge.token;
        }
    }

    /// The entry, where it stands.
    #[inline(always)]
    #[expect(
        clippy::mut_from_ref,
        reason = "the entry belongs to the map, not to this handle"
    )]
    fn entry(&self) -> &mut Flow {
        // SAFETY: as in `flow`; another CPU may write the same words, each of which is whole.
        unsafe { &mut *self.entry }
    }
}

/// Where a flow stands. Another CPU may move it from the half-open to the established ones between the first two looks:
/// the third finds it then.
#[inline(always)]
fn entry(key: &FlowKey) -> Option<Found> {
    let found = |established| move |entry| Found { entry, established };
    let half_open = || maps::HALF_OPEN_FLOWS.get_ptr_mut(key).map(found(false));
    let established = || maps::FLOWS.get_ptr_mut(key).map(found(true));
    established().or_else(half_open).or_else(established)
}

/// The live entry of a flow: not idled out, its backend alive and the same.
#[inline(always)]
pub(super) fn find(key: &FlowKey) -> Option<Found> {
    let found = entry(key)?;
    let flow = found.entry();
    if flow.is_expired(clock::now()) {
        return None;
    }
    let backend = tables::backend(flow.backend)?;
    if backend.generation != flow.backend_generation {
        return None;
    }
    Some(found)
}

/// What a packet makes of a found flow: time, state, promotion.
///
/// # Errors
/// [`DropReason::FlowTableFull`] where a half-open flow cannot be established.
#[inline(always)]
pub(super) fn touch(
    env: &Env<'_>,
    key: &FlowKey,
    found: &Found,
    packet: &Packet,
    from_client: bool,
) -> Result<(), DropReason> {
    if env.dry() {
        return Ok(());
    }
    let entry = found.entry();
    entry.seen = clock::now();
    if !from_client && !entry.flags.has(FlowFlags::REPLIED) {
        entry.flags = entry.flags.with(FlowFlags::REPLIED);
    }
    let state = state_of(entry.state);
    let next = flow::next(state, packet, from_client, entry.flags.has(FlowFlags::REPLIED));
    if next == state {
        return Ok(());
    }
    entry.state = next as u8;
    entry.timeout = timeout(env, tables::service(entry.service), packet.protocol, next);
    if next == FlowState::HalfOpen {
        entry.flags = FlowFlags(entry.flags.0 & !FlowFlags::REPLIED.0);
    }
    if next == FlowState::Established && !found.established {
        promote(key, &found.flow())?;
    }
    Ok(())
}

/// Whether the key, of a packet that an endpoint sends, belongs to a live flow that came from a client of a published
/// port, or from the endpoint itself.
#[inline(always)]
pub(super) fn is_reply(key: &FlowKey) -> bool {
    find(key).is_some_and(|found| {
        let flow = found.flow();
        flow.kind == FlowKind::Ingress as u8
            || (flow.kind == FlowKind::Reverse as u8 && flow.flags.has(FlowFlags::HAIRPIN))
    })
}

/// Counts the flow as seen now.
#[inline(always)]
pub(super) fn refresh(found: &Found) {
    found.entry().seen = clock::now();
}

/// Moves a flow to the table of established ones.
#[inline(always)]
pub(super) fn promote(key: &FlowKey, flow: &Flow) -> Result<(), DropReason> {
    if maps::FLOWS.insert(key, flow, 0).is_err() {
        return Err(DropReason::FlowTableFull);
    }
    let _absent = maps::HALF_OPEN_FLOWS.remove(key);
    Ok(())
}

#[inline(always)]
fn state_of(number: u8) -> FlowState {
    if number == FlowState::Established as u8 {
        FlowState::Established
    } else if number == FlowState::Closing as u8 {
        FlowState::Closing
    } else {
        FlowState::HalfOpen
    }
}

/// The idle time of a state, in jiffies.
#[inline(always)]
pub(super) fn timeout(env: &Env<'_>, service: Option<&Service>, protocol: u8, state: FlowState) -> u32 {
    let Some(service) = service else {
        return env.config.half_open_timeout;
    };
    match state {
        FlowState::HalfOpen => env.config.half_open_timeout,
        FlowState::Closing => service.closing_timeout,
        FlowState::Established => {
            if protocol == wire::protocol::UDP {
                service.udp_timeout
            } else {
                service.established_timeout
            }
        }
    }
}

/// Enters a new flow as half-open.
///
/// # Errors
/// [`DropReason::FlowTableFull`] where the kernel has no memory for it.
#[inline(always)]
pub(super) fn open(env: &Env<'_>, key: &FlowKey, flow: &Flow) -> Result<(), DropReason> {
    if env.dry() {
        return Ok(());
    }
    // A flow that idled out or whose backend is gone makes room for the new one.
    let _absent = maps::FLOWS.remove(key);
    maps::HALF_OPEN_FLOWS
        .insert(key, flow, 0)
        .map_err(|_| DropReason::FlowTableFull)
}

/// Gives a later fragment the ports that the first one carried, and remembers those of a first one.
///
/// # Errors
/// [`DropReason::UnknownFragment`] where the first fragment was not seen.
#[inline(always)]
pub(super) fn add_ports(env: &Env<'_>, hook: Hook, packet: &mut Packet) -> Result<(), DropReason> {
    if packet.fragment == Fragment::Whole {
        return Ok(());
    }
    let key = fragment_key(packet, hook);
    if packet.fragment == Fragment::First {
        let ports = FragmentPorts {
            source: packet.source_port,
            destination: packet.destination_port,
        };
        if !env.dry() {
            let _full = maps::FRAGMENTS.insert(key, ports, 0);
        }
        return Ok(());
    }
    // SAFETY: the value is copied at once.
    let ports = unsafe { maps::FRAGMENTS.get(key) }.ok_or(DropReason::UnknownFragment)?;
    packet.source_port = ports.source;
    packet.destination_port = ports.destination;
    Ok(())
}

/// The key of a fragment's datagram at a hook.
#[inline(always)]
fn fragment_key(packet: &Packet, hook: Hook) -> FragmentKey {
    FragmentKey {
        source: packet.source,
        destination: packet.destination,
        id: packet.id,
        protocol: packet.protocol,
        hook: hook as u8,
        reserved: [0; 2],
    }
}

/// Whether the first fragment of the packet's datagram left its ports at the hook.
#[inline(always)]
pub(super) fn knows_fragment(packet: &Packet, hook: Hook) -> bool {
    // SAFETY: the value is not kept.
    unsafe { maps::FRAGMENTS.get(fragment_key(packet, hook)) }.is_some()
}
