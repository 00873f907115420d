//! What holds jobs back; a job's own limits can only be tighter.

use std::ffi::CString;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use super::text;

static MAX_REPLICA_LAG: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static MAX_REPLICA_LAG_BYTES: GucSetting<i32> = GucSetting::<i32>::new(-1);
static MAX_WAL_RATE: GucSetting<i32> = GucSetting::<i32>::new(-1);
static IGNORED_STANDBYS: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static THROTTLE_WORK_RATIO: GucSetting<f64> = GucSetting::<f64>::new(1.0);
static MAX_ARCHIVE_BACKLOG: GucSetting<i32> = GucSetting::<i32>::new(64);
static MIN_FREE_DISK: GucSetting<i32> = GucSetting::<i32>::new(1024);
static MAX_SLOWDOWN: GucSetting<f64> = GucSetting::<f64>::new(1.2);
static WORKER_NICE: GucSetting<i32> = GucSetting::<i32>::new(10);

/// How many times as long statements of others may take, at least and at most.
pub const SLOWDOWN_RANGE: std::ops::RangeInclusive<f64> = 1.01..=100.0;
/// Least and greatest share of the time at work.
pub const WORK_RATIO_RANGE: std::ops::RangeInclusive<f64> = 0.01..=1.0;

pub fn define() {
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
        c"Share of the time that a worker of a job is at work; it rests after each portion accordingly.",
        c"",
        &THROTTLE_WORK_RATIO,
        *WORK_RATIO_RANGE.start(),
        *WORK_RATIO_RANGE.end(),
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"upkeep.max_slowdown",
        c"How many times as long as without jobs statements of others may take: jobs go as fast as that allows.",
        c"0 turns it off; what lies between 0 and 1.01 counts as 1.01.",
        &MAX_SLOWDOWN,
        0.0,
        100.0,
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

/// How many times as long as without jobs statements of others may take. `None`: that is all the same.
pub fn max_slowdown() -> Option<f64> {
    let limit = MAX_SLOWDOWN.get();
    // Nobody is slower than without us by less than can be measured.
    (limit > 0.0).then(|| limit.max(*SLOWDOWN_RANGE.start()))
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
    pub slowdown: Option<f64>,
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
        slowdown: max_slowdown(),
        archive_backlog: given(&MAX_ARCHIVE_BACKLOG),
        free_disk: given(&MIN_FREE_DISK).filter(|&megabytes| megabytes > 0).map(|megabytes| megabytes << 20),
    }
}
