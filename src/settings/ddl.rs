//! How long DDL of ours may be in the way of others.

use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static DDL_LOCK_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(200);

pub fn define() {
    GucRegistry::define_int_guc(
        c"upkeep.ddl_lock_timeout",
        c"How long one attempt to change a table may wait for its locks and hold them.",
        c"Who comes later waits as long behind it. Attempts are repeated, with pauses at least 20 times as long.",
        &DDL_LOCK_TIMEOUT,
        10,
        10_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

pub fn ddl_lock_timeout() -> Duration {
    Duration::from_millis(DDL_LOCK_TIMEOUT.get() as u64)
}
