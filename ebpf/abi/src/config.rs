use crate::Addr;
use crate::pod::{bits, pod};

bits! {
    /// Switches of a node.
    ConfigFlags: u32 {
        /// Somebody watches: every decision goes to the event ring.
        WATCH = 1;
        /// IPsec is ready: what leaves with [`crate::IPSEC_MARK`] is encrypted or blocked. Without it, nothing may leave so.
        IPSEC = 2;
    }
}

/// What a node's programs must know that is no table; one entry, swapped field by field.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Config {
    /// [`crate::ABI_VERSION`] of the writer.
    pub abi_version: u32,
    /// [`ConfigFlags`].
    pub flags: ConfigFlags,
    /// The VNI that carries packets between the edge and the backend's node.
    pub ingress_vni: u32,
    /// While not 0: a packet with this mark (tc) or metadata word (XDP) is a dry run.
    pub trace_mark: u32,
    /// Ticks a second of the kernel.
    pub hz: u32,
    /// Idle time of a half-open flow, in jiffies.
    pub half_open_timeout: u32,
    /// One new flow of 2^n is reported to the event ring, as a mask of its hash; `u32::MAX`: none.
    pub sample_mask: u32,
    /// The VXLAN device.
    pub vxlan_ifindex: u32,
    /// The node's side of the node's own endpoint.
    pub node_ifindex: u32,
    /// This node's own entry of [`crate::maps::VTEPS`].
    pub own_vtep: u32,
    /// UDP port of VXLAN, in network order.
    pub vxlan_port: u16,
    /// UDP and TCP port of gossip, in network order.
    pub gossip_port: u16,
    /// TCP port of the managers, in network order.
    pub manager_port: u16,
    /// Zero.
    pub reserved: u16,
    /// The uplinks; an edge token is the index of one, plus one. 0 where unused.
    pub uplinks: [u32; 4],
    /// This node's own overlay addresses, IPv4 and IPv6: the source of the node's own packets towards tasks.
    pub node_addr4: Addr,
    /// As above.
    pub node_addr6: Addr,
}
pod!(Config, size = 96, align = 4);

bits! {
    /// What lives in a network namespace.
    NetnsFlags: u32 {
        /// The node itself: its sockets reach every network's VIPs and its own published ports.
        NODE = 1;
        /// A task's namespace.
        TASK = 2;
    }
}

/// How many networks a namespace may be attached to.
pub const NETNS_MAX_NETWORKS: usize = 16;

/// A network namespace, by its cookie.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetnsInfo {
    /// [`NetnsFlags`].
    pub flags: NetnsFlags,
    /// Random port of the agent's resolver on 127.0.0.11, UDP, in network order; 0: no translation of port 53.
    pub dns_udp_port: u16,
    /// As above, TCP.
    pub dns_tcp_port: u16,
    /// The networks it is attached to; 0 where unused.
    pub vnis: [u32; NETNS_MAX_NETWORKS],
}
pod!(NetnsInfo, size = 72, align = 4);

/// What a socket remembers of the address that it was told to talk to.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SocketState {
    /// What the program asked for.
    pub asked: Addr,
    /// Where it was sent.
    pub given: Addr,
    /// Port of `asked`, network order.
    pub asked_port: u16,
    /// Port of `given`, network order.
    pub given_port: u16,
    /// Index into [`crate::maps::SERVICES`]; 0 for the resolver.
    pub service: u32,
    /// Index into [`crate::maps::BACKENDS`]; 0 for the resolver.
    pub backend: u32,
    /// The backend's generation when it was chosen.
    pub backend_generation: u32,
}
pod!(SocketState, size = 48, align = 4);
