//! What text of a user's may leave behind in a worker that goes on after it: nothing that was `SET`, and nothing temporary.
//!
//! A step's settings are undone when it ends, plain `SET` and `set_config(.., false)` too. That costs a counter, and a walk
//! through the settings that were touched. Deferred triggers run later, at the commit; the server tells of the moment when they
//! have (`XACT_EVENT_PRE_COMMIT`), and nothing of a user's runs in the transaction after it. There the limits on the step's
//! time end as well: the rest of a commit waits for others perhaps, and is not to be cut short.

use std::cell::Cell;
use std::ffi::{c_int, c_void};

use pgrx::pg_sys;

use super::catch::transaction;
use super::unguarded::{
    GetTempNamespaceState, GetTransactionSnapshot, PopActiveSnapshot, PushActiveSnapshot, ResetTempTableNamespace,
};
use super::{timeout, worker};

thread_local! {
    /// The level of settings that deferred triggers have; 0: none is open.
    static LEVEL: Cell<c_int> = const { Cell::new(0) };
}

/// Of an executor, once.
pub fn register() {
    // SAFETY: the callback is there as long as this process.
    unsafe { pg_sys::RegisterXactCallback(Some(at_end), std::ptr::null_mut()) };
}

/// The last thing of ours in a step's transaction, before its commit.
pub fn before_commit() {
    // SAFETY: in a transaction; a counter. If it is aborted, all levels are closed.
    unsafe { LEVEL.set(pg_sys::NewGUCNestLevel()) };
}

fn may_have_temporary_objects() -> bool {
    let (mut namespace, mut toast) = (pg_sys::Oid::INVALID, pg_sys::Oid::INVALID);
    // SAFETY: gives two numbers of this session, and raises nothing.
    unsafe { GetTempNamespaceState(&mut namespace, &mut toast) };
    namespace != pg_sys::Oid::INVALID
}

/// After a statement of a user's that was a transaction of its own, or several: drops its temporary objects, as at the end of a step. If
/// somebody has them locked, the end of the process does.
pub fn drop_temporary_objects() {
    if !may_have_temporary_objects() {
        return;
    }
    let dropped = transaction(|| {
        // SAFETY: a flag of this transaction.
        unsafe { pg_sys::MyXactFlags |= pg_sys::XACT_FLAGS_ACCESSEDTEMPNAMESPACE as c_int };
        before_commit();
        Ok(())
    });
    if dropped.is_err() {
        // Called before the server's own, which was there first.
        worker::before_exit(|| timeout::bound_the_end(0));
    }
}

/// The server drops temporary objects when a process ends, with what depends on them, where nobody can interrupt it: one lock on a
/// table of the user's that does would keep the worker for good, and the server from stopping. So a step's go with the step, which can be
/// interrupted; and the end of a process in the middle of a statement has a limit.
///
/// Safety: while a transaction commits, before the server's own look at them; nothing above has anything to drop.
unsafe fn drop_those_of_this_transaction() {
    // SAFETY: the snapshot is popped behind what uses it, or by the abort.
    unsafe {
        if pg_sys::MyXactFlags & pg_sys::XACT_FLAGS_ACCESSEDTEMPNAMESPACE as c_int != 0 {
            PushActiveSnapshot(GetTransactionSnapshot());
            ResetTempTableNamespace();
            PopActiveSnapshot();
        }
    }
}

/// # Safety
/// Called by the server at the end of a transaction. There is nothing to drop: an error in here, which aborts the transaction, passes.
unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    let level = LEVEL.replace(0);
    // SAFETY: a flag of this process.
    let ends = unsafe { pg_sys::proc_exit_inprogress };
    // The first thing that the server does before it drops them.
    if event == pg_sys::XactEvent::XACT_EVENT_ABORT && ends && may_have_temporary_objects() {
        // Around an abort the server holds interrupts once more.
        timeout::bound_the_end(1);
    }
    if level > 0 && event == pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT {
        // SAFETY: opened by `before_commit` in this transaction; those above it are closed.
        unsafe {
            pg_sys::AtEOXact_GUC(false, level);
            drop_those_of_this_transaction();
        }
        timeout::lift();
    }
}
