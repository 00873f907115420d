//! `upkeep._stamp_row()`, the trigger of row stamps: BEFORE INSERT OR UPDATE, once per row of anybody's statements.
//!
//! A raw V1 function (LAWS 12, 13): unguarded declarations of the server's functions, nothing to drop, nothing that can
//! panic, and no look into the catalogs but for the user's name, once a statement. What to stamp comes with the
//! trigger itself ([`layout`]): its arguments name the roles of columns, and the WHEN, which is always true, names the
//! columns. The server keeps those right when a column is renamed, a partition has other numbers, or a dump is restored.
//!
//! What the SAFETY sentences take for granted: a transaction is open, as a trigger has it; what the server calls with lives until we
//! return; no frame holds anything to drop, so an error may jump over all of them. Rules: docs/raw.md.

#![allow(unsafe_code, ffi_unwind_calls)]

mod layout;
mod raise;
mod slots;
mod update;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pgrx::pg_sys;

use crate::server::raw::{trigger, unguarded, version_1};

pub use layout::MAX_STAMPS;

use layout::Layout;

/// The table whose rows this process changes without stamping them, if it is an executor's (LAW 6).
static LEFT_ALONE: AtomicU32 = AtomicU32::new(0);
/// From here on this process's own statements leave the stamps of this table's rows as they are; `None`: of no table.
pub fn leave_alone(relid: Option<pg_sys::Oid>) {
    LEFT_ALONE.store(relid.map_or(0, pg_sys::Oid::to_u32), Relaxed);
}

/// Is this row changed by a statement of ours that leaves stamps as they are? What triggers do further down is not.
///
/// Safety: an open relation.
unsafe fn is_left_alone(relation: pg_sys::Relation) -> bool {
    let left_alone = LEFT_ALONE.load(Relaxed);
    left_alone != 0
        // SAFETY: the depth is a counter of the server's, which looks at no argument.
        && unsafe {
            (*relation).rd_id.to_u32() == left_alone && unguarded::pg_trigger_depth(std::ptr::null_mut()).value() == 1
        }
}

version_1!(pg_finfo_upkeep_stamp_row);

/// # Safety
/// Called by the server's trigger manager.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_stamp_row(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the call is the server's, and its context is looked at before it is taken for a trigger's. `fn_extra`
    // is the function's own, and lives as long as what it points at: `fn_mcxt`.
    unsafe {
        let data = (*fcinfo).context.cast::<pg_sys::TriggerData>();
        if data.is_null() || (*data).type_ != pg_sys::NodeTag::T_TriggerData || !is_before_row(data) {
            raise::wrong_trigger();
        }
        // Kept for one statement, in its memory: nothing has to be invalidated.
        let function = (*fcinfo).flinfo;
        let mut layout = (*function).fn_extra.cast::<Layout>();
        if layout.is_null() {
            layout = Layout::read(data, (*function).fn_mcxt);
            if !is_made_by_us(data) {
                raise::wrong_trigger();
            }
            (*function).fn_extra = layout.cast();
        }
        let tuple = if trigger::is_update(data) {
            update::stamp_update(data, layout)
        } else {
            update::stamp_insert(data, layout)
        };
        pg_sys::Datum::from(tuple)
    }
}

/// Safety: what the server calls the trigger for.
unsafe fn is_before_row(data: *const pg_sys::TriggerData) -> bool {
    // SAFETY: as the caller promises.
    unsafe {
        trigger::is_for_row(data) && trigger::is_before(data) && (trigger::is_insert(data) || trigger::is_update(data))
    }
}

/// Whatever its name: all that it does its arguments say, and it keeps nothing for others.
///
/// Safety: what the server calls the trigger for.
unsafe fn is_made_by_us(data: *const pg_sys::TriggerData) -> bool {
    const BEFORE_ROW_INSERT_OR_UPDATE: i16 = trigger::ROW | trigger::BEFORE | trigger::INSERT | trigger::UPDATE;
    // SAFETY: trigger and relation stay open while the trigger runs.
    unsafe {
        let (made, class) = (&*(*data).tg_trigger, &*(*(*data).tg_relation).rd_rel);
        let is_table = match class.relkind as u8 {
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => true,
            // A copy of its table's.
            pg_sys::RELKIND_FOREIGN_TABLE => class.relispartition,
            _ => false,
        };
        is_table && made.tgtype == BEFORE_ROW_INSERT_OR_UPDATE && made.tgnattr == 0
    }
}
