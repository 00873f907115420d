//! Rows in the server's slots, and what their columns are.

use pgrx::pg_sys::{self, TupleDesc, TupleTableSlot};

use crate::server::raw::unguarded::slot_getsomeattrs_int;

/// A column as the relation cache has it; `number` counts from 0 and exists.
///
/// Safety: the descriptor of an open relation, which has the column.
#[cfg(feature = "pg18")]
pub unsafe fn attribute(descriptor: TupleDesc, number: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: since 18 the columns come behind their compact forms, as the server's TupleDescAttr() has it.
    unsafe {
        let after = (*descriptor).compact_attrs.as_ptr().add((*descriptor).natts as usize);
        after.cast::<pg_sys::FormData_pg_attribute>().add(number)
    }
}

/// The same, before 18.
///
/// Safety: the descriptor of an open relation, which has the column.
#[cfg(not(feature = "pg18"))]
pub unsafe fn attribute(descriptor: TupleDesc, number: usize) -> *const pg_sys::FormData_pg_attribute {
    // SAFETY: as the caller promises.
    unsafe { (*descriptor).attrs.as_ptr().add(number) }
}

/// All columns of the slot can be read from `tts_values` afterwards.
///
/// Safety: a slot of the server's that holds a row.
pub unsafe fn fill_slot(slot: *mut TupleTableSlot) {
    // SAFETY: as the caller promises; a slot has a descriptor.
    unsafe {
        let columns = (*(*slot).tts_tupleDescriptor).natts;
        if i32::from((*slot).tts_nvalid) < columns {
            slot_getsomeattrs_int(slot, columns);
        }
    }
}
