//! The server's memory, and values made in it: an error that passes gives it back with its context.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::{self, Datum, Oid};

use super::unguarded::{
    AllocSetContextCreateInternal, MemoryContextAlloc, accumArrayResult, cstring_to_text, datumCopy, initArrayResult,
    makeArrayResult, palloc, palloc0, text_to_cstring,
};

/// Safety: a value of such a type.
pub unsafe fn copy(value: Datum, by_value: bool, length: i16) -> Datum {
    // SAFETY: as the caller promises.
    unsafe { datumCopy(value, by_value, length.into()) }
}

/// Memory of the current context for `count` values, zeroed.
///
/// Safety: all zeroes are a `T`.
pub unsafe fn allocate<T>(count: usize) -> *mut T {
    // SAFETY: room for `count` of them, aligned as the server aligns everything.
    unsafe { palloc0((size_of::<T>() * count).max(1)).cast() }
}

/// Memory that lives as long as the transaction.
///
/// Safety: in a transaction. The caller writes before he reads.
pub unsafe fn allocate_for_transaction<T>(count: usize) -> *mut T {
    // SAFETY: the context is there for as long as the transaction.
    unsafe { allocate_in(pg_sys::TopTransactionContext, count) }
}

/// Safety: a context of the server's. The caller writes before he reads.
pub unsafe fn allocate_in<T>(context: pg_sys::MemoryContext, count: usize) -> *mut T {
    // SAFETY: as the caller promises; aligned as the server aligns everything.
    unsafe { MemoryContextAlloc(context, (size_of::<T>() * count).max(1)).cast() }
}

/// A memory context of its own, which goes with its parent at the latest.
///
/// Safety: a context of the server's.
pub unsafe fn new_context(parent: pg_sys::MemoryContext) -> pg_sys::MemoryContext {
    // SAFETY: as the caller promises; the name is static, as it has to be.
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

/// Safety: it ends in a zero.
pub unsafe fn text(text: *const c_char) -> Datum {
    // SAFETY: as the caller promises; copied.
    unsafe { Datum::from(cstring_to_text(text)) }
}

/// Safety: a text.
pub unsafe fn to_c(text: Datum) -> *mut c_char {
    // SAFETY: as the caller promises; copied.
    unsafe { text_to_cstring(text.cast_mut_ptr()) }
}

/// The pieces one after the other, in the server's memory.
///
/// Safety: each ends in a zero.
pub unsafe fn concat(pieces: &[*const c_char]) -> *mut c_char {
    // SAFETY: the pieces together, and the zero, are as long as what was allocated.
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
    /// Safety: `element` is a type.
    pub unsafe fn new(element: Oid) -> Self {
        // SAFETY: the current context is there.
        unsafe { Array::new_in(element, pg_sys::CurrentMemoryContext) }
    }

    /// Safety: `element` is a type; the context lives as long as this.
    pub unsafe fn new_in(element: Oid, context: pg_sys::MemoryContext) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Array { state: initArrayResult(element, context, false), element } }
    }

    /// Safety: a value of the element's type.
    pub unsafe fn add(&mut self, value: Datum, null: bool) {
        // SAFETY: the state is the server's own, in a context that lives as long as this.
        unsafe { self.state = accumArrayResult(self.state, value, null, self.element, pg_sys::CurrentMemoryContext) };
    }

    /// Safety: in the memory that is to hold the array.
    pub unsafe fn finish(self) -> Datum {
        // SAFETY: the state is complete after each `add`.
        unsafe { makeArrayResult(self.state, pg_sys::CurrentMemoryContext) }
    }
}
