//! Every setting. Policy is SIGHUP: a person's own wish is an argument instead.

mod ddl;
mod indexes;
mod jobs;
mod queries;
mod rows;
mod throttles;

use std::ffi::CString;

use pgrx::guc::GucSetting;

pub use ddl::ddl_lock_timeout;
pub use indexes::index_min_age;
pub use jobs::{
    BATCH_TIME_RANGE, MAX_WORKERS_PER_JOB, admin_role, allows_database, batch_time, databases, enabled, job_retention,
    max_jobs_per_role, max_row_time, max_workers,
};
pub use queries::{
    ReportedQueries, TRACK_ALL, TRACK_NONE, counts_queries, query_history_size, query_interval, query_max,
    query_retentions, report_queries, slow_query_min_duration, tracked,
};
pub use rows::{actor_place, allow_hard_delete};
pub use throttles::{SLOWDOWN_RANGE, Throttles, WORK_RATIO_RANGE, max_slowdown, throttles, worker_nice};

pub fn define() {
    jobs::define();
    throttles::define();
    ddl::define();
    indexes::define();
    rows::define();
    queries::define();
    crate::server::catalog::reserve_setting_prefix();
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map_or_else(String::new, |value| value.to_string_lossy().into_owned())
}
