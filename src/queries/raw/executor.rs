//! What everybody's statements pass when they are counted (LAWS 12 and 13): raw functions with nothing to drop, which call the
//! next hook directly. Nothing here catches: which statements failed is known from the callbacks of (sub)transactions.

use std::ffi::c_int;

use pgrx::pg_sys;

use super::books::{
    FREE, Frame, NO_FRAME, books, counts_here, enter, find, forget, frame, is_counting, is_explained, leave,
    may_be_explained, push,
};
use super::next::{self, next};
use super::{capture, failures, memory};
use crate::server::grants;
use crate::server::raw::unguarded::{
    GetCurrentSubTransactionId, GetUserId, standard_ExecutorEnd, standard_ExecutorFinish, standard_ExecutorRun,
    standard_ExecutorStart,
};

/// Installs everything. Only while `shared_preload_libraries` are loaded.
pub fn install() {
    // SAFETY: one thread, before anything runs.
    unsafe {
        pg_sys::EnableQueryId();
        next::remember();
        pg_sys::ExecutorStart_hook = Some(executor_start);
        pg_sys::ExecutorRun_hook = Some(executor_run);
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
        pg_sys::ExecutorEnd_hook = Some(executor_end);
        pg_sys::post_parse_analyze_hook = Some(post_parse_analyze);
        pg_sys::emit_log_hook = Some(failures::emit_log);
        pg_sys::shmem_request_hook = Some(shmem_request);
        pg_sys::shmem_startup_hook = Some(shmem_startup);
        // The list of callbacks is inherited by every process that is forked.
        pg_sys::RegisterXactCallback(Some(failures::transaction_ended), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(failures::subtransaction_ended), std::ptr::null_mut());
    }
}

/// Safety: called by the postmaster, when memory may be asked for.
unsafe extern "C-unwind" fn shmem_request() {
    // SAFETY: as we were called.
    unsafe {
        if let Some(next) = next().request {
            next();
        }
        pg_sys::RequestAddinShmemSpace(memory::size(crate::settings::query_max()));
    }
}

/// In the postmaster, at its start and after a crash: the memory is new each time.
///
/// Safety: called by the postmaster, when memory is made.
unsafe extern "C-unwind" fn shmem_startup() {
    // SAFETY: as we were called; what was asked for under this name is of this size, and nobody uses it yet.
    unsafe {
        if let Some(next) = next().startup {
            next();
        }
        let entries = crate::settings::query_max();
        let mut found = false;
        let address =
            pg_sys::ShmemInitStruct(c"pg_upkeep query statistics".as_ptr(), memory::size(entries), &mut found);
        memory::create(address.cast(), entries);
    }
}

/// Safety: called by the server, or by whoever has the hook before us.
#[allow(clippy::unnecessary_cast)] // unsigned before 18
unsafe extern "C-unwind" fn executor_start(desc: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: as we were called; an execution has a plan. What is called next may jump over plain values only.
    unsafe {
        grants::look((*desc).plannedstmt);
        match next().start {
            Some(next) => next(desc, flags),
            None => standard_ExecutorStart(desc, flags),
        }
        if !counts_here() || flags as u32 & pg_sys::EXEC_FLAG_EXPLAIN_ONLY != 0 {
            return;
        }
        let queryid = (*(*desc).plannedstmt).queryId as i64;
        let depth = (*books()).level;
        if queryid == 0 || is_explained(depth) {
            return;
        }
        push(Frame {
            id: desc.cast(),
            queryid,
            user: GetUserId().to_u32(),
            toplevel: depth == 0,
            subtransaction: GetCurrentSubTransactionId(),
            ..FREE
        });
    }
}

/// A call into the executor while it runs.
struct Call {
    counted: bool,
    frame: usize,
    before: usize,
}

/// Safety: an execution.
#[inline]
unsafe fn begin(desc: *mut pg_sys::QueryDesc, counted: bool) -> Call {
    // SAFETY: `find` gives the number of a frame, or NO_FRAME.
    unsafe {
        let frame = if counted { find(desc.cast()) } else { NO_FRAME };
        let before = if counted { enter(frame) } else { 0 };
        Call { counted, frame, before }
    }
}

/// Safety: after [`begin`], and only if there was no error.
#[inline]
unsafe fn has_run(call: &Call, desc: *mut pg_sys::QueryDesc) {
    // SAFETY: the number is that of a frame, or NO_FRAME; an execution that has run has a state.
    unsafe {
        if !call.counted {
            return;
        }
        leave(call.before, call.frame, desc.cast());
        if call.frame != NO_FRAME && (*frame(call.frame)).id == desc.cast() {
            let frame = frame(call.frame);
            // Each run of a cursor counts its rows from 0.
            (*frame).rows = (*frame).rows.wrapping_add((*(*desc).estate).es_processed);
        }
    }
}

/// Safety: called by the server, or by whoever has the hook before us.
#[cfg(not(feature = "pg18"))]
unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: as we were called. What is called next may jump over plain values only; then `failures` tidies up.
    unsafe {
        let call = begin(desc, is_counting());
        match next().run {
            Some(next) => next(desc, direction, count, once),
            None => standard_ExecutorRun(desc, direction, count, once),
        }
        has_run(&call, desc);
    }
}

/// Safety: called by the server, or by whoever has the hook before us.
#[cfg(feature = "pg18")]
unsafe extern "C-unwind" fn executor_run(
    desc: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: as we were called. What is called next may jump over plain values only; then `failures` tidies up.
    unsafe {
        let call = begin(desc, is_counting());
        match next().run {
            Some(next) => next(desc, direction, count),
            None => standard_ExecutorRun(desc, direction, count),
        }
        has_run(&call, desc);
    }
}

/// AFTER triggers run here.
///
/// Safety: called by the server, or by whoever has the hook before us.
unsafe extern "C-unwind" fn executor_finish(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: as in `executor_run`; an execution has a plan.
    unsafe {
        let writes = (*desc).operation != pg_sys::CmdType::CMD_SELECT || (*(*desc).plannedstmt).hasModifyingCTE;
        let call = begin(desc, writes && is_counting());
        match next().finish {
            Some(next) => next(desc),
            None => standard_ExecutorFinish(desc),
        }
        if call.counted {
            leave(call.before, call.frame, desc.cast());
        }
    }
}

/// Safety: called by the server, or by whoever has the hook before us.
unsafe extern "C-unwind" fn executor_end(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: one thread has the books; the number is that of a frame. What is called next may jump over plain values
    // only.
    unsafe {
        if (*books()).top > 0 {
            let number = find(desc.cast());
            if number != NO_FRAME {
                let done = *frame(number);
                forget(number);
                memory::count_call(done.queryid, done.user, done.toplevel, done.elapsed, done.rows);
            }
        }
        match next().end {
            Some(next) => next(desc),
            None => standard_ExecutorEnd(desc),
        }
    }
}

/// Safety: called by the server, or by whoever has the hook before us.
unsafe extern "C-unwind" fn post_parse_analyze(
    state: *mut pg_sys::ParseState,
    query: *mut pg_sys::Query,
    jumble: *mut pg_sys::JumbleState,
) {
    // SAFETY: as we were called; a text of the state ends in a zero.
    unsafe {
        if let Some(next) = next().analyze {
            next(state, query, jumble);
        }
        if counts_here() && (*query).queryId != 0 && (*query).utilityStmt.is_null() && !may_be_explained() {
            capture::analyzed(state, query, jumble, GetUserId().to_u32());
        }
    }
}
