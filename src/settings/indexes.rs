//! When an index is called unused.

use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static INDEX_MIN_AGE: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60 * 60);

pub fn define() {
    GucRegistry::define_int_guc(
        c"upkeep.index_min_age",
        c"How long an index must have been watched, here and on standbys, before it is called unused.",
        c"",
        &INDEX_MIN_AGE,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
}

pub fn index_min_age() -> Duration {
    Duration::from_secs(INDEX_MIN_AGE.get() as u64)
}
