//! Statements that are nobody's: those of our own on our tables, and all of a process that only keeps house. Whoever counts
//! statements or looks at them asks here.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// This process is quiet for good.
static OFF: AtomicBool = AtomicBool::new(false);
/// So many [`Quiet`] live.
static QUIET: AtomicU32 = AtomicU32::new(0);

/// Nothing that this process runs counts from now on.
pub fn ignore_this_process() {
    OFF.store(true, Relaxed);
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
