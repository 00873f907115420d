//! What this session is deleting. C variables, put right by callbacks when a transaction or savepoint is rolled back: errors
//! pass the engine without a word.

use std::ffi::{CStr, c_char, c_void};
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
static mut REGISTERED: bool = false;

pub fn register() {
    // SAFETY: once per session.
    unsafe {
        if !REGISTERED {
            pg_sys::RegisterXactCallback(Some(at_end), null_mut());
            pg_sys::RegisterSubXactCallback(Some(at_end_of_savepoint), null_mut());
            REGISTERED = true;
        }
    }
}

unsafe fn new_deletion(reason: *const c_char) -> *mut Deletion {
    unsafe {
        register();
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

unsafe fn keep(text: *const c_char) -> *mut c_char {
    unsafe {
        let length = CStr::from_ptr(text).count_bytes() + 1;
        let copy: *mut c_char = raw::allocate_for_transaction(length);
        std::ptr::copy_nonoverlapping(text, copy, length);
        copy
    }
}

/// A deletion of its own, for a call of soft_delete().
pub unsafe fn begin(reason: *const c_char) -> *mut Deletion {
    unsafe { new_deletion(reason) }
}

/// The deletion that a row deleted now belongs to: the one under way, else the transaction's.
pub unsafe fn current() -> *mut Deletion {
    unsafe {
        if COUNT > 0 && !FRAMES[COUNT - 1].undeletes {
            return FRAMES[COUNT - 1].deletion;
        }
        if OF_TRANSACTION.is_null() {
            OF_TRANSACTION = new_deletion(std::ptr::null());
        }
        OF_TRANSACTION
    }
}

/// That deletion is undone: what is deleted from here on is another one.
pub unsafe fn close(id: *const [u8; 16]) {
    unsafe {
        if !OF_TRANSACTION.is_null() && (*OF_TRANSACTION).id == *id {
            OF_TRANSACTION = null_mut();
        }
    }
}

/// From here until [`leave`] the statement that this connection runs is ours.
pub unsafe fn enter(relid: Oid, deletion: *mut Deletion, undeletes: bool) {
    unsafe {
        register();
        if COUNT == DEPTH {
            raw::raise(&raw::Report::new(c"54001", c"deletions are nested too deeply"));
        }
        let executions = raw::executions();
        if executions.is_null() {
            raw::raise(&raw::Report::new(c"XX000", c"a statement of soft delete is run outside of its connection"));
        }
        FRAMES[COUNT] = Frame {
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

pub unsafe fn leave() {
    unsafe { COUNT -= 1 };
}

/// The statement that was entered last only completes what somebody's UPDATE has begun.
pub unsafe fn complete() {
    unsafe { FRAMES[COUNT - 1].completes = true };
}

/// Is this the execution ([`super::statements::query`]) of the statement of ours that was entered last? Functions that it
/// calls, in a condition or a check, run others on the same table and at the same depth of triggers.
unsafe fn is_of_ours(query: MemoryContext) -> bool {
    unsafe { COUNT != 0 && is_child(query, FRAMES[COUNT - 1].executions) }
}

unsafe fn is_child(query: MemoryContext, executions: MemoryContext) -> bool {
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
    unsafe { fires_trigger() && FRAMES[COUNT - 1].completes }
}

/// Is the UPDATE of this table that is being executed somebody's own? `id`: the row's, null if it has none.
pub unsafe fn is_by_hand(query: MemoryContext, relid: Oid, id: *const [u8; 16]) -> bool {
    unsafe {
        if !is_of_ours(query) {
            return true;
        }
        let frame = FRAMES[COUNT - 1];
        let same = if id.is_null() { frame.undeletes } else { !frame.undeletes && *id == (*frame.deletion).id };
        !(same && frame.relid == relid)
    }
}

/// The purge whose statement is executed there; null: none is. What foreign keys delete counts as that statement's: the
/// server fires its triggers at the end of the statement that has set them off.
pub unsafe fn purge_of(query: MemoryContext) -> *const Purge {
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
pub unsafe fn begin_purge(before: Option<i64>) {
    register();
    unsafe {
        let purge: *mut Purge = raw::allocate_for_transaction(1);
        *purge =
            Purge { outer: PURGE, since: pg_sys::GetCurrentSubTransactionId(), before, executions: raw::executions() };
        PURGE = purge;
    }
}

pub unsafe fn end_purge() {
    unsafe {
        if !PURGE.is_null() {
            PURGE = (*PURGE).outer;
        }
    }
}

unsafe extern "C-unwind" fn at_end(event: pg_sys::XactEvent::Type, _arg: *mut c_void) {
    use pg_sys::XactEvent::*;
    if event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE {
        unsafe { super::statements::refuse_unfinished(0) };
    }
    if ![XACT_EVENT_COMMIT, XACT_EVENT_ABORT, XACT_EVENT_PREPARE].contains(&event) {
        return;
    }
    unsafe {
        COUNT = 0;
        OF_TRANSACTION = null_mut();
        PURGE = null_mut();
        super::statements::forget(0);
    }
    super::programs::forget_old();
}

unsafe extern "C-unwind" fn at_end_of_savepoint(
    event: pg_sys::SubXactEvent::Type,
    subid: u32,
    _parent: u32,
    _arg: *mut c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_PRE_COMMIT_SUB {
        unsafe { super::statements::refuse_unfinished(subid) };
    }
    if event != pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        return;
    }
    unsafe {
        while COUNT > 0 && FRAMES[COUNT - 1].subid >= subid {
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
            let deletion = FRAMES[i].deletion;
            if !deletion.is_null() && (*deletion).written >= subid {
                (*deletion).written = 0;
            }
            i += 1;
        }
        while !PURGE.is_null() && (*PURGE).since >= subid {
            PURGE = (*PURGE).outer;
        }
        super::statements::forget(subid);
    }
}
