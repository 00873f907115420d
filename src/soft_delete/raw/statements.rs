//! What has begun for somebody's statement and ends with it. It is found by the statement itself, never by the table that
//! the statement is about: triggers of other people's run others on the same table in the middle of it.
//!
//! A statement is told by the memory of its execution. Its triggers are called in a context for one row, whose parent that
//! is: in BEFORE and INSTEAD OF triggers, and in the AFTER triggers at its end. The server says when that memory goes. If
//! something is unfinished then, the trigger that ends it has not come (somebody asked for a number of rows by SPI and the
//! execution stopped there, or the trigger was taken off) and never will: the transaction is not allowed to keep what there
//! is of it.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, MemoryContext, Oid};

use crate::server::raw::unguarded::{MemoryContextDelete, MemoryContextRegisterResetCallback, get_rel_name};
use crate::server::raw::{self, Report};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// DELETE on a live view.
    Delete,
    /// UPDATE of a table that sets or clears deletions by hand.
    Update,
}

/// The first field of what belongs to a statement. In a memory context of its own.
#[repr(C)]
pub struct Begun {
    next: *mut Begun,
    kind: Kind,
    /// The memory of the execution; null: it is over.
    query: MemoryContext,
    relid: Oid,
    subid: u32,
    watch: *mut Watch,
    pub context: MemoryContext,
    /// Rows that the end of the statement has yet to see to.
    pub unfinished: u64,
    /// A frame further out is at work with it.
    pub busy: bool,
}

/// In the memory of the execution, because the server calls it when that goes.
struct Watch {
    callback: pg_sys::MemoryContextCallback,
    /// Null: it has ended as it should, or was rolled back.
    begun: *mut Begun,
}

/// The innermost in front.
static mut FIRST: *mut Begun = null_mut();

/// In a trigger, before anything else has changed the memory context: the execution that has fired it.
///
/// Safety: in a function that the server calls.
pub unsafe fn query() -> MemoryContext {
    // SAFETY: there always is a current context.
    unsafe { (*pg_sys::CurrentMemoryContext).parent }
}

pub fn none() -> bool {
    // SAFETY: read in the backend's only thread.
    unsafe { FIRST.is_null() }
}

/// Null: nothing has begun there.
///
/// Safety: a `T` begins with a [`Begun`], and what begins as that kind is a `T`.
pub unsafe fn find<T>(kind: Kind, query: MemoryContext, relid: Oid) -> *mut T {
    // SAFETY: what is in the list is there: it is taken out before its memory goes.
    unsafe {
        let mut begun = FIRST;
        while !begun.is_null() && ((*begun).query != query || (*begun).relid != relid || (*begun).kind != kind) {
            begun = (*begun).next;
        }
        begun.cast()
    }
}

/// Room for a `T`, whose first field is written: the rest is the caller's to write.
///
/// Safety: as [`find`]; `query` is the memory of an execution of this transaction.
pub unsafe fn begin<T>(kind: Kind, query: MemoryContext, relid: Oid) -> *mut T {
    // SAFETY: both are written before they are linked: `begun` in memory of the transaction, whose end takes it out
    // of the list, and the watch in that of the execution, which says when it goes.
    unsafe {
        let context = raw::new_context(pg_sys::TopTransactionContext);
        let begun: *mut Begun = raw::allocate_in::<T>(context, 1).cast();
        let watch: *mut Watch = raw::allocate_in(query, 1);
        *begun = Begun {
            next: FIRST,
            kind,
            query,
            relid,
            subid: pg_sys::GetCurrentSubTransactionId(),
            watch,
            context,
            unfinished: 0,
            busy: false,
        };
        *watch = Watch {
            callback: pg_sys::MemoryContextCallback { func: Some(is_over), arg: watch.cast(), next: null_mut() },
            begun,
        };
        MemoryContextRegisterResetCallback(query, &raw mut (*watch).callback);
        FIRST = begun;
        begun.cast()
    }
}

/// The memory of the execution goes. Nothing here may fail, or free what others hold.
///
/// Safety: called by the server, once, with the watch that was registered.
unsafe extern "C-unwind" fn is_over(watch: *mut c_void) {
    // SAFETY: the watch is still there: callbacks come before memory goes. What it watches takes itself off when it
    // goes first.
    unsafe {
        let begun = (*watch.cast::<Watch>()).begun;
        if !begun.is_null() {
            (*begun).query = null_mut();
            (*begun).watch = null_mut();
        }
    }
}

/// It has ended as it should; its memory goes.
///
/// Safety: nobody uses it any more; one that is not in the list is left alone.
pub unsafe fn end(begun: *mut Begun) {
    // SAFETY: what is in the list is there; it is taken out before its memory goes, and so is what would tell it of
    // the end.
    unsafe {
        let mut link = &raw mut FIRST;
        while !(*link).is_null() && *link != begun {
            link = &raw mut (**link).next;
        }
        if !(*link).is_null() {
            *link = (*begun).next;
            stop_watching(begun);
            MemoryContextDelete((*begun).context);
        }
    }
}

/// Safety: it is there.
unsafe fn stop_watching(begun: *mut Begun) {
    // SAFETY: a watch tells when it goes, so one that is not null is there.
    unsafe {
        if !(*begun).watch.is_null() {
            (*(*begun).watch).begun = null_mut();
            (*begun).watch = null_mut();
        }
    }
}

/// At the end of a transaction: all that has begun in it is dropped. Its memory goes with the transaction.
pub fn forget() {
    // SAFETY: in the backend's only thread, and what is in front of the list is there as long as it is in it.
    unsafe {
        while !FIRST.is_null() {
            stop_watching(FIRST);
            FIRST = (*FIRST).next;
        }
    }
}

/// When a savepoint is rolled back: what has begun since is dropped, with its memory.
///
/// Safety: no frame that holds any of it is left.
pub unsafe fn forget_since(subid: u32) {
    // SAFETY: as the caller promises. The newest are in front: while a savepoint is the current one, nothing begins further out.
    unsafe {
        while !FIRST.is_null() && (*FIRST).subid >= subid {
            let begun = FIRST;
            FIRST = (*begun).next;
            stop_watching(begun);
            MemoryContextDelete((*begun).context);
        }
    }
}

/// An error if a statement that has begun since that savepoint (0: in this transaction) is over and was not ended.
///
/// Safety: nothing above has anything to drop.
pub unsafe fn refuse_unfinished(subid: u32) {
    // SAFETY: what is in the list is there.
    unsafe {
        let mut begun = FIRST;
        while !begun.is_null() {
            if (*begun).query.is_null() && (*begun).unfinished > 0 && (*begun).subid >= subid {
                refuse(begun);
            }
            begun = (*begun).next;
        }
    }
}

/// Safety: it is there.
unsafe fn refuse(begun: *mut Begun) -> ! {
    // SAFETY: the name is null or ends in a zero; the message is in the server's memory.
    unsafe {
        let what = if (*begun).kind == Kind::Delete { c"a DELETE on view \"" } else { c"an UPDATE of table \"" };
        let name = get_rel_name((*begun).relid);
        let name = if name.is_null() { c"?".as_ptr() } else { name.cast_const() };
        let message = raw::concat(&[what.as_ptr(), name, c"\" was stopped before its end".as_ptr()]);
        raw::raise(&Report {
            detail: c"Rows were deleted, and what references them was not seen to: the statement was run with a \
                limit on the number of its rows, or the trigger at its end was taken off."
                .as_ptr(),
            hint: c"Run it without such a limit, or limit it by its condition. \
                SELECT * FROM upkeep.soft_delete_drift; shows triggers that are missing."
                .as_ptr(),
            ..Report::with(c"55000", message)
        })
    }
}
