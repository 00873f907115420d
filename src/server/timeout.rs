//! A limit on how long a statement of a worker may take. The server arms
//! `statement_timeout` for clients only, in its protocol loop.

use std::ffi::c_int;
use std::time::Duration;

/// `TimeoutId` is not bound; the number is the same from 15 to 18.
const STATEMENT_TIMEOUT: c_int = 3;

unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
}

/// Runs `f`, which must catch the server's errors: after `limit` the statement in it
/// ends in 57014.
pub fn limited<T>(limit: Option<Duration>, f: impl FnOnce() -> T) -> T {
    let Some(limit) = limit else { return f() };
    // Never before its time: the caller tells an end by the limit from other ones by the clock.
    let ms = c_int::try_from(limit.as_micros().div_ceil(1000).max(1)).unwrap_or(c_int::MAX);
    // SAFETY: registered by every backend when it connects; neither function raises errors.
    unsafe { enable_timeout_after(STATEMENT_TIMEOUT, ms) };
    let result = f();
    unsafe { disable_timeout(STATEMENT_TIMEOUT, false) };
    result
}
