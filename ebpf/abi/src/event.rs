use crate::FlowKey;
use crate::pod::pod;

/// Where a packet was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Hook {
    /// XDP on an uplink.
    IngressXdp = 1,
    /// tc ingress on an uplink.
    UplinkTc = 2,
    /// tc ingress on the VXLAN device.
    OverlayTc = 3,
    /// tc ingress on the node's side of an endpoint.
    EndpointTc = 4,
    /// Socket programs.
    SockLb = 5,
}

impl Hook {
    /// Every hook.
    pub const ALL: [Self; 5] = [
        Self::IngressXdp,
        Self::UplinkTc,
        Self::OverlayTc,
        Self::EndpointTc,
        Self::SockLb,
    ];

    /// The name of its program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::IngressXdp => "ingress_xdp",
            Self::UplinkTc => "uplink_tc",
            Self::OverlayTc => "overlay_tc",
            Self::EndpointTc => "endpoint_tc",
            Self::SockLb => "sock_lb",
        }
    }
}

/// What a program did with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Verdict {
    /// Left to the kernel.
    Pass = 0,
    /// Dropped; `Event::reason` says why.
    Drop = 1,
    /// Encapsulated to another node's VTEP (`Event::vtep`).
    Encapsulated = 2,
    /// Delivered to an endpoint on this node (`Event::ifindex`).
    Delivered = 3,
    /// Sent out of an uplink, past the stack.
    Forwarded = 4,
    /// Answered by the program itself: ARP, ND, echo, RST, ICMP; `Event::reason` says why where it was a refusal.
    Answered = 5,
    /// Left to the VXLAN device of the kernel.
    Tunnelled = 6,
}

impl Verdict {
    /// The verdict with this number.
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Pass),
            1 => Some(Self::Drop),
            2 => Some(Self::Encapsulated),
            3 => Some(Self::Delivered),
            4 => Some(Self::Forwarded),
            5 => Some(Self::Answered),
            6 => Some(Self::Tunnelled),
            _ => None,
        }
    }
}

/// One decision, as the event ring carries it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// The packet's flow when it was decided on: `remote` is its source, `local` its destination.
    pub flow: FlowKey,
    /// Index into [`crate::maps::SERVICES`], 0 where none was concerned.
    pub service: u32,
    /// Index into [`crate::maps::BACKENDS`], 0 where none was concerned.
    pub backend: u32,
    /// Index into [`crate::maps::VTEPS`] where it was encapsulated, else 0.
    pub vtep: u32,
    /// The interface where it was delivered or sent out, else 0.
    pub ifindex: u32,
    /// The trace mark where it was a dry run, else 0.
    pub trace_mark: u32,
    /// Length in bytes.
    pub len: u32,
    /// [`Hook`] as a number.
    pub hook: u8,
    /// [`Verdict`] as a number.
    pub verdict: u8,
    /// [`crate::DropReason`] as a number.
    pub reason: u8,
    /// Whether it opened a flow (1) or not (0).
    pub opened: u8,
    /// The VNI, 0 where none was concerned.
    pub vni: u32,
}
pod!(Event, size = 80, align = 8);
