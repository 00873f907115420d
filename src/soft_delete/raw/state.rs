//! What this session is deleting. C variables, put right when a transaction or savepoint is rolled back ([`super::callbacks`]):
//! errors pass the engine without a word.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use pgrx::pg_sys::{self, MemoryContext, Oid};

use crate::server::raw;
use crate::server::raw::unguarded::{
    GetConfigOption, GetCurrentTransactionStartTimestamp, GetOuterUserId, GetUserNameFromId,
};

/// A deletion of this transaction, in its memory.
pub struct Deletion {
    pub id: [u8; 16],
    pub at: i64,
    pub by: *mut c_char,
    pub role: *mut c_char,
    pub reason: *mut c_char,
    /// The savepoint in which it was begun.
    begun: u32,
    /// The savepoint in which its row was written; 0: it is not.
    pub written: u32,
}

/// A statement of ours that is being run.
#[derive(Clone, Copy)]
struct Frame {
    relid: Oid,
    deletion: *mut Deletion,
    undeletes: bool,
    /// It adds to a row what somebody's UPDATE has begun.
    completes: bool,
    /// What its execution is a child of ([`raw::executions`]).
    executions: MemoryContext,
    subid: u32,
}

/// Rows that are being deleted for good, in the transaction's memory. A trigger of the user's may begin another one inside.
pub struct Purge {
    outer: *mut Purge,
    since: u32,
    /// What was deleted before this may go; none: whenever it was.
    pub before: Option<i64>,
    /// What the execution of its statement is a child of.
    executions: MemoryContext,
}

const DEPTH: usize = 100;
const NO_FRAME: Frame = Frame {
    relid: Oid::INVALID,
    deletion: null_mut(),
    undeletes: false,
    completes: false,
    executions: null_mut(),
    subid: 0,
};

static mut FRAMES: [Frame; DEPTH] = [NO_FRAME; DEPTH];
static mut COUNT: usize = 0;
/// That of all statements which are not a call of soft_delete().
static mut OF_TRANSACTION: *mut Deletion = null_mut();
static mut PURGE: *mut Purge = null_mut();

/// Without a look at the bounds, which could panic.
///
/// Safety: `number` is below DEPTH.
unsafe fn frame(number: usize) -> *mut Frame {
    // SAFETY: as the caller promises.
    unsafe { (&raw mut FRAMES).cast::<Frame>().add(number) }
}

/// The one that was entered last.
///
/// Safety: there is one.
unsafe fn last() -> *mut Frame {
    // SAFETY: COUNT is from 1 to DEPTH.
    unsafe { frame(COUNT.wrapping_sub(1)) }
}

/// Safety: `reason` is null or ends in a zero.
unsafe fn new_deletion(reason: *const c_char) -> *mut Deletion {
    // SAFETY: texts of the server's end in a zero and are copied into the memory of the transaction, which is where
    // the deletion is; every field is written.
    unsafe {
        let deletion: *mut Deletion = raw::allocate_for_transaction(1);
        let actor = GetConfigOption(c"upkeep.actor".as_ptr(), true, false);
        let role = GetUserNameFromId(GetOuterUserId(), false);
        let by = if actor.is_null() || *actor == 0 { role } else { actor };
        *deletion = Deletion {
            id: raw::uuid::version_7(),
            at: GetCurrentTransactionStartTimestamp(),
            by: keep(by),
            role: keep(role),
            reason: if reason.is_null() { null_mut() } else { keep(reason) },
            begun: pg_sys::GetCurrentSubTransactionId(),
            written: 0,
        };
        deletion
    }
}

/// Safety: it ends in a zero.
unsafe fn keep(text: *const c_char) -> *mut c_char {
    // SAFETY: the copy has room for all of it and the zero.
    unsafe {
        let length = CStr::from_ptr(text).count_bytes() + 1;
        let copy: *mut c_char = raw::allocate_for_transaction(length);
        std::ptr::copy_nonoverlapping(text, copy, length);
        copy
    }
}

/// A deletion of its own, for a call of soft_delete().
///
/// Safety: `reason` is null or ends in a zero.
pub unsafe fn begin(reason: *const c_char) -> *mut Deletion {
    // SAFETY: as the caller promises.
    unsafe { new_deletion(reason) }
}

/// The deletion that a row deleted now belongs to: the one under way, else the transaction's.
///
/// Safety: in a transaction, whose end forgets it.
pub unsafe fn current() -> *mut Deletion {
    // SAFETY: one thread; deletions live as long as the transaction, and a frame that does not undelete has one.
    unsafe {
        if COUNT > 0 && !(*last()).undeletes {
            return (*last()).deletion;
        }
        if OF_TRANSACTION.is_null() {
            OF_TRANSACTION = new_deletion(std::ptr::null());
        }
        OF_TRANSACTION
    }
}

/// That deletion is undone: what is deleted from here on is another one.
///
/// Safety: the id is there.
pub unsafe fn close(id: *const [u8; 16]) {
    // SAFETY: the deletion lives as long as the transaction.
    unsafe {
        if !OF_TRANSACTION.is_null() && (*OF_TRANSACTION).id == *id {
            OF_TRANSACTION = null_mut();
        }
    }
}

/// From here until [`leave`] the statement that this connection runs is ours.
///
/// Safety: connected, in the memory that `connect` has made the current one; `deletion` lives as long as the
/// transaction, and is null only if it undeletes.
pub unsafe fn enter(relid: Oid, deletion: *mut Deletion, undeletes: bool) {
    // SAFETY: one thread; COUNT is below DEPTH when it is written. What an error leaves behind its (sub)transaction's
    // abort takes off.
    unsafe {
        if COUNT == DEPTH {
            raw::raise(&raw::Report::new(c"54001", c"deletions are nested too deeply"));
        }
        let executions = raw::executions();
        if executions.is_null() {
            raw::raise(&raw::Report::new(c"XX000", c"a statement of soft delete is run outside of its connection"));
        }
        *frame(COUNT) = Frame {
            relid,
            deletion,
            undeletes,
            completes: false,
            executions,
            subid: pg_sys::GetCurrentSubTransactionId(),
        };
        COUNT += 1;
    }
}

/// Safety: after [`enter`].
pub unsafe fn leave() {
    // SAFETY: one thread, and there is a frame: what begins further in is gone by now.
    unsafe { COUNT -= 1 };
}

/// The statement that was entered last only completes what somebody's UPDATE has begun.
///
/// Safety: between [`enter`] and [`leave`].
pub unsafe fn complete() {
    // SAFETY: one thread, and there is a frame.
    unsafe { (*last()).completes = true };
}

/// Is this the execution ([`super::statements::query`]) of the statement of ours that was entered last? Functions that it
/// calls, in a condition or a check, run others on the same table and at the same depth of triggers.
///
/// Safety: the context is there, or null.
unsafe fn is_of_ours(query: MemoryContext) -> bool {
    // SAFETY: COUNT is not 0 where the frame is read.
    unsafe { COUNT != 0 && is_child(query, (*last()).executions) }
}

/// Safety: the context is there, or null. `executions` is only compared.
unsafe fn is_child(query: MemoryContext, executions: MemoryContext) -> bool {
    // SAFETY: not null, so it is there.
    unsafe { !query.is_null() && !executions.is_null() && (*query).parent == executions }
}

/// Was the row trigger that is being run fired by a statement of ours? For the row version, which we cannot name. Before
/// anything else has changed the memory context.
pub fn fires_trigger() -> bool {
    // SAFETY: read in the backend's only thread.
    unsafe { is_of_ours(super::statements::query()) }
}

/// And by a statement that completes a change, so that it is no change of its own?
pub fn completes_row() -> bool {
    // SAFETY: read in the backend's only thread.
    unsafe { fires_trigger() && (*last()).completes }
}

/// Is the UPDATE of this table that is being executed somebody's own? `id`: the row's, null if it has none.
///
/// Safety: the context is there, or null; so is the id.
pub unsafe fn is_by_hand(query: MemoryContext, relid: Oid, id: *const [u8; 16]) -> bool {
    // SAFETY: there is a frame if it is one of ours, and its deletion is there if it does not undelete.
    unsafe {
        if !is_of_ours(query) {
            return true;
        }
        let frame = *last();
        let same = if id.is_null() { frame.undeletes } else { !frame.undeletes && *id == (*frame.deletion).id };
        !(same && frame.relid == relid)
    }
}

/// The purge whose statement is executed there; null: none is. What foreign keys delete counts as that statement's: the
/// server fires its triggers at the end of the statement that has set them off.
///
/// Safety: the context is there, or null.
pub unsafe fn purge_of(query: MemoryContext) -> *const Purge {
    // SAFETY: purges live in the memory of the transaction, whose end forgets them.
    unsafe {
        let mut purge = PURGE;
        while !purge.is_null() && !is_child(query, (*purge).executions) {
            purge = (*purge).outer;
        }
        purge
    }
}

pub fn is_purging() -> bool {
    // SAFETY: read in the backend's only thread.
    unsafe { !PURGE.is_null() }
}

/// From here until [`end_purge`] the statement that this connection runs may delete rows for good that are deleted already.
///
/// Safety: connected, in the memory that `connect` has made the current one.
pub unsafe fn begin_purge(before: Option<i64>) {
    // SAFETY: the purge lives as long as the transaction, whose end forgets it; every field is written before anybody
    // sees it.
    unsafe {
        let purge: *mut Purge = raw::allocate_for_transaction(1);
        *purge =
            Purge { outer: PURGE, since: pg_sys::GetCurrentSubTransactionId(), before, executions: raw::executions() };
        PURGE = purge;
    }
}

/// Safety: after [`begin_purge`], in the same transaction.
pub unsafe fn end_purge() {
    // SAFETY: it lives as long as the transaction.
    unsafe {
        if !PURGE.is_null() {
            PURGE = (*PURGE).outer;
        }
    }
}

/// At the end of a transaction, however it ends: what this points at goes with its memory, or is forgotten right after it.
pub fn forget() {
    // SAFETY: written in the backend's only thread; nothing of this session's is being deleted any more.
    unsafe {
        COUNT = 0;
        OF_TRANSACTION = null_mut();
        PURGE = null_mut();
    }
}

/// When a savepoint is rolled back: what began in it is no more, and what it has written of the rest is not written.
pub fn forget_since(subid: u32) {
    // SAFETY: in the backend's only thread; deletions and purges live in the memory of the transaction, which goes on.
    unsafe {
        while COUNT > 0 && (*last()).subid >= subid {
            COUNT -= 1;
        }
        if !OF_TRANSACTION.is_null() {
            if (*OF_TRANSACTION).begun >= subid {
                OF_TRANSACTION = null_mut();
            } else if (*OF_TRANSACTION).written >= subid {
                (*OF_TRANSACTION).written = 0;
            }
        }
        let mut i = 0;
        while i < COUNT {
            let deletion = (*frame(i)).deletion;
            if !deletion.is_null() && (*deletion).written >= subid {
                (*deletion).written = 0;
            }
            i += 1;
        }
        while !PURGE.is_null() && (*PURGE).since >= subid {
            PURGE = (*PURGE).outer;
        }
    }
}
