//! Whose statements are they that this process runs? Nobody's: those of our own on our tables, and all of a process that only keeps
//! house. A job's: all of an executor. Whoever counts statements or looks at them asks here.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// This process is quiet for good.
static OFF: AtomicBool = AtomicBool::new(false);
static FOR_A_JOB: AtomicBool = AtomicBool::new(false);
/// So many [`Quiet`] live.
static QUIET: AtomicU32 = AtomicU32::new(0);

/// Nothing that this process runs counts from now on.
pub fn ignore_this_process() {
    OFF.store(true, Relaxed);
}

/// This process works for a job from now on.
pub fn work_for_a_job() {
    FOR_A_JOB.store(true, Relaxed);
}

#[inline]
pub fn works_for_a_job() -> bool {
    FOR_A_JOB.load(Relaxed)
}

/// While it lives, nothing counts.
pub struct Quiet(());

impl Quiet {
    pub fn begin() -> Self {
        QUIET.store(QUIET.load(Relaxed).wrapping_add(1), Relaxed);
        Quiet(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        QUIET.store(QUIET.load(Relaxed).saturating_sub(1), Relaxed);
    }
}

/// Whoever was quiet may have been jumped over by an error.
pub fn reset() {
    QUIET.store(0, Relaxed);
}

/// Called for everybody's statements: two plain reads.
#[inline]
pub fn is_quiet() -> bool {
    OFF.load(Relaxed) || QUIET.load(Relaxed) != 0
}
