//! `disable_soft_delete()`: what is asked and what is taken down is ours, behind pgrx's guard; the DELETE of the rows, which
//! fires other people's triggers, is raw.

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use pgrx::pg_guard;
use pgrx::pg_sys::{self, Datum, Oid};

use super::calls::{keep, oid_argument, text_argument, to_text};
use super::state;
use crate::server::raise::answer;
use crate::server::raw::{self, Sight};
use crate::soft_delete::disable::{self, Ending};

raw::version_1!(pg_finfo_upkeep_disable_soft_delete);

/// # Safety
/// Called by the server with (target, deleted_rows).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_disable_soft_delete(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: the arguments are as declared, and what `begins` gives lives until the transaction ends. What an error
    // leaves of purge and user the abort puts right.
    unsafe {
        let ending = &*begins(oid_argument(call, 0), text_argument(call, 1));
        if let Some(look) = &ending.refuse_deleted {
            raw::connect();
            // As the owner, and all rows: those that his own policies hide would look like any other.
            let before = raw::become_owner(ending.relid, pg_sys::AccessShareLock);
            let found = raw::run_theirs(look, null_mut(), null(), Sight::Latest);
            raw::become_again(before);
            raw::finish();
            if found > 0 {
                refuse(ending);
            }
        }
        if let Some(purge) = &ending.purge {
            raw::connect();
            state::begin_purge(None);
            let before = raw::become_owner(ending.relid, pg_sys::RowExclusiveLock);
            raw::run_theirs(purge, null_mut(), null(), Sight::Latest);
            raw::become_again(before);
            state::end_purge();
            raw::finish();
        }
        ends(ending);
        Datum::null()
    }
}

/// Safety: `deleted_rows` is null or ends in a zero.
#[pg_guard]
unsafe extern "C-unwind" fn begins(target: Oid, deleted_rows: *const c_char) -> *const Ending {
    // SAFETY: as the caller promises.
    let deleted_rows = unsafe { to_text(deleted_rows) };
    keep(answer(disable::begin(target, deleted_rows.as_deref())))
}

/// Safety: it is what [`begins`] has given, in this transaction.
#[pg_guard]
unsafe extern "C-unwind" fn refuse(ending: *const Ending) {
    // SAFETY: it lives until the transaction ends.
    answer(Err(disable::has_deleted_rows(unsafe { &*ending })))
}

/// Safety: it is what [`begins`] has given, in this transaction.
#[pg_guard]
unsafe extern "C-unwind" fn ends(ending: *const Ending) {
    // SAFETY: it lives until the transaction ends.
    answer(disable::end(unsafe { &*ending }));
}
