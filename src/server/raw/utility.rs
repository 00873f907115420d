//! A utility statement on its way through the hooks: all that has no plan.

use std::ffi::c_char;

use super::unguarded::standard_ProcessUtility;
use pgrx::pg_sys;

/// What a hook is called with.
#[derive(Clone, Copy)]
pub struct Utility {
    pub statement: *mut pg_sys::PlannedStmt,
    pub query: *const c_char,
    pub read_only_tree: bool,
    pub context: pg_sys::ProcessUtilityContext::Type,
    pub params: pg_sys::ParamListInfo,
    pub environment: *mut pg_sys::QueryEnvironment,
    pub receiver: *mut pg_sys::DestReceiver,
    pub completion: *mut pg_sys::QueryCompletion,
}

impl Utility {
    /// To whoever comes next.
    ///
    /// # Safety
    /// In a hook that was called with just this. An error of the statement jumps over the caller.
    pub unsafe fn pass_on(self, next: pg_sys::ProcessUtility_hook_type) {
        let Utility { statement, query, read_only_tree, context, params, environment, receiver, completion } = self;
        // SAFETY: as the caller was.
        unsafe {
            match next {
                Some(next) => {
                    next(statement, query, read_only_tree, context, params, environment, receiver, completion)
                }
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
        }
    }
}
