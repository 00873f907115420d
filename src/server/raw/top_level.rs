//! One statement as a client would send it: outside a transaction block, so that
//! VACUUM, CREATE INDEX CONCURRENTLY and CALL with COMMIT work. SPI refuses
//! those; a portal at top level is what a client's statement runs in.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::catch::{catch, clean_up_after_error};
use super::{encoding, notices, script};
use crate::error::{Error, Result, SYNTAX_ERROR};

/// What a top-level statement answered: its command tag and row count.
#[derive(Clone, Debug)]
pub struct Completion {
    pub tag: String,
    pub rows: u64,
}

/// Runs `sql` in as many transactions as it wants to make.
pub fn run(sql: &str) -> Result<Completion> {
    let text = CString::new(encoding::to_server(sql))
        .map_err(|_| Error::new(SYNTAX_ERROR, "the text contains a zero byte"))?;
    // SAFETY: a worker between transactions; the text outlives the statement.
    let result = notices::kept_of(|| catch(|| unsafe { run_portal(&text) }));
    // A procedure can leave things open; an error always does.
    clean_up_after_error();
    // SAFETY: outside of a transaction, as PostgresMain does.
    unsafe { pg_sys::pgstat_report_stat(false) };
    result
}

/// # Safety
/// Between transactions of a worker that is connected to a database.
unsafe fn run_portal(sql: &CStr) -> Result<Completion> {
    // SAFETY: the context of commands outlives the transactions of the statement, and so do trees and portal in it; the
    // portal is dropped at its end, or by the clean-up after an error.
    unsafe {
        pg_sys::SetCurrentStatementStartTimestamp();
        pg_sys::debug_query_string = sql.as_ptr();
        pg_sys::StartTransactionCommand();

        // The trees must survive the commits inside the statement.
        let context = command_context();
        pg_sys::MemoryContextSwitchTo(context);
        let statement = script::tree(sql)?;

        let needs_snapshot = pg_sys::analyze_requires_snapshot(statement);
        if needs_snapshot {
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(
            statement,
            sql.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        let plans =
            pg_sys::pg_plan_queries(queries, sql.as_ptr(), pg_sys::CURSOR_OPT_PARALLEL_OK as i32, std::ptr::null_mut());
        if needs_snapshot {
            pg_sys::PopActiveSnapshot();
        }

        let tag = pg_sys::CreateCommandTag((*statement).stmt);
        let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
        (*portal).visible = false;
        pg_sys::PortalDefineQuery(portal, std::ptr::null(), sql.as_ptr(), tag, plans, std::ptr::null_mut());
        pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());

        let receiver = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
        let mut completion: pg_sys::QueryCompletion = std::mem::zeroed();
        portal_run(portal, receiver, &mut completion);
        if let Some(destroy) = (*receiver).rDestroy {
            destroy(receiver);
        }
        pg_sys::PortalDrop(portal, false);
        pg_sys::CommitTransactionCommand();
        pg_sys::debug_query_string = std::ptr::null();

        let name = CStr::from_ptr(pg_sys::GetCommandTagName(completion.commandTag));
        Ok(Completion { tag: name.to_string_lossy().into_owned(), rows: completion.nprocessed })
    }
}

/// Safety: a portal that was started, and a receiver for it.
unsafe fn portal_run(
    portal: pg_sys::Portal,
    receiver: *mut pg_sys::DestReceiver,
    completion: &mut pg_sys::QueryCompletion,
) {
    const ALL: std::ffi::c_long = std::ffi::c_long::MAX;
    // SAFETY: as the caller promises; to the end, and once.
    unsafe {
        #[cfg(feature = "pg18")]
        pg_sys::PortalRun(portal, ALL, true, receiver, receiver, completion);
        #[cfg(not(feature = "pg18"))]
        pg_sys::PortalRun(portal, ALL, true, true, receiver, receiver, completion);
    }
}

/// One context for all statements of this process, emptied at each: a context per
/// statement would leak on errors.
///
/// Safety: in a process that has its memory contexts; nobody uses what the last command left.
unsafe fn command_context() -> pg_sys::MemoryContext {
    use std::cell::Cell;
    thread_local! {
        static CONTEXT: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
    }
    // SAFETY: made in memory that lasts as long as the process, once.
    unsafe {
        if CONTEXT.get().is_null() {
            CONTEXT.set(pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"pg_upkeep command".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            ));
        }
        pg_sys::MemoryContextReset(CONTEXT.get());
        CONTEXT.get()
    }
}
