//! Rows whose deletion was set or cleared and that the end of their statement will see to: their keys, in the
//! transaction's memory.

use std::ptr::null_mut;

use pgrx::pg_sys::{self, Datum, Oid};

use super::engine::Keys;
use crate::server::raw;
use crate::soft_delete::program::Own;

const KINDS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    DeletedByHand,
    UndeletedByHand,
}

struct Node {
    next: *mut Node,
    relid: Oid,
    subid: u32,
    count: usize,
    values: *mut Datum,
    nulls: *mut bool,
}

/// One list for each [`What`]: every UPDATE of ours ends in a look at those by hand, which must not go through the others.
static mut FIRST: [*mut Node; KINDS] = [null_mut(); KINDS];

/// Notes a row: attributes of `tuple`, by the numbers of `own`.
pub unsafe fn note(own: &Own, what: What, tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) {
    unsafe {
        let subid = pg_sys::GetCurrentSubTransactionId();
        let count = own.keys.len();
        super::state::register();
        let size = size_of::<Node>() + count * (size_of::<Datum>() + size_of::<bool>());
        let node: *mut Node = raw::allocate_for_transaction::<u8>(size).cast();
        let values: *mut Datum = node.add(1).cast();
        let nulls: *mut bool = values.add(count).cast();
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
        *node = Node { next: FIRST[what as usize], relid: own.relid, subid, count, values, nulls };
        FIRST[what as usize] = node;
    }
}

pub unsafe fn is_empty(what: What) -> bool {
    unsafe { FIRST[what as usize].is_null() }
}

/// Takes the rows of a table that were noted as `what`, as arrays.
pub unsafe fn take(own: &Own, what: What) -> Option<Keys> {
    unsafe {
        let mut taken: *mut Node = null_mut();
        let mut link = &raw mut FIRST[what as usize];
        let (mut rows, mut complete) = (0, true);
        while !(*link).is_null() {
            let node = *link;
            if (*node).relid == own.relid {
                *link = (*node).next;
                (*node).next = taken;
                taken = node;
                rows += 1;
                complete &= (*node).count == own.keys.len();
            } else {
                link = &raw mut (*node).next;
            }
        }
        if taken.is_null() {
            return None;
        }
        if !complete {
            raw::raise(&raw::Report::new(c"40001", c"a key of the table has changed meanwhile"));
        }
        let keys = Keys::new(own.keys.len());
        let mut i = 0;
        while i < own.keys.len() {
            let key = &*own.keys.as_ptr().add(i);
            let mut array = raw::Array::new(key.type_oid);
            let mut node = taken;
            while !node.is_null() {
                array.add(*(*node).values.add(i), *(*node).nulls.add(i));
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
        let mut i = 0;
        while i < KINDS {
            // The newest are in front.
            while !FIRST[i].is_null() && (subid == 0 || (*FIRST[i]).subid >= subid) {
                FIRST[i] = if subid == 0 { null_mut() } else { (*FIRST[i]).next };
            }
            i += 1;
        }
    }
}
