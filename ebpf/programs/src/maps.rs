//! The maps of one generation; names, keys and meaning stand in [`essaim_abi::maps`].

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, ProgramArray, RingBuf, SkStorage};
use aya_ebpf::macros::btf_map;
use essaim_abi::maps as abi;
use essaim_abi::{
    Addr, Backend, Config, Counters, DnsAnswer, DnsKey, DnsState, Endpoint, FRONT_PLACES, Flow, FlowKey,
    FragmentKey, FragmentPorts, FrontEndpoint, FrontLocal, IPSEC_COUNTS, LOCAL_ADDRESS_BUCKETS,
    LocalAddressBucket, LocalEndpoint, NetnsInfo, PORT_ENTRIES, Port, Service, SocketState, Vtep,
};

use essaim_packet::Packet;

/// `BPF_F_MMAPABLE`: userspace writes the table as its own memory.
const MMAPABLE: usize = 1 << 10;
/// `BPF_F_NO_PREALLOC`: entries are allocated when they are made.
const NO_PREALLOC: usize = 1;

#[btf_map]
pub(crate) static CONFIG: Array<Config, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static LOCAL_ADDRESSES: Array<LocalAddressBucket, { LOCAL_ADDRESS_BUCKETS as usize }, MMAPABLE> =
    Array::new();
#[btf_map]
pub(crate) static PORTS: Array<Port, { PORT_ENTRIES as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static SERVICES: Array<Service, { abi::MIN_SERVICES as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static BACKENDS: Array<Backend, { abi::MIN_BACKENDS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static TABLES: Array<u32, { abi::MIN_TABLES as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static VTEPS: Array<Vtep, { abi::MAX_VTEPS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static TRANSLATED: Array<u32, { abi::MAX_LOCAL_ENDPOINTS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static VTEP_BY_ADDR: HashMap<Addr, u32, { abi::MAX_VTEPS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static VTEP_BY_NUMBER: Array<u32, { abi::VTEP_NUMBERS as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static ENCRYPTED_VNIS: HashMap<u32, u32, { abi::MAX_ENCRYPTED_VNIS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static ENDPOINT_BY_ADDR: HashMap<Addr, Endpoint, { abi::MIN_ENDPOINTS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static ENDPOINT_BY_IFINDEX: HashMap<u32, LocalEndpoint, { abi::MAX_LOCAL_ENDPOINTS as usize }> =
    HashMap::new();
#[btf_map]
pub(crate) static FRONT_BY_IFINDEX: Array<FrontLocal, { FRONT_PLACES as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static FRONT_BY_ADDR: Array<FrontEndpoint, { FRONT_PLACES as usize }, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, Flow, { abi::MAX_FLOWS as usize }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub(crate) static HALF_OPEN_FLOWS: LruHashMap<FlowKey, Flow, { abi::MAX_HALF_OPEN_FLOWS as usize }> =
    LruHashMap::new();
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts, { abi::MAX_FRAGMENTS as usize }> =
    LruHashMap::new();
#[btf_map]
pub(crate) static NETNS_BY_COOKIE: HashMap<u64, NetnsInfo, { abi::MAX_NETNS as usize }> = HashMap::new();
#[btf_map]
pub(crate) static SOCKET_STATE: SkStorage<SocketState> = SkStorage::new();
#[btf_map]
pub(crate) static NEXT_PICK: Array<u64, { abi::MIN_SERVICES as usize }> = Array::new();
#[btf_map]
pub(crate) static DROP_COUNTERS: PerCpuArray<Counters, { abi::DROP_REASONS as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static SERVICE_COUNTERS: PerCpuArray<Counters, { abi::MIN_SERVICES as usize }> =
    PerCpuArray::new();
#[btf_map]
pub(crate) static BACKEND_COUNTERS: PerCpuArray<Counters, { abi::MIN_BACKENDS as usize }> =
    PerCpuArray::new();
#[btf_map]
pub(crate) static IPSEC_COUNTERS: PerCpuArray<Counters, { IPSEC_COUNTS as usize }> = PerCpuArray::new();
#[btf_map]
pub(crate) static DNS_ANSWERS: LruHashMap<DnsKey, DnsAnswer, { abi::MAX_DNS_ANSWERS as usize }> =
    LruHashMap::new();
#[btf_map]
pub(crate) static DNS_STATE: Array<DnsState, 1, MMAPABLE> = Array::new();
#[btf_map]
pub(crate) static DNS_ASKERS: SkStorage<u64> = SkStorage::new();
#[btf_map]
pub(crate) static DNS_COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static EVENTS: RingBuf<(), { abi::EVENT_BYTES as usize }> = RingBuf::new();
#[btf_map]
pub(crate) static TC_INNER: ProgramArray<{ abi::TC_INNER_SLOTS as usize }> = ProgramArray::new();
/// The packets that a tc program reads, off its small stack: the packet itself, and the one an ICMP error
/// quotes.
#[btf_map]
pub(crate) static PACKETS: PerCpuArray<Packet, 2> = PerCpuArray::new();
/// What a client asked for, off the stack as well.
#[btf_map]
pub(crate) static ASKED: PerCpuArray<crate::tc::backend::Asked, 1> = PerCpuArray::new();
