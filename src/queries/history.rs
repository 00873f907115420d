//! `upkeep._query_intervals()`: the history as rows.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern};

use super::cover::cover;
use super::figures::Record;
use super::live::{Sight, count, milliseconds};
use super::store;
use crate::error::*;
use crate::server::raise::answer;
use crate::server::{Oid, spi};

/// Counters that are times: microseconds here, milliseconds outside.
const TIMES: [usize; 5] = [10, 11, 12, 13, 18];

struct Part {
    started: i64,
    finished: i64,
    record: Record,
    lossy: bool,
}

fn parts(since: i64, until: i64, only: Option<i64>, resolution: Option<i64>) -> Result<Vec<Part>> {
    spi::bookkeeping(|| {
        let spans = store::spans(since, until)?;
        let mut parts = Vec::new();
        for i in cover(&spans, since, until, resolution) {
            // Rows may leave the history between two looks.
            let Some((records, flags)) = store::read(spans[i], only)? else { continue };
            parts.extend(records.into_iter().map(|record| Part {
                started: spans[i].started,
                finished: spans[i].finished,
                record,
                lossy: flags != 0,
            }));
        }
        Ok(parts)
    })
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_query_packed_intervals(
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    only_queryid: Option<i64>,
    resolution: Option<Interval>,
) -> TableIterator<
    'static,
    (
        name!(started_at, Option<TimestampWithTimeZone>),
        name!(finished_at, Option<TimestampWithTimeZone>),
        name!(queryid, Option<i64>),
        name!(userid, Option<Oid>),
        name!(toplevel, bool),
        name!(calls, i64),
        name!(rows, i64),
        name!(total_time, f64),
        name!(min_time, Option<f64>),
        name!(max_time, Option<f64>),
        name!(errors, i64),
        name!(cancellations, i64),
        name!(timeouts, i64),
        name!(unknown_errors, i64),
        name!(histogram, Vec<u8>),
        name!(counters, Vec<f64>),
        name!(lossy, bool),
    ),
> {
    // Two years around now hold everything that is ever kept at the defaults; infinite ends mean all of it.
    const FAR: i64 = 200 * 365 * super::cover::DAY;
    let since = since.map_or(-FAR, |time| time.into_inner().clamp(-FAR, FAR));
    let until = until.map_or(FAR, |time| time.into_inner().clamp(-FAR, FAR));
    let resolution = resolution.map(|interval| interval.as_micros().clamp(0, FAR.into()) as i64);
    let parts = answer(parts(since, until, only_queryid, resolution));
    let mut sight = Sight::of_caller();
    TableIterator::new(parts.into_iter().map(move |part| {
        let Part { started, finished, record: Record { key, figures, counters }, lossy } = part;
        let others = key.queryid == 0;
        let calls = figures.histogram.count();
        let [errors, cancellations, timeouts, unknown] = figures.failures.map(count);
        let counters = (0..counters.len())
            .map(|i| if TIMES.contains(&i) { counters[i] as f64 / 1000.0 } else { counters[i] as f64 })
            .collect();
        (
            TimestampWithTimeZone::try_from(started).ok(),
            TimestampWithTimeZone::try_from(finished).ok(),
            (others || sight.reaches(key.user)).then_some(key.queryid),
            (!others).then(|| Oid::from(key.user)),
            key.toplevel,
            count(calls),
            count(figures.rows),
            milliseconds(figures.total),
            (calls > 0).then(|| milliseconds(figures.min)),
            (calls > 0).then(|| milliseconds(figures.max)),
            errors,
            cancellations,
            timeouts,
            unknown,
            figures.histogram.encode(),
            counters,
            lossy,
        )
    }))
}
