//! The ends of transactions and savepoints: what is refused there, and in which order what was known is forgotten.
//!
//! Registered as the library is loaded, as the server's own PL/pgSQL does: what has something to forget need not think of it, and
//! where nothing was deleted there is nothing to do. Errors pass the engine by longjmp, so this is all that cleans up after them.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys;

use super::{programs, state, statements};

/// In every process that loads the library, once.
pub fn install() {
    // SAFETY: one thread; nothing in the callbacks allocates, and what is raised is raised before the commit.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), null_mut());
        pg_sys::RegisterSubXactCallback(Some(savepoint_ends), null_mut());
    }
}

/// Safety: called by the server.
unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    match event {
        // SAFETY: the transaction may still fail, and the frames above are the server's.
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE => unsafe { statements::refuse_unfinished(0) },
        XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE => {
            // From what points at others to what is pointed at: frames hold deletions, statements have begun within frames, and
            // programs are what all of them run.
            state::forget();
            statements::forget();
            programs::forget_old();
        }
        _ => {}
    }
}

/// Safety: called by the server.
unsafe extern "C-unwind" fn savepoint_ends(
    event: pg_sys::SubXactEvent::Type,
    subid: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    use pg_sys::SubXactEvent::*;
    match event {
        // SAFETY: as above; its transaction may still fail.
        SUBXACT_EVENT_PRE_COMMIT_SUB => unsafe { statements::refuse_unfinished(subid) },
        SUBXACT_EVENT_ABORT_SUB => {
            // Programs stay: frames further out run them.
            state::forget_since(subid);
            // SAFETY: the jump has left all frames that were at work with them.
            unsafe { statements::forget_since(subid) };
        }
        _ => {}
    }
}
