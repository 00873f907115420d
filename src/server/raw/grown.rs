//! Functions of ours that have more arguments than they had: a dump of an older version gives and takes privileges by the signature of
//! then (LAW 37). Two functions would be ambiguous to whoever calls one; so there is one, and that signature means it.

use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, NodeTag};

use super::utility::Utility;

/// What it had.
struct Grown {
    name: &'static CStr,
    arguments: c_int,
    /// The type, in pg_catalog, of the one that has come since.
    since: &'static CStr,
}

const GROWN: [Grown; 2] = [
    Grown { name: c"backfill", arguments: 17, since: c"float8" },
    Grown { name: c"alter_job", arguments: 10, since: c"float8" },
];

static mut NEXT: pg_sys::ProcessUtility_hook_type = None;

/// Without preload it is there from the extension's creation on: a dump is restored in the same session.
pub fn install() {
    // SAFETY: one thread, before anything of ours runs.
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
    // SAFETY: a utility statement has its node. `NEXT` was set before anything ran; its error jumps over plain values only.
    unsafe {
        let is_old = (*(*statement).utilityStmt).type_ == NodeTag::T_GrantStmt
            && objects(statement).any(|object| grown(object).is_some());
        let statement = if is_old { of_today(statement) } else { statement };
        let call = Utility { statement, query, read_only_tree, context, params, environment, receiver, completion };
        call.pass_on(NEXT);
    }
}

/// The functions that a GRANT or REVOKE names.
///
/// Safety: such a statement.
unsafe fn objects(statement: *const pg_sys::PlannedStmt) -> impl Iterator<Item = *mut pg_sys::ObjectWithArgs> {
    // SAFETY: of functions and routines the list has nodes of this type.
    unsafe {
        let grant = &*(*statement).utilityStmt.cast::<pg_sys::GrantStmt>();
        let is_of_functions = grant.targtype == pg_sys::GrantTargetType::ACL_TARGET_OBJECT
            && [pg_sys::ObjectType::OBJECT_FUNCTION, pg_sys::ObjectType::OBJECT_ROUTINE].contains(&grant.objtype);
        let objects = grant.objects;
        let count = if is_of_functions && !objects.is_null() { (*objects).length } else { 0 };
        (0..count).map(move |place| pg_sys::list_nth(objects, place).cast())
    }
}

/// Safety: an object as the parser makes it.
unsafe fn grown(object: *const pg_sys::ObjectWithArgs) -> Option<&'static Grown> {
    // SAFETY: the parts of a name are texts.
    unsafe {
        let (name, arguments) = ((*object).objname, (*object).objargs);
        if (*object).args_unspecified || arguments.is_null() || (*name).length != 2 {
            return None;
        }
        let part = |place| CStr::from_ptr((*pg_sys::list_nth(name, place).cast::<pg_sys::String>()).sval);
        let is = |grown: &&Grown| part(1) == grown.name && (*arguments).length == grown.arguments;
        if part(0) == c"upkeep" { GROWN.iter().find(is) } else { None }
    }
}

/// The same statement with the signatures of today, unless those of then are there: before the update.
///
/// Safety: see [`objects`]; an error passes the caller by longjmp.
#[pg_guard]
unsafe extern "C-unwind" fn of_today(statement: *mut pg_sys::PlannedStmt) -> *mut pg_sys::PlannedStmt {
    // SAFETY: a copy, whose lists are ours to change.
    unsafe {
        let copy: *mut pg_sys::PlannedStmt = pg_sys::copyObjectImpl(statement.cast()).cast();
        for object in objects(copy) {
            if let Some(grown) = grown(object)
                && pg_sys::LookupFuncWithArgs(pg_sys::ObjectType::OBJECT_FUNCTION, object, true) == pg_sys::InvalidOid
            {
                let kind = pg_sys::SystemTypeName(grown.since.as_ptr().cast_mut());
                (*object).objargs = pg_sys::lappend((*object).objargs, kind.cast());
                (*object).objfuncargs = std::ptr::null_mut();
            }
        }
        copy
    }
}
