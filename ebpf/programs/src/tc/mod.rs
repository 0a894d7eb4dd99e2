//! The tc programs: what an entry cannot decide at once it hands to an inner program by tail call.
//!
//! ```text
//! uplink_tc ----------------> edge ------------> backend (this node) --> the task
//!     \-> icmp_error            |                   \-> handed on, to the next owner's node
//! overlay_tc -> overlay_inner --+--> backend
//!                               +--> the task (unicast), or out at the edge (replies)
//! endpoint_tc --> local peer, remote VTEP, the world
//!     \-> vip, reply, edge, icmp_error
//! any of them --> answer (RST, ICMP)
//! dns_tc, by itself: questions for names on a task's loopback
//! ```
//! Inner programs read the packet again; what they cannot read stands in the five words of the context's `cb`.

/// Runs a program: its outcome, or the drop with its reason. A macro, since the kernel refuses the type information that
/// the compiler makes for a call through `FnOnce`.
macro_rules! run {
    ($ctx:expr, $hook:expr, $program:path) => {
        match $crate::tc::Env::new($ctx, $hook) {
            None => $crate::tc::PASS,
            Some(env) => match $program(&env) {
                Ok(verdict) => verdict,
                Err(reason) => env.drop(reason),
            },
        }
    };
}

mod answer;
pub(crate) mod backend;
mod deliver;
mod dns;
mod edge;
mod encapsulate;
mod endpoint;
mod flows;
mod icmp_error;
mod overlay;
mod reply;
mod skb;
mod translate;
mod uplink;
mod vip;

use crate::event::{self, Decision};
use crate::{context, maps, tables};
use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::programs::TcContext;
use essaim_abi::{Config, ConfigFlags, DropReason, Hook, IPSEC_MARK_MASK, Verdict};
use essaim_packet::{Packet, quote};
use skb::Skb;

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` of clsact: the kernel goes on with the packet.
const PASS: i32 = -1;

/// What a program does with a packet, or why it drops it.
type Outcome = Result<i32, DropReason>;

/// What every program knows.
#[derive(Clone, Copy)]
struct Env<'a> {
    ctx: &'a TcContext,
    config: &'static Config,
    hook: Hook,
    /// The mark of a dry run, which writes no state; else 0.
    trace_mark: u32,
}

impl<'a> Env<'a> {
    /// `None` before userspace has written the configuration.
    #[inline(always)]
    fn new(ctx: &'a TcContext, hook: Hook) -> Option<Self> {
        let config = tables::config()?;
        let trace_mark = if config.trace_mark != 0 && skb::mark(ctx) & !IPSEC_MARK_MASK == config.trace_mark {
            config.trace_mark
        } else {
            0
        };
        if (trace_mark != 0 || config.flags.has(ConfigFlags::WATCH))
            && let Err(_) = set_aside(0, &Packet::NOTHING)
        {
            return None;
        }
        Some(Self {
            ctx,
            config,
            hook,
            trace_mark,
        })
    }

    #[inline(always)]
    fn dry(&self) -> bool {
        self.trace_mark != 0
    }

    /// The packet, its headers in the linear part.
    #[inline(always)]
    fn packet(&self) -> Result<&'static mut Packet, DropReason> {
        skb::pull(self.ctx);
        let place = maps::PACKETS.get_ptr_mut(0).ok_or(DropReason::HelperFailed)?;
        // SAFETY: this CPU's own; no other packet is handled on it before this one is done.
        let packet = context::forget(unsafe { &mut *place });
        let read = match essaim_packet::parse_into(&Skb(self.ctx), packet) {
            Ok(true) => Ok(()),
            Ok(false) => Err(DropReason::UnsupportedEtherType),
            Err(reason) => Err(reason),
        };
        let packet = context::forget(packet);
        let read = read.and_then(|()| {
            if u32::from(packet.network) + u32::from(packet.len) > skb::len(self.ctx) {
                Err(DropReason::Truncated)
            } else {
                Ok(())
            }
        });
        if let Err(reason) = read {
            // Half a packet is not reported.
            *packet = Packet::NOTHING;
            return Err(reason);
        }
        Ok(packet)
    }

    /// The packet that an ICMP error quotes; `None` where it has no ports to go by.
    #[inline(always)]
    fn quoted(&self, packet: &Packet) -> Result<Option<&'static mut Packet>, DropReason> {
        match quote::quoted(&Skb(self.ctx), packet)? {
            Some(quoted) => set_aside(1, &quoted).map(Some),
            None => Ok(None),
        }
    }

    /// Reports a decision where somebody wants to know.
    #[inline(always)]
    fn report(&self, verdict: Verdict, reason: Option<DropReason>, packet: &Packet, decision: &Decision) {
        let decision = Decision {
            trace_mark: self.trace_mark,
            len: skb::len(self.ctx),
            ..*decision
        };
        if event::wanted(self.config, &decision) {
            event::report(self.hook, verdict, reason, packet, &decision);
        }
    }

    /// Counts for a service and a backend.
    #[inline(always)]
    fn count_for(&self, service: u32, backend: u32, flows: u64) {
        if !self.dry() {
            tables::count_for(service, backend, u64::from(skb::len(self.ctx)), flows);
        }
    }

    /// Counts and reports a drop.
    #[inline(always)]
    fn drop(&self, reason: DropReason) -> i32 {
        if !self.dry() {
            tables::count_drop(reason, u64::from(skb::len(self.ctx)));
        }
        let decision = Decision {
            trace_mark: self.trace_mark,
            len: skb::len(self.ctx),
            ..Decision::default()
        };
        if event::wanted(self.config, &decision)
            && let Some(packet) = maps::PACKETS.get(0)
        {
            event::report(self.hook, Verdict::Drop, Some(reason), packet, &decision);
        }
        TC_ACT_SHOT
    }

    /// Goes on with an inner program; it reads `cb`. A missing program drops the packet.
    #[inline(always)]
    fn call(&self, slot: u32, cb: [u32; 5]) -> Outcome {
        skb::set_cb(self.ctx, cb);
        // SAFETY: a tail call replaces this program; nothing here needs to be dropped.
        unsafe { maps::TC_INNER.tail_call(self.ctx, slot) };
        Err(DropReason::HelperFailed)
    }
}

/// Keeps a packet off the stack, which has no room for it beside what programs make of it.
#[inline(always)]
fn set_aside(place: u32, packet: &Packet) -> Result<&'static mut Packet, DropReason> {
    let place = maps::PACKETS.get_ptr_mut(place).ok_or(DropReason::HelperFailed)?;
    // SAFETY: this CPU's own; no other packet is handled on it before this one is done.
    let place = unsafe { &mut *place };
    *place = *packet;
    Ok(context::forget(place))
}
