//! Utility statements. What they call themselves is their text, but for the few that cannot carry a secret.

use std::ffi::{CStr, c_char, c_void};

use pgrx::pg_sys::{self, NodeTag};

use super::books::{
    FREE, Frame, NO_FRAME, books, counts_here, enter, forget, frame, is_counting, is_explained, leave, push,
};
use super::{capture, hooks, memory};

unsafe extern "C-unwind" {
    // Declared again because pgrx's own bindings catch and rebuild every error.
    fn standard_ProcessUtility(
        statement: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        receiver: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    // None of these raises.
    fn GetUserId() -> pg_sys::Oid;
    fn CreateCommandTag(statement: *mut pg_sys::Node) -> pg_sys::CommandTag::Type;
    fn GetCommandTagName(tag: pg_sys::CommandTag::Type) -> *const c_char;
}

pub unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    receiver: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    unsafe {
        // What EXECUTE runs is counted as what was prepared; parts of a statement are not counted beside it.
        let node = (*(*statement).utilityStmt).type_;
        let counted = is_counting()
            && !matches!(node, NodeTag::T_ExecuteStmt | NodeTag::T_PrepareStmt | NodeTag::T_DeallocateStmt)
            && context != pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
        let makes_us = node == NodeTag::T_CreateExtensionStmt
            && CStr::from_ptr((*(*statement).utilityStmt.cast::<pg_sys::CreateExtensionStmt>()).extname)
                == c"pg_upkeep";
        let mut number = NO_FRAME;
        let mut before = 0;
        let mut place = 0_u8;
        let id: *const c_void = (&raw mut place).cast();
        if counted {
            if counts_here() && !is_explained((*books()).level) {
                let user = GetUserId().to_u32();
                number = push(Frame {
                    id,
                    queryid: capture::utility(statement, query, command_tag((*statement).utilityStmt), user),
                    user,
                    toplevel: (*books()).level == 0,
                    explain: node == NodeTag::T_ExplainStmt,
                    ..FREE
                });
            }
            before = enter(number);
        }
        // From here on the statement may be gone: COMMIT and ROLLBACK free it.
        match hooks::next().utility {
            Some(next) => next(statement, query, read_only_tree, context, params, environment, receiver, completion),
            None => standard_ProcessUtility(
                statement,
                query,
                read_only_tree,
                context,
                params,
                environment,
                receiver,
                completion,
            ),
        }
        if counted {
            leave(before, number, id);
            if number != NO_FRAME && (*frame(number)).id == id {
                let done = *frame(number);
                forget(number);
                memory::count_call(done.queryid, done.user, done.toplevel, done.elapsed, rows_of(completion));
            }
        }
        if makes_us {
            memory::extension_may_exist();
        }
    }
}

unsafe fn command_tag(statement: *mut pg_sys::Node) -> *const c_char {
    unsafe { GetCommandTagName(CreateCommandTag(statement)) }
}

unsafe fn rows_of(completion: *mut pg_sys::QueryCompletion) -> u64 {
    use pg_sys::CommandTag::*;
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
