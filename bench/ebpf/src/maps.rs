//! The maps.

use aya_ebpf::btf_maps::{Array, LruHashMap, PerCpuArray, ProgramArray};
use aya_ebpf::macros::btf_map;
use essaim_abi::FlowKey;
use essaim_bench_programs::{Driver, FLOOR_FLOWS};

#[btf_map]
pub(crate) static DRIVER: Array<Driver, 1> = Array::new();
/// The program under test, of XDP.
#[btf_map]
pub(crate) static XDP_UNDER_TEST: ProgramArray<1> = ProgramArray::new();
/// The program under test, of tc.
#[btf_map]
pub(crate) static TC_UNDER_TEST: ProgramArray<1> = ProgramArray::new();
/// The flows of floor B: index into [`FLOOR_BACKENDS`].
#[btf_map]
pub(crate) static FLOOR_TABLE: LruHashMap<FlowKey, u32, FLOOR_FLOWS> = LruHashMap::new();
#[btf_map]
pub(crate) static FLOOR_BACKENDS: Array<u64, 128> = Array::new();
/// Packets that the sinks dropped.
#[btf_map]
pub(crate) static RECEIVED: PerCpuArray<u64, 1> = PerCpuArray::new();
