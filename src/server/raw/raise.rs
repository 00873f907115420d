//! Raising an [`Error`] with every field PostgreSQL can show: pgrx's report
//! has no position and a closed set of SQLSTATEs.

use std::ffi::{CStr, CString, c_char, c_int};

use super::encoding;
use super::unguarded::{
    errcode, errdetail_internal, errfinish, errhint, errmsg_internal, errstart, internalerrposition, internalerrquery,
};
use crate::error::{Error, Result};

const TEXT: &CStr = c"%s";

/// How loud a report is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Log,
    Notice,
    Warning,
    Error,
}

impl Level {
    fn number(self) -> c_int {
        match self {
            Level::Log => pgrx::pg_sys::LOG as c_int,
            Level::Notice => pgrx::pg_sys::NOTICE as c_int,
            Level::Warning => pgrx::pg_sys::WARNING as c_int,
            Level::Error => pgrx::PgLogLevel::ERROR as c_int,
        }
    }
}

/// pgrx adds a backtrace to the DETAIL of every error that passes it, if the server's environment has RUST_BACKTRACE: for
/// whoever asked, who has no use for it and no business with our addresses. Whether there is one is looked up once, now.
/// What the server's children find in the environment stays as it is.
pub fn without_backtraces() {
    const NAME: &str = "RUST_LIB_BACKTRACE";
    let before = std::env::var_os(NAME);
    // SAFETY: a process of the server has one thread while it loads libraries.
    unsafe { std::env::set_var(NAME, "0") };
    drop(std::backtrace::Backtrace::capture());
    // SAFETY: as above.
    unsafe {
        match before {
            Some(before) => std::env::set_var(NAME, before),
            None => std::env::remove_var(NAME),
        }
    }
}

/// Ends an SQL-visible function: its value, or its error raised.
pub fn answer<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => {
            report(Level::Error, error);
            unreachable!("ERROR does not return")
        }
    }
}

/// Reports `error` at `level`. At [`Level::Error`] it does not return.
pub fn report(level: Level, error: Error) {
    let sqlstate = error.sqlstate.0;
    // Copied into the server's memory, so that nothing is left to drop when errfinish jumps.
    let message = palloc_text(Some(&error.message));
    let detail = palloc_text(error.detail.as_deref());
    let hint = palloc_text(error.hint.as_deref());
    let (query, character) = match &error.position {
        Some(position) if !position.query.is_empty() => (palloc_text(Some(&position.query)), position.character),
        _ => (std::ptr::null(), 0),
    };
    drop(error);
    // SAFETY: plain pointers into server memory; this is what ereport() expands to. The jump at
    // ERROR passes a frame with nothing left to drop and lands in the guard of the caller.
    unsafe {
        let jump = move || {
            if !errstart(level.number(), std::ptr::null()) {
                return;
            }
            errcode(sqlstate);
            errmsg_internal(TEXT.as_ptr(), message);
            if !detail.is_null() {
                errdetail_internal(TEXT.as_ptr(), detail);
            }
            if !hint.is_null() {
                errhint(TEXT.as_ptr(), hint);
            }
            if !query.is_null() {
                internalerrquery(query);
                internalerrposition(character);
            }
            errfinish(c"pg_upkeep".as_ptr(), 0, std::ptr::null());
        };
        jump();
    }
}

fn palloc_text(text: Option<&str>) -> *const c_char {
    let Some(text) = text else { return std::ptr::null() };
    // A NUL cannot come from the server; from anywhere else the text is cut there.
    let text = CString::new(encoding::to_server(text.split('\0').next().unwrap_or_default())).unwrap_or_default();
    // SAFETY: pstrdup copies into the current memory context.
    unsafe { pgrx::pg_sys::pstrdup(text.as_ptr()) }
}
