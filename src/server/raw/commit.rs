//! What must happen when the caller's transaction commits, and not before: workers would look for rows that they
//! cannot see yet, and what is rolled back must wake and stop nobody.
//!
//! Each thing belongs to the subtransaction that asked for it, goes to its parent with its release and is forgotten
//! with its rollback. A transaction that is prepared signals nobody and leaves nothing to the next one of its session: it
//! tells the launcher that something may come of it, and the launcher looks until it has ended (`Purpose::Uncommitted`).

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, Ordering};

use pgrx::pg_sys::{self, SubTransactionId};

use super::process::Process;

/// Prepared before the commit, so that the callback neither allocates nor fails.
#[derive(Clone, Copy)]
enum What {
    Count {
        counters: Counters,
        latch: *mut pg_sys::Latch,
    },
    /// A PGPROC outlives its process; at worst somebody else wakes up for nothing.
    Latch(*mut pg_sys::Latch),
    Interrupt(Process),
}

impl PartialEq for What {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (What::Count { counters: a, .. }, What::Count { counters: b, .. }) => {
                std::ptr::eq(a.committed, b.committed)
            }
            (What::Latch(a), What::Latch(b)) => a == b,
            (What::Interrupt(a), What::Interrupt(b)) => a == b,
            _ => false,
        }
    }
}

struct Entry {
    subtransaction: SubTransactionId,
    what: What,
}

thread_local! {
    static PENDING: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// What is counted in shared memory, which must stay mapped for as long as this transaction.
#[derive(Clone, Copy)]
pub struct Counters {
    pub committed: &'static AtomicU32,
    /// By PREPARE TRANSACTION: something may come of it.
    pub prepared: &'static AtomicU32,
}

/// Counts the commit of this transaction, and wakes process `pid`, which looks at the counters.
pub fn count(pid: i32, counters: Counters) {
    if let Some(latch) = latch_of(pid) {
        add(What::Count { counters, latch });
    }
}

/// Wakes process `pid` at commit, if it waits.
pub fn wake(pid: i32) {
    if let Some(latch) = latch_of(pid) {
        add(What::Latch(latch));
    }
}

/// Cancels the statement that a process runs, at commit.
pub fn interrupt(process: Process) {
    add(What::Interrupt(process));
}

fn latch_of(pid: i32) -> Option<*mut pg_sys::Latch> {
    // SAFETY: a PGPROC is in shared memory for as long as the server runs.
    unsafe {
        let process = pg_sys::BackendPidGetProc(pid);
        (!process.is_null()).then(|| &raw mut (*process).procLatch)
    }
}

/// Each thing once: there are no more of them than processes, however many jobs a transaction creates or cancels. What
/// is there already belongs to this subtransaction or one around it, and stays at least as long as we need it.
fn add(what: What) {
    if !REGISTERED.replace(true) {
        // SAFETY: functions of this library, which stays loaded.
        unsafe {
            pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
            pg_sys::RegisterSubXactCallback(Some(at_end_of_subtransaction), std::ptr::null_mut());
        }
    }
    // SAFETY: a plain read.
    let subtransaction = unsafe { pg_sys::GetCurrentSubTransactionId() };
    PENDING.with_borrow_mut(|pending| {
        if pending.iter().all(|entry| entry.what != what) {
            pending.push(Entry { subtransaction, what });
        }
    });
}

/// Waits until the last commit of this process is as safe as `synchronous_commit` says now: here, and on standbys. After that commit,
/// so that nobody has to wait for its locks as well. A cancel or the end of this process ends the wait, as it does in a commit.
pub fn wait_until_safe() {
    // SAFETY: between transactions. The wait for standbys wants interrupts to be held, as in a commit, and sees to those that matter.
    unsafe {
        let end = pg_sys::XactLastCommitEnd;
        pg_sys::XLogFlush(end);
        pg_sys::InterruptHoldoffCount += 1;
        pg_sys::SyncRepWaitForLSN(end, true);
        pg_sys::InterruptHoldoffCount -= 1;
    }
}

/// # Safety
/// Called by the server at the end of a transaction. Nothing in here allocates, fails or takes a lock but
/// `ProcArrayLock`, which the server has just let go of.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    if ![XACT_EVENT_COMMIT, XACT_EVENT_ABORT, XACT_EVENT_PREPARE].contains(&event) {
        return;
    }
    PENDING.with(|pending| {
        let Ok(mut pending) = pending.try_borrow_mut() else { return };
        for Entry { what, .. } in pending.drain(..) {
            let latch = match (event, what) {
                (XACT_EVENT_COMMIT, What::Count { counters, latch }) => {
                    counters.committed.fetch_add(1, Ordering::AcqRel);
                    latch
                }
                (XACT_EVENT_PREPARE, What::Count { counters, latch }) => {
                    counters.prepared.fetch_add(1, Ordering::AcqRel);
                    latch
                }
                (XACT_EVENT_COMMIT, What::Latch(latch)) => latch,
                (XACT_EVENT_COMMIT, What::Interrupt(process)) => {
                    process.signal(libc::SIGINT);
                    continue;
                }
                _ => continue,
            };
            // SAFETY: a latch of a PGPROC, which is there for as long as the server runs.
            unsafe { pg_sys::SetLatch(latch) };
        }
    });
}

unsafe extern "C-unwind" fn at_end_of_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    mine: SubTransactionId,
    parent: SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    PENDING.with(|pending| {
        let Ok(mut pending) = pending.try_borrow_mut() else { return };
        match event {
            SUBXACT_EVENT_COMMIT_SUB => {
                for entry in pending.iter_mut().filter(|entry| entry.subtransaction == mine) {
                    entry.subtransaction = parent;
                }
            }
            // Those inside of it were handed to it or are gone.
            SUBXACT_EVENT_ABORT_SUB => pending.retain(|entry| entry.subtransaction < mine),
            _ => {}
        }
    });
}
