//! What a statement says besides its answer: a client would be shown its notices and warnings, a worker has none. The last ones are kept
//! while a command runs, for whoever looks at its job.
//!
//! Meanwhile this process is its own client: the server hands messages to methods of ours, as it does in the workers of a parallel query,
//! whose messages arrive here as well. What goes to the log is nothing to that. The methods neither allocate nor fail (LAW 12).

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int};

use pgrx::pg_sys;

use super::encoding;
use super::unguarded::{FrontendProtocol, Methods, PqCommMethods, pg_mbcliplen};

/// Version 3.0 of the protocol: a message comes in fields.
const PROTOCOL: u32 = 3 << 16;
/// NoticeResponse, and two of its fields: the severity, which is not translated, and the message.
const NOTICE_RESPONSE: u8 = b'N';
const SEVERITY: u8 = b'V';
const MESSAGE: u8 = b'M';

static METHODS: Methods = Methods {
    comm_reset: nothing,
    flush: all_is_well,
    flush_if_writable: all_is_well,
    is_send_pending: never,
    putmessage: keep,
    putmessage_noblock: keep_too,
};

unsafe extern "C-unwind" fn nothing() {}

unsafe extern "C-unwind" fn all_is_well() -> c_int {
    0
}

unsafe extern "C-unwind" fn never() -> bool {
    false
}

/// So many messages are kept, of so many bytes each.
const KEPT: usize = 10;
const LONGEST: usize = 400;

#[derive(Clone, Copy)]
struct Message {
    severity: Severity,
    length: usize,
    bytes: [u8; LONGEST],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Severity {
    Info,
    Notice,
    Warning,
}

struct State {
    /// All that there were; the last ones are kept.
    count: usize,
    messages: [Message; KEPT],
}

struct Place(UnsafeCell<State>);
// SAFETY: a process of the server has one thread.
unsafe impl Sync for Place {}

static STATE: Place = Place(UnsafeCell::new(State {
    count: 0,
    messages: [Message { severity: Severity::Info, length: 0, bytes: [0; LONGEST] }; KEPT],
}));

/// Runs a command, which comes back whatever becomes of it, and keeps what it says, in place of what the one before said.
pub fn kept_of<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: one thread, of a worker that has no client; all of it is as before afterwards.
    unsafe {
        (*STATE.0.get()).count = 0;
        let before = (PqCommMethods, FrontendProtocol, pg_sys::whereToSendOutput, pg_sys::client_min_messages);
        PqCommMethods = &raw const METHODS;
        FrontendProtocol = PROTOCOL;
        pg_sys::whereToSendOutput = pg_sys::CommandDest::DestRemote;
        // Else a worker of ours has no notices.
        pg_sys::client_min_messages = pg_sys::NOTICE as c_int;
        let answer = run();
        (PqCommMethods, FrontendProtocol, pg_sys::whereToSendOutput, pg_sys::client_min_messages) = before;
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
        let word = match message.severity {
            Severity::Warning => "WARNING",
            Severity::Notice => "NOTICE",
            Severity::Info => "INFO",
        };
        Some(format!("{word}: {}", encoding::from_server(message.bytes.get(..message.length)?)))
    });
    let lines: Vec<String> = left_out.into_iter().chain(said).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The severity and the message of a NoticeResponse: fields, each a letter and a text that ends with a zero byte.
fn parse(body: &[u8]) -> Option<(Severity, &[u8])> {
    let (mut severity, mut message) = (None, None);
    let mut rest = body;
    while let Some((&field, after)) = rest.split_first().filter(|(field, _)| **field != 0) {
        let text = after.split(|byte| *byte == 0).next()?;
        rest = after.get(text.len() + 1..)?;
        match field {
            SEVERITY => {
                severity = match text {
                    b"INFO" => Some(Severity::Info),
                    b"NOTICE" => Some(Severity::Notice),
                    b"WARNING" => Some(Severity::Warning),
                    _ => None,
                }
            }
            MESSAGE => message = Some(text),
            _ => {}
        }
    }
    Some((severity?, message?))
}

/// # Safety
/// Called by the server with a message for the client.
unsafe extern "C-unwind" fn keep(kind: c_char, body: *const c_char, length: usize) -> c_int {
    if kind as u8 != NOTICE_RESPONSE || body.is_null() {
        return 0;
    }
    // SAFETY: the server gives a message of that length; the place is one of `KEPT`, of `LONGEST` bytes, and this
    // thread's own.
    unsafe {
        let Some((severity, text)) = parse(std::slice::from_raw_parts(body.cast(), length)) else { return 0 };
        let length = if text.len() > LONGEST {
            pg_mbcliplen(text.as_ptr().cast(), text.len() as c_int, LONGEST as c_int).max(0) as usize
        } else {
            text.len()
        };
        let state = STATE.0.get();
        let place = (&raw mut (*state).messages).cast::<Message>().add((*state).count % KEPT);
        (*place).severity = severity;
        (*place).length = length;
        std::ptr::copy_nonoverlapping(text.as_ptr(), (&raw mut (*place).bytes).cast::<u8>(), length);
        (*state).count = (*state).count.wrapping_add(1);
    }
    0
}

unsafe extern "C-unwind" fn keep_too(kind: c_char, body: *const c_char, length: usize) {
    // SAFETY: as the server has called us.
    unsafe { keep(kind, body, length) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_among_its_fields() {
        let body = b"SHINWEIS\0VNOTICE\0C00000\0Mstep 1\0Fpl_exec.c\0\0";
        assert_eq!(parse(body), Some((Severity::Notice, &b"step 1"[..])));
        assert_eq!(parse(b"VLOG\0Mfor the log\0\0"), None);
        for cut in 0..body.len() - 1 {
            assert!(parse(&body[..cut]).is_none_or(|(_, text)| text == b"step 1"));
        }
    }
}
