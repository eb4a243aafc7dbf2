//! What the C library's allocator keeps after it was freed.

/// Gives it back to the system. A compilation takes hundreds of megabytes for seconds, and the next one may be weeks away.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator is asked by a call into C")]
pub(crate) fn give_back() {
    // SAFETY: looks at what is free, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
