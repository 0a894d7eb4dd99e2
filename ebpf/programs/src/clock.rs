//! The kernel's coarse clock: flow tables count in jiffies, which cost nothing to read.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;

/// The low 32 bits of jiffies.
#[inline(always)]
pub(crate) fn now() -> u32 {
    // SAFETY: the helper has no condition.
    unsafe { bpf_jiffies64() as u32 }
}

/// Returns [`now`]: userspace runs it twice to learn how many jiffies a second has.
#[classifier]
fn clock_probe(_: TcContext) -> i32 {
    now() as i32
}
