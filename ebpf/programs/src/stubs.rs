//! What is attached: small stable programs that call the current generation's program of their hook.
//!
//! One store to `GENERATION` switches every hook of the node at once. Where a slot is empty the packet is left to the
//! kernel.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::many_single_char_names,
    clippy::needless_pass_by_value,
    reason = "programs are one function each for the verifier, and widths are those of the wire"
)]

#[cfg(target_arch = "bpf")]
mod bpf {
    use aya_ebpf::bindings::xdp_action::XDP_PASS;
    use aya_ebpf::btf_maps::{Array, ProgramArray};
    use aya_ebpf::macros::{btf_map, classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use essaim_abi::Hook;
    use essaim_abi::maps::{GENERATIONS, HOOK_SLOTS};

    const MMAPABLE: usize = 1 << 10;
    /// `TCX_NEXT`, and `TC_ACT_UNSPEC` of clsact: the next program of the chain decides.
    const NEXT: i32 = -1;

    #[btf_map]
    static GENERATION: Array<u32, 1, MMAPABLE> = Array::new();
    /// Slots of both program arrays.
    const SLOTS: usize = (GENERATIONS * HOOK_SLOTS) as usize;
    #[btf_map]
    static XDP_PROGRAMS: ProgramArray<SLOTS> = ProgramArray::new();
    #[btf_map]
    static TC_PROGRAMS: ProgramArray<SLOTS> = ProgramArray::new();

    /// The slot of a hook in the current generation.
    #[inline(always)]
    fn slot(hook: Hook) -> u32 {
        GENERATION.get(0).map_or(0, |generation| *generation * HOOK_SLOTS) + hook as u32
    }

    #[inline(always)]
    fn tc(ctx: &TcContext, hook: Hook) -> i32 {
        // SAFETY: a tail call replaces this program; nothing here needs to be dropped.
        unsafe { TC_PROGRAMS.tail_call(ctx, slot(hook)) };
        NEXT
    }

    #[xdp(frags)]
    fn ingress_xdp_stub(ctx: XdpContext) -> u32 {
        // SAFETY: as in `tc`.
        unsafe { XDP_PROGRAMS.tail_call(&ctx, slot(Hook::IngressXdp)) };
        XDP_PASS
    }

    #[classifier]
    fn uplink_tc_stub(ctx: TcContext) -> i32 {
        tc(&ctx, Hook::UplinkTc)
    }

    #[classifier]
    fn overlay_tc_stub(ctx: TcContext) -> i32 {
        tc(&ctx, Hook::OverlayTc)
    }

    #[classifier]
    fn endpoint_tc_stub(ctx: TcContext) -> i32 {
        tc(&ctx, Hook::EndpointTc)
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // SAFETY: the programs hold no code that panics; the verifier would refuse an endless loop.
        unsafe { core::hint::unreachable_unchecked() }
    }

    /// The licence that the kernel asks for: some helpers are GPL only.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
