//! All of it at once: `upkeep.performance_report` for programs, `upkeep.performance_report_html` for people.

mod charts;
mod page;

use std::collections::{BTreeMap, HashMap};

use pgrx::datum::{TimestampWithTimeZone, ToIsoString};
use pgrx::prelude::*;
use serde_json::{Map, Value, json};

use super::arguments::{self, DAY, HOUR, MINUTE, Window};
use super::beside::Jobs;
use super::histogram::{BUCKETS, lower_edge, upper_edge};
use super::reading::{self, Texts, Wish};
use super::regressions::{self, Regression};
use super::sums::{Figures, Key};
use super::top::{self, Line, Order};
use crate::error::Result;
use crate::server::json::JsonB;
use crate::server::raise::answer;
use crate::server::{catalog, encoding, spi};

#[pg_extern(sql = false)]
fn upkeep_performance_report(since: Option<TimestampWithTimeZone>, until: Option<TimestampWithTimeZone>) -> JsonB {
    answer(arguments::window(since, until).and_then(report).map(JsonB))
}

#[pg_extern(sql = false)]
fn upkeep_performance_report_html(
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
) -> String {
    let html = || {
        let report = report(arguments::window(since, until)?)?;
        Ok(encoding::html_to_server(page::render(&report, &crate::page::style_hash(page::STYLE)?)))
    };
    answer(html())
}

/// What is ranked, and under which name the list is in the report.
const LISTS: [(&str, Order); 6] = [
    ("total", Order::Total),
    ("p95", Order::P95),
    ("calls", Order::Calls),
    ("errors", Order::Errors),
    ("io", Order::Io),
    ("wal", Order::Wal),
];
/// Statements in each list.
const LISTED: usize = 10;
/// As the defaults of `upkeep.query_regressions`.
const MIN_CALLS: i64 = 50;

/// By bucket: when it began and ended, and what was in it.
type Series = BTreeMap<i64, (i64, i64, Figures)>;

/// More empty stretches say no more.
const MOST_POINTS: i64 = 500;

/// Where nothing ran there is nothing, rather than no time.
fn fill_gaps(series: &mut Series, length: i64) {
    if let (Some((&first, _)), Some((&last, _))) = (series.first_key_value(), series.last_key_value())
        && last - first < MOST_POINTS
    {
        for place in first..last {
            series.entry(place).or_insert((place * length, (place + 1) * length, Figures::default()));
        }
    }
}

fn report(window: Window) -> Result<Value> {
    // By what is stored: minutes after the first interval an hour would be one point.
    let length = reading::stored(window)?.map_or(MINUTE, bucket);
    let mut series = Series::new();
    let mut totals = HashMap::<Key, Figures>::new();
    reading::each(window, Wish { resolution: Some(length), ..Wish::default() }, |interval| {
        totals.entry(interval.key).or_default().add(&interval.figures);
        if interval.key.counts() {
            let place = interval.started_at.div_euclid(length);
            let (started_at, finished_at, sum) =
                series.entry(place).or_insert((interval.started_at, interval.finished_at, Figures::default()));
            *started_at = interval.started_at.min(*started_at);
            *finished_at = interval.finished_at.max(*finished_at);
            sum.add(&interval.figures);
        }
    })?;
    let baseline = Window { since: window.since.saturating_sub(regressions::BASELINE), until: window.since };
    let worse = regressions::find(window, baseline, MIN_CALLS, regressions::MIN_EFFECT)?;

    fill_gaps(&mut series, length);

    let mut whole = Figures::default();
    totals.iter().filter(|(key, _)| key.counts()).for_each(|(_, figures)| whole.add(figures));
    let statements = totals.keys().filter(|key| !key.is_others()).count();
    let totals: Vec<_> = totals.into_iter().collect();
    let lists = LISTS.map(|(name, order)| (name, top::rank(totals.clone(), order, LISTED)));
    let shown = lists.iter().flat_map(|(_, lines)| lines.iter().map(|line| line.key));
    let texts = Texts::of(shown.chain(worse.iter().map(|found| found.key)))?;
    let list = |lines: &[Line]| lines.iter().map(|line| line_json(line, &texts)).collect::<Value>();
    let top: Map<String, Value> = lists.iter().map(|(name, lines)| ((*name).to_owned(), list(lines))).collect();
    let mut summary = figures_json(&whole);
    summary.insert("statements".into(), statements.into());
    let jobs = Jobs::of(window)?;
    let series: Vec<_> = series
        .into_values()
        .map(|(started_at, finished_at, figures)| {
            let mut point = figures_json(&figures);
            point.insert("started_at".into(), iso(started_at).into());
            point.insert("finished_at".into(), iso(finished_at).into());
            point.insert("histogram".into(), histogram_json(&figures));
            point.insert("jobs".into(), jobs.within(started_at, finished_at).into());
            Value::Object(point)
        })
        .collect();
    let server = spi::query_one(
        "SELECT pg_catalog.current_database()::pg_catalog.text, pg_catalog.current_setting('server_version')",
        &[],
        |row| Ok((row.require::<String>(1)?, row.require::<String>(2)?)),
    )?;
    let (database, server_version) = server.unwrap_or_default();
    Ok(json!({
        "format": 1,
        "database": database,
        "server_version": server_version,
        "generated_at": iso(catalog::now()),
        "since": iso(window.since),
        "until": iso(window.until),
        "totals": summary,
        "series": series,
        "top": top,
        "regressions": worse.iter().map(|found| regression_json(found, &texts)).collect::<Vec<_>>(),
    }))
}

/// So long that a chart has neither too few points nor too many, and that no more is read than is shown.
fn bucket(window: Window) -> i64 {
    match window.until.saturating_sub(window.since) {
        length if length <= HOUR => MINUTE,
        length if length <= 6 * HOUR => 5 * MINUTE,
        length if length <= 8 * DAY => HOUR,
        length if length <= 200 * DAY => DAY,
        _ => 7 * DAY,
    }
}

fn iso(microseconds: i64) -> String {
    // Of an infinite time nothing else can be said.
    arguments::timestamp(microseconds).to_iso_string_with_timezone("UTC").unwrap_or_else(|_| "infinity".into())
}

fn figures_json(figures: &Figures) -> Map<String, Value> {
    let (min_time, max_time) = figures.extremes();
    let c = figures.counters;
    let Value::Object(map) = json!({
        "calls": figures.calls,
        "rows": figures.rows,
        "total_time": figures.total_time,
        "mean_time": figures.mean_time(),
        "min_time": min_time,
        "max_time": max_time,
        "p50_time": figures.percentile(0.5),
        "p95_time": figures.percentile(0.95),
        "p99_time": figures.percentile(0.99),
        "errors": figures.errors,
        "cancellations": figures.cancellations,
        "timeouts": figures.timeouts,
        "unknown_errors": figures.unknown_errors,
        "shared_blks_hit": c.map(|c| c.shared_blks_hit),
        "blks_read": c.map(|c| c.blks_read),
        "blks_written": c.map(|c| c.blks_written),
        "temp_blks_read": c.map(|c| c.temp_blks_read),
        "temp_blks_written": c.map(|c| c.temp_blks_written),
        "wal_bytes": c.map(|c| c.wal_bytes),
        "lossy": figures.lossy,
    }) else {
        unreachable!("written as an object")
    };
    map
}

/// Per bucket in use: its edges in ms (of the last, no upper one) and its calls.
fn histogram_json(figures: &Figures) -> Value {
    let used = figures.histogram.0.iter().enumerate().filter(|(_, count)| **count > 0);
    used.map(|(bucket, &count)| {
        let upper = (bucket + 1 < BUCKETS).then(|| upper_edge(bucket) as f64 / 1000.0);
        json!([lower_edge(bucket) as f64 / 1000.0, upper, count])
    })
    .collect()
}

fn line_json(line: &Line, texts: &Texts) -> Value {
    let mut map = figures_json(&line.figures);
    map.insert("rank".into(), line.rank.into());
    map.insert("statements".into(), line.statements.into());
    map.insert("share".into(), line.share.into());
    name(&mut map, &line.key, texts);
    Value::Object(map)
}

/// As a string: a queryid does not fit into the numbers of most readers of JSON.
fn name(map: &mut Map<String, Value>, key: &Key, texts: &Texts) {
    map.insert("queryid".into(), key.queryid.map(|queryid| queryid.to_string()).into());
    map.insert("userid".into(), (!key.is_others()).then_some(key.userid).into());
    map.insert("toplevel".into(), key.toplevel.into());
    map.insert("query".into(), texts.get(key).into());
}

fn regression_json(found: &Regression, texts: &Texts) -> Value {
    let (now, then, compared) = (&found.now, &found.then, found.compared);
    let mut value = json!({
        "effect": compared.effect,
        "probability_slower": compared.slower,
        "p_value": compared.p_value,
        "adjusted_p_value": found.adjusted,
        "same_hours": compared.same_hours,
        "added_time": found.added_time(),
        "calls": now.calls,
        "baseline_calls": then.calls,
        "mean_time": now.mean_time(),
        "baseline_mean_time": then.mean_time(),
        "p50_time": now.percentile(0.5),
        "baseline_p50_time": then.percentile(0.5),
        "p95_time": now.percentile(0.95),
        "baseline_p95_time": then.percentile(0.95),
        "p99_time": now.percentile(0.99),
        "baseline_p99_time": then.percentile(0.99),
    });
    if let Value::Object(map) = &mut value {
        name(map, &found.key, texts);
    }
    value
}
