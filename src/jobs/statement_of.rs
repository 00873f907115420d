//! Whose statement this worker runs at top level at this moment: what that asks for can be a part of its job.

use std::cell::Cell;

use pgrx::Uuid;

use crate::server::Oid;

thread_local! {
    static JOB: Cell<Option<(Uuid, Oid)>> = const { Cell::new(None) };
}

/// Runs a statement of a job's, and its owner's.
pub fn run<T>(job: Uuid, owner: Oid, run: impl FnOnce() -> T) -> T {
    JOB.set(Some((job, owner)));
    let result = run();
    JOB.set(None);
    result
}

/// The job, and its owner.
pub fn job() -> Option<(Uuid, Oid)> {
    JOB.get()
}
