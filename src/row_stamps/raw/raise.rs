//! Errors of the trigger, raised from a frame with nothing to drop.

use std::ffi::{CStr, c_char, c_longlong};

use pgrx::pg_sys::{self, Relation};

use super::slots;
use crate::error::{
    GENERATED_ALWAYS, INVALID_TRIGGER_PROTOCOL, NULL_VALUE_NOT_ALLOWED, NUMERIC_VALUE_OUT_OF_RANGE,
    OBJECT_NOT_IN_PREREQUISITE_STATE, SERIALIZATION_FAILURE, STRING_TOO_LONG, SqlState,
};
use crate::server::raw::unguarded;

/// Safety: [`end`] comes.
unsafe fn begin(sqlstate: SqlState) {
    // SAFETY: plain calls of the server's; an ERROR is always to be told.
    unsafe {
        unguarded::errstart(pgrx::PgLogLevel::ERROR as i32, std::ptr::null());
        unguarded::errcode(sqlstate.0);
    }
}

/// Safety: after [`begin`]; nothing above has anything to drop.
unsafe fn end() -> ! {
    // SAFETY: an error has begun.
    unsafe { unguarded::errfinish(c"pg_upkeep".as_ptr(), 0, std::ptr::null()) };
    // ERROR never comes back; nothing here may panic.
    std::process::abort()
}

/// Safety: an open relation.
unsafe fn name_of(relation: Relation) -> *const c_char {
    // SAFETY: an open relation has its row of pg_class.
    unsafe { (*(*relation).rd_rel).relname.data.as_ptr() }
}

/// Safety: an open relation, which has the column.
unsafe fn column_name(relation: Relation, attnum: i32) -> *const c_char {
    // SAFETY: counted from 1.
    unsafe { (*slots::attribute((*relation).rd_att, attnum as usize - 1)).attname.data.as_ptr() }
}

/// Safety: nothing above has anything to drop.
pub unsafe fn wrong_trigger() -> ! {
    // SAFETY: texts of ours end in a zero.
    unsafe {
        begin(INVALID_TRIGGER_PROTOCOL);
        unguarded::errmsg_internal(
            c"upkeep._stamp_row() must be a trigger BEFORE INSERT OR UPDATE FOR EACH ROW of a table".as_ptr(),
        );
        unguarded::errhint(c"SELECT upkeep.enable_timestamps('table');".as_ptr());
        end()
    }
}

/// Safety: what the server calls the trigger for; nothing above has anything to drop.
pub unsafe fn wrong_arguments(data: *const pg_sys::TriggerData) -> ! {
    // SAFETY: names of an open relation and its trigger end in a zero; each `%s` has one.
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
        unguarded::errhint(
            c"Drop the trigger, and use upkeep.enable_timestamps(), upkeep.enable_userstamps() and \
            upkeep.enable_row_version()."
                .as_ptr(),
        );
        end()
    }
}

/// The column with a row's version, and what a client is to set it to: part of a hint.
#[derive(Clone, Copy)]
pub struct Version {
    pub attnum: i32,
    pub how: &'static CStr,
}

/// `sent` is what the UPDATE set the version to, as for a row that has `read`; the row has `current`.
///
/// Safety: an open relation, which has the column; nothing above has anything to drop.
pub unsafe fn stale(relation: Relation, version: Version, current: i64, sent: i64, read: i64) -> ! {
    // SAFETY: names of an open relation end in a zero; the values are as many, and of the types, as the texts say.
    unsafe {
        let column = column_name(relation, version.attnum);
        begin(SERIALIZATION_FAILURE);
        unguarded::errmsg_internal(
            c"the row of table \"%s\" has been changed since it was read".as_ptr(),
            name_of(relation),
        );
        unguarded::errdetail_internal(
            c"Column \"%s\" is %lld; the UPDATE set it to %lld, as for a row that was read with %lld.".as_ptr(),
            column,
            current as c_longlong,
            sent as c_longlong,
            read as c_longlong,
        );
        unguarded::errhint(
            c"Read the row again, and repeat the change. An UPDATE sets the column to %s.".as_ptr(),
            version.how.as_ptr(),
        );
        unguarded::errtablecol(relation, version.attnum);
        end()
    }
}

/// Safety: as [`stale`].
pub unsafe fn version_missing(relation: Relation, version: Version) -> ! {
    // SAFETY: as in `stale`.
    unsafe {
        let column = column_name(relation, version.attnum);
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
            version.how.as_ptr(),
        );
        unguarded::errtablecol(relation, version.attnum);
        end()
    }
}

/// Safety: as [`stale`].
pub unsafe fn version_null(relation: Relation, version: Version) -> ! {
    // SAFETY: as in `stale`.
    unsafe {
        begin(NULL_VALUE_NOT_ALLOWED);
        unguarded::errmsg_internal(
            c"column \"%s\" of table \"%s\" cannot be set to null".as_ptr(),
            column_name(relation, version.attnum),
            name_of(relation),
        );
        unguarded::errhint(c"Set it to %s, or leave it out.".as_ptr(), version.how.as_ptr());
        unguarded::errtablecol(relation, version.attnum);
        end()
    }
}

/// Safety: as [`stale`].
pub unsafe fn version_exhausted(relation: Relation, version: Version) -> ! {
    // SAFETY: as in `stale`.
    unsafe {
        let column = column_name(relation, version.attnum);
        begin(NUMERIC_VALUE_OUT_OF_RANGE);
        unguarded::errmsg_internal(
            c"column \"%s\" of table \"%s\" has reached its greatest value".as_ptr(),
            column,
            name_of(relation),
        );
        unguarded::errhint(
            c"Take the row version off, change the column's type to bigint, and put it on again.".as_ptr(),
        );
        unguarded::errtablecol(relation, version.attnum);
        end()
    }
}

/// Safety: as [`stale`].
pub unsafe fn immutable(relation: Relation, attnum: i32) -> ! {
    // SAFETY: as in `stale`.
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

/// Safety: as [`stale`].
pub unsafe fn too_long(relation: Relation, attnum: i32, limit: i32) -> ! {
    // SAFETY: as in `stale`.
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
