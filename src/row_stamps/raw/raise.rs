//! Errors of the trigger, raised from a frame with nothing to drop.

use std::ffi::{CStr, c_char, c_longlong};

use pgrx::pg_sys::{self, Relation};

use crate::server::raw::unguarded;

use super::layout::Layout;
use super::slots;
use crate::error::{
    GENERATED_ALWAYS, INVALID_TRIGGER_PROTOCOL, NULL_VALUE_NOT_ALLOWED, NUMERIC_VALUE_OUT_OF_RANGE,
    OBJECT_NOT_IN_PREREQUISITE_STATE, SERIALIZATION_FAILURE, STRING_TOO_LONG, SqlState,
};

unsafe fn begin(sqlstate: SqlState) {
    unsafe {
        unguarded::errstart(pgrx::PgLogLevel::ERROR as i32, std::ptr::null());
        unguarded::errcode(sqlstate.0);
    }
}

unsafe fn end() -> ! {
    unsafe { unguarded::errfinish(c"pg_upkeep".as_ptr(), 0, std::ptr::null()) };
    // ERROR never comes back; nothing here may panic.
    std::process::abort()
}

unsafe fn name_of(relation: Relation) -> *const c_char {
    unsafe { (*(*relation).rd_rel).relname.data.as_ptr() }
}

unsafe fn column_name(relation: Relation, attnum: i32) -> *const c_char {
    unsafe { (*slots::attribute((*relation).rd_att, attnum as usize - 1)).attname.data.as_ptr() }
}

pub unsafe fn wrong_trigger() -> ! {
    unsafe {
        begin(INVALID_TRIGGER_PROTOCOL);
        unguarded::errmsg_internal(
            c"upkeep._stamp_row() must be a trigger BEFORE INSERT OR UPDATE FOR EACH ROW of a table".as_ptr(),
        );
        unguarded::errhint(c"SELECT upkeep.enable_timestamps('table');".as_ptr());
        end()
    }
}

pub unsafe fn wrong_arguments(data: *const pg_sys::TriggerData) -> ! {
    unsafe {
        let name = name_of((*data).tg_relation);
        begin(OBJECT_NOT_IN_PREREQUISITE_STATE);
        unguarded::errmsg_internal(
            c"trigger \"%s\" of table \"%s\" does not say what to stamp".as_ptr(),
            (*(*data).tg_trigger).tgname,
            name,
        );
        unguarded::errdetail_internal(
            c"Its arguments and the columns in its WHEN must fit; only pg_upkeep's functions make such a trigger."
                .as_ptr(),
        );
        unguarded::errhint(c"Drop the trigger, and use upkeep.enable_timestamps(), upkeep.enable_userstamps() and upkeep.enable_row_version().".as_ptr());
        end()
    }
}

/// How a client is to name the version, as part of a hint.
fn how(layout: &Layout) -> &'static CStr {
    if layout.echo { c"the version that it read" } else { c"the version that it read plus one" }
}

/// `sent` is what the UPDATE set the version to; the row has `current`.
pub unsafe fn stale(relation: Relation, layout: &Layout, current: i64, sent: i64) -> ! {
    unsafe {
        let column = column_name(relation, layout.version.attnum);
        begin(SERIALIZATION_FAILURE);
        unguarded::errmsg_internal(
            c"the row of table \"%s\" has been changed since it was read".as_ptr(),
            name_of(relation),
        );
        let read = if layout.echo { sent } else { sent.wrapping_sub(1) };
        unguarded::errdetail_internal(
            c"Column \"%s\" is %lld; the UPDATE set it to %lld, as for a row that was read with %lld.".as_ptr(),
            column,
            current as c_longlong,
            sent as c_longlong,
            read as c_longlong,
        );
        unguarded::errhint(
            c"Read the row again, and repeat the change. An UPDATE sets the column to %s.".as_ptr(),
            how(layout).as_ptr(),
        );
        unguarded::errtablecol(relation, layout.version.attnum);
        end()
    }
}

pub unsafe fn version_missing(relation: Relation, layout: &Layout) -> ! {
    unsafe {
        let column = column_name(relation, layout.version.attnum);
        begin(OBJECT_NOT_IN_PREREQUISITE_STATE);
        unguarded::errmsg_internal(
            c"an UPDATE of table \"%s\" must set column \"%s\"".as_ptr(),
            name_of(relation),
            column,
        );
        unguarded::errdetail_internal(
            c"The row version is required there, so that no change of somebody else's is lost.".as_ptr(),
        );
        unguarded::errhint(
            c"Set \"%s\" to %s. The owner can allow an UPDATE without it: upkeep.enable_row_version(.., required => false)."
                .as_ptr(),
            column,
            how(layout).as_ptr(),
        );
        unguarded::errtablecol(relation, layout.version.attnum);
        end()
    }
}

pub unsafe fn version_null(relation: Relation, layout: &Layout) -> ! {
    unsafe {
        begin(NULL_VALUE_NOT_ALLOWED);
        unguarded::errmsg_internal(
            c"column \"%s\" of table \"%s\" cannot be set to null".as_ptr(),
            column_name(relation, layout.version.attnum),
            name_of(relation),
        );
        unguarded::errhint(c"Set it to %s, or leave it out.".as_ptr(), how(layout).as_ptr());
        unguarded::errtablecol(relation, layout.version.attnum);
        end()
    }
}

pub unsafe fn version_exhausted(relation: Relation, layout: &Layout) -> ! {
    unsafe {
        let column = column_name(relation, layout.version.attnum);
        begin(NUMERIC_VALUE_OUT_OF_RANGE);
        unguarded::errmsg_internal(
            c"column \"%s\" of table \"%s\" has reached its greatest value".as_ptr(),
            column,
            name_of(relation),
        );
        unguarded::errhint(
            c"Take the row version off, change the column's type to bigint, and put it on again.".as_ptr(),
        );
        unguarded::errtablecol(relation, layout.version.attnum);
        end()
    }
}

pub unsafe fn immutable(relation: Relation, attnum: i32) -> ! {
    unsafe {
        begin(GENERATED_ALWAYS);
        unguarded::errmsg_internal(
            c"column \"%s\" of table \"%s\" cannot be changed once it is set".as_ptr(),
            column_name(relation, attnum),
            name_of(relation),
        );
        unguarded::errhint(c"Leave the column out of the UPDATE, or set it to the value that it has.".as_ptr());
        unguarded::errtablecol(relation, attnum);
        end()
    }
}

pub unsafe fn too_long(relation: Relation, attnum: i32, limit: i32) -> ! {
    unsafe {
        begin(STRING_TOO_LONG);
        unguarded::errmsg_internal(
            c"the actor is too long for column \"%s\" of table \"%s\"".as_ptr(),
            column_name(relation, attnum),
            name_of(relation),
        );
        unguarded::errdetail_internal(c"The column has room for %d characters.".as_ptr(), limit);
        unguarded::errhint(c"Set upkeep.actor to something shorter, or make the column wider.".as_ptr());
        unguarded::errtablecol(relation, attnum);
        end()
    }
}
