//! Words of a program's context.
//!
//! The verifier wants each access as one load at a constant offset from the pointer that the program was given. The
//! compiler, which takes the context for memory, would keep a pointer into it, merge loads, or widen a loaded word in
//! another place, where it no longer counts as a packet's address. So these are instructions, not memory accesses.

use core::arch::asm;

/// Reads the word at `OFFSET` of the context, widened.
///
/// # Safety
/// `context` is the program's own and has a readable word there.
#[inline(always)]
pub(crate) unsafe fn word<const OFFSET: usize, T>(context: *mut T) -> u64 {
    let value: u64;
    // SAFETY: by the contract.
    unsafe {
        asm!("{value} = *(u32 *)({context} + {offset})", value = out(reg) value, context = in(reg) context,
             offset = const OFFSET, options(nostack, preserves_flags));
    }
    value
}

/// Writes the word at `OFFSET` of the context.
///
/// # Safety
/// `context` is the program's own and has a writable word there.
#[inline(always)]
pub(crate) unsafe fn set_word<const OFFSET: usize, T>(context: *mut T, value: u32) {
    // SAFETY: by the contract.
    unsafe {
        asm!("*(u32 *)({context} + {offset}) = {value}", value = in(reg) u64::from(value), context = in(reg) context,
             offset = const OFFSET, options(nostack, preserves_flags));
    }
}

/// Lets the compiler forget what it knows of a value in memory: it reads the value back where it needs it.
///
/// Read back, a word is any word to the verifier, and the ways through a program that led there become one; kept in
/// registers, each way would be followed to the end by itself.
#[inline(always)]
pub(crate) fn forget<T>(place: &'static mut T) -> &'static mut T {
    let mut place: *mut T = place;
    // SAFETY: moves a register to itself; a line of the program must have an instruction.
    unsafe { asm!("{0} = {0}", inlateout(reg) place, options(nostack, preserves_flags)) };
    // SAFETY: the pointer is what it was when it was a reference.
    unsafe { &mut *place }
}
