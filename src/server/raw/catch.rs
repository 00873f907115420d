//! Catching the server's errors without losing what they said, and the
//! transactions and subtransactions that make catching sound.

use std::cell::Cell;
use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::ptr;

use pgrx::pg_sys::panic::{CaughtError, ErrorReportWithLevel};
use pgrx::{PgTryBuilder, pg_sys};

use super::unguarded::{geterrcode, geterrposition, getinternalerrposition};
use crate::error::{Error, INTERNAL_ERROR, Result, SqlState};

/// What pgrx drops when it copies an error: the real SQLSTATE (its enum is
/// closed) and the position. Written by a callback of the server's error
/// context stack, which runs before pgrx sees the error.
#[derive(Clone, Copy, Default)]
struct Diagnostics {
    sqlstate: i32,
    position: i32,
}

thread_local! {
    static LAST: Cell<Diagnostics> = const { Cell::new(Diagnostics { sqlstate: 0, position: 0 }) };
}

/// No allocation, no error, nothing to drop: it runs inside `errfinish`.
unsafe extern "C-unwind" fn note_error(_arg: *mut c_void) {
    // SAFETY: called by errfinish only, where the error being reported is current.
    unsafe {
        let sqlstate = geterrcode();
        // Notices and warnings (classes 00 and 01) pass here as well.
        let class = sqlstate & 0xFFF;
        if class == 0 || class == (1 << 6) {
            return;
        }
        let internal = getinternalerrposition();
        LAST.set(Diagnostics { sqlstate, position: if internal > 0 { internal } else { geterrposition() } });
    }
}

/// Runs `f`; an ERROR of the server or a panic comes back as `Err`.
///
/// The transaction is then broken: only call this where the (sub)transaction
/// around it is aborted on `Err`, as the functions below do.
pub(super) fn catch<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut context = pg_sys::ErrorContextCallback {
        // SAFETY: backends have one thread.
        previous: unsafe { pg_sys::error_context_stack },
        callback: Some(note_error),
        arg: ptr::null_mut(),
    };
    LAST.set(Diagnostics::default());
    let previous = context.previous;
    // SAFETY: `context` outlives the call; the stack is put back on both ways out.
    unsafe { pg_sys::error_context_stack = &raw mut context };
    let result = PgTryBuilder::new(AssertUnwindSafe(f))
        .catch_others(|error| Err(from_caught(error)))
        .catch_rust_panic(|error| Err(from_caught(error)))
        .execute();
    // SAFETY: it is what was there before, and `context` is ours no more.
    unsafe { pg_sys::error_context_stack = previous };
    result
}

fn from_caught(error: CaughtError) -> Error {
    let (report, diagnostics) = match &error {
        CaughtError::PostgresError(report) => (report, LAST.get()),
        CaughtError::ErrorReport(report) => (report, Diagnostics::default()),
        CaughtError::RustPanic { ereport, .. } => (ereport, Diagnostics::default()),
    };
    from_report(report, diagnostics)
}

fn from_report(report: &ErrorReportWithLevel, diagnostics: Diagnostics) -> Error {
    let sqlstate = match diagnostics.sqlstate {
        0 => SqlState(report.sql_error_code() as i32),
        code => SqlState(code),
    };
    Error {
        sqlstate: if sqlstate.0 == 0 { INTERNAL_ERROR } else { sqlstate },
        message: report.message().to_owned(),
        detail: report.detail().map(str::to_owned),
        hint: report.hint().map(str::to_owned),
        position: (diagnostics.position > 0)
            .then(|| crate::error::Position { query: String::new(), character: diagnostics.position }),
    }
}

/// One transaction of a worker's: committed on `Ok`, rolled back on `Err`.
pub fn transaction<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = catch(|| {
        // SAFETY: a worker between transactions.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            // SPI wants a snapshot of its caller's, and takes fresh ones of its own.
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let value = f()?;
        // SAFETY: in the transaction begun above, whose snapshot is the only one that we have pushed.
        unsafe {
            pg_sys::PopActiveSnapshot();
            pg_sys::CommitTransactionCommand();
        }
        Ok(value)
    });
    if result.is_err() {
        clean_up_after_error();
    }
    // SAFETY: statistics are reported outside a transaction, as PostgresMain does.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// What PostgresMain does before it takes the next command after an error.
pub fn clean_up_after_error() {
    // SAFETY: no transaction state is assumed; these are no-ops when there is nothing to undo.
    unsafe {
        pg_sys::QueryCancelPending = 0;
        pg_sys::debug_query_string = ptr::null();
        pg_sys::AbortOutOfAnyTransaction();
        pg_sys::PortalErrorCleanup();
        pg_sys::jit_reset_after_error();
        pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
    }
}

/// `f` in a subtransaction: kept on `Ok`, undone on `Err`; the transaction stays usable.
pub fn subtransaction<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    in_subtransaction(f, true)
}

/// `f` in a subtransaction that is undone in any case: nothing stays of it but the answer, no lock either.
pub fn undone<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    in_subtransaction(f, false)
}

fn in_subtransaction<T>(f: impl FnOnce() -> Result<T>, keep: bool) -> Result<T> {
    // SAFETY: both are restored below, as PL/pgSQL does around its exception blocks.
    let (context, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: in a transaction.
    unsafe {
        pg_sys::BeginInternalSubTransaction(ptr::null());
        pg_sys::MemoryContextSwitchTo(context);
    }
    let result = catch(|| {
        let value = f()?;
        if keep {
            super::lock::note_waiters();
            // SAFETY: in the subtransaction begun above: `f` closes what it opens.
            unsafe { pg_sys::ReleaseCurrentSubTransaction() };
        }
        Ok(value)
    });
    // SAFETY: the subtransaction is still open on these two ways; context and resource owner are those from before it.
    unsafe {
        if result.is_err() || !keep {
            pg_sys::RollbackAndReleaseCurrentSubTransaction();
        }
        pg_sys::MemoryContextSwitchTo(context);
        pg_sys::CurrentResourceOwner = owner;
    }
    result
}
