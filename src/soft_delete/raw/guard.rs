//! DELETE and TRUNCATE on the table itself are refused, not swallowed. The switches are a SUSET setting and a C variable
//! (LAW 6); a purge opens the guard for rows that may go, in its own statement, and for no
//! others (LAW 31).

use std::ffi::CStr;
use std::ptr::{null, null_mut};

use pgrx::pg_sys;

use super::attached::{self, Made};
use super::{engine, programs, state, statements};
use crate::error::Result;
use crate::server::raw::unguarded::tuplestore_tuple_count;
use crate::server::raw::{self, Report, trigger};
use crate::server::repeated::{self, Arg, TextRow};
use crate::soft_delete::program::Own;

raw::version_1!(pg_finfo_upkeep_soft_delete_guard);

pub(super) const MADE: [Made; 2] = [
    Made { old_table: true, ..Made::on_table(c"upkeep_soft_delete_no_delete", trigger::DELETE) },
    Made::on_table(c"upkeep_soft_delete_no_truncate", trigger::BEFORE | trigger::TRUNCATE),
];

/// Runs a statement that may delete rows for good which were deleted before then, and lets no other statement do so that
/// triggers run meanwhile.
pub fn purge(before: pg_sys::TimestampTz, statement: &repeated::Statement, args: &[Arg<'_>]) -> Result<Vec<TextRow>> {
    let mut begun = false;
    let result = statement.rows_after(args, || {
        // SAFETY: in its connection. Callers hold what has to be dropped, so an error of raw code becomes a panic here.
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| state::begin_purge(Some(before))) };
        begun = true;
    });
    if begun {
        // SAFETY: it has begun, and what an error would have left of it the abort puts right.
        unsafe { state::end_purge() };
    }
    result
}

/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_guard(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: `data` has found the trigger to be ours, so on DELETE there is a table of the rows that are gone. The
    // program lives until the transaction ends, and so does the purge.
    unsafe {
        let query = statements::query();
        let nothing = pg_sys::Datum::from(0usize);
        let trigger = attached::data(call, &MADE);
        if crate::settings::allow_hard_delete() {
            return nothing;
        }
        let truncate = trigger::is_truncate(trigger);
        if !truncate && tuplestore_tuple_count((*trigger).tg_oldtable) == 0 {
            return nothing;
        }
        let Some(own) = &programs::of((*(*trigger).tg_relation).rd_id).own else { return nothing };
        let purge = state::purge_of(query);
        if !truncate && !purge.is_null() && may_go(&*purge, own, trigger) {
            return nothing;
        }
        let what = if truncate { c"TRUNCATE" } else { c"DELETE" };
        let message = raw::concat(&[
            what.as_ptr(),
            c" is refused on table \"".as_ptr(),
            (&raw const (*(*(*trigger).tg_relation).rd_rel).relname.data).cast(),
            c"\", which has soft delete".as_ptr(),
        ]);
        let detail = if !purge.is_null() {
            c"A purge deletes for good what was deleted before, and here are rows that are live, held or not due."
        } else if state::is_purging() {
            c"Its rows would be gone for good: a purge is under way, but this is another statement."
        } else {
            c"Its rows would be gone for good."
        };
        raw::raise(&Report {
            detail: detail.as_ptr(),
            hint: own.guard_hint.as_ptr(),
            ..Report::with(c"55000", message)
        })
    }
}

/// Are all rows of the statement among those that are purged? A foreign key may have reached others.
///
/// Safety: a trigger on DELETE of ours, and a purge of this transaction.
unsafe fn may_go(purge: &state::Purge, own: &Own, trigger: *mut pg_sys::TriggerData) -> bool {
    // SAFETY: connected; the name of the table of rows is null or ends in a zero; value and null are one each, as
    // `not_due` takes one parameter.
    unsafe {
        // By another name, `deleted` would be whatever the caller's search_path finds, and we are about to be superuser.
        let name = (*(*trigger).tg_trigger).tgoldtable;
        if name.is_null() || CStr::from_ptr(name) != c"deleted" {
            return false;
        }
        raw::connect();
        raw::see_transition_tables(trigger);
        let mut value = pg_sys::Datum::from(purge.before.unwrap_or(0));
        let nulls = [if purge.before.is_some() { b' ' } else { b'n' }, 0];
        let found = engine::keep_books(&own.not_due, &raw mut value, nulls.as_ptr().cast());
        // The job counts what it purges by itself.
        if found == 0 && purge.before.is_none() {
            engine::keep_books(&own.note_purged, null_mut(), null());
        }
        raw::finish();
        found == 0
    }
}
