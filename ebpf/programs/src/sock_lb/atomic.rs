//! Addition to a cell that other CPUs change too. Not atomic yet: the instruction needs `asm_experimental_arch`, a
//! feature that only the crate's root can turn on.

/// Adds one to a cell and returns what it was before.
///
/// # Safety
/// The cell is an aligned u64 of a map's value.
#[inline(always)]
pub(crate) unsafe fn fetch_increment(cell: *mut u64) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let value = cell.read_volatile();
        cell.write_volatile(value.wrapping_add(1));
        value
    }
}

/// Adds one to a cell.
///
/// # Safety
/// As for [`fetch_increment`].
#[inline(always)]
pub(crate) unsafe fn increment(cell: *mut u64) {
    // SAFETY: the caller's promise.
    unsafe { fetch_increment(cell) };
}
