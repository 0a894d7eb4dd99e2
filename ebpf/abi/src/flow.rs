use crate::Addr;
use crate::pod::{bits, pod};

/// A flow as the endpoint on this node sees it, whichever way a packet goes.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Hash)]
pub struct FlowKey {
    /// The other side's address, as the endpoint sees it.
    pub remote: Addr,
    /// The endpoint's own address.
    pub local: Addr,
    /// The other side's port in network order.
    pub remote_port: u16,
    /// The endpoint's own port in network order.
    pub local_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
pod!(FlowKey, size = 40, align = 4);

/// What an entry of a flow table is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowKind {
    /// A client of a published port; `translated` is the published address and port.
    Ingress = 1,
    /// The endpoint talks to a VIP (its `remote`); `translated` is the backend's address and port.
    Forward = 2,
    /// A backend (`remote`) answers the endpoint; `translated` is the VIP and port.
    Reverse = 3,
}

/// The state of a flow: RFC 9293 and RFC 9260 as far as a middle box needs them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum FlowState {
    /// The opening packet was seen; the entry is in the half-open table.
    HalfOpen = 1,
    /// Both sides have spoken.
    Established = 2,
    /// A FIN, RST, SHUTDOWN or ABORT was seen.
    Closing = 3,
}

bits! {
    /// What is special about a flow.
    FlowFlags: u8 {
        /// The backend is the client: addresses are swapped, so that the task sees the VIP as its peer.
        HAIRPIN = 1;
        /// Replies go straight to the client.
        DSR = 2;
        /// The backend has answered.
        REPLIED = 4;
    }
}

/// The state of a flow.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flow {
    /// What [`FlowKind`] says.
    pub translated: Addr,
    /// The port of `translated`, in network order.
    pub translated_port: u16,
    /// [`FlowKind`] as a number.
    pub kind: u8,
    /// [`FlowState`] as a number.
    pub state: u8,
    /// [`FlowFlags`].
    pub flags: FlowFlags,
    /// Index of the interface at the edge, as in [`crate::Config::uplinks`] plus one; 0: the client is an endpoint.
    pub edge_token: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Index into [`crate::maps::SERVICES`].
    pub service: u32,
    /// Index into [`crate::maps::BACKENDS`].
    pub backend: u32,
    /// The backend's generation when the flow was made; another means that the flow is dead.
    pub backend_generation: u32,
    /// Index into [`crate::maps::VTEPS`] of the edge that the client's last packet came through.
    pub edge_vtep: u32,
    /// The low 32 bits of jiffies when the last packet was seen.
    pub seen: u32,
    /// Idle time after which the flow counts as gone, in jiffies.
    pub timeout: u32,
}
pod!(Flow, size = 48, align = 4);

impl Flow {
    /// Whether the flow idled past its timeout at `now` (low 32 bits of jiffies).
    #[inline(always)]
    pub const fn is_expired(&self, now: u32) -> bool {
        now.wrapping_sub(self.seen) as i32 > self.timeout as i32
    }
}

/// Which datagram a fragment belongs to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FragmentKey {
    /// Source address.
    pub source: Addr,
    /// Destination address.
    pub destination: Addr,
    /// IPv4 or IPv6 identification, in network order.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// The hook that saw it, [`crate::Hook`] as a number: the same datagram passes several.
    pub hook: u8,
    /// Zero.
    pub reserved: [u8; 2],
}
pod!(FragmentKey, size = 40, align = 4);

/// What the first fragment said.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct FragmentPorts {
    /// Source port in network order.
    pub source: u16,
    /// Destination port in network order.
    pub destination: u16,
}
pod!(FragmentPorts, size = 4, align = 2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_expires_after_its_timeout_and_across_the_wrap_of_jiffies() {
        let flow = Flow {
            seen: u32::MAX - 5,
            timeout: 10,
            ..Flow::default()
        };
        assert!(!flow.is_expired(u32::MAX));
        assert!(!flow.is_expired(4));
        assert!(flow.is_expired(5));
    }
}
