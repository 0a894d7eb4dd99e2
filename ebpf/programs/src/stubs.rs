//! What is attached: small stable programs that call the current generation's program of their hook.
//!
//! One store to `GENERATION` switches every hook of the node at once. Where a slot is empty the packet is left to the
//! kernel.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
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
    use aya_ebpf::EbpfContext as _;
    use aya_ebpf::bindings::xdp_action::XDP_PASS;
    use aya_ebpf::btf_maps::{Array, ProgramArray};
    use aya_ebpf::macros::{btf_map, classifier, xdp};
    use aya_ebpf::programs::{TcContext, XdpContext};
    use core::arch::asm;
    use core::ffi::c_void;
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

    /// Calls the program in a slot that is known when the kernel compiles the stub: a direct jump, where a slot that is
    /// computed costs an indirect one. Instructions, since the compiler would merge the calls of a `match` into one.
    ///
    /// # Safety
    /// `ctx` is the program's own, `map` a program array.
    #[inline(always)]
    unsafe fn call<const SLOT: u32>(ctx: *mut c_void, map: *mut c_void) {
        // SAFETY: by the contract; the helper takes three words and clobbers what a call does.
        unsafe {
            asm!("r3 = {slot}", "call 12", slot = const SLOT, inout("r1") ctx => _, inout("r2") map => _,
                 out("r0") _, out("r3") _, out("r4") _, out("r5") _);
        }
    }

    /// Goes on with the hook's program of the current generation; falls through where there is none.
    macro_rules! go_on {
        ($ctx:expr, $map:ident, $hook:expr) => {{
            const SLOT: u32 = $hook as u32;
            let ctx: *mut c_void = $ctx.as_ptr();
            let map = (&raw const $map).cast_mut().cast();
            let generation = GENERATION.get(0).map_or(0, |generation| *generation);
            // SAFETY: a tail call replaces this program; nothing here needs to be dropped.
            unsafe {
                match generation {
                    0 => call::<SLOT>(ctx, map),
                    1 => call::<{ SLOT + HOOK_SLOTS }>(ctx, map),
                    2 => call::<{ SLOT + 2 * HOOK_SLOTS }>(ctx, map),
                    _ => call::<{ SLOT + 3 * HOOK_SLOTS }>(ctx, map),
                }
            }
        }};
    }

    #[xdp(frags)]
    fn ingress_xdp_stub(ctx: XdpContext) -> u32 {
        go_on!(ctx, XDP_PROGRAMS, Hook::IngressXdp);
        XDP_PASS
    }

    #[classifier]
    fn uplink_tc_stub(ctx: TcContext) -> i32 {
        go_on!(ctx, TC_PROGRAMS, Hook::UplinkTc);
        NEXT
    }

    #[classifier]
    fn overlay_tc_stub(ctx: TcContext) -> i32 {
        go_on!(ctx, TC_PROGRAMS, Hook::OverlayTc);
        NEXT
    }

    #[classifier]
    fn endpoint_tc_stub(ctx: TcContext) -> i32 {
        go_on!(ctx, TC_PROGRAMS, Hook::EndpointTc);
        NEXT
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
