//! The list of a job's tables, `upkeep._backfill_table`: which there are, who has what in hand, and what the
//! workers share of each. All of it through [`spi::bookkeeping`].

use std::time::Duration;

use pgrx::Uuid;
use serde_json::Value;

use super::run::cursor::{Phase, Shared};
use super::run::whole::{Again, Tree};
use crate::error::Result;
use crate::quarantine;
use crate::server::json::JsonB;
use crate::server::{Oid, spi};

/// A table of the list.
#[derive(Clone, Debug)]
pub struct Listed {
    pub number: i32,
    pub relid: Oid,
    pub sql: String,
    pub weight: f64,
    pub gone: bool,
}

/// What a worker that has nothing in hand sees. As of now.
pub struct Sight {
    pub tree: Tree,
    /// The largest table that nobody has in hand and that does not rest.
    pub free: Option<i32>,
    /// Tables that others have in hand, the largest first.
    pub others: Vec<(i32, Shared)>,
    /// How long the first one that rests still does.
    pub rests: Option<Duration>,
    /// Some table's assignments are known to do what the condition asks.
    pub proved: bool,
}

fn json<T: serde::de::DeserializeOwned + Default>(value: Option<JsonB>) -> Result<T> {
    Ok(value.map(|value| serde_json::from_value(value.0)).transpose()?.unwrap_or_default())
}

/// Looks around, for `slot`.
pub fn look(job: Uuid, slot: i32) -> Result<Sight> {
    spi::bookkeeping(|| {
        let sight = spi::execute_returning(
            "SELECT j.shared,
                 (SELECT t.number FROM upkeep._backfill_table t
                  WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.=) 'todo'
                    AND (t.not_before IS NULL OR t.not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())
                    AND NOT EXISTS (SELECT FROM upkeep._job_slot s
                                    WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.<>) $2
                                      AND (s.cursor OPERATOR(pg_catalog.->) 'table')::pg_catalog.int4
                                          OPERATOR(pg_catalog.=) t.number)
                  ORDER BY t.weight DESC, t.number LIMIT 1),
                 (SELECT pg_catalog.date_part('epoch',
                             pg_catalog.min(t.not_before) OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
                  FROM upkeep._backfill_table t
                  WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.=) 'todo'),
                 EXISTS (SELECT FROM upkeep._backfill_table t
                         WHERE t.job OPERATOR(pg_catalog.=) $1
                           AND (t.shared OPERATOR(pg_catalog.->) 'proved')::pg_catalog.bool)
             FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1",
            &[job.into(), slot.into()],
            |row| {
                Ok(Sight {
                    tree: json(row.next_or_null()?)?,
                    free: row.next_or_null()?,
                    others: Vec::new(),
                    rests: row.next_or_null::<f64>()?.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))),
                    proved: row.next()?,
                })
            },
        )?;
        let others = spi::execute_returning(
            "SELECT t.number, t.shared FROM upkeep._backfill_table t
             WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.=) 'todo'
               AND t.number OPERATOR(pg_catalog.=) ANY (
                   SELECT (s.cursor OPERATOR(pg_catalog.->) 'table')::pg_catalog.int4 FROM upkeep._job_slot s
                   WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.<>) $2)
             ORDER BY t.weight DESC, t.number",
            &[job.into(), slot.into()],
            |row| Ok((row.require(1)?, json(row.get(2)?)?)),
        )?;
        let nothing = Sight { tree: Tree::default(), free: None, others: Vec::new(), rests: None, proved: false };
        let sight = sight.into_iter().next().unwrap_or(nothing);
        Ok(Sight { others, ..sight })
    })
}

/// One table of the list.
pub fn table(job: Uuid, number: i32) -> Result<Option<Listed>> {
    Ok(select(job, Some(number))?.into_iter().next())
}

/// All tables of the list.
pub fn tables(job: Uuid) -> Result<Vec<Listed>> {
    select(job, None)
}

fn select(job: Uuid, number: Option<i32>) -> Result<Vec<Listed>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT t.number, t.relid, t.relname, t.weight, t.state OPERATOR(pg_catalog.=) 'gone'
             FROM upkeep._backfill_table t
             WHERE t.job OPERATOR(pg_catalog.=) $1 AND coalesce(t.number OPERATOR(pg_catalog.=) $2, true)
             ORDER BY t.number",
            &[job.into(), number.into()],
            |row| {
                Ok(Listed {
                    number: row.next()?,
                    relid: row.next()?,
                    sql: row.next()?,
                    weight: row.next()?,
                    gone: row.next()?,
                })
            },
        )
    })
}

/// Adds a table to the list.
pub fn add(job: Uuid, number: i32, relid: Oid, sql: &str, weight: f64) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "INSERT INTO upkeep._backfill_table (job, number, relid, relname, weight)
             SELECT j.id, $2, $3, $4, $5 FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE",
            &[job.into(), number.into(), relid.into(), sql.into(), weight.into()],
        )
    })
    .map(drop)
}

/// What the workers share of a table, without locking it.
pub fn shared(job: Uuid, number: i32) -> Result<Shared> {
    let shared = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT t.shared FROM upkeep._backfill_table t
             WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.number OPERATOR(pg_catalog.=) $2",
            &[job.into(), number.into()],
            |row| json(row.get(1)?),
        )
    })?;
    Ok(shared.into_iter().next().unwrap_or_default())
}

/// The same, locked until the step commits, and how many other slots have something of it in hand.
/// `None`: it is not to be worked on (any more).
pub fn lock(job: Uuid, number: i32, slot: i32) -> Result<Option<(Shared, i64)>> {
    spi::bookkeeping(|| {
        let shared = spi::execute_returning(
            "SELECT t.shared FROM upkeep._backfill_table t
             WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.number OPERATOR(pg_catalog.=) $2
               AND t.state OPERATOR(pg_catalog.=) 'todo' FOR UPDATE",
            &[job.into(), number.into()],
            |row| json(row.get(1)?),
        )?;
        let Some(shared) = shared.into_iter().next() else { return Ok(None) };
        // With a snapshot taken after the lock.
        let others = spi::execute_returning(
            "SELECT pg_catalog.count(*) FROM upkeep._job_slot s
             WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.<>) $3
               AND (s.cursor OPERATOR(pg_catalog.->) 'table')::pg_catalog.int4 OPERATOR(pg_catalog.=) $2",
            &[job.into(), number.into(), slot.into()],
            |row| row.require::<i64>(1),
        )?;
        Ok(Some((shared, others.first().copied().unwrap_or(0))))
    })
}

/// Writes what the workers share of a table. A `rest` keeps everybody from it for so long.
pub fn write(job: Uuid, number: i32, shared: &Shared, rest: Option<Duration>) -> Result<()> {
    let state = if shared.rows_left.is_some() { "done" } else { "todo" };
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._backfill_table SET shared = $3, state = $4,
                 not_before = pg_catalog.clock_timestamp()
                     OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $5)
             WHERE job OPERATOR(pg_catalog.=) $1 AND number OPERATOR(pg_catalog.=) $2",
            &[
                job.into(),
                number.into(),
                JsonB(serde_json::to_value(shared)?).into(),
                state.into(),
                rest.map(|rest| rest.as_secs_f64()).into(),
            ],
        )
    })
    .map(drop)
}

/// The table is not the job's business any more. `false`: somebody has said so already.
pub fn leave(job: Uuid, table: &Listed) -> Result<bool> {
    spi::bookkeeping(|| {
        let left = spi::execute(
            "UPDATE upkeep._backfill_table SET state = 'gone'
             WHERE job OPERATOR(pg_catalog.=) $1 AND number OPERATOR(pg_catalog.=) $2
               AND state OPERATOR(pg_catalog.<>) 'gone'",
            &[job.into(), table.number.into()],
        )?;
        if left == 0 {
            return Ok(false);
        }
        quarantine::forget_table(job, table.relid)?;
        Ok(true)
    })
}

/// It is part of the tree again, and goes on where it was.
pub fn take_back(job: Uuid, number: i32) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._backfill_table SET state =
                 CASE WHEN (shared OPERATOR(pg_catalog.->>) 'rows_left') IS NULL THEN 'todo' ELSE 'done' END
             WHERE job OPERATOR(pg_catalog.=) $1 AND number OPERATOR(pg_catalog.=) $2",
            &[job.into(), number.into()],
        )
    })
    .map(drop)
}

/// Rows left in all tables of the list.
pub fn rows_left(job: Uuid) -> Result<i64> {
    let left = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT coalesce(pg_catalog.sum((t.shared OPERATOR(pg_catalog.->) 'rows_left')::pg_catalog.int8), 0)::pg_catalog.int8
             FROM upkeep._backfill_table t
             WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.=) 'done'",
            &[job.into()],
            |row| row.require(1),
        )
    })?;
    Ok(left.into_iter().next().unwrap_or(0))
}

/// Every row that was put aside is tried once more; after a run that was done (`Leftovers`) also those that
/// still match, and nothing else.
pub fn try_again(job: Uuid, again: Again) -> Result<()> {
    let revisit = serde_json::json!({
        "phase": Phase::Revisit, "round": 0, "after_number": 0, "rows_left": Value::Null,
    });
    spi::bookkeeping(|| {
        quarantine::come_back_to(job)?;
        if again == Again::Leftovers {
            spi::execute("DELETE FROM upkeep._backfill_xid WHERE job OPERATOR(pg_catalog.=) $1", &[job.into()])?;
        }
        spi::execute(
            "UPDATE upkeep._backfill_table t SET state = 'todo', not_before = NULL,
                 shared = t.shared OPERATOR(pg_catalog.||) $2
                     OPERATOR(pg_catalog.||) CASE WHEN $3 THEN '{\"sweep\": 0}'::pg_catalog.jsonb ELSE '{}' END
             WHERE t.job OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.=) 'done'
               AND ($3 OR EXISTS (SELECT FROM upkeep._backfill_row r
                                  WHERE r.job OPERATOR(pg_catalog.=) $1
                                    AND r.relid OPERATOR(pg_catalog.=) t.relid))",
            &[job.into(), JsonB(revisit).into(), (again == Again::Leftovers).into()],
        )
    })
    .map(drop)
}

/// Settles in the database the job was restored into: names mean what they mean here, and transaction
/// ids of the other server nothing.
pub fn settle_in(job: Uuid, fingerprint: &str, since: u64) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET params = params OPERATOR(pg_catalog.||)
                 pg_catalog.jsonb_build_object('fingerprint', $2::pg_catalog.text)
             WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into(), fingerprint.into()],
        )?;
        spi::execute(
            "UPDATE upkeep._backfill_table SET shared = shared OPERATOR(pg_catalog.||)
                 pg_catalog.jsonb_build_object('since', $2::pg_catalog.int8)
             WHERE job OPERATOR(pg_catalog.=) $1",
            &[job.into(), i64::try_from(since).unwrap_or(i64::MAX).into()],
        )?;
        spi::execute("DELETE FROM upkeep._backfill_xid WHERE job OPERATOR(pg_catalog.=) $1", &[job.into()])
    })
    .map(drop)
}

/// Looks tables of this job up again by name, in the database that it was restored into (LAW 20), and with them the rows
/// that are remembered. A table that is not found has the OID 0.
pub fn restore(job: Uuid) -> Result<()> {
    let args = || [job.into()];
    // One table's new OID may be another one's old: all go before any comes back.
    spi::execute(
        "WITH moved AS (
                 DELETE FROM upkeep._backfill_row r USING upkeep._backfill_table t
                 WHERE t.job OPERATOR(pg_catalog.=) $1 AND r.job OPERATOR(pg_catalog.=) t.job AND r.relid OPERATOR(pg_catalog.=) t.relid
                 RETURNING r.*, coalesce(pg_catalog.to_regclass(t.relname)::pg_catalog.oid, 0::pg_catalog.oid) AS here
             )
             INSERT INTO upkeep._backfill_row
                 (job, relid, row_key, exact, number, state, sqlstate, message, attempts, last_tried_at)
             OVERRIDING SYSTEM VALUE
             SELECT m.job, m.here, m.row_key, m.exact, m.number, m.state, m.sqlstate, m.message, m.attempts, m.last_tried_at
             FROM moved m WHERE m.here OPERATOR(pg_catalog.<>) 0::pg_catalog.oid ORDER BY m.number",
        &args(),
    )?;
    spi::execute(
        "UPDATE upkeep._backfill_table t
         SET relid = coalesce(pg_catalog.to_regclass(t.relname)::pg_catalog.oid, 0::pg_catalog.oid)
         WHERE t.job OPERATOR(pg_catalog.=) $1",
        &args(),
    )?;
    Ok(())
}
