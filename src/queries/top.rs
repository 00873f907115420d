//! `upkeep.top_queries`: which statements cost most.

use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

use super::reading::{self, Texts};
use super::sums::{Figures, Key};
use super::{arguments, buckets};
use crate::calls::arguments::{check_text, one_of, required};
use crate::error::*;
use crate::server::Oid;
use crate::server::raise::answer;

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn upkeep_top_queries(
    order_by: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    max_rows: Option<i32>,
) -> TableIterator<
    'static,
    (
        name!(rank, Option<i32>),
        name!(queryid, Option<i64>),
        name!(userid, Option<Oid>),
        name!(toplevel, bool),
        name!(statements, i64),
        name!(share, Option<f64>),
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
        name!(wal_bytes, Option<i64>),
        name!(lossy, bool),
        // A text in the encoding of the database.
        name!(query, Option<Vec<u8>>),
    ),
> {
    let (lines, texts) = answer(read(order_by, since, until, max_rows));
    TableIterator::new(lines.into_iter().map(move |Line { rank, key, statements, share, figures }| {
        let (min_time, max_time) = figures.extremes();
        let c = figures.counters;
        (
            rank,
            key.queryid,
            buckets::user(&key),
            key.toplevel,
            statements,
            share,
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
            c.map(|c| c.wal_bytes),
            figures.lossy,
            texts.of_server(&key),
        )
    }))
}

fn read(
    order_by: Option<&str>,
    since: Option<TimestampWithTimeZone>,
    until: Option<TimestampWithTimeZone>,
    max_rows: Option<i32>,
) -> Result<(Vec<Line>, Texts)> {
    check_text("order_by", order_by)?;
    let order = Order::named(required(order_by, "order_by")?)?;
    let window = arguments::window(since, until)?;
    let max_rows = arguments::at_least(max_rows, 1, "max_rows")? as usize;
    let lines = rank(reading::totals(window)?.into_iter().collect(), order, max_rows);
    let texts = Texts::of(lines.iter().map(|line| line.key))?;
    Ok((lines, texts))
}

/// What statements are put in order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Total,
    Mean,
    P95,
    P99,
    Calls,
    Rows,
    Errors,
    Io,
    Wal,
    Temp,
}

const ORDERS: [(&str, Order); 10] = [
    ("total", Order::Total),
    ("mean", Order::Mean),
    ("p95", Order::P95),
    ("p99", Order::P99),
    ("calls", Order::Calls),
    ("rows", Order::Rows),
    ("errors", Order::Errors),
    ("io", Order::Io),
    ("wal", Order::Wal),
    ("temp", Order::Temp),
];

impl Order {
    fn named(name: &str) -> Result<Order> {
        let known: Vec<_> = ORDERS.iter().map(|(name, _)| *name).collect();
        one_of(name, "order_by", &known)?;
        Ok(ORDERS.iter().find(|(known, _)| *known == name).map_or(ORDERS[0].1, |&(_, order)| order))
    }

    /// `None`: not known, and not to be listed.
    fn of(self, figures: &Figures) -> Option<f64> {
        let count = |count: i64| Some(count as f64);
        match self {
            Order::Total => Some(figures.total_time),
            Order::Mean => figures.mean_time(),
            Order::P95 => figures.percentile(0.95),
            Order::P99 => figures.percentile(0.99),
            Order::Calls => count(figures.calls),
            Order::Rows => count(figures.rows),
            Order::Errors => count(figures.failures()),
            Order::Io => figures.counters.map(|c| c.io() as f64),
            Order::Wal => figures.counters.map(|c| c.wal_bytes as f64),
            Order::Temp => figures.counters.map(|c| c.temp() as f64),
        }
    }

    /// What a share is a share of: of what does not add up, the time.
    fn adds_up(self) -> Order {
        if matches!(self, Order::Mean | Order::P95 | Order::P99) { Order::Total } else { self }
    }
}

/// A line of the list.
pub struct Line {
    /// `None`: everything else.
    pub rank: Option<i32>,
    pub key: Key,
    pub statements: i64,
    pub share: Option<f64>,
    pub figures: Figures,
}

/// The first `max_rows` statements and, at the end, all others together.
pub fn rank(totals: Vec<(Key, Figures)>, order: Order, max_rows: usize) -> Vec<Line> {
    let sum = |figures: &Figures| order.adds_up().of(figures).unwrap_or(0.0);
    let whole: f64 = totals.iter().filter(|(key, _)| key.counts()).map(|(_, figures)| sum(figures)).sum();
    let share = |figures: &Figures| (whole > 0.0).then(|| sum(figures) / whole);
    let (others, statements): (Vec<_>, Vec<_>) = totals.into_iter().partition(|(key, _)| key.is_others());
    let mut ranked: Vec<_> = statements
        .into_iter()
        .map(|(key, figures)| (order.of(&figures).filter(|&value| value > 0.0), key, figures))
        .collect();
    ranked.sort_by(|a, b| {
        let value = |figure: &Option<f64>| figure.unwrap_or(f64::NEG_INFINITY);
        value(&b.0).total_cmp(&value(&a.0)).then(a.1.cmp(&b.1))
    });
    let listed = ranked.iter().take(max_rows).take_while(|(value, ..)| value.is_some()).count();
    let mut rest = Figures::default();
    let mut number = 0;
    for (_, key, figures) in &ranked[listed..] {
        if key.counts() {
            rest.add(figures);
            number += 1;
        }
    }
    let any = number > 0 || !others.is_empty();
    others.iter().for_each(|(_, figures)| rest.add(figures));
    ranked.truncate(listed);
    let mut lines: Vec<_> = (1..)
        .zip(ranked)
        .map(|(rank, (_, key, figures))| Line { rank: Some(rank), key, statements: 1, share: share(&figures), figures })
        .collect();
    if any {
        let key = Key { queryid: Some(0), userid: 0, toplevel: true };
        lines.push(Line { rank: None, key, statements: number, share: share(&rest), figures: rest });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn figures(calls: i64, total_time: f64) -> Figures {
        Figures { calls, total_time, ..Figures::default() }
    }

    fn key(queryid: i64) -> Key {
        Key { queryid: Some(queryid), userid: 10, toplevel: true }
    }

    #[test]
    fn others_are_what_is_not_listed() {
        let totals = vec![
            (key(1), figures(1, 50.0)),
            (key(2), figures(9, 30.0)),
            (key(3), figures(2, 15.0)),
            (key(0), figures(4, 5.0)),
        ];
        let lines = rank(totals, Order::Total, 2);
        let shown: Vec<_> = lines.iter().map(|l| (l.rank, l.key.queryid, l.statements, l.share)).collect();
        assert_eq!(
            shown,
            [(Some(1), Some(1), 1, Some(0.5)), (Some(2), Some(2), 1, Some(0.3)), (None, Some(0), 1, Some(0.2)),]
        );
        assert_eq!(lines[2].figures.calls, 6);
    }

    #[test]
    fn what_runs_within_functions_is_not_counted_twice() {
        let nested = Key { toplevel: false, ..key(7) };
        let lines = rank(vec![(key(1), figures(1, 100.0)), (nested, figures(50, 80.0))], Order::Total, 1);
        assert_eq!((lines.len(), lines[0].share), (1, Some(1.0)));
    }

    #[test]
    fn what_is_not_known_is_not_listed() {
        let lines = rank(vec![(key(1), figures(1, 100.0))], Order::Wal, 10);
        assert_eq!((lines.len(), lines[0].rank, lines[0].share), (1, None, None));
        assert!(rank(Vec::new(), Order::Total, 10).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost(list in prop::collection::vec((0..30i64, 0..100i64, 0.0..1e6f64), 0..40), max_rows in 1..20usize) {
            let mut totals = std::collections::HashMap::<Key, Figures>::new();
            list.iter().for_each(|&(id, calls, time)| totals.entry(key(id)).or_default().add(&figures(calls, time)));
            let calls: i64 = totals.values().map(|f| f.calls).sum();
            let lines = rank(totals.into_iter().collect(), Order::Calls, max_rows);
            prop_assert_eq!(lines.iter().map(|line| line.figures.calls).sum::<i64>(), calls);
            if calls > 0 {
                prop_assert!((lines.iter().filter_map(|line| line.share).sum::<f64>() - 1.0).abs() < 1e-9);
            }
        }
    }
}
