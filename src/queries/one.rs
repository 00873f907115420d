//! One statement over any time: `upkeep.query_percentile`, `upkeep.query_histogram`.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::arguments;
use super::histogram::{BUCKETS, lower_edge, upper_edge};
use super::reading::{self, Wish};
use super::sums::Figures;
use crate::error::Result;
use crate::server::Oid;
use crate::server::raise::answer;

#[pg_extern(sql = false)]
fn upkeep_query_percentile(
    queryid: Option<i64>,
    fraction: Option<f64>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    role: Option<Oid>,
    toplevel: Option<bool>,
) -> Option<f64> {
    answer(arguments::fraction(fraction, "fraction").and_then(|fraction| {
        let merged = merged(queryid, since, until, role, toplevel)?;
        Ok(merged.percentile(fraction))
    }))
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_query_histogram(
    queryid: Option<i64>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    role: Option<Oid>,
    toplevel: Option<bool>,
) -> TableIterator<
    'static,
    (name!(lower_time, f64), name!(upper_time, Option<f64>), name!(calls, i64), name!(cumulative_share, f64)),
> {
    let merged = answer(merged(queryid, since, until, role, toplevel)).histogram;
    let (all, mut seen) = (merged.count() as f64, 0.0);
    let ms = |us: u64| us as f64 / 1000.0;
    let rows = merged.0.into_iter().enumerate().filter(|&(_, count)| count > 0);
    TableIterator::new(rows.map(move |(bucket, count)| {
        seen += count as f64;
        let upper = (bucket + 1 < BUCKETS).then(|| ms(upper_edge(bucket)));
        (ms(lower_edge(bucket)), upper, i64::try_from(count).unwrap_or(i64::MAX), seen / all)
    }))
}

fn merged(
    queryid: Option<i64>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    role: Option<Oid>,
    toplevel: Option<bool>,
) -> Result<Figures> {
    let queryid = crate::calls::arguments::required(queryid, "queryid")?;
    let window = arguments::window(since, until)?;
    let mut merged = Figures::default();
    reading::each(window, Wish { queryid: Some(queryid), ..Wish::default() }, |interval| {
        let key = interval.key;
        let wanted = role.is_none_or(|role| role.to_u32() == key.userid) && toplevel.is_none_or(|t| t == key.toplevel);
        // What the caller may not see has no queryid.
        if wanted && key.queryid == Some(queryid) {
            merged.add(&interval.figures);
        }
    })?;
    Ok(merged)
}
