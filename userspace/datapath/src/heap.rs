//! Giving memory back to the kernel: loading programs and a first plan take some that is never needed again.

/// Returns what the allocator holds and nobody uses.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the function has no condition; it only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
