//! The server's functions, declared again because pgrx's own bindings catch and rebuild every error (LAW 12).

use std::ffi::{c_char, c_int, c_void};

use pgrx::pg_sys::{self, Datum, FunctionCallInfo, HeapTuple, MemoryContext, Oid, Relation, TupleDesc, TupleTableSlot};

unsafe extern "C-unwind" {
    pub fn palloc(size: usize) -> *mut c_void;
    pub fn MemoryContextAllocZero(context: MemoryContext, size: usize) -> *mut c_void;
    pub fn MemoryContextStrdup(context: MemoryContext, text: *const c_char) -> *mut c_char;
    pub fn slot_getsomeattrs_int(slot: *mut TupleTableSlot, attnum: c_int);
    pub fn heap_form_tuple(descriptor: TupleDesc, values: *mut Datum, nulls: *mut bool) -> HeapTuple;
    pub fn datum_image_eq(a: Datum, b: Datum, by_value: bool, length: c_int) -> bool;
    pub fn cstring_to_text_with_len(text: *const c_char, length: c_int) -> *mut pg_sys::varlena;
    pub fn pg_mbstrlen_with_len(text: *const c_char, length: c_int) -> c_int;
    pub fn pg_mbcliplen(text: *const c_char, length: c_int, limit: c_int) -> c_int;
    pub fn GetCurrentTransactionStartTimestamp() -> i64;
    pub fn GetCurrentStatementStartTimestamp() -> i64;
    pub fn GetCurrentTimestamp() -> i64;
    pub fn timestamptz_timestamp(fcinfo: FunctionCallInfo) -> Datum;
    pub fn DirectFunctionCall1Coll(
        function: unsafe extern "C-unwind" fn(FunctionCallInfo) -> Datum,
        collation: Oid,
        argument: Datum,
    ) -> Datum;
    pub fn GetOuterUserId() -> Oid;
    pub fn GetUserNameFromId(role: Oid, missing_ok: bool) -> *mut c_char;
    pub fn InNoForceRLSOperation() -> bool;
    pub fn pg_trigger_depth(fcinfo: FunctionCallInfo) -> Datum;

    pub fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    pub fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
    pub fn errcode(sqlstate: c_int) -> c_int;
    pub fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    pub fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    pub fn errhint(fmt: *const c_char, ...) -> c_int;
    pub fn errtablecol(relation: Relation, attnum: c_int) -> c_int;
}

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
