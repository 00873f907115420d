//! `upkeep.query_history`: statement by statement, bucket by bucket.

use std::collections::BTreeMap;

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;

use super::arguments::{self, Window, timestamp};
use super::beside::Jobs;
use super::reading::{self, Texts, Wish};
use super::sums::{Figures, Key};
use crate::error::Result;
use crate::server::Oid;
use crate::server::raise::answer;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_query_history_0_9(
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    bucket: Option<Interval>,
) -> TableIterator<
    'static,
    (
        name!(started_at, TimestampWithTimeZone),
        name!(finished_at, TimestampWithTimeZone),
        name!(queryid, Option<i64>),
        name!(userid, Option<Oid>),
        name!(toplevel, bool),
        name!(calls, i64),
        name!(rows, i64),
        name!(total_time, f64),
        name!(mean_time, Option<f64>),
        name!(min_time, Option<f64>),
        name!(max_time, Option<f64>),
        name!(p50_time, Option<f64>),
        name!(p95_time, Option<f64>),
        name!(p99_time, Option<f64>),
        name!(errors, i64),
        name!(cancellations, i64),
        name!(timeouts, i64),
        name!(unknown_errors, i64),
        name!(shared_blks_hit, Option<i64>),
        name!(blks_read, Option<i64>),
        name!(blks_written, Option<i64>),
        name!(temp_blks_read, Option<i64>),
        name!(temp_blks_written, Option<i64>),
        name!(blk_read_time, Option<f64>),
        name!(blk_write_time, Option<f64>),
        name!(wal_bytes, Option<i64>),
        name!(jit_time, Option<f64>),
        name!(lossy, bool),
        name!(query, Option<String>),
        name!(jobs, i32),
    ),
> {
    let (history, texts, jobs) = answer(read(since, until, bucket));
    TableIterator::new(history.into_iter().map(move |((_, key), Bucket { started_at, finished_at, figures })| {
        let (min_time, max_time) = figures.extremes();
        let c = figures.counters;
        (
            timestamp(started_at),
            timestamp(finished_at),
            key.queryid,
            user(&key),
            key.toplevel,
            figures.calls,
            figures.rows,
            figures.total_time,
            figures.mean_time(),
            min_time,
            max_time,
            figures.percentile(0.5),
            figures.percentile(0.95),
            figures.percentile(0.99),
            figures.errors,
            figures.cancellations,
            figures.timeouts,
            figures.unknown_errors,
            c.map(|c| c.shared_blks_hit),
            c.map(|c| c.blks_read),
            c.map(|c| c.blks_written),
            c.map(|c| c.temp_blks_read),
            c.map(|c| c.temp_blks_written),
            c.map(|c| c.blk_read_time),
            c.map(|c| c.blk_write_time),
            c.map(|c| c.wal_bytes),
            c.map(|c| c.jit_time),
            figures.lossy,
            texts.get(&key),
            i32::try_from(jobs.within(started_at, finished_at)).unwrap_or(i32::MAX),
        )
    }))
}

/// Whose statement it is; of "others", nobody's.
pub fn user(key: &Key) -> Option<Oid> {
    (!key.is_others()).then(|| Oid::from(key.userid))
}

/// What there is of a statement within a bucket; the times are those of the intervals in it.
struct Bucket {
    started_at: i64,
    finished_at: i64,
    figures: Figures,
}

type History = BTreeMap<(i64, Key), Bucket>;

fn read(
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    bucket: Option<Interval>,
) -> Result<(History, Texts, Jobs)> {
    let window = arguments::window(since, until)?;
    let length = arguments::bucket(bucket)?;
    let mut history = History::new();
    reading::each(window, Wish { resolution: Some(length), ..Wish::default() }, |interval| {
        let place = (interval.started_at.div_euclid(length), interval.key);
        let bucket = history.entry(place).or_insert_with(|| Bucket {
            started_at: interval.started_at,
            finished_at: interval.finished_at,
            figures: Figures::default(),
        });
        bucket.started_at = bucket.started_at.min(interval.started_at);
        bucket.finished_at = bucket.finished_at.max(interval.finished_at);
        bucket.figures.add(&interval.figures);
    })?;
    let texts = Texts::of(history.keys().map(|&(_, key)| key))?;
    let edges = history.values().map(|bucket| Window { since: bucket.started_at, until: bucket.finished_at });
    let all = edges.reduce(|all, next| Window { since: all.since.min(next.since), until: all.until.max(next.until) });
    Ok((history, texts, Jobs::of(all.unwrap_or(window))?))
}
