//! Hooks run in everybody's sessions (LAW 12): raw functions with nothing to drop,
//! which call the next hook directly, so that a foreign error passes as it is.

use std::ffi::{CStr, c_char};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, NodeTag};

use crate::jobs::make_way::Demand;
use crate::queries::raw::utility;

unsafe extern "C-unwind" {
    /// Declared again because pgrx's own binding catches and rebuilds every error.
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
}

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;

/// Installs all hooks. Only while `shared_preload_libraries` are loaded, so that
/// every session has them or none.
pub fn install() {
    crate::queries::raw::executor::install();
    unsafe {
        NEXT = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

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
    unsafe {
        let mut call = utility::NOT_COUNTED;
        utility::begin(&raw mut call, statement, query, context);
        let database = database_to_clear((*statement).utilityStmt);
        // Of these a function or a DO block may run RENAME.
        let may_run = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL
            || (*(*statement).utilityStmt).type_ == NodeTag::T_RenameStmt;
        if !database.is_null() && may_run {
            make_way(database, (*(*statement).utilityStmt).type_);
        }
        match NEXT {
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
        if utility::end(&raw const call, completion) {
            look_here_at_commit();
        }
    }
}

/// The database that nobody may be connected to while this statement runs; null
/// for every other statement.
unsafe fn database_to_clear(statement: *mut pg_sys::Node) -> *const c_char {
    unsafe {
        if statement.is_null() {
            return std::ptr::null();
        }
        match (*statement).type_ {
            NodeTag::T_DropdbStmt => (*statement.cast::<pg_sys::DropdbStmt>()).dbname,
            NodeTag::T_RenameStmt => {
                let rename = statement.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType == pg_sys::ObjectType::OBJECT_DATABASE {
                    (*rename).subname
                } else {
                    std::ptr::null()
                }
            }
            NodeTag::T_AlterDatabaseStmt => {
                let alter = statement.cast::<pg_sys::AlterDatabaseStmt>();
                if option((*alter).options, c"tablespace").is_null() { std::ptr::null() } else { (*alter).dbname }
            }
            NodeTag::T_CreatedbStmt => option((*statement.cast::<pg_sys::CreatedbStmt>()).options, c"template"),
            _ => std::ptr::null(),
        }
    }
}

/// The text of an option such as `TEMPLATE name`; null if it is not given.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> *const c_char {
    unsafe {
        let count = if options.is_null() { 0 } else { (*options).length };
        let mut i = 0;
        while i < count {
            let element = pg_sys::list_nth(options, i).cast::<pg_sys::DefElem>();
            let argument = (*element).arg;
            if CStr::from_ptr((*element).defname) == name
                && !argument.is_null()
                && (*argument).type_ == NodeTag::T_String
            {
                return (*argument.cast::<pg_sys::String>()).sval;
            }
            i += 1;
        }
        std::ptr::null()
    }
}

/// A scheduler that looks before the commit does not find the extension yet, and says so.
#[pg_guard]
unsafe extern "C-unwind" fn look_here_at_commit() {
    super::raise::answer(crate::jobs::activity::wake_at_commit());
}

/// Guarded: what goes wrong in here is ours.
#[pg_guard]
unsafe extern "C-unwind" fn make_way(database: *const c_char, statement: NodeTag) {
    let name = unsafe { CStr::from_ptr(database) }.to_string_lossy().into_owned();
    let demand = match statement {
        NodeTag::T_DropdbStmt => Demand::Drop,
        NodeTag::T_RenameStmt => Demand::Rename,
        NodeTag::T_CreatedbStmt => Demand::Copy,
        _ => Demand::Move,
    };
    // Only a rename may be part of a transaction.
    if demand == Demand::Rename || !unsafe { pg_sys::IsInTransactionBlock(true) } {
        super::raise::answer(crate::jobs::make_way::leave_database(&name, demand));
    }
}
