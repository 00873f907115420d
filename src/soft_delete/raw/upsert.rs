//! A statement that inserts rows, meets a deleted one instead and changes that (`INSERT .. ON CONFLICT DO UPDATE`,
//! MERGE) is refused: it would say that it was done, and nobody would see its row. Who names `deleted_at` in it knows
//! what becomes of the row. Through a live view, whose condition the server does not look at there, it is refused
//! whatever it names: there are no deleted rows in it.
//!
//! A row's trigger notes that a deleted row was changed and stays deleted; only the trigger at the end of an INSERT
//! knows that the statement is one. A note lives in the memory of the statement's execution, and goes with it.

use pgrx::pg_sys::{self, Datum};

use super::attached::{self, Made};
use super::{changed, statements, triggers, upserts};
use crate::server::raw::unguarded::bms_is_member;
use crate::server::raw::{self, Report, trigger};
use crate::soft_delete::program::Own;

raw::version_1!(pg_finfo_upkeep_soft_delete_dead_row, pg_finfo_upkeep_soft_delete_inserted);

pub(super) const DEAD_ROW: [Made; 1] = [Made::on_table(c"upkeep_soft_delete_dead_row", trigger::ROW | trigger::UPDATE)];
pub(super) const INSERTED: [Made; 1] = [Made::on_table(c"upkeep_soft_delete_insert", trigger::INSERT)];

/// Does the statement set this column? 0: there is none.
///
/// Safety: a trigger on UPDATE.
unsafe fn sets(trigger: *mut pg_sys::TriggerData, column: i16) -> bool {
    // SAFETY: the server tells a trigger on UPDATE which columns are set; null is an empty set.
    unsafe {
        column > 0
            && bms_is_member(i32::from(column) - pg_sys::FirstLowInvalidHeapAttributeNumber, (*trigger).tg_updatedcols)
    }
}

/// AFTER UPDATE, each row that was deleted and is.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_dead_row(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours: after an UPDATE, of a row, so there are both tuples, of the
    // relation's descriptor.
    unsafe {
        let query = statements::query();
        let trigger = attached::data(call, &DEAD_ROW);
        let Some(own) = triggers::own(trigger) else { return triggers::NOTHING };
        let desc = (*(*trigger).tg_relation).rd_att;
        // As the trigger's condition says, which its table's owner may have left out.
        let dead = |row| raw::attribute(row, desc, own.deleted_at).is_some();
        if dead((*trigger).tg_trigtuple)
            && dead((*trigger).tg_newtuple)
            && (!sets(trigger, own.deleted_at) && !sets(trigger, own.flag) || upserts::is_through_view(query, own))
        {
            changed::note_once(query, own.relid);
        }
        triggers::NOTHING
    }
}

/// AFTER INSERT, the statement.
///
/// # Safety
/// Called by the server as a trigger.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_soft_delete_inserted(call: pg_sys::FunctionCallInfo) -> Datum {
    // SAFETY: `data` has found the trigger to be ours; the program lives until the transaction ends.
    unsafe {
        let query = statements::query();
        let trigger = attached::data(call, &INSERTED);
        if changed::none() {
            return triggers::NOTHING;
        }
        let Some(own) = triggers::own(trigger) else { return triggers::NOTHING };
        if changed::is_noted(query, own.relid) && upserts::is_blind(query, own) {
            refuse(own, trigger);
        }
        triggers::NOTHING
    }
}

/// Safety: what the server calls a trigger for.
unsafe fn refuse(own: &Own, trigger: *mut pg_sys::TriggerData) -> ! {
    // SAFETY: the name of an open relation ends in a zero; the message is in the server's memory.
    unsafe {
        let message = raw::concat(&[
            c"a row to insert into table \"".as_ptr(),
            (&raw const (*(*(*trigger).tg_relation).rd_rel).relname.data).cast(),
            c"\" meets a deleted one".as_ptr(),
        ]);
        raw::raise(&Report {
            detail: c"ON CONFLICT DO UPDATE (or MERGE) would change a row that nobody sees, and leave it deleted."
                .as_ptr(),
            hint: own.upsert_hint.as_ptr(),
            ..Report::with(c"55000", message)
        })
    }
}
