//! The history in its tables. Everything here runs inside [`spi::bookkeeping`]; layout and ring: sql/schema/queries/tables.sql.

use std::collections::BTreeMap;
use std::time::Duration;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

use super::cover::{Span, period_at, period_of};
use super::figures::{Key, Record};
use super::packed;
use crate::ddl::{Wanted, blockers};
use crate::error::*;
use crate::server::catch::subtransaction;
use crate::server::table_lock::Mode;
use crate::server::{Oid, catalog, spi, worker};

/// Rings have this many partitions, of which one is being filled.
pub const RING: i16 = 8;

/// An interval was cut short by a restart: what was counted between the interval before and the restart is not known.
pub const CUT_SHORT: i32 = 1;
/// pg_stat_statements forgot statements: its counters are too low.
pub const FORGOTTEN: i32 = 2;

fn at(microseconds: i64) -> Result<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(microseconds)
        .map_err(|_| Error::new(INTERNAL_ERROR, format!("no time: {microseconds}")))
}

/// A row to be.
pub struct Interval<'a> {
    pub span: Span,
    pub parts: i32,
    pub flags: i32,
    pub records: &'a BTreeMap<Key, Record>,
}

pub fn insert(interval: &Interval<'_>) -> Result<()> {
    let Interval { span, parts, flags, records } = interval;
    let level = span.level as i16;
    spi::execute(
        "INSERT INTO upkeep._query_interval (ring, level, period, started_at, finished_at, parts, flags, statements, entries)
         SELECT (8 OPERATOR(pg_catalog.*) r.level OPERATOR(pg_catalog.+) r.position)::pg_catalog.int2,
                r.level, $2, $3, $4, $5, $6, $7, $8
         FROM upkeep._query_ring r WHERE r.level OPERATOR(pg_catalog.=) $1",
        &[
            level.into(),
            at(span.period)?.into(),
            at(span.started)?.into(),
            at(span.finished)?.into(),
            (*parts).into(),
            (*flags).into(),
            (records.len() as i32).into(),
            packed::pack(records).into(),
        ],
    )?;
    Ok(())
}

/// Is there any history?
pub fn has_history() -> Result<bool> {
    let found = spi::query("SELECT FROM upkeep._query_interval LIMIT 1", &[], |_| Ok(()))?;
    Ok(!found.is_empty())
}

/// The rows that may have to do with a stretch of time: all of the days that it touches.
pub fn spans(since: i64, until: i64) -> Result<Vec<Span>> {
    // A row may have begun long before it ended.
    let from = period_at(2, since.max(-100 * 365 * period_of(2))) - period_of(2);
    spi::query(
        "SELECT i.level, i.period, i.started_at, i.finished_at FROM upkeep._query_interval i
         WHERE i.period OPERATOR(pg_catalog.>=) $1 AND i.period OPERATOR(pg_catalog.<=) $2",
        &[at(from)?.into(), at(until)?.into()],
        |row| {
            let time = |column| Ok::<_, Error>(row.require::<TimestampWithTimeZone>(column)?.into_inner());
            Ok(Span { level: row.require::<i16>(1)? as usize, period: time(2)?, started: time(3)?, finished: time(4)? })
        },
    )
}

/// The row of an hour or a day, if it has been added up, and of how many finer ones it is the sum.
pub fn whole(level: usize, period: i64) -> Result<Option<(Span, i32)>> {
    spi::query_one(
        "SELECT i.started_at, i.finished_at, i.parts FROM upkeep._query_interval i
         WHERE i.level OPERATOR(pg_catalog.=) $1 AND i.period OPERATOR(pg_catalog.=) $2",
        &[(level as i32).into(), at(period)?.into()],
        |row| {
            let time = |column| Ok::<_, Error>(row.require::<TimestampWithTimeZone>(column)?.into_inner());
            Ok((Span { level, period, started: time(1)?, finished: time(2)? }, row.require(3)?))
        },
    )
}

/// One row's statements, and its flags.
pub fn read(span: Span, only: Option<i64>) -> Result<Option<(Vec<Record>, i32)>> {
    let found = spi::query_one(
        "SELECT i.entries, i.flags FROM upkeep._query_interval i
         WHERE i.level OPERATOR(pg_catalog.=) $1 AND i.period OPERATOR(pg_catalog.=) $2
           AND i.started_at OPERATOR(pg_catalog.=) $3",
        &[(span.level as i16).into(), at(span.period)?.into(), at(span.started)?.into()],
        |row| Ok((row.require::<Vec<u8>>(1)?, row.require::<i32>(2)?)),
    )?;
    found
        .map(|(entries, flags)| match packed::unpack(&entries, only) {
            Some(records) => Ok((records, flags)),
            None => Err(damaged(span)),
        })
        .transpose()
}

/// Many rows, one after the other: which of `spans` it is, its statements, and its flags. Rows may leave the history meanwhile.
pub fn each(spans: &[Span], only: Option<i64>, mut use_it: impl FnMut(usize, Vec<Record>, i32)) -> Result<()> {
    let Some(queryid) = only else {
        return each_whole(&(0..spans.len()).collect::<Vec<_>>(), spans, None, use_it);
    };
    // Of a day's statements one is wanted.
    let (days, rest): (Vec<usize>, Vec<usize>) = (0..spans.len()).partition(|&n| spans[n].level == 2);
    let mut found = Vec::new();
    each_day(&days, spans, queryid, &mut found)?;
    each_whole(&rest, spans, only, |n, records, flags| found.push((n, records, flags)))?;
    found.sort_by_key(|&(n, ..)| n);
    found.into_iter().for_each(|(n, records, flags)| use_it(n, records, flags));
    Ok(())
}

/// `wanted` of the spans, as three arrays.
fn keys(wanted: &[usize], spans: &[Span]) -> Result<[DatumWithOid<'static>; 3]> {
    let levels: Vec<i16> = wanted.iter().map(|&n| spans[n].level as i16).collect();
    let times = |time: fn(&Span) -> i64| wanted.iter().map(|&n| at(time(&spans[n]))).collect::<Result<Vec<_>>>();
    Ok([levels.into(), times(|span| span.period)?.into(), times(|span| span.started)?.into()])
}

fn each_whole(
    wanted: &[usize],
    spans: &[Span],
    only: Option<i64>,
    use_it: impl FnMut(usize, Vec<Record>, i32),
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let use_it = std::cell::RefCell::new(use_it);
    // Large values come out of their table one by one, as they are asked for.
    spi::query(
        "SELECT w.n, i.entries, i.flags
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY
              AS w (level, period, started_at, n)
         JOIN upkeep._query_interval i
             ON i.period OPERATOR(pg_catalog.=) w.period AND i.level OPERATOR(pg_catalog.=) w.level
            AND i.started_at OPERATOR(pg_catalog.=) w.started_at
         ORDER BY w.n",
        &keys(wanted, spans)?,
        |row| {
            let (n, entries) = (wanted[row.next::<i64>()? as usize - 1], row.next::<&[u8]>()?);
            let records = packed::unpack(entries, only).ok_or_else(|| damaged(spans[n]))?;
            (use_it.borrow_mut())(n, records, row.next()?);
            Ok(())
        },
    )?;
    Ok(())
}

/// Days are stored so that parts of them can be read: first where the statement is, then itself.
fn each_day(wanted: &[usize], spans: &[Span], queryid: i64, found: &mut Vec<(usize, Vec<Record>, i32)>) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let [levels, periods, starts] = keys(wanted, spans)?;
    let heads = spi::query(
        "SELECT w.n, pg_catalog.substr(i.entries, 1, $4 OPERATOR(pg_catalog.+) ($5 OPERATOR(pg_catalog.*) i.statements)), i.flags
         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)) WITH ORDINALITY
              AS w (level, period, started_at, n)
         JOIN upkeep._query_interval i
             ON i.period OPERATOR(pg_catalog.=) w.period AND i.level OPERATOR(pg_catalog.=) w.level
            AND i.started_at OPERATOR(pg_catalog.=) w.started_at",
        &[levels, periods, starts, packed::HEAD.into(), packed::HEAD_PER_STATEMENT.into()],
        |row| {
            let n = wanted[row.next::<i64>()? as usize - 1];
            Ok((n, packed::locate(row.next::<&[u8]>()?, queryid), row.next::<i32>()?))
        },
    )?;
    let mut unclear = Vec::new();
    let mut places = Vec::new();
    for (n, place, flags) in heads {
        match place {
            None => unclear.push(n),
            Some((_, _, 0)) => found.push((n, Vec::new(), flags)),
            Some((users, from, length)) => places.push((n, users, from as i32 + 1, length as i32, flags)),
        }
    }
    let numbers: Vec<usize> = places.iter().map(|place| place.0).collect();
    if !places.is_empty() {
        let [levels, periods, starts] = keys(&numbers, spans)?;
        let from: Vec<i32> = places.iter().map(|place| place.2).collect();
        let length: Vec<i32> = places.iter().map(|place| place.3).collect();
        let more = spi::query(
            "SELECT w.n, pg_catalog.substr(i.entries, w.from_byte, w.length)
             FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4),
                             pg_catalog.unnest($5)) WITH ORDINALITY AS w (level, period, started_at, from_byte, length, n)
             JOIN upkeep._query_interval i
                 ON i.period OPERATOR(pg_catalog.=) w.period AND i.level OPERATOR(pg_catalog.=) w.level
                AND i.started_at OPERATOR(pg_catalog.=) w.started_at",
            &[levels, periods, starts, from.into(), length.into()],
            |row| {
                let (n, users, _, _, flags) = &places[row.require::<i64>(1)? as usize - 1];
                let records = packed::unpack_bodies(row.require::<&[u8]>(2)?, queryid, users);
                Ok((*n, records.ok_or_else(|| damaged(spans[*n]))?, *flags))
            },
        )?;
        found.extend(more);
    }
    each_whole(&unclear, spans, Some(queryid), |n, records, flags| found.push((n, records, flags)))
}

fn damaged(span: Span) -> Error {
    Error::new(INTERNAL_ERROR, "a row of the history of statements cannot be read")
        .detail(format!("Level {}, period {}.", span.level, span.period))
        .hint("SELECT upkeep.reset_query_stats(history => true); begins a new history.")
}

/// Periods of `level` that are over, and whose finer rows are more than were added up when they were last.
pub fn unfinished(level: usize, from: i64, until: i64) -> Result<Vec<i64>> {
    spi::execute_returning(
        "SELECT p.period FROM (
             SELECT pg_catalog.date_trunc($2, i.period, 'UTC') AS period, pg_catalog.count(*) AS parts
             FROM upkeep._query_interval i
             WHERE i.level OPERATOR(pg_catalog.=) ($1 OPERATOR(pg_catalog.-) 1)
               AND i.period OPERATOR(pg_catalog.>=) $3 AND i.period OPERATOR(pg_catalog.<) $4
             GROUP BY 1) p
         LEFT JOIN upkeep._query_interval w
             ON w.level OPERATOR(pg_catalog.=) $1 AND w.period OPERATOR(pg_catalog.=) p.period
         WHERE w.period IS NULL OR w.parts OPERATOR(pg_catalog.<) p.parts
         ORDER BY 1",
        &[(level as i32).into(), if level == 1 { "hour" } else { "day" }.into(), at(from)?.into(), at(until)?.into()],
        |row| Ok(row.require::<TimestampWithTimeZone>(1)?.into_inner()),
    )
}

/// Takes out the one row of a period that is added up anew.
pub fn remove(level: usize, period: i64) -> Result<()> {
    spi::execute(
        "DELETE FROM upkeep._query_interval
         WHERE level OPERATOR(pg_catalog.=) $1 AND period OPERATOR(pg_catalog.=) $2",
        &[(level as i32).into(), at(period)?.into()],
    )?;
    Ok(())
}

/// A text of a statement's, in the database's encoding.
pub fn insert_text(queryid: i64, user: u32, text: &[u8], truncated: bool, search_path: &[u8]) -> Result<()> {
    spi::execute(
        "INSERT INTO upkeep._query (queryid, userid, query, truncated, search_path)
         VALUES ($1, $2, pg_catalog.convert_from($3, pg_catalog.getdatabaseencoding()), $4,
                 pg_catalog.convert_from($5, pg_catalog.getdatabaseencoding()))
         ON CONFLICT DO NOTHING",
        &[queryid.into(), Oid::from(user).into(), text.into(), truncated.into(), search_path.into()],
    )?;
    Ok(())
}

/// Statements that were met are still in use: at most one write a day each.
pub fn note_seen(keys: &[Key]) -> Result<()> {
    let ids: Vec<i64> = keys.iter().map(|key| key.queryid).collect();
    let users: Vec<Oid> = keys.iter().map(|key| key.user.into()).collect();
    spi::execute(
        "UPDATE upkeep._query q SET last_seen = pg_catalog.clock_timestamp()
         FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.int8[]), pg_catalog.unnest($2::pg_catalog.oid[])) AS s(queryid, userid)
         WHERE q.queryid OPERATOR(pg_catalog.=) s.queryid AND q.userid OPERATOR(pg_catalog.=) s.userid
           AND q.last_seen OPERATOR(pg_catalog.<) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval)",
        &[ids.into(), users.into()],
    )?;
    Ok(())
}

/// Bytes of all texts, and of all the rest.
pub fn sizes() -> Result<(i64, i64)> {
    let found = spi::execute_returning(
        "SELECT pg_catalog.pg_total_relation_size('upkeep._query'),
                pg_catalog.sum(pg_catalog.pg_total_relation_size(t.relid))::pg_catalog.int8
         FROM pg_catalog.pg_partition_tree('upkeep._query_interval') t WHERE t.isleaf",
        &[],
        |row| Ok((row.require(1)?, row.require(2)?)),
    )?;
    Ok(found.into_iter().next().unwrap_or((0, 0)))
}

/// Deletes rows, the finest first and of those the oldest, so that the others hold no more than `room` bytes.
pub fn delete_beyond(room: i64) -> Result<()> {
    spi::execute(
        "DELETE FROM upkeep._query_interval i
         USING (SELECT s.level, s.period, s.started_at,
                       pg_catalog.sum(pg_catalog.pg_column_size(s.entries) OPERATOR(pg_catalog.+) $2)
                           OVER (ORDER BY s.level DESC, s.period DESC, s.started_at DESC) AS bytes
                FROM upkeep._query_interval s) o
         WHERE i.level OPERATOR(pg_catalog.=) o.level AND i.period OPERATOR(pg_catalog.=) o.period
           AND i.started_at OPERATOR(pg_catalog.=) o.started_at AND o.bytes OPERATOR(pg_catalog.>) $1",
        &[room.into(), ROW.into()],
    )?;
    Ok(())
}

/// Removes the texts that were met longest ago; true if there were so many.
pub fn prune_texts(most: i64) -> Result<bool> {
    let gone = spi::execute(
        "DELETE FROM upkeep._query q WHERE q.last_seen OPERATOR(pg_catalog.<)
             (SELECT s.last_seen FROM upkeep._query s ORDER BY s.last_seen DESC OFFSET $1 LIMIT 1)",
        &[most.into()],
    )?;
    Ok(gone > 0)
}

/// How many texts there are, and what they hold.
pub fn texts_held() -> Result<(i64, i64)> {
    let found = spi::execute_returning(
        "SELECT pg_catalog.count(*),
                coalesce(pg_catalog.sum(pg_catalog.pg_column_size(q.query) OPERATOR(pg_catalog.+)
                                        pg_catalog.pg_column_size(q.search_path) OPERATOR(pg_catalog.+) $1), 0)
         FROM upkeep._query q",
        &[ROW.into()],
        |row| Ok((row.require(1)?, row.require(2)?)),
    )?;
    Ok(found.into_iter().next().unwrap_or((0, 0)))
}

/// Where a level's ring is, and the first period in that partition.
pub fn ring(level: usize) -> Result<(i16, Option<i64>)> {
    let found = spi::execute_returning(
        "SELECT r.position, CASE WHEN pg_catalog.isfinite(r.since) THEN r.since END FROM upkeep._query_ring r
         WHERE r.level OPERATOR(pg_catalog.=) $1",
        &[(level as i16).into()],
        |row| Ok((row.require::<i16>(1)?, row.get::<TimestampWithTimeZone>(2)?.map(TimestampWithTimeZone::into_inner))),
    )?;
    found.into_iter().next().ok_or_else(|| Error::new(INTERNAL_ERROR, "a ring of the history of statements is missing"))
}

pub fn set_ring(level: usize, position: i16, since: i64) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._query_ring SET position = $2, since = $3 WHERE level OPERATOR(pg_catalog.=) $1",
        &[(level as i16).into(), position.into(), at(since)?.into()],
    )?;
    Ok(())
}

/// Bytes of a row beside its large value, with its part of the indexes.
const ROW: i32 = 150;

const TABLES: [&str; 3] = ["minutes", "hours", "days"];

fn name(level: usize, position: i16) -> String {
    format!("upkeep._query_{}_{position}", TABLES[level])
}

pub fn partition(level: usize, position: i16) -> Result<Oid> {
    let found = spi::query_one(
        "SELECT ($1::pg_catalog.text)::pg_catalog.regclass::pg_catalog.oid",
        &[name(level, position).into()],
        |row| row.require(1),
    )?;
    found.ok_or_else(|| Error::new(INTERNAL_ERROR, "a partition of the history of statements is missing"))
}

/// Empties a partition. Waits for readers no longer than `lock_timeout`.
pub fn empty(level: usize, position: i16) -> Result<()> {
    spi::execute(&format!("TRUNCATE {}", name(level, position)), &[])?;
    Ok(())
}

/// Does a partition take any room? What was deleted from it does, until it is vacuumed.
pub fn holds(level: usize, position: i16) -> Result<bool> {
    let found = spi::query_one(
        "SELECT pg_catalog.pg_relation_size($1) OPERATOR(pg_catalog.>) 0",
        &[partition(level, position)?.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(found.unwrap_or(false))
}

/// The partition that is the oldest of its level, if it holds anything: not the one being filled.
pub fn oldest(level: usize) -> Result<Option<i16>> {
    let (position, _) = ring(level)?;
    for step in 1..RING {
        let candidate = (position + step) % RING;
        if holds(level, candidate)? {
            return Ok(Some(candidate));
        }
    }
    Ok(None)
}

/// Who has partitions locked, so that they cannot be emptied.
pub fn held_by(partitions: &[Oid]) -> Result<String> {
    let wanted = |&relid: &Oid| Wanted { relid, mode: Mode::AccessExclusive, with_children: false };
    Ok(blockers(&partitions.iter().map(wanted).collect::<Vec<_>>(), catalog::now())?.reason("empty it"))
}

/// All of it. Does not wait for whoever has read it: all that came after would wait too, the next interval included.
pub fn forget_history() -> Result<()> {
    spi::bookkeeping(|| {
        lock_all()?;
        spi::execute("TRUNCATE upkeep._query_interval, upkeep._query", &[])?;
        Ok(())
    })?;
    if let Some(texts) = crate::queries::raw::texts::texts() {
        texts.forget_all();
    }
    Ok(())
}

/// What a scheduler does with them takes milliseconds.
fn lock_all() -> Result<()> {
    const TRIES: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..TRIES {
        let tried = subtransaction(|| {
            spi::execute("LOCK TABLE upkeep._query_interval, upkeep._query IN ACCESS EXCLUSIVE MODE NOWAIT", &[])
        });
        match tried {
            Err(error) if error.sqlstate == LOCK_NOT_AVAILABLE => worker::wait_in_session(PAUSE),
            other => return other.map(|_| ()),
        }
    }
    let all = spi::query(
        "SELECT t.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree('upkeep._query_interval') t
         UNION ALL SELECT 'upkeep._query'::pg_catalog.regclass::pg_catalog.oid",
        &[],
        |row| row.require(1),
    )?;
    Err(Error::new(LOCK_NOT_AVAILABLE, "the history of statements is in use")
        .detail(held_by(&all)?)
        .hint("A session that has read it holds its lock until the end of its transaction."))
}

/// Partitions of a level whose rows are all older than `before`, other than the one being filled.
pub fn partitions_before(level: usize, before: i64) -> Result<Vec<i16>> {
    let (position, _) = ring(level)?;
    let first = level as i16 * RING;
    spi::execute_returning(
        "SELECT (i.ring OPERATOR(pg_catalog.-) $1)::pg_catalog.int2 FROM upkeep._query_interval i
         WHERE i.ring OPERATOR(pg_catalog.>=) $1 AND i.ring OPERATOR(pg_catalog.<) ($1 OPERATOR(pg_catalog.+) 8)
           AND i.ring OPERATOR(pg_catalog.<>) ($1 OPERATOR(pg_catalog.+) $2)
         GROUP BY i.ring HAVING pg_catalog.max(i.finished_at) OPERATOR(pg_catalog.<) $3",
        &[i32::from(first).into(), i32::from(position).into(), at(before)?.into()],
        |row| row.require(1),
    )
}
