//! A limit on how long a statement of a worker may take. The server arms
//! `statement_timeout` for clients only, in its protocol loop.

use std::cell::Cell;
use std::ffi::c_int;
use std::time::{Duration, Instant};

/// `TimeoutId` is not bound; the number is the same from 15 to 18.
const STATEMENT_TIMEOUT: c_int = 3;

unsafe extern "C-unwind" {
    fn enable_timeout_after(id: c_int, delay_ms: c_int);
    fn disable_timeout(id: c_int, keep_indicator: bool);
    fn get_timeout_indicator(id: c_int, reset: bool) -> bool;
}

thread_local! {
    /// When the innermost [`limited`] is over.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `f`: after `limit` the statement in it ends in 57014. Inside of another one, the limit that is over first holds,
/// and the outer one again afterwards, however `f` ends.
pub fn limited<T>(limit: Option<Duration>, f: impl FnOnce() -> T) -> T {
    let Some(limit) = limit else { return f() };
    let outer = DEADLINE.get();
    let _again = Again(outer);
    let mine = Instant::now() + limit;
    arm(Some(outer.map_or(mine, |outer| outer.min(mine))));
    f()
}

struct Again(Option<Instant>);

impl Drop for Again {
    fn drop(&mut self) {
        arm(self.0);
    }
}

fn arm(deadline: Option<Instant>) {
    DEADLINE.set(deadline);
    // SAFETY: registered by every backend when it connects; neither function raises errors.
    unsafe {
        disable_timeout(STATEMENT_TIMEOUT, true);
        // It went off in the last moment, and nobody has noticed: nor is whatever comes next to.
        if get_timeout_indicator(STATEMENT_TIMEOUT, true) {
            pgrx::pg_sys::QueryCancelPending = 0;
        }
        if let Some(deadline) = deadline {
            // Never before its time: the caller tells an end by the limit from other ones by the clock.
            let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000).max(1);
            enable_timeout_after(STATEMENT_TIMEOUT, c_int::try_from(left).unwrap_or(c_int::MAX));
        }
    }
}
