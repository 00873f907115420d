//! `upkeep.slow_queries`: what took longer than `upkeep.slow_query_min_duration` within the last day.

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::arguments::{DAY, Window, timestamp};
use super::reading::{self, Texts, Wish};
use super::sums::{Figures, Key};
use super::{buckets, percentile};
use crate::error::Result;
use crate::server::raise::answer;
use crate::server::{Oid, catalog};
use crate::settings;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_slow_queries() -> TableIterator<
    'static,
    (
        name!(queryid, Option<i64>),
        name!(userid, Option<Oid>),
        name!(toplevel, bool),
        name!(slow_calls, i64),
        name!(calls, i64),
        name!(total_time, f64),
        name!(mean_time, Option<f64>),
        name!(p95_time, Option<f64>),
        name!(p99_time, Option<f64>),
        name!(max_time, Option<f64>),
        name!(last_slow_at, TimestampWithTimeZone),
        // A text in the encoding of the database.
        name!(query, Option<Vec<u8>>),
    ),
> {
    let (slow, texts) = answer(read());
    TableIterator::new(slow.into_iter().map(move |(key, Slow { figures, calls, last })| {
        (
            key.queryid,
            buckets::user(&key),
            key.toplevel,
            calls,
            figures.calls,
            figures.total_time,
            figures.mean_time(),
            figures.percentile(0.95),
            figures.percentile(0.99),
            figures.extremes().1,
            timestamp(last),
            texts.of_server(&key),
        )
    }))
}

#[derive(Default)]
struct Slow {
    figures: Figures,
    calls: i64,
    last: i64,
}

fn read() -> Result<(Vec<(Key, Slow)>, Texts)> {
    let limit = settings::slow_query_min_duration();
    let now = catalog::now();
    let mut found = HashMap::<Key, Slow>::new();
    reading::each(Window { since: now - DAY, until: now }, Wish::default(), |interval| {
        let (slow, figures) = (found.entry(interval.key).or_default(), &interval.figures);
        if figures.calls > 0 && figures.max_time >= limit {
            // The slowest is known exactly, the rest by bucket.
            slow.calls +=
                percentile::at_least(&figures.histogram, limit, figures.min_time, figures.max_time).max(1) as i64;
            slow.last = slow.last.max(interval.finished_at);
        }
        slow.figures.add(figures);
    })?;
    let mut slow: Vec<_> = found.into_iter().filter(|(_, slow)| slow.calls > 0).collect();
    slow.sort_by(|a, b| b.1.calls.cmp(&a.1.calls).then(a.0.cmp(&b.0)));
    let texts = Texts::of(slow.iter().map(|&(key, _)| key))?;
    Ok((slow, texts))
}
