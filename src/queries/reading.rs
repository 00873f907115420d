//! The history, read as whoever asks: [`each`] is the one place that does.

use std::collections::HashMap;

use super::arguments::Window;
use super::cover::cover;
use super::figures::{COUNTERS, Record};
use super::live::{Sight, count, milliseconds};
use super::store;
use super::sums::{Counters, Figures, Key};
use crate::error::Result;
use crate::server::{Oid, encoding, spi};
use crate::settings::{self, ReportedQueries};

/// What a statement cost in one interval.
pub struct Interval {
    pub started_at: i64,
    pub finished_at: i64,
    pub key: Key,
    pub figures: Figures,
}

/// What is to be read.
#[derive(Clone, Copy, Default)]
pub struct Wish {
    pub queryid: Option<i64>,
    /// No interval longer than this, where finer ones are kept (microseconds).
    pub resolution: Option<i64>,
}

/// Times before and after all history.
const FAR: i64 = 200 * 365 * super::arguments::DAY;

pub fn each(window: Window, wish: Wish, mut use_it: impl FnMut(Interval)) -> Result<()> {
    let (since, until) = (window.since.clamp(-FAR, FAR), window.until.clamp(-FAR, FAR));
    // Of the caller, before the switch.
    let (mut sight, wanted) = (Sight::of_caller(), settings::report_queries());
    spi::bookkeeping(|| {
        let spans = store::spans(since, until)?;
        let chosen: Vec<_> =
            cover(&spans, since, until, wish.resolution).into_iter().map(|chosen| spans[chosen]).collect();
        store::each(&chosen, wish.queryid, |n, records, flags| {
            pgrx::check_for_interrupts!();
            for record in records.into_iter().filter(|record| wants(wanted, &record.key)) {
                let key = key(&record, &mut sight);
                use_it(Interval {
                    started_at: chosen[n].started,
                    finished_at: chosen[n].finished,
                    key,
                    figures: figures(record, flags != 0),
                });
            }
        })
    })
}

/// What could not be kept apart is of clients until somebody can tell.
fn wants(wanted: ReportedQueries, key: &super::figures::Key) -> bool {
    match wanted {
        ReportedQueries::All => true,
        ReportedQueries::Clients => !key.by_job,
        ReportedQueries::Jobs => key.by_job,
    }
}

/// From when to when there is a history within a window; `None`: there is none.
pub fn stored(window: Window) -> Result<Option<Window>> {
    let (since, until) = (window.since.clamp(-FAR, FAR), window.until.clamp(-FAR, FAR));
    let spans = spi::bookkeeping(|| store::spans(since, until))?;
    let within = spans.iter().filter(|span| span.finished > since && span.started < until);
    let edges = within.map(|span| Window { since: span.started.max(since), until: span.finished.min(until) });
    Ok(edges.reduce(|all, span| Window { since: all.since.min(span.since), until: all.until.max(span.until) }))
}

/// What the caller may not see has no queryid.
fn key(record: &Record, sight: &mut Sight) -> Key {
    let key = record.key;
    let seen = key.queryid == 0 || sight.reaches(key.user);
    Key { queryid: seen.then_some(key.queryid), userid: key.user, toplevel: key.toplevel }
}

fn figures(record: Record, lossy: bool) -> Figures {
    let Record { figures, counters, .. } = record;
    let [errors, cancellations, timeouts, unknown_errors] = figures.failures.map(count);
    Figures {
        calls: count(figures.histogram.count()),
        rows: count(figures.rows),
        total_time: milliseconds(figures.total),
        min_time: milliseconds(figures.min),
        max_time: milliseconds(figures.max),
        errors,
        cancellations,
        timeouts,
        unknown_errors,
        histogram: figures.histogram,
        counters: (counters != [0; COUNTERS]).then(|| of_pg_stat_statements(&counters)),
        lossy,
    }
}

/// In the order of the columns of `_query_intervals`.
fn of_pg_stat_statements(counters: &[u64; COUNTERS]) -> Counters {
    let sum = |columns: &[usize]| columns.iter().fold(0_i64, |sum, &i| sum.saturating_add(count(counters[i])));
    let ms = |column: usize| counters[column] as f64 / 1000.0;
    Counters {
        shared_blks_hit: sum(&[0]),
        blks_read: sum(&[1, 5]),
        blks_written: sum(&[3, 7]),
        temp_blks_read: sum(&[8]),
        temp_blks_written: sum(&[9]),
        blk_read_time: ms(10),
        blk_write_time: ms(11),
        wal_bytes: sum(&[16]),
        jit_time: ms(18),
    }
}

/// Sums by statement.
pub fn totals(window: Window) -> Result<HashMap<Key, Figures>> {
    let mut totals = HashMap::<Key, Figures>::new();
    each(window, Wish::default(), |interval| totals.entry(interval.key).or_default().add(&interval.figures))?;
    Ok(totals)
}

pub const OTHERS: &str = "<others>";
const MASKED: &str = "<insufficient privilege>";

/// Texts, as far as the caller may see them.
pub struct Texts(HashMap<(i64, u32), String>);

impl Texts {
    pub fn of(keys: impl Iterator<Item = Key>) -> Result<Texts> {
        let queryids: Vec<i64> = keys.filter_map(|key| key.queryid).filter(|&queryid| queryid != 0).collect();
        if queryids.is_empty() {
            return Ok(Texts(HashMap::new()));
        }
        let rows = spi::query(
            "SELECT q.queryid, q.userid, pg_catalog.convert_to(q.query, pg_catalog.getdatabaseencoding())
               FROM upkeep._query_text q
              WHERE q.queryid OPERATOR(pg_catalog.=) ANY ($1)",
            &[queryids.into()],
            |row| {
                let text = encoding::from_server(&row.require::<Vec<u8>>(3)?);
                Ok(((row.require::<i64>(1)?, row.require::<Oid>(2)?.to_u32()), text))
            },
        )?;
        Ok(Texts(rows.into_iter().collect()))
    }

    /// As bytes in this database's encoding, for a column of text.
    pub fn of_server(&self, key: &Key) -> Option<Vec<u8>> {
        self.get(key).map(|text| encoding::to_server(&text))
    }

    /// `None`: not known.
    pub fn get(&self, key: &Key) -> Option<String> {
        match key.queryid {
            None => Some(MASKED.into()),
            Some(0) => Some(OTHERS.into()),
            Some(queryid) => self.0.get(&(queryid, key.userid)).cloned(),
        }
    }
}
