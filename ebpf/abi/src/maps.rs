//! The names of the maps, their key and value types, and their sizes where these are fixed.
//!
//! Dense tables are arrays that userspace maps into its memory (`BPF_F_MMAPABLE`): a change is a store, no system
//! call. Sizes that depend on the catalog are set by the loader; the numbers here are the smallest it uses.

/// Array of one [`crate::Config`]; mmapable.
pub const CONFIG: &str = "CONFIG";
/// Array of [`crate::LocalAddressBucket`]; mmapable.
pub const LOCAL_ADDRESSES: &str = "LOCAL_ADDRESSES";
/// Array of [`crate::Port`], indexed by [`crate::Protocol::port_index`]; mmapable.
pub const PORTS: &str = "PORTS";
/// Array of [`crate::Service`]; index 0 reserved; mmapable; sized by the loader.
pub const SERVICES: &str = "SERVICES";
/// Array of [`crate::Backend`]; index 0 reserved; mmapable; sized by the loader.
pub const BACKENDS: &str = "BACKENDS";
/// Array of `u32`, indices into [`BACKENDS`]; see [`crate::TableRef`]; mmapable; sized by the loader.
pub const TABLES: &str = "TABLES";
/// Array of [`crate::Vtep`]; index 0 reserved; mmapable.
pub const VTEPS: &str = "VTEPS";
/// Hash of [`crate::Addr`] (underlay) to `u32`, index into [`VTEPS`].
pub const VTEP_BY_ADDR: &str = "VTEP_BY_ADDR";
/// Array of `u32` by [`crate::Vtep::number`], index into [`VTEPS`]; mmapable.
pub const VTEP_BY_NUMBER: &str = "VTEP_BY_NUMBER";
/// Hash of `u32` VNI to `u32` 1: the encrypted networks, whose VXLAN is dropped where it comes from the wire in clear.
pub const ENCRYPTED_VNIS: &str = "ENCRYPTED_VNIS";
/// Hash of [`crate::Addr`] (overlay) to [`crate::Endpoint`]; sized by the loader.
pub const ENDPOINT_BY_ADDR: &str = "ENDPOINT_BY_ADDR";
/// Hash of `u32` interface index to [`crate::LocalEndpoint`].
pub const ENDPOINT_BY_IFINDEX: &str = "ENDPOINT_BY_IFINDEX";
/// Array of [`crate::FrontLocal`] by [`crate::FrontLocal::place`], looked at before [`ENDPOINT_BY_IFINDEX`]; mmapable.
pub const FRONT_BY_IFINDEX: &str = "FRONT_BY_IFINDEX";
/// Array of [`crate::FrontEndpoint`] by [`crate::FrontEndpoint::place`], looked at before [`ENDPOINT_BY_ADDR`] where the
/// address is likely to be of this node: it holds no others; mmapable.
pub const FRONT_BY_ADDR: &str = "FRONT_BY_ADDR";
/// Array of `u32` by [`crate::LocalEndpoint::slot`]: 1 where the endpoint may have translated flows within the
/// overlay. Set by the programs, cleared by userspace; mmapable.
pub const TRANSLATED: &str = "TRANSLATED";
/// Hash of [`crate::FlowKey`] to [`crate::Flow`], allocated as needed: established flows, never evicted.
pub const FLOWS: &str = "FLOWS";
/// LRU hash of [`crate::FlowKey`] to [`crate::Flow`]: half-open flows.
pub const HALF_OPEN_FLOWS: &str = "HALF_OPEN_FLOWS";
/// LRU hash of [`crate::FragmentKey`] to [`crate::FragmentPorts`].
pub const FRAGMENTS: &str = "FRAGMENTS";
/// Hash of `u64` namespace cookie to [`crate::NetnsInfo`].
pub const NETNS_BY_COOKIE: &str = "NETNS_BY_COOKIE";
/// Socket storage of [`crate::SocketState`].
pub const SOCKET_STATE: &str = "SOCKET_STATE";
/// Array of `u64` by service index: the next pick at connect.
pub const NEXT_PICK: &str = "NEXT_PICK";
/// Per-CPU array of [`crate::Counters`] by drop reason.
pub const DROP_COUNTERS: &str = "DROP_COUNTERS";
/// Per-CPU array of [`crate::Counters`] by service index; sized by the loader.
pub const SERVICE_COUNTERS: &str = "SERVICE_COUNTERS";
/// Per-CPU array of [`crate::Counters`] by backend index; sized by the loader.
pub const BACKEND_COUNTERS: &str = "BACKEND_COUNTERS";
/// Per-CPU array of [`crate::Counters`] by [`crate::IPSEC_SENT`] and on.
pub const IPSEC_COUNTERS: &str = "IPSEC_COUNTERS";
/// LRU hash of [`crate::DnsKey`] to [`crate::DnsAnswer`]: what `dns_tc` answers with; filled by the server.
pub const DNS_ANSWERS: &str = "DNS_ANSWERS";
/// Array of one [`crate::DnsState`]; mmapable.
pub const DNS_STATE: &str = "DNS_STATE";
/// Socket storage of `u64`, of the resolver's UDP sockets in the tasks' namespaces: who asks there.
pub const DNS_ASKERS: &str = "DNS_ASKERS";
/// Per-CPU array of one [`crate::Counters`]: what `dns_tc` answered.
pub const DNS_COUNTERS: &str = "DNS_COUNTERS";
/// Ring buffer of [`crate::Event`].
pub const EVENTS: &str = "EVENTS";
/// Program array of one generation: the inner programs that a tc program tail-calls, by [`TC_OVERLAY_INNER`] and on.
pub const TC_INNER: &str = "TC_INNER";

/// In the stub object: array of one `u32`, the generation whose programs the stubs call; mmapable.
pub const GENERATION: &str = "GENERATION";
/// In the stub object: program array of XDP programs, `generation * HOOK_SLOTS + Hook`.
pub const XDP_PROGRAMS: &str = "XDP_PROGRAMS";
/// In the stub object: program array of tc programs, `generation * HOOK_SLOTS + Hook`.
pub const TC_PROGRAMS: &str = "TC_PROGRAMS";

/// Generations that a stub can tell apart; a new one takes `(old + 1) % GENERATIONS`.
pub const GENERATIONS: u32 = 4;
/// Slots of one generation in a stub's program array.
pub const HOOK_SLOTS: u32 = 8;

/// Slot of [`TC_INNER`]: `overlay_tc` after the tunnel key was read; VNI and remote stand in the context's cb.
pub const TC_OVERLAY_INNER: u32 = 0;
/// Slot of [`TC_INNER`]: answers a packet that is refused with RST or ICMP, as the context's cb says.
pub const TC_ANSWER: u32 = 1;
/// Slot of [`TC_INNER`]: a packet to a published port, seen at an uplink or from an endpoint.
pub const TC_EDGE: u32 = 2;
/// Slot of [`TC_INNER`]: an ingress packet on the node that has the task.
pub const TC_BACKEND: u32 = 3;
/// Slot of [`TC_INNER`]: a packet to a VIP that the socket programs did not see.
pub const TC_VIP: u32 = 4;
/// Slot of [`TC_INNER`]: the reply of an ingress flow.
pub const TC_REPLY: u32 = 5;
/// Slot of [`TC_INNER`]: an ICMP error from an endpoint or about a translated flow.
pub const TC_ICMP_ERROR: u32 = 6;
/// Slot of [`TC_INNER`]: an ICMP error from a client on the node that has the task.
pub const TC_BACKEND_ERROR: u32 = 7;
/// Slots of [`TC_INNER`].
pub const TC_INNER_SLOTS: u32 = 16;
/// What the loader puts into [`TC_INNER`]: the slot and the name of the program.
pub const TC_INNER_PROGRAMS: &[(u32, &str)] = &[
    (TC_OVERLAY_INNER, "overlay_inner_tc"),
    (TC_ANSWER, "answer_tc"),
    (TC_EDGE, "edge_tc"),
    (TC_BACKEND, "backend_tc"),
    (TC_VIP, "vip_tc"),
    (TC_REPLY, "reply_tc"),
    (TC_ICMP_ERROR, "icmp_error_tc"),
    (TC_BACKEND_ERROR, "backend_error_tc"),
];

/// Entries of [`VTEPS`] and [`VTEP_BY_ADDR`]: nodes of a cluster.
pub const MAX_VTEPS: u32 = 4096;
/// Entries of [`ENCRYPTED_VNIS`]. The VXLAN of networks beyond that is dropped behind the VXLAN device, not before it.
pub const MAX_ENCRYPTED_VNIS: u32 = 4096;
/// Entries of [`VTEP_BY_NUMBER`].
pub const VTEP_NUMBERS: u32 = 1 << 16;
/// Entries of [`TRANSLATED`] and [`ENDPOINT_BY_IFINDEX`]: endpoints on a node.
pub const MAX_LOCAL_ENDPOINTS: u32 = 4096;
/// Smallest size of [`SERVICES`].
pub const MIN_SERVICES: u32 = 1024;
/// Smallest size of [`BACKENDS`].
pub const MIN_BACKENDS: u32 = 8192;
/// Smallest size of [`TABLES`].
pub const MIN_TABLES: u32 = 1 << 20;
/// Smallest size of [`ENDPOINT_BY_ADDR`].
pub const MIN_ENDPOINTS: u32 = 8192;
/// Entries of [`FLOWS`].
pub const MAX_FLOWS: u32 = 1 << 19;
/// Entries of [`HALF_OPEN_FLOWS`].
pub const MAX_HALF_OPEN_FLOWS: u32 = 1 << 15;
/// Entries of [`FRAGMENTS`].
pub const MAX_FRAGMENTS: u32 = 8192;
/// Entries of [`NETNS_BY_COOKIE`].
pub const MAX_NETNS: u32 = 4096;
/// Entries of [`DNS_ANSWERS`]: some 6 MiB.
pub const MAX_DNS_ANSWERS: u32 = 1 << 14;
/// Bytes of [`EVENTS`].
pub const EVENT_BYTES: u32 = 1 << 18;
/// Entries of [`DROP_COUNTERS`].
pub const DROP_REASONS: u32 = 256;
