//! DELETE and TRUNCATE on the table itself are refused, not swallowed. The switches are a SUSET setting and a C variable
//! (LAW 6).

use pgrx::pg_sys;

use super::{programs, state};
use crate::error::Result;
use crate::server::raw::{self, Report};

raw::version_1!(pg_finfo_upkeep_soft_delete_guard);

unsafe extern "C-unwind" {
    fn tuplestore_tuple_count(store: *mut pg_sys::Tuplestorestate) -> i64;
}

/// Lets `f` delete rows for good, in this session, until it ends or its (sub)transaction is rolled back.
pub fn while_purging<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    state::begin_purge();
    let result = f();
    state::end_purge();
    result
}

/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_guard(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    unsafe {
        let nothing = pg_sys::Datum::from(0usize);
        let trigger = super::triggers::data(call);
        if state::is_purging() || crate::settings::allow_hard_delete() {
            return nothing;
        }
        let truncate = (*trigger).tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_TRUNCATE;
        if !truncate && ((*trigger).tg_oldtable.is_null() || tuplestore_tuple_count((*trigger).tg_oldtable) == 0) {
            return nothing;
        }
        let Some(own) = &programs::of((*(*trigger).tg_relation).rd_id).own else { return nothing };
        let what = if truncate { c"TRUNCATE" } else { c"DELETE" };
        let message = raw::concat(&[
            what.as_ptr(),
            c" is refused on table \"".as_ptr(),
            (&raw const (*(*(*trigger).tg_relation).rd_rel).relname.data).cast(),
            c"\", which has soft delete".as_ptr(),
        ]);
        let detail = c"Its rows would be gone for good.";
        raw::raise(&Report {
            detail: detail.as_ptr(),
            hint: own.guard_hint.as_ptr(),
            ..Report::with(c"55000", message)
        })
    }
}
