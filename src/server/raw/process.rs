//! Another process of this server, told from whoever has its number after it.

use std::ffi::c_int;

use super::unguarded::{BackendPidGetProcWithLock, LWLockAcquire, LWLockRelease};
use pgrx::pg_sys;

/// A process as `pg_stat_activity` shows it. Numbers are given again; one that began at that moment is one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// `backend_start`: microseconds since 2000.
    pub start: i64,
}

/// `ProcArrayLock`: the same place from 15 to 18.
const PROC_ARRAY_LOCK: usize = 4;

impl Process {
    /// Sends it a signal if it is still there. Nobody can leave the list of processes while we have its lock, so that
    /// the number cannot be given to another one between the look and the signal. Neither allocates nor fails.
    pub fn signal(self, signal: c_int) -> bool {
        // SAFETY: shared memory of the server; the lock is released on the only way out.
        unsafe {
            let lock = &raw mut (*pg_sys::MainLWLockArray.add(PROC_ARRAY_LOCK)).lock;
            LWLockAcquire(lock, pg_sys::LWLockMode::LW_SHARED);
            let sent = self.is_there() && libc::kill(self.pid, signal) == 0;
            LWLockRelease(lock);
            sent
        }
    }

    /// # Safety
    /// Under `ProcArrayLock`.
    unsafe fn is_there(self) -> bool {
        // SAFETY: under `ProcArrayLock`: nobody leaves the list meanwhile, so what is found is that process's.
        unsafe {
            let process = BackendPidGetProcWithLock(self.pid);
            if process.is_null() {
                return false;
            }
            let Some(status) = status_of(process) else { return false };
            // Written when a process comes and when it goes, and never in between: a half-written pair is not this one.
            std::ptr::read_volatile(&raw const (*status).st_procpid) == self.pid
                && std::ptr::read_volatile(&raw const (*status).st_proc_start_timestamp) == self.start
        }
    }
}

/// What `pg_stat_activity` reads of a process. Entries lie in the order of the processes' places, and we know where ours
/// is; the server's own way to them copies them all, and allocates.
///
/// Safety: a PGPROC of the server's array, under `ProcArrayLock`.
unsafe fn status_of(process: *const pg_sys::PGPROC) -> Option<*const pg_sys::PgBackendStatus> {
    // SAFETY: the array of status entries is mapped for as long as this process is connected, and as long as that of
    // processes; our own entry tells where it begins.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let (mine, its) = (pg_sys::MyBackendId as isize, (*process).backendId as isize);
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        let is_known = mine > 0 && its > 0;
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let (mine, its) = (pg_sys::MyProcNumber as isize, process.offset_from((*pg_sys::ProcGlobal).allProcs));
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        let is_known = mine >= 0 && its >= 0;
        let my_status = pg_sys::MyBEEntry;
        (is_known && !my_status.is_null()).then(|| my_status.cast_const().offset(its - mine))
    }
}
