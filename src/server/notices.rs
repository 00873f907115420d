//! What a statement says besides its answer: a client would be shown its notices and warnings, a worker has none. The last ones are kept
//! while a command runs, for whoever looks at its job.
//!
//! The server tells hooks of what goes to the log only, so the level of the log is lowered meanwhile; what the log was not to have, it
//! does not get. The hook neither allocates nor fails (LAW 13): it writes to a place of fixed size.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;

use super::encoding;

unsafe extern "C-unwind" {
    /// Does not raise: bytes of whole characters within a limit.
    fn pg_mbcliplen(text: *const c_char, length: c_int, limit: c_int) -> c_int;
}

const LOG: c_int = pg_sys::LOG as c_int;
const LOG_SERVER_ONLY: c_int = pg_sys::LOG_SERVER_ONLY as c_int;
const INFO: c_int = pg_sys::INFO as c_int;
const NOTICE: c_int = pg_sys::NOTICE as c_int;
const WARNING: c_int = pg_sys::WARNING as c_int;
const ERROR: c_int = pgrx::PgLogLevel::ERROR as c_int;
const FATAL: c_int = pgrx::PgLogLevel::FATAL as c_int;

/// So many messages are kept, of so many bytes each.
const KEPT: usize = 10;
const LONGEST: usize = 400;

#[derive(Clone, Copy)]
struct Message {
    level: c_int,
    length: usize,
    bytes: [u8; LONGEST],
}

struct State {
    installed: bool,
    /// What the log was to have before a command began; `None`: none runs.
    log_level: Option<c_int>,
    next: pg_sys::emit_log_hook_type,
    /// All that there were; the last ones are kept.
    count: usize,
    messages: [Message; KEPT],
}

struct Place(UnsafeCell<State>);
// SAFETY: a process of the server has one thread.
unsafe impl Sync for Place {}

static STATE: Place = Place(UnsafeCell::new(State {
    installed: false,
    log_level: None,
    next: None,
    count: 0,
    messages: [Message { level: 0, length: 0, bytes: [0; LONGEST] }; KEPT],
}));

/// Runs a command and keeps what it says, in place of what the one before said.
pub fn kept_of<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: one thread; the hook stays for as long as this process.
    let state = unsafe { &mut *STATE.0.get() };
    state.count = 0;
    unsafe {
        if !state.installed {
            state.installed = true;
            state.next = pg_sys::emit_log_hook;
            pg_sys::emit_log_hook = Some(keep);
        }
        let before = pg_sys::log_min_messages;
        state.log_level = Some(before);
        if before == LOG || before > INFO {
            pg_sys::log_min_messages = INFO;
        }
        let answer = run();
        // Unless it was a SET of this very setting.
        if pg_sys::log_min_messages == INFO {
            pg_sys::log_min_messages = before;
        }
        (*STATE.0.get()).log_level = None;
        answer
    }
}

/// What the last command said, one message a line; `None`: nothing.
pub fn kept() -> Option<String> {
    // SAFETY: one thread.
    let state = unsafe { &*STATE.0.get() };
    let first = state.count.saturating_sub(KEPT);
    let left_out = (first > 0).then(|| format!("({first} earlier ones)"));
    let said = (first..state.count).filter_map(|number| {
        let message = state.messages.get(number % KEPT)?;
        let word = match message.level {
            WARNING => "WARNING",
            NOTICE => "NOTICE",
            _ => "INFO",
        };
        Some(format!("{word}: {}", encoding::from_server(message.bytes.get(..message.length)?)))
    });
    let lines: Vec<String> = left_out.into_iter().chain(said).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// As the server decides it.
fn is_for_log(level: c_int, log_level: c_int) -> bool {
    match (level, log_level) {
        (LOG | LOG_SERVER_ONLY, LOG) => true,
        (LOG | LOG_SERVER_ONLY, least) => least <= ERROR,
        (level, LOG) => level >= FATAL,
        (level, least) => level >= least,
    }
}

/// # Safety
/// Called by the server with a message on its way to the log.
unsafe extern "C-unwind" fn keep(error: *mut pg_sys::ErrorData) {
    unsafe {
        let state = STATE.0.get();
        if let Some(log_level) = (*state).log_level {
            let level = (*error).elevel;
            if matches!(level, INFO | NOTICE | WARNING) && !(*error).message.is_null() {
                let text = CStr::from_ptr((*error).message).to_bytes();
                let length = if text.len() > LONGEST {
                    pg_mbcliplen(text.as_ptr().cast(), text.len() as c_int, LONGEST as c_int).max(0) as usize
                } else {
                    text.len()
                };
                let place = (&raw mut (*state).messages).cast::<Message>().add((*state).count % KEPT);
                (*place).level = level;
                (*place).length = length;
                std::ptr::copy_nonoverlapping(text.as_ptr(), (&raw mut (*place).bytes).cast::<u8>(), length);
                (*state).count = (*state).count.wrapping_add(1);
            }
            if !is_for_log(level, log_level) {
                (*error).output_to_server = false;
                return;
            }
        }
        if let Some(next) = (*state).next {
            next(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_gets_what_it_was_to_have() {
        for (log_level, wanted) in [
            (WARNING, [false, false, true, true, true]),
            (NOTICE, [false, true, true, true, true]),
            (ERROR, [false, false, false, true, true]),
            (LOG, [false, false, false, false, true]),
            (FATAL, [false, false, false, false, false]),
        ] {
            assert_eq!(
                [INFO, NOTICE, WARNING, ERROR, LOG].map(|level| is_for_log(level, log_level)),
                wanted,
                "{log_level}"
            );
        }
    }
}
