//! Who may have jobs, how many workers they get, and how long a batch takes.

use std::ffi::CString;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::text;

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static BATCH_TIME: GucSetting<i32> = GucSetting::<i32>::new(200);
static MAX_ROW_TIME: GucSetting<i32> = GucSetting::<i32>::new(5 * 60 * 1000);
static JOB_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60);
static ADMIN_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MAX_JOBS_PER_ROLE: GucSetting<i32> = GucSetting::<i32>::new(100);

/// Shortest and longest batch a person may ask for, in ms.
pub const BATCH_TIME_RANGE: std::ops::RangeInclusive<i32> = 10..=60_000;
/// Most workers that one job may have.
pub const MAX_WORKERS_PER_JOB: i32 = 64;

pub fn define() {
    GucRegistry::define_bool_guc(
        c"upkeep.enabled",
        c"Lets background workers start work.",
        c"Off before the first start of a copied server keeps it from carrying on with the jobs of the original.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"upkeep.max_workers",
        c"Maximum number of job workers that run at the same time on this server.",
        c"Each needs one of max_worker_processes, beside one launcher and one scheduler per busy database.",
        &MAX_WORKERS,
        0,
        MAX_WORKERS_PER_JOB,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"upkeep.databases",
        c"Comma-separated list of the databases in which jobs run.",
        c"Empty means every database that accepts connections and is no template.",
        &DATABASES,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"upkeep.batch_time",
        c"How long one transaction of a job should take.",
        c"Batches grow and shrink to meet it; a job's own batch_time goes before it.",
        &BATCH_TIME,
        *BATCH_TIME_RANGE.start(),
        *BATCH_TIME_RANGE.end(),
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"upkeep.max_row_time",
        c"A row that takes a job longer than this is put aside.",
        c"A step of a job that is about no single row ends in an error soon after. -1 or 0 is no limit.",
        &MAX_ROW_TIME,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"upkeep.job_retention",
        c"How long finished jobs stay in upkeep.jobs.",
        c"-1 keeps them for ever.",
        &JOB_RETENTION,
        -1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    );
    GucRegistry::define_string_guc(
        c"upkeep.admin_role",
        c"Role whose members may pause, cancel and drop the jobs of others, and pause and end their schedules.",
        c"Empty means superusers only.",
        &ADMIN_ROLE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"upkeep.max_jobs_per_role",
        c"Maximum number of unfinished jobs that one role may own in a database.",
        c"",
        &MAX_JOBS_PER_ROLE,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::default(),
    );
}

pub fn enabled() -> bool {
    ENABLED.get()
}

pub fn max_workers() -> i32 {
    MAX_WORKERS.get()
}

/// May jobs run in this database?
pub fn allows_database(name: &str) -> bool {
    let list = text(&DATABASES);
    list.trim().is_empty() || list.split(',').any(|item| item.trim().trim_matches('"') == name)
}

pub fn databases() -> String {
    text(&DATABASES)
}

pub fn batch_time() -> Duration {
    Duration::from_millis(BATCH_TIME.get() as u64)
}

/// `None`: no limit.
pub fn max_row_time() -> Option<Duration> {
    u64::try_from(MAX_ROW_TIME.get()).ok().filter(|&ms| ms > 0).map(Duration::from_millis)
}

/// `None`: for ever.
pub fn job_retention() -> Option<Duration> {
    u64::try_from(JOB_RETENTION.get()).ok().map(|minutes| Duration::from_secs(60 * minutes))
}

/// `None`: superusers only.
pub fn admin_role() -> Option<String> {
    Some(text(&ADMIN_ROLE)).filter(|role| !role.is_empty())
}

pub fn max_jobs_per_role() -> i64 {
    MAX_JOBS_PER_ROLE.get().into()
}
