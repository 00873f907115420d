//! Which statements failed, and how: the log says what the last error was, the callbacks of (sub)transactions what it ended.

use std::ffi::{CStr, c_int, c_void};

use pgrx::pg_sys;

use super::books::{MOST_LEVELS, books, clock, forget, frame, is_counting, level};
use super::memory::{self, Failure};
use super::next::next;
use crate::server::quiet;
use crate::server::raw::unguarded::{GetTopTransactionIdIfAny, GetUserId, pgstat_get_my_query_id};

const ERROR: c_int = pgrx::PgLogLevel::ERROR as c_int;

/// An error on its way to the log or the client. It may not fail, nor report anything.
///
/// Safety: called by the server, or by whoever has the hook before us.
pub unsafe extern "C-unwind" fn emit_log(error: *mut pg_sys::ErrorData) {
    // SAFETY: the error stays while it is reported. One thread has the books; nothing here raises, so it is not
    // called inside of itself.
    unsafe {
        if (*error).elevel >= ERROR && is_counting() {
            let failure = kind(error);
            let books = books();
            (*books).last_error = Some(failure);
            // Before the executor: an error of the planner, or of a permission. A session that waits for its client has the id of its
            // last statement still, and no text: what ends it then is no failure of that statement.
            if (*books).level == 0
                && !pg_sys::debug_query_string.is_null()
                && pg_sys::MyDatabaseId != pg_sys::InvalidOid
                && memory::is_available()
            {
                let queryid = pgstat_get_my_query_id();
                if queryid != 0 {
                    (*books).last_error = None;
                    memory::count_failure(queryid, GetUserId().to_u32(), true, failure);
                }
            }
        }
        if let Some(next) = next().log {
            next(error);
        }
    }
}

/// A cancellation and a timeout have the same SQLSTATE; what tells them apart is the message before it is translated.
///
/// Safety: an error that is being reported.
unsafe fn kind(error: *const pg_sys::ErrorData) -> Failure {
    const CANCELED: c_int = crate::error::QUERY_CANCELED.0;
    const TERMINATED: c_int = crate::error::ADMIN_SHUTDOWN.0;
    const TOO_LONG: c_int = crate::error::TRANSACTION_TIMEOUT.0;
    // SAFETY: its message is null or ends in a zero.
    unsafe {
        match (*error).sqlerrcode {
            CANCELED => {
                let id = (*error).message_id;
                if !id.is_null() && CStr::from_ptr(id) == c"canceling statement due to statement timeout" {
                    Failure::Timeout
                } else {
                    Failure::Cancellation
                }
            }
            TERMINATED => Failure::Cancellation,
            TOO_LONG => Failure::Timeout,
            _ => Failure::Error,
        }
    }
}

/// Running statements that began in subtransaction `from` or below have failed; what was open there is gone.
///
/// Safety: at the end of a (sub)transaction.
unsafe fn fail(from: u32, keep_running: bool) {
    // SAFETY: one thread has the books; `level` is at most MOST_LEVELS where a level is looked at, and `top` at most
    // MOST_FRAMES.
    unsafe {
        let books = books();
        let failure = (*books).last_error.take().unwrap_or(Failure::Unknown);
        if !keep_running {
            if (*books).level > MOST_LEVELS {
                (*books).level = MOST_LEVELS;
            }
            while (*books).level > 0 && (*level((*books).level.wrapping_sub(1))).subtransaction >= from {
                (*books).level = (*books).level.wrapping_sub(1);
            }
        }
        let mut i = (*books).top;
        while i > 0 {
            i = i.wrapping_sub(1);
            let gone = *frame(i);
            if gone.id.is_null() || gone.subtransaction < from || (keep_running && gone.running) {
                continue;
            }
            forget(i);
            if gone.running {
                memory::count_failure(gone.queryid, gone.user, gone.toplevel, failure);
            }
        }
    }
}

/// Safety: called by the server.
pub unsafe extern "C-unwind" fn transaction_ended(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    // SAFETY: one thread has the books; nothing here allocates or raises.
    unsafe {
        match event {
            // ROLLBACK in a procedure: its CALL goes on. After an error the server has forgotten the text before it aborts.
            XACT_EVENT_ABORT => {
                (*books()).commit_began = 0;
                let goes_on = !pg_sys::debug_query_string.is_null() && (*books()).level > 0;
                if !goes_on {
                    // Whoever was at it may have been jumped over.
                    quiet::reset();
                }
                fail(0, goes_on);
            }
            XACT_EVENT_PRE_COMMIT if is_counting() && GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId => {
                (*books()).commit_began = clock();
            }
            XACT_EVENT_COMMIT | XACT_EVENT_PREPARE => {
                let began = std::mem::take(&mut (*books()).commit_began);
                if began != 0 && event == XACT_EVENT_COMMIT {
                    memory::count_commit(clock().wrapping_sub(began));
                }
                (*books()).last_error = None;
                if (*books()).top > 0 {
                    fail(0, true);
                }
            }
            _ => {}
        }
    }
}

/// Safety: called by the server.
pub unsafe extern "C-unwind" fn subtransaction_ended(
    event: pg_sys::SubXactEvent::Type,
    mine: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        // SAFETY: at its end.
        unsafe { fail(mine, false) };
    }
}
