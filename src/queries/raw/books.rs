//! Two books are kept in this process. FRAMES are statements that have begun and are to be counted when they end; a cursor's
//! stays while it is open. LEVELS are the calls into the executor or a utility statement that are on the stack now, each with
//! the subtransaction it began in: when that is rolled back, the call is gone, and its statement has failed.

use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys;

use super::Global;
use super::memory::{self, Failure};
use crate::server::quiet;
use crate::server::raw::unguarded::GetCurrentSubTransactionId;
use crate::settings::{TRACK_ALL, TRACK_NONE, tracked};

const MOST_FRAMES: usize = 64;
pub const MOST_LEVELS: usize = 64;
pub const NO_FRAME: usize = usize::MAX;

#[derive(Clone, Copy)]
pub struct Frame {
    /// What it is known by: its QueryDesc, or a place on the stack; null: free.
    pub id: *const c_void,
    pub queryid: i64,
    pub user: u32,
    pub toplevel: bool,
    /// What runs directly below an EXPLAIN is counted as the EXPLAIN.
    pub explain: bool,
    pub running: bool,
    pub subtransaction: u32,
    pub started: u64,
    pub elapsed: u64,
    pub rows: u64,
}

pub const FREE: Frame = Frame {
    id: std::ptr::null(),
    queryid: 0,
    user: 0,
    toplevel: false,
    explain: false,
    running: false,
    subtransaction: 0,
    started: 0,
    elapsed: 0,
    rows: 0,
};

#[derive(Clone, Copy)]
pub struct Level {
    pub subtransaction: u32,
    pub frame: usize,
    /// Of a utility statement: the text that was sent, and which part of it it is. Null: of no such statement.
    pub source: *const c_char,
    pub location: c_int,
    pub length: c_int,
}

const NO_LEVEL: Level = Level { subtransaction: 0, frame: NO_FRAME, source: std::ptr::null(), location: 0, length: 0 };

pub struct Books {
    pub frames: [Frame; MOST_FRAMES],
    /// One above the last frame in use.
    pub top: usize,
    pub levels: [Level; MOST_LEVELS],
    pub level: usize,
    /// What the log said of the last error.
    pub last_error: Option<Failure>,
    /// When this transaction, which has written something, began to be committed; 0: it has not.
    pub commit_began: u64,
}

static BOOKS: Global<Books> = Global::new(Books {
    frames: [FREE; MOST_FRAMES],
    top: 0,
    levels: [NO_LEVEL; MOST_LEVELS],
    level: 0,
    last_error: None,
    commit_began: 0,
});

#[inline]
pub fn books() -> *mut Books {
    BOOKS.get()
}

#[inline]
pub fn is_counting() -> bool {
    // SAFETY: set when the process started.
    tracked() != TRACK_NONE && !quiet::is_quiet() && unsafe { pg_sys::ParallelWorkerNumber < 0 }
}

#[inline]
pub fn counts_here() -> bool {
    // SAFETY: one thread has the books.
    is_counting() && (unsafe { (*books()).level } == 0 || tracked() == TRACK_ALL)
}

#[inline]
pub fn clock() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the struct it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// Safety: a number below MOST_FRAMES.
#[inline]
pub unsafe fn frame(number: usize) -> *mut Frame {
    // SAFETY: as the caller promises.
    unsafe { (&raw mut (*books()).frames).cast::<Frame>().add(number) }
}

/// Safety: a number below MOST_LEVELS.
#[inline]
pub unsafe fn level(number: usize) -> *mut Level {
    // SAFETY: as the caller promises.
    unsafe { (&raw mut (*books()).levels).cast::<Level>().add(number) }
}

/// A new frame. When all are in use the oldest open cursor is counted as it is.
pub fn push(new: Frame) -> usize {
    // SAFETY: one thread has the books; numbers are below MOST_FRAMES.
    unsafe {
        let books = books();
        if (*books).top < MOST_FRAMES {
            *frame((*books).top) = new;
            (*books).top = (*books).top.wrapping_add(1);
            return (*books).top.wrapping_sub(1);
        }
        let mut i = 0;
        while i < MOST_FRAMES {
            if (*frame(i)).id.is_null() || !(*frame(i)).running {
                let old = *frame(i);
                if !old.id.is_null() {
                    memory::count_call(old.queryid, old.user, old.toplevel, old.elapsed, old.rows);
                }
                *frame(i) = new;
                return i;
            }
            i = i.wrapping_add(1);
        }
        // So deep in functions: it counts, but without its time.
        memory::count_call(new.queryid, new.user, new.toplevel, 0, 0);
        NO_FRAME
    }
}

#[inline]
pub fn find(id: *const c_void) -> usize {
    // SAFETY: one thread has the books; `top` is at most MOST_FRAMES. Ids are only compared.
    unsafe {
        let mut i = (*books()).top;
        while i > 0 {
            i = i.wrapping_sub(1);
            if (*frame(i)).id == id {
                return i;
            }
        }
        NO_FRAME
    }
}

/// Safety: the number of a frame.
#[inline]
pub unsafe fn forget(number: usize) {
    // SAFETY: one thread has the books; `top` is at most MOST_FRAMES.
    unsafe {
        let books = books();
        *frame(number) = FREE;
        while (*books).top > 0 && (*frame((*books).top.wrapping_sub(1))).id.is_null() {
            (*books).top = (*books).top.wrapping_sub(1);
        }
    }
}

/// A call begins; gives the level to go back to.
///
/// Safety: the number of a frame, or NO_FRAME.
#[inline]
pub unsafe fn enter(number: usize) -> usize {
    // SAFETY: one thread has the books; a level is written where there is a place for it.
    unsafe {
        let books = books();
        let now = (*books).level;
        let subtransaction = GetCurrentSubTransactionId();
        if now < MOST_LEVELS {
            let level = level(now);
            (*level).subtransaction = subtransaction;
            (*level).frame = number;
            (*level).source = std::ptr::null();
        }
        (*books).level = now.wrapping_add(1);
        if number != NO_FRAME {
            let frame = frame(number);
            (*frame).running = true;
            (*frame).subtransaction = subtransaction;
            (*frame).started = clock();
        }
        now
    }
}

/// A call has come back. A frame that is not its own any more was given up meanwhile.
///
/// Safety: the number of a frame, or NO_FRAME.
#[inline]
pub unsafe fn leave(before: usize, number: usize, id: *const c_void) {
    // SAFETY: one thread has the books; ids are only compared.
    unsafe {
        (*books()).level = before;
        if number != NO_FRAME && (*frame(number)).id == id {
            let frame = frame(number);
            (*frame).running = false;
            (*frame).elapsed = (*frame).elapsed.wrapping_add(clock().wrapping_sub((*frame).started));
        }
    }
}

#[inline]
pub fn is_explained(depth: usize) -> bool {
    // SAFETY: one thread has the books; a level that is in use has the number of a frame, or none.
    unsafe {
        if depth == 0 || depth > MOST_LEVELS {
            return false;
        }
        let above = (*level(depth.wrapping_sub(1))).frame;
        above != NO_FRAME && (*frame(above)).explain
    }
}

/// What EXPLAIN runs is counted as EXPLAIN: its text is not wanted. Nor where so much runs that one cannot know.
#[inline]
pub fn may_be_explained() -> bool {
    // SAFETY: one thread has the books.
    unsafe {
        let books = books();
        let depth = (*books).level;
        depth > MOST_LEVELS || (depth > 0 && (*books).top >= MOST_FRAMES) || is_explained(depth)
    }
}

/// A utility statement that has just begun is this part of a text.
#[inline]
pub fn note_part(before: usize, source: *const c_char, location: c_int, length: c_int) {
    // SAFETY: one thread has the books. The text is only noted: it lives as long as its statement, and so does the
    // level.
    unsafe {
        if before < MOST_LEVELS {
            let level = level(before);
            (*level).source = source;
            (*level).location = location;
            (*level).length = length;
        }
    }
}

/// The query of a CREATE TABLE AS, a DECLARE CURSOR or an EXPLAIN does not say where in the text that was sent it is
/// (before 18 never, since then not always): it would have the text of all the statements of a message, with the
/// secrets that those may hold. It is within the statement that runs it.
#[inline]
pub fn part_of(source: *const c_char, location: c_int, length: c_int) -> (c_int, c_int) {
    // SAFETY: one thread has the books; texts are only compared.
    unsafe {
        let depth = (*books()).level;
        if location > 0 || length > 0 || depth == 0 || depth > MOST_LEVELS {
            return (location, length);
        }
        let above = level(depth.wrapping_sub(1));
        if (*above).source == source { ((*above).location, (*above).length) } else { (location, length) }
    }
}
