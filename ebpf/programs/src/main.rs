//! The programs of one generation, one file a hook. Built for `bpfel-unknown-none`; on the host this is empty.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The BPF target is new to the compiler: its assembly counts as an experiment. See `context`.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::many_single_char_names,
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "programs are one function each for the verifier, and widths are those of the wire"
)]

#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod event;
#[cfg(target_arch = "bpf")]
mod ingress_xdp;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod sock_lb;
#[cfg(target_arch = "bpf")]
mod tables;
#[cfg(target_arch = "bpf")]
mod tc;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the programs hold no code that panics; the verifier would refuse an endless loop.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The licence that the kernel asks for: some helpers are GPL only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
