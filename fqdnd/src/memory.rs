//! How the allocator keeps memory.
//!
//! The GNU allocator gives threads arenas of their own, up to eight for each core. What a large
//! cluster's lists leave behind is then spread among what stays, in each of them, and is neither used
//! again by other threads nor given back. Few arenas hold half as much, and what is done for each
//! query allocates nothing that threads could wait for.

/// How many arenas there are.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Sets it; to be called while there is one thread.
pub fn keep_together() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers, and changes how memory is handed out later alone.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS);
    }
}
