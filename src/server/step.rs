//! What text of a user's may leave behind in a worker that goes on after it: nothing that was `SET`.
//!
//! A step's settings are undone when it ends, plain `SET` and `set_config(.., false)` too. That costs a counter, and a walk
//! through the settings that were touched. Deferred triggers run later, at the commit; the server tells of the moment when they
//! have (`XACT_EVENT_PRE_COMMIT`), and nothing of a user's runs in the transaction after it. There the limits on the step's
//! time end as well: the rest of a commit waits for others perhaps, and is not to be cut short.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use pgrx::pg_sys;

use super::timeout;

thread_local! {
    /// The level of settings that deferred triggers have; 0: none is open.
    static LEVEL: Cell<c_int> = const { Cell::new(0) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// The last thing of ours in a step's transaction, before its commit.
pub fn before_commit() {
    // SAFETY: in a transaction; a counter. If it is aborted, all levels are closed.
    unsafe {
        if !REGISTERED.replace(true) {
            pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut());
        }
        LEVEL.set(pg_sys::NewGUCNestLevel());
    }
}

/// # Safety
/// Called by the server at the end of a transaction. Nothing in here fails, and there is nothing to drop.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let level = LEVEL.replace(0);
    if level > 0 && event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT {
        // SAFETY: opened by `before_commit` in this transaction; those above it are closed.
        unsafe { pg_sys::AtEOXact_GUC(false, level) };
        timeout::lift();
    }
}
