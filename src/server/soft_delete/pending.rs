//! Rows whose deletion was set or cleared and that the end of their statement will see to: their keys, in the
//! transaction's memory.

use std::ptr::null_mut;

use pgrx::pg_sys::{self, Datum, Oid};

use super::engine::Keys;
use crate::server::raw;
use crate::soft_delete::program::Own;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Deleted through a view: the row says so already.
    Deleted,
    DeletedByHand,
    UndeletedByHand,
}

struct Node {
    next: *mut Node,
    relid: Oid,
    what: What,
    subid: u32,
    count: usize,
    values: *mut Datum,
    nulls: *mut bool,
}

static mut FIRST: *mut Node = null_mut();

/// Notes a row: attributes of `tuple`, by the numbers of `own`.
pub unsafe fn note(own: &Own, what: What, tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) {
    unsafe {
        super::state::register();
        let count = own.keys.len();
        let values: *mut Datum = raw::allocate_for_transaction(count);
        let nulls: *mut bool = raw::allocate_for_transaction(count);
        let context = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = pg_sys::TopTransactionContext;
        let mut i = 0;
        while i < count {
            let key = &*own.keys.as_ptr().add(i);
            let value = raw::attribute(tuple, desc, key.number);
            *nulls.add(i) = value.is_none();
            *values.add(i) = match value {
                Some(value) => raw::copy(value, key.by_value, key.length),
                None => Datum::from(0usize),
            };
            i += 1;
        }
        pg_sys::CurrentMemoryContext = context;
        let node: *mut Node = raw::allocate_for_transaction(1);
        let subid = pg_sys::GetCurrentSubTransactionId();
        *node = Node { next: FIRST, relid: own.relid, what, subid, count, values, nulls };
        FIRST = node;
    }
}

pub unsafe fn is_empty() -> bool {
    unsafe { FIRST.is_null() }
}

/// Takes the rows of a table that were noted as `what`, as arrays.
pub unsafe fn take(own: &Own, what: What) -> Option<Keys> {
    unsafe {
        let mut taken: *mut Node = null_mut();
        let mut link = &raw mut FIRST;
        let mut rows = 0;
        while !(*link).is_null() {
            let node = *link;
            if (*node).relid == own.relid && (*node).what == what {
                *link = (*node).next;
                (*node).next = taken;
                taken = node;
                rows += 1;
            } else {
                link = &raw mut (*node).next;
            }
        }
        if taken.is_null() {
            return None;
        }
        let keys = Keys::new(own.keys.len());
        let mut i = 0;
        while i < own.keys.len() {
            let key = &*own.keys.as_ptr().add(i);
            let mut array = raw::Array::new(key.type_oid);
            let mut node = taken;
            while !node.is_null() {
                if i < (*node).count {
                    array.add(*(*node).values.add(i), *(*node).nulls.add(i));
                }
                node = (*node).next;
            }
            *keys.arrays.add(i) = array.finish();
            i += 1;
        }
        Some(Keys { rows, ..keys })
    }
}

/// Drops what was noted since that savepoint; 0: everything.
pub unsafe fn forget(subid: u32) {
    unsafe {
        if subid == 0 {
            FIRST = null_mut();
            return;
        }
        let mut link = &raw mut FIRST;
        while !(*link).is_null() {
            if (**link).subid >= subid {
                *link = (**link).next;
            } else {
                link = &raw mut (**link).next;
            }
        }
    }
}
