//! Utility statements: all that has no plan. Only those that cannot carry a secret are known by their text.

use std::ffi::{CStr, c_char};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, NodeTag};

use super::books::{
    FREE, Frame, NO_FRAME, books, counts_here, enter, forget, frame, is_counting, is_explained, leave, note_part, push,
};
use super::{Global, capture, memory};
use crate::jobs::activity;
use crate::server::raise;
use crate::server::raw::unguarded::{CreateCommandTag, GetCommandTagName, GetUserId, pgstat_get_my_query_id};
use crate::server::utility::Utility;

static NEXT: Global<pg_sys::ProcessUtility_hook_type> = Global::new(None);

/// Only while `shared_preload_libraries` are loaded.
pub fn install() {
    // SAFETY: one thread, before anything runs.
    unsafe {
        *NEXT.get() = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

/// Safety: called by the server, or by whoever has the hook before us.
unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    let passed = Utility { statement, query, read_only_tree, context, params, environment, receiver, completion };
    // SAFETY: as we were called. `call` is on the stack until we return; if an error jumps over us, `failures`
    // forgets its frame, and its address is only compared.
    unsafe {
        let mut call = NOT_COUNTED;
        begin(&raw mut call, statement, query, context);
        passed.pass_on(*NEXT.get());
        if end(&raw const call, completion) {
            look_here_at_commit();
        }
    }
}

/// A scheduler that looks before the commit does not find the extension yet, and says so.
///
/// Safety: in a transaction; its error passes the caller by longjmp.
#[pg_guard]
unsafe extern "C-unwind" fn look_here_at_commit() {
    raise::answer(activity::wake_at_commit());
}

/// A statement while it runs; its place on the stack is what its frame is known by.
struct Call {
    counted: bool,
    frame: usize,
    before: usize,
    makes_us: bool,
}

const NOT_COUNTED: Call = Call { counted: false, frame: NO_FRAME, before: 0, makes_us: false };

/// What EXECUTE runs is counted as what was prepared; parts of a statement are not counted beside it.
///
/// # Safety
/// In the hook of that statement. `call` stays where it is until [`end`].
#[allow(clippy::unnecessary_cast)] // unsigned before 18
unsafe fn begin(
    call: *mut Call,
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    context: pg_sys::ProcessUtilityContext::Type,
) {
    // SAFETY: a utility statement has its node, which is what its tag says; the name of a tag ends in a zero.
    unsafe {
        let node = (*statement).utilityStmt;
        let tag = (*node).type_;
        (*call).makes_us = tag == NodeTag::T_CreateExtensionStmt
            && CStr::from_ptr((*node.cast::<pg_sys::CreateExtensionStmt>()).extname) == c"pg_upkeep";
        (*call).counted = is_counting()
            && !matches!(tag, NodeTag::T_ExecuteStmt | NodeTag::T_PrepareStmt | NodeTag::T_DeallocateStmt)
            && context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
        if !(*call).counted {
            return;
        }
        if counts_here() && !is_explained((*books()).level) {
            let user = GetUserId().to_u32();
            // pg_stat_statements takes it off the statement, so that what runs below is not counted as the same again.
            let queryid = match (*statement).queryId as i64 {
                0 if (*books()).level == 0 => pgstat_get_my_query_id(),
                queryid => queryid,
            };
            (*call).frame = push(Frame {
                id: call.cast(),
                queryid: capture::utility(statement, queryid, query, GetCommandTagName(CreateCommandTag(node)), user),
                user,
                toplevel: (*books()).level == 0,
                explain: tag == NodeTag::T_ExplainStmt,
                ..FREE
            });
        }
        (*call).before = enter((*call).frame);
        note_part((*call).before, query, (*statement).stmt_location, (*statement).stmt_len);
    }
}

/// The statement itself may be gone: COMMIT and ROLLBACK free it. True: it has just created the extension.
///
/// # Safety
/// After [`begin`], and only if there was no error.
unsafe fn end(call: *const Call, completion: *const pg_sys::QueryCompletion) -> bool {
    // SAFETY: one thread has the books; the number is that of a frame, or NO_FRAME.
    unsafe {
        let number = (*call).frame;
        if (*call).counted {
            leave((*call).before, number, call.cast());
            if number != NO_FRAME && (*frame(number)).id == call.cast() {
                let done = *frame(number);
                forget(number);
                memory::count_call(done.queryid, done.user, done.toplevel, done.elapsed, rows_of(completion));
            }
        }
        if (*call).makes_us {
            memory::extension_may_exist();
        }
        (*call).makes_us
    }
}

/// Safety: null or there.
unsafe fn rows_of(completion: *const pg_sys::QueryCompletion) -> u64 {
    use pg_sys::CommandTag::*;
    // SAFETY: not null.
    unsafe {
        if completion.is_null() {
            return 0;
        }
        match (*completion).commandTag {
            CMDTAG_COPY | CMDTAG_FETCH | CMDTAG_SELECT | CMDTAG_REFRESH_MATERIALIZED_VIEW => (*completion).nprocessed,
            _ => 0,
        }
    }
}
