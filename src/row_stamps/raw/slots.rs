//! Rows in the server's slots, and what their columns are.

use pgrx::pg_sys::{self, TupleDesc, TupleTableSlot};

use crate::server::raw::unguarded::slot_getsomeattrs_int;

/// A column as the relation cache has it; `number` counts from 0 and exists.
#[cfg(feature = "pg18")]
pub unsafe fn attribute(descriptor: TupleDesc, number: usize) -> *const pg_sys::FormData_pg_attribute {
    unsafe {
        let after = (*descriptor).compact_attrs.as_ptr().add((*descriptor).natts as usize);
        after.cast::<pg_sys::FormData_pg_attribute>().add(number)
    }
}

#[cfg(not(feature = "pg18"))]
pub unsafe fn attribute(descriptor: TupleDesc, number: usize) -> *const pg_sys::FormData_pg_attribute {
    unsafe { (*descriptor).attrs.as_ptr().add(number) }
}

/// All columns of the slot can be read from `tts_values` afterwards.
pub unsafe fn fill_slot(slot: *mut TupleTableSlot) {
    unsafe {
        let columns = (*(*slot).tts_tupleDescriptor).natts;
        if i32::from((*slot).tts_nvalid) < columns {
            slot_getsomeattrs_int(slot, columns);
        }
    }
}
