//! What is known of statements while they run: in the memory of each execution, and gone with it.

use std::ffi::c_void;
use std::ptr::null_mut;

use pgrx::pg_sys::{self, MemoryContext};

use crate::server::raw;
use crate::server::raw::unguarded::MemoryContextRegisterResetCallback;

struct Note<T> {
    callback: pg_sys::MemoryContextCallback,
    list: *mut Noted<T>,
    next: *mut Note<T>,
    query: MemoryContext,
    what: T,
}

/// The innermost statement's in front.
pub struct Noted<T> {
    first: *mut Note<T>,
}

impl<T: Copy> Noted<T> {
    pub const fn nothing() -> Self {
        Noted { first: null_mut() }
    }

    /// Safety: the list is a static of this process.
    pub unsafe fn is_empty(list: *const Self) -> bool {
        // SAFETY: one thread; what is in the list is there until its memory goes, which takes it out.
        unsafe { (*list).first.is_null() }
    }

    /// What was noted of an execution and is so.
    ///
    /// Safety: the list is a static of this process.
    pub unsafe fn find(list: *const Self, query: MemoryContext, is: impl Fn(T) -> bool) -> Option<T> {
        // SAFETY: as in `is_empty`.
        unsafe {
            let mut note = (*list).first;
            while !note.is_null() && ((*note).query != query || !is((*note).what)) {
                note = (*note).next;
            }
            if note.is_null() { None } else { Some((*note).what) }
        }
    }

    /// # Safety
    /// The list is a static of this process, which has one thread.
    pub unsafe fn add(list: *mut Self, query: MemoryContext, what: T) {
        // SAFETY: the note lives in the memory of the execution, with its callback, which takes it out of the list
        // when that memory goes. Nothing is linked before both are there.
        unsafe {
            let note: *mut Note<T> = raw::allocate_in(query, 1);
            *note = Note {
                callback: pg_sys::MemoryContextCallback { func: Some(forget::<T>), arg: note.cast(), next: null_mut() },
                list,
                next: (*list).first,
                query,
                what,
            };
            MemoryContextRegisterResetCallback(query, &raw mut (*note).callback);
            (*list).first = note;
        }
    }
}

/// The memory of the execution goes.
///
/// Safety: called by the server, once, with the note that was registered.
unsafe extern "C-unwind" fn forget<T>(note: *mut c_void) {
    // SAFETY: the note is still there: callbacks come before memory goes. The list is a static.
    unsafe {
        let note: *mut Note<T> = note.cast();
        let mut link = &raw mut (*(*note).list).first;
        while !(*link).is_null() && *link != note {
            link = &raw mut (**link).next;
        }
        if !(*link).is_null() {
            *link = (**link).next;
        }
    }
}
