//! Gives memory back that a catalog took while it was read.

/// Returns free memory of the heap to the kernel.
///
/// Reading a catalog takes several times the memory that its plan keeps. The allocator would hold on to it for ever, since
/// what is kept lies between what was freed.
pub(crate) fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // Safe code cannot do it: the standard library knows nothing of its allocator.
    // SAFETY: `malloc_trim` may be called at any time, by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
