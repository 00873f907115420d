//! `upkeep._in_stride(tid, integer, integer)`: is this row of its page in that stride?
//!
//! It is called once per row and stride, ten times a row of the table: a raw V1
//! function, because pgrx's guard costs more than the whole filter (a scan of
//! the table in ten strides took 6.75 s of CPU with it, 4.94 s without).

use pgrx::pg_sys;

use crate::server::raw::version_1;

version_1!(pg_finfo_upkeep_in_stride, pg_finfo_upkeep_in_stride_before);

/// # Safety
/// Called by the server with (tid, strides, stride), none of them null (STRICT).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_in_stride(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called with the arguments that `in_stride` wants.
    unsafe { pg_sys::Datum::from(in_stride(fcinfo)) }
}

/// The same for rows that are older than a run: (tid, strides, stride, xmin, since, span).
/// A row version written within `span` transactions from `since` on belongs to the run
/// itself, or to others meanwhile; those are left to its verification. The comparison
/// wraps round with the transaction counter.
///
/// # Safety
/// Called by the server with six arguments, none of them null (STRICT).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_in_stride_before(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the server passes six arguments, of which the first three are those of `in_stride`.
    unsafe {
        let older = || {
            let since = argument(fcinfo, 4).value() as u32;
            let span = argument(fcinfo, 5).value() as u32;
            (argument(fcinfo, 3).value() as u32).wrapping_sub(since) >= span
        };
        pg_sys::Datum::from(in_stride(fcinfo) && older())
    }
}

/// Safety: the server's call with (tid, strides, stride, ..), none of them null.
#[inline(always)]
unsafe fn in_stride(fcinfo: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: a tid is passed by reference, and stays while we are called.
    unsafe {
        let tid = argument(fcinfo, 0).cast_mut_ptr::<pg_sys::ItemPointerData>();
        let strides = argument(fcinfo, 1).value() as u32;
        let stride = argument(fcinfo, 2).value() as u32;
        // No division by zero: nothing here may panic.
        strides != 0 && u32::from((*tid).ip_posid) % strides == stride
    }
}

/// Safety: the server's call of a function that has so many arguments.
#[inline(always)]
unsafe fn argument(fcinfo: pg_sys::FunctionCallInfo, index: usize) -> pg_sys::Datum {
    // SAFETY: the server passes as many arguments as the function is declared with.
    unsafe { (*(*fcinfo).args.as_ptr().add(index)).value }
}
