//! The launcher's shared memory: who wants to be visited, and when.
//!
//! One dynamic segment serves a preloaded server and one that was never
//! restarted alike. Its handle goes to workers in `bgw_extra`; everybody else
//! reads it from the launcher's application name.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

use pgrx::pg_sys::{self, Oid};

use super::board::Board;

/// More databases than this are visited as well, but only when the launcher
/// starts and when one of these entries becomes free.
pub const DATABASES: usize = 1024;

/// No work is known: come when woken.
pub const NEVER: i64 = i64::MAX;

/// What launcher, scheduler and the callers of verbs say to each other about one database.
#[repr(C)]
pub struct Database {
    oid: AtomicU32,
    /// Increased by whoever has work for the scheduler.
    pub wake: AtomicU32,
    /// The last `wake` that a scheduler has looked at.
    pub seen: AtomicU32,
    /// When the scheduler wants to come back: microseconds since 2000, as `timestamptz`.
    pub next_due: AtomicI64,
    pub scheduler: AtomicI32,
    /// The extension is not there.
    pub absent: AtomicI32,
    /// When a scheduler last looked at the schedules; 0: since the launcher started none has.
    pub looked: AtomicI64,
    /// There are schedules that will be due: the clock must be watched.
    pub scheduled: AtomicI32,
    /// When our workers were last asked to leave this database for a statement on it.
    sent_away: AtomicI64,
    /// What the last look that gave something up has said in the log (a hash), and when.
    pub complaint: AtomicU64,
    pub complained_at: AtomicI64,
}

#[repr(C)]
pub struct Segment {
    version: u32,
    /// Set by `stop_workers()`: the launcher leaves for good.
    stopping: AtomicU32,
    databases: [Database; DATABASES],
    /// What jobs are held back by.
    pub board: Board,
}

const VERSION: u32 = 3;

thread_local! {
    static ATTACHED: Cell<Option<(u32, *mut pg_sys::dsm_segment)>> = const { Cell::new(None) };
}

/// Creates the segment; it lives as long as the launcher does.
pub fn create() -> (u32, &'static Segment) {
    unsafe {
        let segment = pg_sys::dsm_create(size_of::<Segment>() as pg_sys::Size, 0);
        pg_sys::dsm_pin_mapping(segment);
        let address = pg_sys::dsm_segment_address(segment).cast::<Segment>();
        std::ptr::write_bytes(address, 0, 1);
        (*address).version = VERSION;
        (pg_sys::dsm_segment_handle(segment), &*address)
    }
}

/// Attaches a launcher's segment for the rest of the session. `None`: that launcher is gone.
pub fn attach(handle: u32) -> Option<&'static Segment> {
    unsafe {
        let segment = match ATTACHED.get() {
            Some((attached, segment)) if attached == handle => segment,
            attached => {
                if let Some((_, old)) = attached {
                    ATTACHED.set(None);
                    pg_sys::dsm_detach(old);
                }
                let segment = pg_sys::dsm_attach(handle);
                if segment.is_null() {
                    return None;
                }
                pg_sys::dsm_pin_mapping(segment);
                ATTACHED.set(Some((handle, segment)));
                segment
            }
        };
        let address = pg_sys::dsm_segment_address(segment).cast::<Segment>();
        ((*address).version == VERSION).then(|| &*address)
    }
}

/// The segment that this session is attached to, if it is to any. It attaches nothing: also for a process that ends.
pub fn attached() -> Option<&'static Segment> {
    // SAFETY: mapped until `attach` says otherwise.
    ATTACHED.get().map(|(_, segment)| unsafe { &*pg_sys::dsm_segment_address(segment).cast::<Segment>() })
}

impl Segment {
    /// The entry of a database, made if there is none yet. `None`: all are taken.
    pub fn database(&self, oid: Oid) -> Option<&Database> {
        let wanted = oid.to_u32();
        self.databases.iter().find(|entry| {
            match entry.oid.compare_exchange(0, wanted, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => true,
                Err(taken) => taken == wanted,
            }
        })
    }

    pub fn stop(&self) {
        self.stopping.store(1, Ordering::Release);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) != 0
    }

    /// Has every database visited once, as after a start.
    pub fn make_all_due(&self) {
        for entry in &self.databases {
            entry.next_due.store(0, Ordering::Release);
        }
    }

    /// Does any database have schedules that will be due?
    pub fn is_scheduled(&self) -> bool {
        self.databases.iter().any(|entry| entry.scheduled.load(Ordering::Acquire) != 0)
    }

    /// Frees the entries of databases that are gone.
    pub fn retain(&self, exists: impl Fn(Oid) -> bool) {
        for entry in &self.databases {
            let oid = entry.oid.load(Ordering::Acquire);
            if oid != 0 && !exists(Oid::from(oid)) {
                entry.next_due.store(0, Ordering::Relaxed);
                entry.absent.store(0, Ordering::Relaxed);
                entry.scheduler.store(0, Ordering::Relaxed);
                entry.looked.store(0, Ordering::Relaxed);
                entry.scheduled.store(0, Ordering::Relaxed);
                entry.sent_away.store(0, Ordering::Relaxed);
                entry.complaint.store(0, Ordering::Relaxed);
                entry.complained_at.store(0, Ordering::Relaxed);
                entry.oid.store(0, Ordering::Release);
            }
        }
    }
}

impl Database {
    /// Our workers are asked to leave, now.
    pub fn note_sent_away(&self, now: i64) {
        self.sent_away.store(now, Ordering::Release);
    }

    pub fn was_sent_away_since(&self, then: i64) -> bool {
        self.sent_away.load(Ordering::Acquire) >= then
    }

    /// Has anybody asked for a visit since the last look, or is one due?
    pub fn is_due(&self, now: i64) -> bool {
        self.wake.load(Ordering::Acquire) != self.seen.load(Ordering::Acquire)
            || self.next_due.load(Ordering::Acquire) <= now
    }
}
