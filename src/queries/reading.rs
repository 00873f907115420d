//! The history, read as whoever asks: [`each`] is the one place that does.

use std::cell::RefCell;
use std::collections::HashMap;

use pgrx::pg_sys::Oid;

use super::arguments::{Window, timestamp};
use super::histogram::Histogram;
use super::sums::{Counters, Figures, Key};
use crate::error::{Error, INTERNAL_ERROR, Result};
use crate::server::spi::{self, Row};

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

const INTERVALS: &str = "
    SELECT i.started_at, i.finished_at, i.queryid, i.userid, i.toplevel,
           i.calls, i.rows, i.total_time, i.min_time, i.max_time,
           i.errors, i.cancellations, i.timeouts, i.unknown_errors, i.histogram, i.lossy,
           i.shared_blks_hit,
           i.shared_blks_read OPERATOR(pg_catalog.+) i.local_blks_read,
           i.shared_blks_written OPERATOR(pg_catalog.+) i.local_blks_written,
           i.temp_blks_read, i.temp_blks_written, i.blk_read_time, i.blk_write_time, i.wal_bytes, i.jit_time
    FROM upkeep._query_intervals($1, $2, $3, pg_catalog.make_interval(secs => $4)) i";

pub fn each(window: Window, wish: Wish, mut use_it: impl FnMut(Interval)) -> Result<()> {
    let use_it = RefCell::new(&mut use_it);
    let seconds = wish.resolution.map(|length| length as f64 / 1e6);
    spi::query(
        INTERVALS,
        &[timestamp(window.since).into(), timestamp(window.until).into(), wish.queryid.into(), seconds.into()],
        |row| {
            (use_it.borrow_mut())(interval(&row)?);
            Ok(())
        },
    )?;
    Ok(())
}

fn interval(row: &Row<'_>) -> Result<Interval> {
    let time = |column| Ok::<_, Error>(row.require::<pgrx::datum::TimestampWithTimeZone>(column)?.into_inner());
    let count = |column| Ok::<_, Error>(row.get::<i64>(column)?.unwrap_or(0));
    let ms = |column| Ok::<_, Error>(row.get::<f64>(column)?.unwrap_or(0.0));
    let histogram = match row.get::<&[u8]>(15)? {
        Some(bytes) => Histogram::decode(bytes)
            .ok_or_else(|| Error::new(INTERNAL_ERROR, "a stored histogram of upkeep._query_interval is damaged"))?,
        None => Histogram::default(),
    };
    let counters = match row.get::<i64>(17)? {
        None => None,
        Some(shared_blks_hit) => Some(Counters {
            shared_blks_hit,
            blks_read: count(18)?,
            blks_written: count(19)?,
            temp_blks_read: count(20)?,
            temp_blks_written: count(21)?,
            blk_read_time: ms(22)?,
            blk_write_time: ms(23)?,
            wal_bytes: count(24)?,
            jit_time: ms(25)?,
        }),
    };
    Ok(Interval {
        started_at: time(1)?,
        finished_at: time(2)?,
        key: Key {
            queryid: row.get(3)?,
            userid: row.get::<Oid>(4)?.map_or(0, |oid| oid.to_u32()),
            toplevel: row.get(5)?.unwrap_or(true),
        },
        figures: Figures {
            calls: count(6)?,
            rows: count(7)?,
            total_time: ms(8)?,
            min_time: ms(9)?,
            max_time: ms(10)?,
            errors: count(11)?,
            cancellations: count(12)?,
            timeouts: count(13)?,
            unknown_errors: count(14)?,
            histogram,
            lossy: row.get(16)?.unwrap_or(false),
            counters,
        },
    })
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
            "SELECT q.queryid, q.userid, q.query FROM upkeep._query_text q
              WHERE q.queryid OPERATOR(pg_catalog.=) ANY ($1)",
            &[queryids.into()],
            |row| Ok(((row.require::<i64>(1)?, row.require::<Oid>(2)?.to_u32()), row.require::<String>(3)?)),
        )?;
        Ok(Texts(rows.into_iter().collect()))
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
