//! Rows that a job, of whatever kind, has to come back to because somebody has them locked, or has put aside because they cannot be
//! done: `upkeep.quarantined_rows`.
//!
//! Their table is called `_backfill_row`, because dumps that were made when only backfills had such rows name it.

use pgrx::Uuid;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::server::json::JsonB;
use crate::server::{Oid, spi};

pub const TABLE: &str = "upkeep._backfill_row";
/// Where people see those that are put aside.
pub const VIEW: &str = "upkeep.quarantined_rows";

/// Notes rows that are skipped because somebody has locked them.
pub fn remember_locked(job: Uuid, relid: Oid, keys: &[Value]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    spi::bookkeeping(|| {
        spi::execute(
            "INSERT INTO upkeep._backfill_row (job, relid, row_key, exact, state)
             SELECT j.id, $2, k.key, true, 'locked'
             FROM upkeep._job j CROSS JOIN LATERAL pg_catalog.jsonb_array_elements($3) k (key)
             WHERE j.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF j
             ON CONFLICT (job, relid, row_key) DO NOTHING",
            &[job.into(), relid.into(), JsonB(Value::Array(keys.to_vec())).into()],
        )
    })
    .map(|_| ())
}

/// The row cannot be done: the job goes on without it, and people see it.
pub fn put_aside(job: Uuid, relid: Oid, row_key: &Value, error: &Error) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "INSERT INTO upkeep._backfill_row AS r
                 (job, relid, row_key, exact, state, sqlstate, message, attempts, last_tried_at)
             SELECT j.id, $2, $3, true, 'quarantined', $4, $5, 1, pg_catalog.clock_timestamp()
             FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE
             ON CONFLICT (job, relid, row_key) DO UPDATE
             SET state = 'quarantined', exact = true, sqlstate = excluded.sqlstate, message = excluded.message,
                 attempts = r.attempts OPERATOR(pg_catalog.+) 1, last_tried_at = excluded.last_tried_at",
            &[
                job.into(),
                relid.into(),
                JsonB(row_key.clone()).into(),
                error.sqlstate.to_string().into(),
                error.message.as_str().into(),
            ],
        )
    })
    .map(|_| ())
}

/// A remembered row is done, or gone.
pub fn forget(job: Uuid, relid: Oid, row_key: &Value) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "DELETE FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.relid OPERATOR(pg_catalog.=) $2
               AND r.row_key OPERATOR(pg_catalog.=) $3",
            &[job.into(), relid.into(), JsonB(row_key.clone()).into()],
        )
    })
    .map(|_| ())
}

/// How many rows are put aside.
pub fn count(job: Uuid) -> Result<i64> {
    let count = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT pg_catalog.count(*) FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.state OPERATOR(pg_catalog.=) 'quarantined'",
            &[job.into()],
            |row| row.require(1),
        )
    })?;
    Ok(count.unwrap_or(0))
}

/// How many rows of one table wait for whoever has locked them, and how many are put aside.
pub fn remembered(job: Uuid, relid: Oid) -> Result<(i64, i64)> {
    let counts = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'locked'),
                    pg_catalog.count(*) FILTER (WHERE r.state OPERATOR(pg_catalog.=) 'quarantined')
             FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.relid OPERATOR(pg_catalog.=) $2",
            &[job.into(), relid.into()],
            |row| Ok((row.require(1)?, row.require(2)?)),
        )
    })?;
    Ok(counts.unwrap_or((0, 0)))
}

/// Is any row of this job remembered?
pub fn any(job: Uuid) -> Result<bool> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT EXISTS (SELECT FROM upkeep._backfill_row r WHERE r.job OPERATOR(pg_catalog.=) $1)",
            &[job.into()],
            |row| row.require(1),
        )
    })?;
    Ok(found.into_iter().next().unwrap_or(false))
}

/// Those that were put aside are to be come back to, like those that are locked. Inside [`spi::bookkeeping`].
pub fn come_back_to(job: Uuid) -> Result<()> {
    spi::execute("UPDATE upkeep._backfill_row SET state = 'locked' WHERE job OPERATOR(pg_catalog.=) $1", &[job.into()])
        .map(drop)
}

/// This table is not the job's business any more. Inside [`spi::bookkeeping`].
pub fn forget_table(job: Uuid, relid: Oid) -> Result<()> {
    spi::execute(
        "DELETE FROM upkeep._backfill_row r
         WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.relid OPERATOR(pg_catalog.=) $2",
        &[job.into(), relid.into()],
    )
    .map(drop)
}

/// The error that put most rows aside: its code, its message, and how many.
pub fn most_frequent_error(job: Uuid) -> Result<Option<(String, String, i64)>> {
    spi::bookkeeping(|| {
        spi::query_one(
            "SELECT r.sqlstate, pg_catalog.min(r.message), pg_catalog.count(*) FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.state OPERATOR(pg_catalog.=) 'quarantined'
             GROUP BY r.sqlstate ORDER BY pg_catalog.count(*) DESC LIMIT 1",
            &[job.into()],
            |row| Ok((row.next()?, row.next()?, row.next()?)),
        )
    })
}

/// A row that the job has to come back to.
pub struct Remembered {
    pub number: i64,
    pub row_key: Value,
    /// The key is written by this version: as text from which the same values come back.
    pub exact: bool,
}

fn remembered_row(row: spi::Row<'_>) -> Result<Remembered> {
    Ok(Remembered { number: row.next()?, row_key: row.next::<JsonB>()?.0, exact: row.next()? })
}

/// Some rows of a table that wait for their lock, in order, after the last one looked at.
pub fn locked_after(job: Uuid, relid: Oid, after: i64, limit: i64) -> Result<Vec<Remembered>> {
    spi::bookkeeping(|| {
        spi::query(
            "SELECT r.number, r.row_key, r.exact FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.state OPERATOR(pg_catalog.=) 'locked'
               AND r.relid OPERATOR(pg_catalog.=) $2 AND r.number OPERATOR(pg_catalog.>) $3
             ORDER BY r.number LIMIT $4",
            &[job.into(), relid.into(), after.into(), limit.into()],
            remembered_row,
        )
    })
}

/// Rows that a version before 0.6.0 has remembered.
pub fn remembered_of_old(job: Uuid, relid: Oid) -> Result<Vec<Remembered>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT r.number, r.row_key, r.exact FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.relid OPERATOR(pg_catalog.=) $2 AND NOT r.exact
             ORDER BY r.number",
            &[job.into(), relid.into()],
            remembered_row,
        )
    })
}

/// Writes the key of a remembered row anew; if it is there already, one of the two goes.
pub fn rename(job: Uuid, relid: Oid, row: &Remembered, row_key: &Value) -> Result<()> {
    spi::bookkeeping(|| {
        let args = [job.into(), relid.into(), row.number.into(), JsonB(row_key.clone()).into()];
        spi::execute(
            "DELETE FROM upkeep._backfill_row r
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.relid OPERATOR(pg_catalog.=) $2
               AND r.row_key OPERATOR(pg_catalog.=) $4 AND r.number OPERATOR(pg_catalog.<>) $3",
            &args,
        )?;
        spi::execute(
            "UPDATE upkeep._backfill_row SET row_key = $4, exact = true
             WHERE job OPERATOR(pg_catalog.=) $1 AND relid OPERATOR(pg_catalog.=) $2
               AND number OPERATOR(pg_catalog.=) $3",
            &args,
        )
    })
    .map(drop)
}

/// Which of these keys are remembered, as of now: not as of the step's first snapshot.
pub fn remembered_among(job: Uuid, relid: Oid, keys: &[Value]) -> Result<Vec<Value>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT r.row_key FROM upkeep._backfill_row r
             JOIN pg_catalog.jsonb_array_elements($3) k (key) ON r.row_key OPERATOR(pg_catalog.=) k.key
             WHERE r.job OPERATOR(pg_catalog.=) $1 AND r.relid OPERATOR(pg_catalog.=) $2",
            &[job.into(), relid.into(), JsonB(Value::Array(keys.to_vec())).into()],
            |row| Ok(row.require::<JsonB>(1)?.0),
        )
    })
}
