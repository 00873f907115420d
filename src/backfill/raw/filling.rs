//! `upkeep._is_filling(uuid)`: is this process at work on that job? Part of the WHEN of its trigger, so that what the
//! job itself updates is not filled a second time.
//!
//! A C variable says so, which no SQL can set (LAW 6). Called for rows of anyone's statements: a raw V1 function in
//! which nothing allocates, locks or fails (LAWS 12, 13).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pgrx::{Uuid, pg_sys};

use crate::server::raw::version_1;

/// The job of this process, if it is an executor's: its two halves. No uuid of a job is all zeroes.
static JOB: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// From here on this process works on this job, and on no other.
pub fn works_on(job: Uuid) {
    let halves = halves(*job.as_bytes());
    JOB[0].store(halves[0], Relaxed);
    JOB[1].store(halves[1], Relaxed);
}

#[inline(always)]
fn halves(bytes: [u8; 16]) -> [u64; 2] {
    let value = u128::from_ne_bytes(bytes);
    [(value >> 64) as u64, value as u64]
}

version_1!(pg_finfo_upkeep_is_filling);

/// # Safety
/// Called by the server with one uuid that is not null (STRICT).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn upkeep_is_filling(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: a uuid is passed by reference, and stays while we are called.
    unsafe {
        let uuid = (*(*fcinfo).args.as_ptr()).value.cast_mut_ptr::<[u8; 16]>();
        let halves = halves(*uuid);
        pg_sys::Datum::from(JOB[0].load(Relaxed) == halves[0] && JOB[1].load(Relaxed) == halves[1])
    }
}
