//! Tables of which a statement has changed deleted rows: noted by triggers of rows, and asked for at the end of an INSERT.

use pgrx::pg_sys::{MemoryContext, Oid};

use super::noted::Noted;

static mut CHANGED: Noted<Oid> = Noted::nothing();

/// No statement that is under way has.
pub fn none() -> bool {
    // SAFETY: the list is a static of this process.
    unsafe { Noted::is_empty(&raw const CHANGED) }
}

pub fn is_noted(query: MemoryContext, relid: Oid) -> bool {
    // SAFETY: the list is a static of this process.
    unsafe { Noted::find(&raw const CHANGED, query, |noted| noted == relid).is_some() }
}

/// A deleted row was changed, by whatever of this statement.
///
/// Safety: the memory of an execution that is under way.
pub unsafe fn note_once(query: MemoryContext, relid: Oid) {
    // SAFETY: the list is a static of this process.
    unsafe {
        if !is_noted(query, relid) {
            Noted::add(&raw mut CHANGED, query, relid);
        }
    }
}
