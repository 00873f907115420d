//! Functions that are nobody's until they are granted (LAW 10). Who calls one without is refused by the server, which does not say
//! what to type: we refuse it a moment before, in the server's words, and say so.
//!
//! A plan lists the functions in it that may change, by their hash in the server's cache. Statements without any have no such list; of
//! the others it is compared with the hashes of ours, which are looked up once in a session.

use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

use super::raise::answer;
#[cfg(feature = "pg15")]
use super::unguarded::pg_proc_aclcheck;
use super::{catalog, encoding};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE};

const NAMES: [&CStr; 11] = [
    c"run_in_background",
    c"schedule",
    c"alter_schedule",
    c"unschedule",
    c"run_now",
    c"start_workers",
    c"stop_workers",
    c"pause_all",
    c"resume_all",
    c"reset_query_stats",
    c"import_index_usage",
];

const MOST: usize = 32;

struct Known {
    learned: bool,
    registered: bool,
    count: usize,
    hashes: [u32; MOST],
}

static mut KNOWN: Known = Known { learned: false, registered: false, count: 0, hashes: [0; MOST] };

/// Before a statement is begun. Its caller's frames have nothing to drop.
///
/// Safety: a plan as the planner gives it, about to be run; no frame above has anything to drop.
#[inline]
pub unsafe fn look(statement: *const pg_sys::PlannedStmt) {
    // SAFETY: as the caller promises.
    unsafe {
        let items = (*statement).invalItems;
        if !items.is_null() {
            compare(items);
        }
    }
}

/// Safety: a list of PlanInvalItem; no frame above has anything to drop.
unsafe fn compare(items: *mut pg_sys::List) {
    // SAFETY: as the caller promises; what is read of `KNOWN` is written by this thread only. `learn` and `refuse` are
    // guarded, and hold their own.
    unsafe {
        let known = &raw const KNOWN;
        if !(*known).learned {
            learn();
        }
        let mut i = 0;
        while (*known).count > 0 && i < (*items).length {
            let item = (*(*items).elements.add(i as usize)).ptr_value.cast::<pg_sys::PlanInvalItem>();
            i += 1;
            let mut k = 0;
            while k < (*known).count {
                if (*item).cacheId == pg_sys::SysCacheIdentifier::PROCOID as c_int
                    && (*item).hashValue == (*known).hashes[k]
                {
                    refuse((*item).hashValue);
                }
                k += 1;
            }
        }
    }
}

fn hash(function: Oid) -> u32 {
    let zero = Datum::from(0usize);
    // SAFETY: in a transaction; computes the hash of a key.
    unsafe {
        pg_sys::GetSysCacheHashValue(
            pg_sys::SysCacheIdentifier::PROCOID as c_int,
            Datum::from(function),
            zero,
            zero,
            zero,
        )
    }
}

/// Those of this name in our schema, in this database.
fn functions(schema: Oid, name: &CStr) -> Vec<Oid> {
    let zero = Datum::from(0usize);
    let mut found = Vec::new();
    // SAFETY: in a transaction; the list has so many members, each of which is a row of pg_proc, until it is released.
    unsafe {
        let list = pg_sys::SearchSysCacheList(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as c_int,
            1,
            Datum::from(name.as_ptr()),
            zero,
            zero,
        );
        for &member in (*list).members.as_slice((*list).n_members as usize) {
            let header = (*member).tuple.t_data;
            let row = &*header.cast::<u8>().add(usize::from((*header).t_hoff)).cast::<pg_sys::FormData_pg_proc>();
            if row.pronamespace == schema {
                found.push(row.oid);
            }
        }
        pg_sys::ReleaseCatCacheList(list);
    }
    found
}

fn schema() -> Oid {
    // SAFETY: in a transaction.
    unsafe { pg_sys::get_namespace_oid(c"upkeep".as_ptr(), true) }
}

#[pg_guard]
unsafe extern "C-unwind" fn learn() {
    let known = &raw mut KNOWN;
    // SAFETY: a variable of this process, and a callback that writes it, registered once in a session.
    unsafe {
        if !(*known).registered {
            (*known).registered = true;
            pg_sys::CacheRegisterSyscacheCallback(
                pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
                Some(forget),
                Datum::from(0usize),
            );
        }
        // What changes while it is looked up is looked up again.
        (*known).learned = true;
    }
    let schema = schema();
    let mut hashes = Vec::new();
    if schema != Oid::INVALID {
        for name in NAMES {
            hashes.extend(functions(schema, name).into_iter().map(hash));
        }
    }
    hashes.truncate(MOST);
    // SAFETY: as above.
    unsafe {
        (*known).count = hashes.len();
        (&mut (*known).hashes)[..hashes.len()].copy_from_slice(&hashes);
    }
}

/// The extension comes and goes with its schema.
unsafe extern "C-unwind" fn forget(_arg: Datum, _cache: i32, _hash: u32) {
    let known = &raw mut KNOWN;
    // SAFETY: this thread's own variable, and nobody is in the middle of it: it is looked at again after it was learnt.
    unsafe { (*known).learned = false };
}

fn may_execute(function: Oid, role: Oid) -> bool {
    // SAFETY: in a transaction; a function that is gone is an error.
    unsafe {
        #[cfg(feature = "pg15")]
        let result = pg_proc_aclcheck(function, role, pg_sys::ACL_EXECUTE as pg_sys::AclMode);
        #[cfg(not(feature = "pg15"))]
        let result = pg_sys::object_aclcheck(
            pg_sys::ProcedureRelationId,
            function,
            role,
            pg_sys::ACL_EXECUTE as pg_sys::AclMode,
        );
        result == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Looked up again: what was learned may have gone since.
#[pg_guard]
unsafe extern "C-unwind" fn refuse(wanted: u32) {
    let (schema, role) = (schema(), catalog::current_user());
    for name in NAMES {
        let found = functions(schema, name);
        let denied = found.iter().find(|&&function| hash(function) == wanted && !may_execute(function, role));
        if let Some(&function) = denied {
            answer::<()>(Err(error(name, function, found.len() == 1, role)));
        }
    }
}

fn error(name: &CStr, function: Oid, is_alone: bool, role: Oid) -> Error {
    let name = name.to_string_lossy();
    let signature = if is_alone {
        format!("upkeep.{name}")
    } else {
        // SAFETY: a function that was just found; a string of the server's memory.
        unsafe { encoding::text(pg_sys::format_procedure_qualified(function).cast::<c_char>()) }
    };
    let role = catalog::role_name(role).unwrap_or_default();
    Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied for function {name}"))
        .hint(format!("GRANT EXECUTE ON FUNCTION {signature} TO {};", pgrx::spi::quote_identifier(role)))
}
