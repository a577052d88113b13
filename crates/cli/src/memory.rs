//! How the process takes its memory (docs/adr/013).

/// How many separate heaps the system's allocator may keep.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;

/// Tells glibc to keep few heaps; to be called before there is a second thread.
///
/// Batches of all sizes are allocated by one thread and freed by another here. glibc gives threads heaps of their own, up to
/// eight a core, and each keeps a share of what went through it: memory grew by half from 300,000 records to 3,000,000. With
/// two heaps it stays flat (`cargo xtask bench stream`), at no cost that shows.
pub(crate) fn settle() {
    #[cfg(target_env = "gnu")]
    #[allow(
        unsafe_code,
        reason = "a call of C that takes two numbers, made before any other thread is there"
    )]
    // SAFETY: `mallopt` is given a parameter it knows and a number in its range.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}
