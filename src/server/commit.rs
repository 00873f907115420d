//! What must happen when the caller's transaction commits, and not before:
//! workers would look for rows that they cannot see yet.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::sync::atomic::Ordering;

use pgrx::pg_sys;

use super::segment::Database;

/// Prepared before the commit, so that the callback neither allocates nor fails.
struct Wake {
    database: &'static Database,
    launcher: *mut pg_sys::Latch,
}

thread_local! {
    static WAKES: RefCell<Vec<Wake>> = const { RefCell::new(Vec::new()) };
    static INTERRUPTS: RefCell<Vec<i32>> = const { RefCell::new(Vec::new()) };
    static LATCHES: RefCell<Vec<*mut pg_sys::Latch>> = const { RefCell::new(Vec::new()) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// Wakes the launcher at commit, with the message that `database` has work.
pub fn wake_launcher(pid: i32, database: &'static Database) {
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    if process.is_null() {
        return;
    }
    // A PGPROC outlives its process; at worst somebody else wakes up for nothing.
    let launcher = unsafe { &raw mut (*process).procLatch };
    register();
    WAKES.with_borrow_mut(|wakes| {
        if wakes.is_empty() {
            wakes.push(Wake { database, launcher });
        }
    });
}

/// Wakes process `pid` at commit, if it waits.
pub fn wake(pid: i32) {
    let process = unsafe { pg_sys::BackendPidGetProc(pid) };
    if !process.is_null() {
        register();
        let latch = unsafe { &raw mut (*process).procLatch };
        LATCHES.with_borrow_mut(|latches| latches.push(latch));
    }
}

/// Cancels the statement that process `pid` runs, at commit.
pub fn interrupt(pid: i32) {
    register();
    INTERRUPTS.with_borrow_mut(|pids| pids.push(pid));
}

fn register() {
    if !REGISTERED.replace(true) {
        unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
    }
}

unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let committed = event == pg_sys::XactEvent::XACT_EVENT_COMMIT;
    if !committed && event != pg_sys::XactEvent::XACT_EVENT_ABORT {
        return;
    }
    unsafe extern "C" {
        fn kill(pid: i32, signal: i32) -> i32;
    }
    const SIGINT: i32 = 2;
    WAKES.with(|wakes| {
        if let Ok(mut wakes) = wakes.try_borrow_mut() {
            for wake in wakes.drain(..).filter(|_| committed) {
                wake.database.wake.fetch_add(1, Ordering::AcqRel);
                unsafe { pg_sys::SetLatch(wake.launcher) };
            }
        }
    });
    LATCHES.with(|latches| {
        if let Ok(mut latches) = latches.try_borrow_mut() {
            for latch in latches.drain(..).filter(|_| committed) {
                unsafe { pg_sys::SetLatch(latch) };
            }
        }
    });
    INTERRUPTS.with(|pids| {
        if let Ok(mut pids) = pids.try_borrow_mut() {
            for pid in pids.drain(..).filter(|_| committed) {
                unsafe { kill(pid, SIGINT) };
            }
        }
    });
}
