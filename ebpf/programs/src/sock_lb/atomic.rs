//! Atomic addition: `core` has none for a target without compare-and-swap, the instruction set does (v3).

use core::arch::asm;

/// Adds one to a cell and returns what it was before.
///
/// # Safety
/// The cell is an aligned u64 of a map's value.
#[inline(always)]
pub(crate) unsafe fn fetch_increment(cell: *mut u64) -> u64 {
    let mut value = 1_u64;
    // SAFETY: the caller's promise; the instruction touches the cell and the named register only.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({cell} + 0), {value})",
            cell = in(reg) cell,
            value = inout(reg) value,
        );
    }
    value
}

/// Adds one to a cell.
///
/// # Safety
/// As for [`fetch_increment`].
#[inline(always)]
pub(crate) unsafe fn increment(cell: *mut u64) {
    // SAFETY: as in `fetch_increment`.
    unsafe {
        asm!("lock *(u64 *)({cell} + 0) += {one}", cell = in(reg) cell, one = in(reg) 1_u64);
    }
}
