//! The hook that sees statements which need a database to themselves, in everybody's sessions (LAW 12): raw functions with nothing
//! to drop, which call the next hook directly, so that a foreign error passes as it is.

use std::ffi::{CStr, c_char};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, NodeTag};

use crate::jobs::make_way::{Demand, leave_database};
use crate::server::raise;
use crate::server::utility::Utility;

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;

/// Only while `shared_preload_libraries` are loaded.
pub fn install() {
    // SAFETY: one thread, before anything runs.
    unsafe {
        NEXT = pg_sys::ProcessUtility_hook;
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
    let call = Utility { statement, query, read_only_tree, context, params, environment, receiver, completion };
    // SAFETY: a utility statement has its node. `NEXT` was set before anything ran; its error jumps over plain values
    // only.
    unsafe {
        let node = (*statement).utilityStmt;
        let database = database_to_clear(node);
        // Of these a function or a DO block may run RENAME.
        let may_run = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL
            || (*node).type_ == NodeTag::T_RenameStmt;
        if !database.is_null() && may_run {
            make_way(database, (*node).type_);
        }
        call.pass_on(NEXT);
    }
}

/// The database that nobody may be connected to while this statement runs; null
/// for every other statement.
///
/// Safety: null or a statement.
unsafe fn database_to_clear(statement: *mut pg_sys::Node) -> *const c_char {
    // SAFETY: a node is what its tag says.
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
///
/// Safety: null or a list of options.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> *const c_char {
    // SAFETY: within the list, whose elements are options with a name; a node is what its tag says.
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

/// Guarded: what goes wrong in here is ours.
///
/// Safety: the name ends in a zero.
#[pg_guard]
unsafe extern "C-unwind" fn make_way(database: *const c_char, statement: NodeTag) {
    // SAFETY: as the caller promises.
    let name = unsafe { CStr::from_ptr(database) }.to_string_lossy().into_owned();
    let demand = match statement {
        NodeTag::T_DropdbStmt => Demand::Drop,
        NodeTag::T_RenameStmt => Demand::Rename,
        NodeTag::T_CreatedbStmt => Demand::Copy,
        _ => Demand::Move,
    };
    // Only a rename may be part of a transaction.
    // SAFETY: there is a transaction: a utility statement runs in one.
    if demand == Demand::Rename || !unsafe { pg_sys::IsInTransactionBlock(true) } {
        raise::answer(leave_database(&name, demand));
    }
}
