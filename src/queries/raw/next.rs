//! Who had the hooks before us, and is called next.

use pgrx::pg_sys;

use super::Global;

pub struct Next {
    pub start: pg_sys::ExecutorStart_hook_type,
    pub run: pg_sys::ExecutorRun_hook_type,
    pub finish: pg_sys::ExecutorFinish_hook_type,
    pub end: pg_sys::ExecutorEnd_hook_type,
    pub analyze: pg_sys::post_parse_analyze_hook_type,
    pub log: pg_sys::emit_log_hook_type,
    pub request: pg_sys::shmem_request_hook_type,
    pub startup: pg_sys::shmem_startup_hook_type,
}

static NEXT: Global<Next> = Global::new(Next {
    start: None,
    run: None,
    finish: None,
    end: None,
    analyze: None,
    log: None,
    request: None,
    startup: None,
});

/// Those that are installed now, before ours are put in their place.
///
/// Safety: only while `shared_preload_libraries` are loaded: one thread, and nobody has called [`next`] yet.
pub unsafe fn remember() {
    // SAFETY: as the caller promises; the hooks are plain variables of the server's.
    unsafe {
        *NEXT.get() = Next {
            start: pg_sys::ExecutorStart_hook,
            run: pg_sys::ExecutorRun_hook,
            finish: pg_sys::ExecutorFinish_hook,
            end: pg_sys::ExecutorEnd_hook,
            analyze: pg_sys::post_parse_analyze_hook,
            log: pg_sys::emit_log_hook,
            request: pg_sys::shmem_request_hook,
            startup: pg_sys::shmem_startup_hook,
        };
    }
}

#[inline]
pub fn next() -> &'static Next {
    // SAFETY: written once, before the postmaster forks.
    unsafe { &*NEXT.get() }
}
