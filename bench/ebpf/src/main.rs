//! The benchmarks' programs. Built for `bpfel-unknown-none`; on the host this is empty.
//!
//! ```text
//! driver_xdp, driver_tc    restore a packet, give it the next flow, tail-call the program under test
//! tx_xdp, ok_tc            floor A: nothing at all
//! lookup_xdp               floor B: one LRU look-up on 40 bytes, one array look-up
//! peer_tc                  the bare redirect_peer
//! generate_xdp             live frames out of an interface
//! drop_xdp, drop_tc        count and drop
//! ```
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![allow(
    clippy::inline_always,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::needless_pass_by_value,
    reason = "programs are one function each for the verifier, and widths are those of the wire; an entry takes its context as the macro gives it"
)]

#[cfg(target_arch = "bpf")]
mod driver;
#[cfg(target_arch = "bpf")]
mod floor;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod sink;

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
