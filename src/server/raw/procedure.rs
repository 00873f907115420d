//! Waiting in a procedure without holding a snapshot (LAW 14).
//!
//! Only a non-atomic CALL may commit; a procedure with SET or SECURITY DEFINER is
//! always atomic, so such a procedure has neither and qualifies every name.

use std::ffi::c_int;
use std::time::Duration;

use pgrx::pg_sys;
pub use pgrx::pg_sys::FunctionCallInfo;

use crate::error::{ACTIVE_SQL_TRANSACTION, Error, Result};

/// A procedure that may commit between looks.
pub struct NonAtomic(());

impl NonAtomic {
    /// `name` is for the error that refuses to run inside of a transaction block.
    pub fn enter(call: pg_sys::FunctionCallInfo, name: &str) -> Result<Self> {
        if !unsafe { is_non_atomic_call(call) } {
            return Err(Error::new(ACTIVE_SQL_TRANSACTION, format!("{name} cannot run inside a transaction block"))
                .detail("It commits between its looks at the job, so that it holds no snapshot while it waits.")
                .hint(
                    "Call it in autocommit mode, on its own: CALL cannot be in a block, in a function or after \
                    other statements of one query; in a driver that opens transactions by itself, \
                    switch autocommit on.",
                ));
        }
        unsafe { pg_sys::SPI_connect_ext(pg_sys::SPI_OPT_NONATOMIC as c_int) };
        Ok(NonAtomic(()))
    }

    /// Reads, and ends the transaction that it read in.
    pub fn look<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        unsafe { pg_sys::EnsurePortalSnapshotExists() };
        let value = read()?;
        unsafe { pg_sys::SPI_commit() };
        Ok(value)
    }

    /// Sleeps with no transaction in progress that could hold anything back.
    pub fn wait(&self, time: Duration) {
        super::worker::wait_in_session(time);
    }

    pub fn leave(self) {
        unsafe { pg_sys::SPI_finish() };
    }
}

unsafe fn is_non_atomic_call(call: pg_sys::FunctionCallInfo) -> bool {
    unsafe {
        let context = (*call).context;
        !context.is_null()
            && (*context).type_ == pg_sys::NodeTag::T_CallContext
            && !(*context.cast::<pg_sys::CallContext>()).atomic
    }
}
