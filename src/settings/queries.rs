//! Which statements are counted, and what is remembered of them.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use crate::server::guc::{self, Words, word};
use crate::server::worker;

static SLOW_QUERY_MIN_DURATION: GucSetting<i32> = GucSetting::<i32>::new(1000);
static REPORT_QUERIES: GucSetting<ReportedQueries> = GucSetting::<ReportedQueries>::new(ReportedQueries::Clients);
static QUERY_MAX: GucSetting<i32> = GucSetting::<i32>::new(5000);
static QUERY_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static QUERY_MINUTE_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(24 * 60);
static QUERY_HOUR_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(35 * 24 * 60);
static QUERY_DAY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(400 * 24 * 60);
static QUERY_HISTORY_SIZE: GucSetting<i32> = GucSetting::<i32>::new(1024);

/// `upkeep.track_queries`: read on every statement of everybody.
static TRACK_QUERIES: AtomicI32 = AtomicI32::new(TRACK_TOP);
pub const TRACK_NONE: i32 = 0;
const TRACK_TOP: i32 = 1;
pub const TRACK_ALL: i32 = 2;

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

pub fn define() {
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
    define_history();
    static WORDS: Words<4> =
        Words::new([word(c"none", TRACK_NONE), word(c"top", TRACK_TOP), word(c"all", TRACK_ALL), guc::END]);
    guc::define_plain_enum(
        c"upkeep.track_queries",
        c"Which statements upkeep.query_stats counts.",
        c"top: those that clients send; all: also those within functions; none. Takes shared_preload_libraries.",
        &WORDS,
        &TRACK_QUERIES,
    );
    if worker::is_preloading() {
        define_preloaded();
    }
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
fn define_history() {
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

/// Which statements are counted: one of the `TRACK_..` above.
#[inline]
pub fn tracked() -> i32 {
    TRACK_QUERIES.load(Ordering::Relaxed)
}

/// Does `upkeep.track_queries` ask for anything?
pub fn counts_queries() -> bool {
    tracked() != TRACK_NONE
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
