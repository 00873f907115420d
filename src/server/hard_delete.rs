//! May this process delete rows of soft-deleted tables for good? A C variable says so while a purge does, which no SQL
//! can set (LAW 6).

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static DEPTH: AtomicU32 = AtomicU32::new(0);

struct Reset(u32);

impl Drop for Reset {
    fn drop(&mut self) {
        DEPTH.store(self.0, Relaxed);
    }
}

/// Runs statements that delete for good.
pub fn allowed<T>(f: impl FnOnce() -> T) -> T {
    let _reset = Reset(DEPTH.load(Relaxed));
    DEPTH.fetch_add(1, Relaxed);
    f()
}

/// Is one of them running? For the guards, which must not fail.
pub fn is_allowed() -> bool {
    DEPTH.load(Relaxed) > 0
}
