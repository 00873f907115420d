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

    pub unsafe fn is_empty(list: *const Self) -> bool {
        unsafe { (*list).first.is_null() }
    }

    /// What was noted of an execution and is so.
    pub unsafe fn find(list: *const Self, query: MemoryContext, is: impl Fn(T) -> bool) -> Option<T> {
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
unsafe extern "C-unwind" fn forget<T>(note: *mut c_void) {
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
