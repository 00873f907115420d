//! A limit on how long a statement of a worker may take. The server arms
//! `statement_timeout` for clients only, in its protocol loop.
//!
//! At the limit the statement is canceled, which text of a user's may catch (`EXCEPTION WHEN query_canceled`). So an
//! executor has a second timer: a while later it ends its own process, and that nothing can catch.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::system;
use super::unguarded::{
    RegisterTimeout, disable_timeout, enable_timeout_after, enable_timeout_every, get_timeout_indicator,
};

/// `TimeoutId` is not bound; the number is the same from 15 to 18.
const STATEMENT_TIMEOUT: c_int = 3;
/// At or above the first that extensions may have (12 on 15 and 16, 13 since 17): the server then gives the next free one.
const ANY_OF_OURS: c_int = 13;

/// From the cancel to the end of the process. To undo a (sub)transaction takes much less; meanwhile the process takes no
/// signals anyway.
pub const GRACE: Duration = Duration::from_secs(10);

thread_local! {
    /// When the innermost [`limited`] is over.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The timer that ends this process, if it has one.
    static END: Cell<Option<c_int>> = const { Cell::new(None) };
    /// The timer that looks whether what runs is to be canceled.
    static LOOK: Cell<Option<c_int>> = const { Cell::new(None) };
    /// The timer of [`cut_short`].
    static CUT: Cell<Option<c_int>> = const { Cell::new(None) };
}

static ASKED: AtomicPtr<AtomicU64> = AtomicPtr::new(std::ptr::null_mut());

static OVERRAN: AtomicBool = AtomicBool::new(false);
/// Before this the second timer does nothing, in µs of the clock that nobody sets: the server's timers go by the other one,
/// and all go off at once when that is set ahead.
static ENDS_AT: AtomicU64 = AtomicU64::new(u64::MAX);

/// From now on this process ends if something in it goes on for [`GRACE`] beyond a limit that is [for good](limited_for_good), and
/// [`canceled_when`] works.
pub fn register() {
    // SAFETY: a backend's timers are there before it connects; once in a process.
    unsafe {
        END.set(Some(RegisterTimeout(ANY_OF_OURS, at_end_of_grace)));
        LOOK.set(Some(RegisterTimeout(ANY_OF_OURS, at_look)));
    }
}

/// Runs `f`: what it runs is canceled (57014) while `asked` is not 0.
pub fn canceled_when<T>(asked: &'static AtomicU64, f: impl FnOnce() -> T) -> T {
    /// How soon whoever asks is heard.
    const EVERY_MS: c_int = 500;
    struct Looking(c_int);
    impl Drop for Looking {
        fn drop(&mut self) {
            disarm(self.0);
            ASKED.store(std::ptr::null_mut(), Ordering::Release);
        }
    }
    let Some(timer) = LOOK.get() else { return f() };
    ASKED.store(std::ptr::from_ref(asked).cast_mut(), Ordering::Release);
    // SAFETY: as in arm_end.
    unsafe { enable_timeout_every(timer, pgrx::pg_sys::GetCurrentTimestamp(), EVERY_MS) };
    let _looking = Looking(timer);
    f()
}

/// In a signal handler.
unsafe extern "C-unwind" fn at_look() {
    let asked = ASKED.load(Ordering::Acquire);
    // SAFETY: a word of shared memory that is mapped as long as this process lives.
    if unsafe { !asked.is_null() && (*asked).load(Ordering::Relaxed) != 0 } {
        cancel();
    }
}

/// In a signal handler: as if somebody had called `pg_cancel_backend()`.
fn cancel() {
    // SAFETY: flags and the latch of this process.
    unsafe {
        pgrx::pg_sys::InterruptPending = 1;
        pgrx::pg_sys::QueryCancelPending = 1;
        pgrx::pg_sys::SetLatch(pgrx::pg_sys::MyLatch);
    }
}

static IS_CUT: AtomicBool = AtomicBool::new(false);

/// In a signal handler.
unsafe extern "C-unwind" fn at_cut() {
    IS_CUT.store(true, Ordering::Relaxed);
    cancel();
}

/// Runs `f`, which is canceled (57014) after this time; and was it? A timer of its own: limits around it, of the session too, hold
/// beside it. Not one inside of another.
pub fn cut_short<T>(time: Duration, f: impl FnOnce() -> T) -> (T, bool) {
    struct Armed(c_int);
    impl Drop for Armed {
        fn drop(&mut self) {
            disarm(self.0);
        }
    }
    let timer = CUT.get().unwrap_or_else(|| {
        // SAFETY: a backend's timers are there before it connects; once in a process.
        let timer = unsafe { RegisterTimeout(ANY_OF_OURS, at_cut) };
        CUT.set(Some(timer));
        timer
    });
    IS_CUT.store(false, Ordering::Relaxed);
    let armed = Armed(timer);
    // SAFETY: registered by us; raises no errors.
    unsafe { enable_timeout_after(timer, c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX).max(1)) };
    let result = f();
    drop(armed);
    (result, IS_CUT.load(Ordering::Relaxed))
}

/// `lock_timeout`, if it is set.
pub fn of_locks() -> Option<Duration> {
    // SAFETY: a setting of this process, in ms.
    u64::try_from(unsafe { pgrx::pg_sys::LockTimeout }).ok().filter(|&ms| ms > 0).map(Duration::from_millis)
}

/// `deadlock_timeout`: who has waited for so long looks for a deadlock.
pub fn of_deadlocks() -> Duration {
    // SAFETY: a setting of this process, in ms.
    u64::try_from(unsafe { pgrx::pg_sys::DeadlockTimeout }).map_or(Duration::ZERO, Duration::from_millis)
}

/// Was this process ended because it went on beyond its limit?
pub fn has_overrun() -> bool {
    OVERRAN.load(Ordering::Relaxed)
}

/// In a signal handler: as if somebody had called `pg_terminate_backend()`, with what is in the process's group
/// (a program that COPY runs). The server's handler does the rest.
unsafe extern "C-unwind" fn at_end_of_grace() {
    if system::micros(system::monotonic()) < ENDS_AT.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: flags and the latch of this process. While it ends, the server's handler does nothing.
    unsafe {
        if pgrx::pg_sys::proc_exit_inprogress {
            pgrx::pg_sys::InterruptPending = 1;
            pgrx::pg_sys::ProcDiePending = 1;
            pgrx::pg_sys::SetLatch(pgrx::pg_sys::MyLatch);
            return;
        }
    }
    OVERRAN.store(true, Ordering::Relaxed);
    // SAFETY: kill() may be called in signal handlers; our own number is nobody else's.
    unsafe {
        let me = pgrx::pg_sys::MyProcPid;
        if libc::kill(-me, libc::SIGTERM) != 0 {
            libc::kill(me, libc::SIGTERM);
        }
    }
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

/// The same for all that an executor does at a time: what goes on nevertheless ends with its process. Nothing inside can put
/// that off, neither [`limited`] nor a user's text: the timer has no setting, and no other name than ours.
pub fn limited_for_good<T>(limit: Option<Duration>, f: impl FnOnce() -> T) -> T {
    let Some(time) = limit else { return f() };
    let _end = End;
    arm_end(time + GRACE);
    limited(limit, f)
}

/// While the process ends, until [`the_end_goes_on`]: whatever it waits for, it waits for [`GRACE`] at most, and ends without
/// that. `held`: how often interrupts are held, but for the end of the process itself.
pub(super) fn bound_the_end(held: u32) {
    arm_end(GRACE);
    // SAFETY: a counter of this process.
    unsafe { pgrx::pg_sys::InterruptHoldoffCount = held };
}

/// From here on nothing interrupts the end of this process any more, as the server has it.
pub fn the_end_goes_on() {
    disarm_end();
    // SAFETY: as above.
    unsafe { pgrx::pg_sys::InterruptHoldoffCount = 1 };
}

/// Runs `f` while the process ends, open to signals and for [`GRACE`] at most. An error in it is one more reason to end, and leaves the
/// rest of `f` undone.
pub fn bounded_at_exit(f: impl FnOnce()) {
    bound_the_end(0);
    f();
    the_end_goes_on();
}

struct Again(Option<Instant>);

impl Drop for Again {
    fn drop(&mut self) {
        arm(self.0);
    }
}

struct End;

impl Drop for End {
    fn drop(&mut self) {
        disarm_end();
    }
}

/// No limit holds any more: the rest of a commit waits for others perhaps, and is not to be cut short.
pub(super) fn lift() {
    disarm_end();
    disarm(STATEMENT_TIMEOUT);
}

fn arm(deadline: Option<Instant>) {
    DEADLINE.set(deadline);
    disarm(STATEMENT_TIMEOUT);
    if let Some(deadline) = deadline {
        // Never before its time: the caller tells an end by the limit from other ones by the clock.
        let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000).max(1);
        // SAFETY: as below.
        unsafe { enable_timeout_after(STATEMENT_TIMEOUT, c_int::try_from(left).unwrap_or(c_int::MAX)) };
    }
}

/// A timer that cancels.
fn disarm(timer: c_int) {
    // SAFETY: registered by every backend when it connects, or by us; neither function raises errors.
    unsafe {
        disable_timeout(timer, true);
        // It went off in the last moment, and nobody has noticed: nor is whatever comes next to.
        if get_timeout_indicator(timer, true) {
            pgrx::pg_sys::QueryCancelPending = 0;
        }
    }
}

fn arm_end(time: Duration) {
    if let (Some(timer), Ok(ms)) = (END.get(), c_int::try_from(time.as_millis())) {
        // The clocks may run a little apart.
        ENDS_AT.store(system::micros(system::monotonic() + time.saturating_sub(GRACE / 2)), Ordering::Relaxed);
        // SAFETY: registered by us; raises no errors.
        unsafe { enable_timeout_after(timer, ms) };
    }
}

fn disarm_end() {
    ENDS_AT.store(u64::MAX, Ordering::Relaxed);
    if let Some(timer) = END.get() {
        // SAFETY: as above.
        unsafe { disable_timeout(timer, false) };
    }
}
