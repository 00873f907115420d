//! Statements whose latencies got worse. Which test, and why: `docs/query_reports.md`.

pub mod discoveries;
pub mod effect;
#[cfg(test)]
mod simulation;
mod student;

use std::collections::HashMap;

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use self::effect::{Cell, Comparison};
use super::arguments::{self, DAY, HOUR, MINUTE, Window};
use super::buckets;
use super::reading::{self, Interval, Texts, Wish};
use super::sums::{Figures, Key};
use crate::error::*;
use crate::server::Oid;
use crate::server::raise::answer;

/// Of what is reported, at most this share is chance.
pub const FALSE_DISCOVERIES: f64 = 0.05;
/// Statements whose typical time grew by less are not reported, unless the caller says otherwise (the SQL has it too).
pub const MIN_EFFECT: f64 = 0.1;
/// Below this, histograms are not worth a test.
const LEAST_CALLS: i32 = 10;
/// How far back the baseline goes, if nobody says: two weeks, so that each day of the week is in it twice.
pub const BASELINE: i64 = 14 * DAY;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_query_regressions(
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    baseline_since: Option<TimestampWithTimeZone>,
    baseline_until: Option<TimestampWithTimeZone>,
    min_calls: Option<i32>,
    min_effect: Option<f64>,
) -> TableIterator<
    'static,
    (
        name!(queryid, Option<i64>),
        name!(userid, Option<Oid>),
        name!(toplevel, bool),
        name!(effect, f64),
        name!(probability_slower, f64),
        name!(p_value, f64),
        name!(adjusted_p_value, f64),
        name!(same_hours, bool),
        name!(added_time, f64),
        name!(calls, i64),
        name!(baseline_calls, i64),
        name!(mean_time, Option<f64>),
        name!(baseline_mean_time, Option<f64>),
        name!(p50_time, Option<f64>),
        name!(baseline_p50_time, Option<f64>),
        name!(p95_time, Option<f64>),
        name!(baseline_p95_time, Option<f64>),
        name!(p99_time, Option<f64>),
        name!(baseline_p99_time, Option<f64>),
        // A text in the encoding of the database.
        name!(query, Option<Vec<u8>>),
    ),
> {
    let read = || {
        let window = arguments::window(since, until)?;
        let baseline = arguments::window_named(
            Some(baseline_since.unwrap_or_else(|| arguments::timestamp(window.since.saturating_sub(BASELINE)))),
            Some(baseline_until.unwrap_or_else(|| arguments::timestamp(window.since))),
            "baseline_since",
            "baseline_until",
        )?;
        let min_calls = arguments::at_least(min_calls, LEAST_CALLS, "min_calls")?;
        let min_effect = crate::calls::arguments::required(min_effect, "min_effect")?;
        if min_effect.is_nan() || min_effect < 0.0 {
            return Err(Error::new(INVALID_PARAMETER_VALUE, "min_effect must be 0 or more")
                .hint("0.1 is 10 % slower: SELECT * FROM upkeep.query_regressions(min_effect => 0.1);"));
        }
        let found = find(window, baseline, i64::from(min_calls), min_effect)?;
        let texts = Texts::of(found.iter().map(|regression| regression.key))?;
        Ok((found, texts))
    };
    let (found, texts) = answer(read());
    TableIterator::new(found.into_iter().map(move |found| {
        let (key, now, then, compared) = (found.key, &found.now, &found.then, found.compared);
        (
            key.queryid,
            buckets::user(&key),
            key.toplevel,
            compared.effect,
            compared.slower,
            compared.p_value,
            found.adjusted,
            compared.same_hours,
            found.added_time(),
            now.calls,
            then.calls,
            now.mean_time(),
            then.mean_time(),
            now.percentile(0.5),
            then.percentile(0.5),
            now.percentile(0.95),
            then.percentile(0.95),
            now.percentile(0.99),
            then.percentile(0.99),
            texts.of_server(&key),
        )
    }))
}

/// A statement that got slower.
pub struct Regression {
    pub key: Key,
    pub compared: Comparison,
    pub adjusted: f64,
    pub now: Figures,
    pub then: Figures,
}

impl Regression {
    /// What it cost in all, in ms, over what the same calls would have taken before.
    pub fn added_time(&self) -> f64 {
        let grown = self.now.mean_time().unwrap_or(0.0) - self.then.mean_time().unwrap_or(0.0);
        grown * self.now.calls as f64
    }
}

/// One side of a statement: sums, and cells of time.
#[derive(Default)]
struct Side {
    figures: Figures,
    cells: Vec<Cell>,
}

/// Every statement with enough calls on both sides is tested; those that got slower are given, the dearest first.
pub fn find(window: Window, baseline: Window, min_calls: i64, min_effect: f64) -> Result<Vec<Regression>> {
    let now = sides(window, None)?;
    let enough = |side: &Side| side.figures.calls >= min_calls;
    let wanted: HashMap<_, _> = now.into_iter().filter(|(_, side)| enough(side)).collect();
    let mut then = sides(baseline, Some(&wanted))?;
    let mut tested = Vec::new();
    for (key, now) in wanted {
        let Some(before) = then.remove(&key).filter(enough) else { continue };
        if let Some(compared) = effect::compare(&before.cells, &now.cells) {
            tested.push(Regression { key, compared, adjusted: 1.0, now: now.figures, then: before.figures });
        }
    }
    let values: Vec<_> = tested.iter().map(|tested| tested.compared.p_value).collect();
    for (tested, adjusted) in tested.iter_mut().zip(discoveries::adjust(&values)) {
        tested.adjusted = adjusted;
    }
    tested.retain(|tested| tested.adjusted <= FALSE_DISCOVERIES && tested.compared.effect >= min_effect);
    tested.sort_by(|a, b| b.added_time().total_cmp(&a.added_time()).then(a.key.cmp(&b.key)));
    Ok(tested)
}

/// What cannot be told apart cannot be compared: a change of what is mixed in it is no regression.
fn sides(window: Window, only: Option<&HashMap<Key, Side>>) -> Result<HashMap<Key, Side>> {
    let mut sides = HashMap::<Key, Side>::new();
    let resolution = if window.until.saturating_sub(window.since) <= 6 * HOUR { MINUTE } else { HOUR };
    reading::each(window, Wish { resolution: Some(resolution), ..Wish::default() }, |interval| {
        let key = interval.key;
        if key.queryid.is_none_or(|queryid| queryid == 0) || only.is_some_and(|only| !only.contains_key(&key)) {
            return;
        }
        let side = sides.entry(key).or_default();
        side.figures.add(&interval.figures);
        if interval.figures.calls > 0 {
            side.cells.push(cell(&interval));
        }
    })?;
    for side in sides.values_mut() {
        side.cells.sort_by_key(|cell| cell.at);
    }
    Ok(sides)
}

fn cell(interval: &Interval) -> Cell {
    let middle = interval.started_at.midpoint(interval.finished_at);
    let counts = interval.figures.histogram.0.iter().enumerate().filter(|(_, count)| **count > 0);
    Cell {
        at: middle,
        // A whole day has no hour.
        hour: (interval.finished_at - interval.started_at <= 2 * HOUR)
            .then(|| (middle.rem_euclid(DAY) / HOUR) as usize),
        day: middle.div_euclid(DAY),
        counts: counts.map(|(bucket, &count)| (bucket, count)).collect(),
    }
}
