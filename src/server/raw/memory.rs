//! The server's memory, and values made in it: an error that passes gives it back with its context.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, Datum, Oid};

use crate::server::raw::unguarded::{
    AllocSetContextCreateInternal, MemoryContextAlloc, accumArrayResult, cstring_to_text, datumCopy, initArrayResult,
    makeArrayResult, palloc, palloc0, text_to_cstring,
};

pub unsafe fn copy(value: Datum, by_value: bool, length: i16) -> Datum {
    unsafe { datumCopy(value, by_value, length.into()) }
}

/// Memory of the current context for `count` values, zeroed.
pub unsafe fn allocate<T>(count: usize) -> *mut T {
    unsafe { palloc0((size_of::<T>() * count).max(1)).cast() }
}

/// Memory that lives as long as the transaction.
pub unsafe fn allocate_for_transaction<T>(count: usize) -> *mut T {
    unsafe { allocate_in(pg_sys::TopTransactionContext, count) }
}

pub unsafe fn allocate_in<T>(context: pg_sys::MemoryContext, count: usize) -> *mut T {
    unsafe { MemoryContextAlloc(context, (size_of::<T>() * count).max(1)).cast() }
}

/// A memory context of its own, which goes with its parent at the latest.
pub unsafe fn new_context(parent: pg_sys::MemoryContext) -> pg_sys::MemoryContext {
    unsafe {
        AllocSetContextCreateInternal(
            parent,
            c"pg_upkeep".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        )
    }
}

pub unsafe fn text(text: *const c_char) -> Datum {
    unsafe { Datum::from(cstring_to_text(text)) }
}

pub unsafe fn to_c(text: Datum) -> *mut c_char {
    unsafe { text_to_cstring(text.cast_mut_ptr()) }
}

/// The pieces one after the other, in the server's memory.
pub unsafe fn concat(pieces: &[*const c_char]) -> *mut c_char {
    unsafe {
        let mut length = 1;
        for &piece in pieces {
            length += CStr::from_ptr(piece).count_bytes();
        }
        let whole: *mut c_char = palloc(length).cast();
        let mut at = whole;
        for &piece in pieces {
            let count = CStr::from_ptr(piece).count_bytes();
            std::ptr::copy_nonoverlapping(piece, at, count);
            at = at.add(count);
        }
        *at = 0;
        whole
    }
}

/// An array that is being built, in a memory context that it does not leave.
pub struct Array {
    state: *mut pg_sys::ArrayBuildState,
    element: Oid,
}

impl Array {
    pub unsafe fn new(element: Oid) -> Self {
        unsafe { Array::new_in(element, pg_sys::CurrentMemoryContext) }
    }

    pub unsafe fn new_in(element: Oid, context: pg_sys::MemoryContext) -> Self {
        unsafe { Array { state: initArrayResult(element, context, false), element } }
    }

    pub unsafe fn add(&mut self, value: Datum, null: bool) {
        unsafe { self.state = accumArrayResult(self.state, value, null, self.element, pg_sys::CurrentMemoryContext) };
    }

    pub unsafe fn finish(self) -> Datum {
        unsafe { makeArrayResult(self.state, pg_sys::CurrentMemoryContext) }
    }
}
