//! Every setting. Policy is SIGHUP: a person's own wish is an argument instead.

use std::ffi::CString;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static MAX_WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);
static DATABASES: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static BATCH_TIME: GucSetting<i32> = GucSetting::<i32>::new(200);
static MAX_ROW_TIME: GucSetting<i32> = GucSetting::<i32>::new(5 * 60 * 1000);
static JOB_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60);
static ADMIN_ROLE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static MAX_JOBS_PER_ROLE: GucSetting<i32> = GucSetting::<i32>::new(100);
static MAX_REPLICA_LAG: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static MAX_REPLICA_LAG_BYTES: GucSetting<i32> = GucSetting::<i32>::new(-1);
static MAX_WAL_RATE: GucSetting<i32> = GucSetting::<i32>::new(-1);
static IGNORED_STANDBYS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static THROTTLE_WORK_RATIO: GucSetting<f64> = GucSetting::<f64>::new(1.0);
static MAX_ARCHIVE_BACKLOG: GucSetting<i32> = GucSetting::<i32>::new(64);
static MIN_FREE_DISK: GucSetting<i32> = GucSetting::<i32>::new(1024);
static WORKER_NICE: GucSetting<i32> = GucSetting::<i32>::new(10);
static SLOW_QUERY_MIN_DURATION: GucSetting<i32> = GucSetting::<i32>::new(1000);
static REPORT_QUERIES: GucSetting<ReportedQueries> = GucSetting::<ReportedQueries>::new(ReportedQueries::Clients);
static QUERY_MAX: GucSetting<i32> = GucSetting::<i32>::new(5000);
static QUERY_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static QUERY_MINUTE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(24 * 60);
static QUERY_HOUR_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(35 * 24 * 60);
static QUERY_DAY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(400 * 24 * 60);
static QUERY_HISTORY_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024);
static INDEX_MIN_AGE: GucSetting<i32> = GucSetting::<i32>::new(30 * 24 * 60 * 60);
static ALLOW_HARD_DELETE: GucSetting<bool> = GucSetting::<bool>::new(false);
static ACTOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// Whose statements reports show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum ReportedQueries {
    #[name = c"clients"]
    Clients,
    #[name = c"jobs"]
    Jobs,
    #[name = c"all"]
    All,
}

/// Shortest and longest batch a person may ask for, in ms.
pub const BATCH_TIME_RANGE: std::ops::RangeInclusive<i32> = 10..=60_000;
/// Least and greatest share of the time at work.
pub const WORK_RATIO_RANGE: std::ops::RangeInclusive<f64> = 0.01..=1.0;
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
    define_throttles();
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
    GucRegistry::define_string_guc(
        c"upkeep.actor",
        c"Who is at work, as an application knows him: what created_by, updated_by and deleted_by are set to.",
        c"Set per transaction, with SET LOCAL. Empty means the role that the session acts as.",
        &ACTOR,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"upkeep.allow_hard_delete",
        c"Lets DELETE and TRUNCATE remove rows for good from tables with soft delete.",
        c"",
        &ALLOW_HARD_DELETE,
        GucContext::Suset,
        GucFlags::default(),
    );
    // A wish and no policy: it only says what a view shows to whoever reads it.
    GucRegistry::define_int_guc(
        c"upkeep.slow_query_min_duration",
        c"Calls that took at least this long are in upkeep.slow_queries.",
        c"",
        &SLOW_QUERY_MIN_DURATION,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"upkeep.report_queries",
        c"Whose statements the functions and views that read the history show.",
        c"clients: all but what jobs execute; jobs: only that; all: both together.",
        &REPORT_QUERIES,
        GucContext::Userset,
        GucFlags::default(),
    );
    define_query_history();
    crate::queries::raw::executor::define_setting();
    if crate::server::worker::is_preloading() {
        define_preloaded();
    }
    crate::server::catalog::reserve_setting_prefix();
}

/// What sizes shared memory is there only when it can.
fn define_preloaded() {
    GucRegistry::define_int_guc(
        c"upkeep.query_max",
        c"How many statements upkeep.query_stats keeps apart on this server; those used least add up in others.",
        c"3.6 kB of shared memory each.",
        &QUERY_MAX,
        100,
        1_000_000,
        GucContext::Postmaster,
        GucFlags::default(),
    );
}

/// What is remembered of statements, and how long.
fn define_query_history() {
    let number = |name, short, long, setting, least, unit: GucFlags| {
        GucRegistry::define_int_guc(name, short, long, setting, least, i32::MAX, GucContext::Sighup, unit);
    };
    GucRegistry::define_int_guc(
        c"upkeep.query_interval",
        c"How often what statements cost is written to the history.",
        c"0 keeps no history.",
        &QUERY_INTERVAL,
        0,
        24 * 60 * 60,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    number(
        c"upkeep.query_minute_retention",
        c"How long the history of statements is kept in intervals of upkeep.query_interval.",
        c"Up to a seventh longer.",
        &QUERY_MINUTE_RETENTION,
        60,
        GucFlags::UNIT_MIN,
    );
    number(
        c"upkeep.query_hour_retention",
        c"How long the history of statements is kept by the hour.",
        c"Up to a seventh longer.",
        &QUERY_HOUR_RETENTION,
        24 * 60,
        GucFlags::UNIT_MIN,
    );
    number(
        c"upkeep.query_day_retention",
        c"How long the history of statements is kept by the day.",
        c"Up to a seventh longer.",
        &QUERY_DAY_RETENTION,
        24 * 60,
        GucFlags::UNIT_MIN,
    );
    number(
        c"upkeep.query_history_size",
        c"The history of statements of a database is kept shorter when it takes more disk space than this.",
        c"With indexes and texts. -1 is no limit.",
        &QUERY_HISTORY_SIZE,
        -1,
        GucFlags::UNIT_MB,
    );
}

/// What holds jobs back; a job's own limits can only be tighter.
fn define_throttles() {
    let number = |name, short, long, setting, least, most, unit: GucFlags| {
        GucRegistry::define_int_guc(name, short, long, setting, least, most, GucContext::Sighup, unit);
    };
    number(
        c"upkeep.max_replica_lag",
        c"Jobs wait while a standby, or a subscriber of their database, is further behind than this.",
        c"Also a replication slot that nobody is connected to. -1 turns it off.",
        &MAX_REPLICA_LAG,
        -1,
        i32::MAX,
        GucFlags::UNIT_MS,
    );
    number(
        c"upkeep.max_replica_lag_bytes",
        c"Jobs wait while a standby, or a subscriber of their database, lacks more WAL than this.",
        c"-1 turns it off.",
        &MAX_REPLICA_LAG_BYTES,
        -1,
        i32::MAX,
        GucFlags::UNIT_KB,
    );
    number(
        c"upkeep.max_wal_rate",
        c"Jobs slow down so that the whole server writes no more WAL than this, in kB/s.",
        c"-1 turns it off.",
        &MAX_WAL_RATE,
        -1,
        i32::MAX,
        GucFlags::default(),
    );
    GucRegistry::define_string_guc(
        c"upkeep.ignored_standbys",
        c"Comma-separated list of the standbys and replication slots that hold no job back.",
        c"By application_name or slot name; * means all.",
        &IGNORED_STANDBYS,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"upkeep.throttle_work_ratio",
        c"Share of the time that a worker of a job is at work; it rests after each batch accordingly.",
        c"",
        &THROTTLE_WORK_RATIO,
        *WORK_RATIO_RANGE.start(),
        *WORK_RATIO_RANGE.end(),
        GucContext::Sighup,
        GucFlags::default(),
    );
    number(
        c"upkeep.max_archive_backlog",
        c"Jobs wait while more WAL segments than this are to be archived.",
        c"-1 turns it off.",
        &MAX_ARCHIVE_BACKLOG,
        -1,
        i32::MAX,
        GucFlags::default(),
    );
    number(
        c"upkeep.worker_nice",
        c"By how much job workers give way to other processes for the processor.",
        c"Added to the server's own nice value, up to 19. A worker can only become nicer; less counts for new ones.",
        &WORKER_NICE,
        0,
        19,
        GucFlags::default(),
    );
    number(
        c"upkeep.min_free_disk",
        c"Jobs wait while the server has less free disk space than this.",
        c"On the file systems of the data directory, of pg_wal and of each tablespace. 0 turns it off.",
        &MIN_FREE_DISK,
        0,
        i32::MAX,
        GucFlags::UNIT_MB,
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

pub fn worker_nice() -> i32 {
    WORKER_NICE.get()
}

/// What holds every job back. `None`: nothing does.
pub struct Throttles {
    pub replica_lag: Option<Duration>,
    pub replica_lag_bytes: Option<u64>,
    /// Bytes a second.
    pub wal_rate: Option<u64>,
    pub ignored_standbys: String,
    pub work_ratio: f64,
    /// WAL segments.
    pub archive_backlog: Option<u64>,
    /// Bytes.
    pub free_disk: Option<u64>,
}

pub fn throttles() -> Throttles {
    let given = |setting: &GucSetting<i32>| u64::try_from(setting.get()).ok();
    Throttles {
        replica_lag: given(&MAX_REPLICA_LAG).map(Duration::from_millis),
        replica_lag_bytes: given(&MAX_REPLICA_LAG_BYTES).map(|kilobytes| kilobytes * 1024),
        wal_rate: given(&MAX_WAL_RATE).filter(|&rate| rate > 0).map(|kilobytes| kilobytes * 1024),
        ignored_standbys: text(&IGNORED_STANDBYS),
        work_ratio: THROTTLE_WORK_RATIO.get(),
        archive_backlog: given(&MAX_ARCHIVE_BACKLOG),
        free_disk: given(&MIN_FREE_DISK).filter(|&megabytes| megabytes > 0).map(|megabytes| megabytes << 20),
    }
}

/// Where the server keeps `upkeep.actor`: null or a text that lives until the setting changes. For the triggers of
/// anybody's rows, where nothing is to be copied (LAW 13).
pub fn actor_place() -> *const *mut std::ffi::c_char {
    ACTOR.as_ptr()
}

pub fn allow_hard_delete() -> bool {
    ALLOW_HARD_DELETE.get()
}

pub fn report_queries() -> ReportedQueries {
    REPORT_QUERIES.get()
}

/// In ms.
pub fn slow_query_min_duration() -> f64 {
    f64::from(SLOW_QUERY_MIN_DURATION.get())
}

/// Most statements kept apart in shared memory.
pub fn query_max() -> u32 {
    QUERY_MAX.get() as u32
}

/// `None`: no history.
pub fn query_interval() -> Option<Duration> {
    Some(QUERY_INTERVAL.get() as u64).filter(|&seconds| seconds > 0).map(Duration::from_secs)
}

/// Of intervals, hours and days.
pub fn query_retentions() -> [Duration; 3] {
    [&QUERY_MINUTE_RETENTION, &QUERY_HOUR_RETENTION, &QUERY_DAY_RETENTION]
        .map(|setting| Duration::from_secs(60 * setting.get() as u64))
}

/// Bytes. `None`: no limit.
pub fn query_history_size() -> Option<u64> {
    u64::try_from(QUERY_HISTORY_SIZE.get()).ok().map(|megabytes| megabytes << 20)
}

pub fn index_min_age() -> Duration {
    Duration::from_secs(INDEX_MIN_AGE.get() as u64)
}

fn text(setting: &GucSetting<Option<CString>>) -> String {
    setting.get().map_or_else(String::new, |value| value.to_string_lossy().into_owned())
}
