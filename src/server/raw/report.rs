//! Errors of ours, raised from a frame with nothing to drop.

use std::ffi::{CStr, c_char, c_int};

use super::unguarded::{
    err_generic_string, errcode, errdetail_internal, errfinish, errhint, errmsg_internal, errstart,
};

/// An error of ours; null: not given.
pub struct Report {
    pub sqlstate: &'static CStr,
    pub message: *const c_char,
    pub detail: *const c_char,
    pub hint: *const c_char,
    pub schema: *const c_char,
    pub table: *const c_char,
    pub constraint: *const c_char,
}

impl Report {
    pub const fn new(sqlstate: &'static CStr, message: &CStr) -> Self {
        Report::with(sqlstate, message.as_ptr())
    }

    pub const fn with(sqlstate: &'static CStr, message: *const c_char) -> Self {
        let nothing = std::ptr::null();
        Report {
            sqlstate,
            message,
            detail: nothing,
            hint: nothing,
            schema: nothing,
            table: nothing,
            constraint: nothing,
        }
    }
}

/// Safety: no frame above has anything to drop; texts end in a zero or are null.
pub unsafe fn raise(report: &Report) -> ! {
    const TEXT: &CStr = c"%s";
    // SAFETY: an ERROR is always begun, and each text goes through %s, which copies it; an SQLSTATE has five
    // characters.
    unsafe {
        errstart(pgrx::PgLogLevel::ERROR as c_int, std::ptr::null());
        let code = report.sqlstate.as_ptr();
        let mut packed = 0;
        let mut i = 5;
        while i > 0 {
            i -= 1;
            packed = (packed << 6) | ((*code.add(i) as c_int - 48) & 0x3F);
        }
        errcode(packed);
        errmsg_internal(TEXT.as_ptr(), report.message);
        if !report.detail.is_null() {
            errdetail_internal(TEXT.as_ptr(), report.detail);
        }
        if !report.hint.is_null() {
            errhint(TEXT.as_ptr(), report.hint);
        }
        for (field, text) in [(b's', report.schema), (b't', report.table), (b'n', report.constraint)] {
            if !text.is_null() {
                err_generic_string(field.into(), text);
            }
        }
        errfinish(c"pg_upkeep".as_ptr(), 0, std::ptr::null());
    }
    unreachable!("ERROR does not return")
}
