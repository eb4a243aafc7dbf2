//! How the C library's allocator keeps memory. By default it gives every thread that meets another one an arena of
//! its own, up to eight for each processor, and each keeps what was freed in it.

/// Two arenas are enough: most of what a reading takes is freed by the thread that took it, from that thread's cache.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator is set up by a call into C")]
pub(crate) fn bound() {
    const ARENAS: i32 = 2;
    // SAFETY: sets a number of the allocator's, before there is another thread.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn bound() {}
