//! Whoever owns a table or a view can make triggers of our functions. They refuse to be anything but the trigger that
//! [`crate::soft_delete::objects`] has made: its name, kind of relation, events, level, and what else belongs to it.
//!
//! It may be enabled as its owner likes (ALWAYS, REPLICA): it acts where it fires. Its copies on partitions have its name. On
//! a table without soft delete, such as a partition that was detached or one that a dump is about to fill, our own triggers
//! do nothing.

use std::ffi::{CStr, c_void};

use pgrx::pg_sys;

use crate::server::raw::{self, Report};

/// A trigger of ours.
pub struct Made {
    pub name: &'static CStr,
    /// As in `pg_trigger.tgtype`.
    pub tgtype: i16,
    pub on_view: bool,
    pub constraint: bool,
    pub deferrable: bool,
    /// It has a table of the rows that are gone.
    pub old_table: bool,
}

impl Made {
    pub const fn on_table(name: &'static CStr, tgtype: i16) -> Self {
        Made { name, tgtype, on_view: false, constraint: false, deferrable: false, old_table: false }
    }

    pub const fn on_view(name: &'static CStr, tgtype: i16) -> Self {
        Made { on_view: true, ..Made::on_table(name, tgtype) }
    }

    pub const fn constraint(name: &'static CStr, tgtype: i16, deferrable: bool) -> Self {
        Made { constraint: true, deferrable, ..Made::on_table(name, tgtype) }
    }
}

static OURS: u8 = 0;

/// What the trigger was called for; an error if it is none of those that we have made of this function. Looked at once a
/// statement, which the function's own memory of the statement says.
///
/// Safety: `call` is the server's.
pub unsafe fn data(call: pg_sys::FunctionCallInfo, made: &[Made]) -> *mut pg_sys::TriggerData {
    // SAFETY: the context of the server's call is looked at before it is taken for a trigger's; `fn_extra` is the
    // function's own, and what we put there nobody follows.
    unsafe {
        let context = (*call).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            raw::raise(&Report::new(c"39P01", c"this function can only be called as a trigger"));
        }
        let data: *mut pg_sys::TriggerData = context.cast();
        let function = (*call).flinfo;
        let ours = (&raw const OURS).cast::<c_void>().cast_mut();
        if (*function).fn_extra == ours {
            return data;
        }
        let mut i = 0;
        while i < made.len() {
            if is(&*made.as_ptr().add(i), data) {
                (*function).fn_extra = ours;
                return data;
            }
            i += 1;
        }
        refuse(data)
    }
}

/// Safety: what the server calls a trigger for.
unsafe fn is(made: &Made, data: *const pg_sys::TriggerData) -> bool {
    // SAFETY: trigger and relation stay open while the trigger runs; the trigger's name ends in a zero, those of its
    // tables are null if there are none.
    unsafe {
        let trigger = &*(*data).tg_trigger;
        CStr::from_ptr(trigger.tgname) == made.name
            && trigger.tgtype == made.tgtype
            && is_on((*data).tg_relation, made.on_view)
            && (trigger.tgconstraint != pg_sys::Oid::INVALID) == made.constraint
            && trigger.tgdeferrable == made.deferrable
            && trigger.tgoldtable.is_null() != made.old_table
            && trigger.tgnewtable.is_null()
            && trigger.tgnargs == 0
            && trigger.tgnattr == 0
            // A statement's end that may not come is none. The conditions of row triggers are looked at again.
            && (trigger.tgqual.is_null() || made.tgtype & raw::trigger::ROW != 0)
    }
}

/// A foreign table has copies of our row triggers, if it is a partition.
///
/// Safety: an open relation.
unsafe fn is_on(relation: pg_sys::Relation, view: bool) -> bool {
    // SAFETY: an open relation has its row of pg_class.
    unsafe {
        let class = &*(*relation).rd_rel;
        match class.relkind as u8 {
            pg_sys::RELKIND_VIEW => view,
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE => !view,
            pg_sys::RELKIND_FOREIGN_TABLE => !view && class.relispartition,
            _ => false,
        }
    }
}

/// Safety: what the server calls a trigger for.
unsafe fn refuse(data: *const pg_sys::TriggerData) -> ! {
    // SAFETY: names of an open relation and its trigger end in a zero; the message is in the server's memory.
    unsafe {
        let message = raw::concat(&[
            c"trigger \"".as_ptr(),
            (*(*data).tg_trigger).tgname,
            c"\" of \"".as_ptr(),
            (&raw const (*(*(*data).tg_relation).rd_rel).relname.data).cast(),
            c"\" is none that soft delete has made".as_ptr(),
        ]);
        raw::raise(&Report {
            detail:
                c"Its function belongs to triggers of a certain name and kind, which upkeep.enable_soft_delete() makes."
                    .as_ptr(),
            hint: c"Drop it, or give it back its name. SELECT * FROM upkeep.soft_delete_drift; \
                shows how to repair what is missing then."
                .as_ptr(),
            ..Report::with(c"39P01", message)
        })
    }
}
