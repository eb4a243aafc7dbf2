//! How the C library's allocator keeps memory. By default every thread that meets another one in it gets an arena of
//! its own, up to eight for each processor, and keeps what is freed there.

/// One for each worker, one for the committer and one for the rest. With fewer they wait for each other: a reading is
/// taken by a worker, journaled by the committer and freed by whoever had it last. To be called before there are other
/// threads.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator is set up by a call into C")]
pub fn bound() {
    const ARENAS_MAX: usize = 8;
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let arenas = (workers + 2).min(ARENAS_MAX) as i32;
    // SAFETY: sets a number of the allocator's.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

/// Gives what is free back to the system: a compilation takes hundreds of megabytes for seconds, and the next one may
/// be weeks away.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code, reason = "the allocator is asked by a call into C")]
pub fn give_back() {
    // SAFETY: looks at what is free, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
pub fn bound() {}

#[cfg(not(target_env = "gnu"))]
pub fn give_back() {}
