//! What clients are doing this moment, as `pg_stat_activity` would say, without SQL and without copying what each of them runs.

use pgrx::pg_sys;

/// The sessions of clients that are at a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    pub active: u32,
    /// Of those, how many wait for a lock, the disk, or another process.
    pub waiting: u32,
}

const CLASS: u32 = 0xFF00_0000;
/// Who waits for his client has nothing to do; who sleeps wants to; who is in an extension waits for a job (`upkeep.wait`), or for
/// another server. In their main loops only those are that send WAL.
const IDLE: [u32; 4] =
    [pg_sys::PG_WAIT_CLIENT, pg_sys::PG_WAIT_TIMEOUT, pg_sys::PG_WAIT_ACTIVITY, pg_sys::PG_WAIT_EXTENSION];
/// Of locks, those on rows and pages: whoever waits for a table, or for an advisory lock, waits for what somebody wants to do alone.
const SHORT: [u32; 5] = [
    pg_sys::LockTagType::LOCKTAG_RELATION_EXTEND,
    pg_sys::LockTagType::LOCKTAG_PAGE,
    pg_sys::LockTagType::LOCKTAG_TUPLE,
    pg_sys::LockTagType::LOCKTAG_TRANSACTION,
    pg_sys::LockTagType::LOCKTAG_SPECULATIVE_TOKEN,
];
const WAITS: [u32; 4] = [pg_sys::PG_WAIT_LWLOCK, pg_sys::PG_WAIT_LOCK, pg_sys::PG_WAIT_IPC, pg_sys::PG_WAIT_IO];

pub fn crowd() -> Crowd {
    let mut crowd = Crowd::default();
    // SAFETY: the array is in shared memory for as long as the server runs; each field is read as the server's own views read it,
    // without a lock: what changes meanwhile was right a moment ago.
    unsafe {
        let header = pg_sys::ProcGlobal;
        for place in 0..(*header).allProcCount as usize {
            let process = (*header).allProcs.add(place).cast_const();
            if !is_client(process) {
                continue;
            }
            let wait = std::ptr::read_volatile(&raw const (*process).wait_event_info);
            let class = wait & CLASS;
            let is_apart = class == pg_sys::PG_WAIT_LOCK && !SHORT.contains(&(wait & !CLASS));
            if !IDLE.contains(&class) && !is_apart {
                crowd.active += 1;
                crowd.waiting += u32::from(WAITS.contains(&class));
            }
        }
    }
    crowd
}

/// Safety: a place in the server's array.
unsafe fn is_client(process: *const pg_sys::PGPROC) -> bool {
    // SAFETY: see above.
    unsafe {
        #[cfg(feature = "pg18")]
        let regular = (*process).isRegularBackend;
        #[cfg(not(feature = "pg18"))]
        let regular = !(*process).isBackgroundWorker && (*process).statusFlags & pg_sys::PROC_IS_AUTOVACUUM as u8 == 0;
        regular
            && std::ptr::read_volatile(&raw const (*process).pid) != 0
            && std::ptr::read_volatile(&raw const (*process).databaseId) != pg_sys::InvalidOid
    }
}
