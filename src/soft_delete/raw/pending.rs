//! Rows whose deletion an UPDATE has set or cleared, and that its end will see to: their keys, in memory that belongs to that
//! statement.

use std::ptr::null_mut;

use pgrx::pg_sys::{self, Datum, MemoryContext};

use super::engine::{self, Keys};
use super::statements::{self, Begun, Kind};
use crate::server::raw;
use crate::soft_delete::program::{KeyColumn, Own};

const KINDS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    DeletedByHand,
    UndeletedByHand,
}

struct Node {
    next: *mut Node,
    values: *mut Datum,
    nulls: *mut bool,
}

#[repr(C)]
struct Rows {
    begun: Begun,
    /// Which keys a row has.
    columns: *mut KeyColumn,
    count: usize,
    /// One list for each [`What`].
    first: [*mut Node; KINDS],
}

/// Notes a row of that execution: attributes of `tuple`, by the numbers of `own`.
///
/// Safety: in a trigger of that execution; the tuple has that descriptor, and `own` is of its table.
pub unsafe fn note(query: MemoryContext, own: &Own, what: What, tuple: pg_sys::HeapTuple, desc: pg_sys::TupleDesc) {
    // SAFETY: lists, arrays and copies live in the context of `rows`, which is the execution's own; each has room for
    // `count` keys. An error leaves CurrentMemoryContext to the server, which sets it itself then.
    unsafe {
        let mut rows: *mut Rows = statements::find(Kind::Update, query, own.relid);
        if rows.is_null() {
            rows = statements::begin(Kind::Update, query, own.relid);
            (*rows).first = [null_mut(); KINDS];
            (*rows).count = own.keys.len();
            (*rows).columns = engine::columns_in((*rows).begun.context, own, own.keys.len());
        }
        let context = (*rows).begun.context;
        let count = own.keys.len();
        engine::require_columns((*rows).columns, (*rows).count, own, count);
        let node: *mut Node = raw::allocate_in(context, 1);
        let values: *mut Datum = raw::allocate_in(context, count);
        let nulls: *mut bool = raw::allocate_in(context, count);
        let before = pg_sys::CurrentMemoryContext;
        pg_sys::CurrentMemoryContext = context;
        let mut i = 0;
        while i < count {
            let key = &*own.keys.as_ptr().add(i);
            let value = raw::typed(tuple, desc, key.number, key.type_oid);
            *nulls.add(i) = value.is_none();
            *values.add(i) = match value {
                Some(value) => raw::copy(value, key.by_value, key.length),
                None => Datum::from(0usize),
            };
            i += 1;
        }
        pg_sys::CurrentMemoryContext = before;
        *node = Node { next: (*rows).first[what as usize], values, nulls };
        (*rows).first[what as usize] = node;
        (*rows).begun.unfinished += 1;
    }
}

/// What was noted, deleted and brought back; `None`: nothing.
pub struct Noted {
    pub deleted: Option<Keys>,
    pub undeleted: Option<Keys>,
}

/// Takes the rows of a table that were noted for that execution, as arrays in the memory of now.
///
/// Safety: in a trigger of that execution.
pub unsafe fn take(query: MemoryContext, own: &Own) -> Option<Noted> {
    // SAFETY: the nodes are as `note` made them, of the same columns; they are copied into arrays before their memory
    // goes.
    unsafe {
        let rows: *mut Rows = statements::find(Kind::Update, query, own.relid);
        if rows.is_null() {
            return None;
        }
        engine::require_columns((*rows).columns, (*rows).count, own, own.keys.len());
        let noted = Noted {
            deleted: keys((*rows).first[What::DeletedByHand as usize], own),
            undeleted: keys((*rows).first[What::UndeletedByHand as usize], own),
        };
        statements::end(rows.cast());
        Some(noted)
    }
}

/// Safety: nodes that [`note`] made, with as many values as `own` has keys.
unsafe fn keys(first: *mut Node, own: &Own) -> Option<Keys> {
    // SAFETY: as the caller promises.
    unsafe {
        if first.is_null() {
            return None;
        }
        let mut rows = 0;
        let mut node = first;
        while !node.is_null() {
            rows += 1;
            node = (*node).next;
        }
        let keys =
            Keys::new(rows, engine::columns_in(pg_sys::CurrentMemoryContext, own, own.keys.len()), own.keys.len());
        let mut i = 0;
        while i < own.keys.len() {
            let key = &*own.keys.as_ptr().add(i);
            let mut array = raw::Array::new(key.type_oid);
            node = first;
            while !node.is_null() {
                array.add(*(*node).values.add(i), *(*node).nulls.add(i));
                node = (*node).next;
            }
            keys.set(i, array.finish());
            i += 1;
        }
        Some(keys)
    }
}
