//! The private tables of this room, all of it through [`spi::bookkeeping`].

use pgrx::Uuid;
use pgrx::pg_sys::{BuiltinOid, Oid};

use crate::error::Result;
use crate::server::spi::{self, Prepared};

/// A backfill that stands in the way of another.
pub struct Overlap {
    pub job: Uuid,
    pub relid: Oid,
    pub target: String,
    pub column: String,
}

/// An unfinished backfill of one of these tables that fills one of these columns. One of the
/// caller's own with this name is left out: whether it is the same job is for the queue to say.
pub fn overlapping(relids: &[Oid], columns: &[String], name: Option<&str>) -> Result<Option<Overlap>> {
    let owner = crate::server::catalog::current_user();
    spi::bookkeeping(|| {
        // With a snapshot of its own: the request that this one waited for has committed since.
        let found = spi::execute_returning(
            "SELECT j.id, j.relid, j.target, c.name
             FROM upkeep._job j
             CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(j.params OPERATOR(pg_catalog.->) 'columns') c (name)
             WHERE j.kind OPERATOR(pg_catalog.=) 'backfill'
               AND j.relid OPERATOR(pg_catalog.=) ANY ($1)
               AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])
               AND c.name OPERATOR(pg_catalog.=) ANY ($2)
               AND NOT coalesce(j.owner OPERATOR(pg_catalog.=) $3 AND j.name OPERATOR(pg_catalog.=) $4, false)
             ORDER BY j.id LIMIT 1",
            &[relids.to_vec().into(), columns.to_vec().into(), owner.into(), name.into()],
            |row| {
                Ok(Overlap {
                    job: row.require(1)?,
                    relid: row.require(2)?,
                    target: row.require(3)?,
                    column: row.require(4)?,
                })
            },
        )?;
        Ok(found.into_iter().next())
    })
}

/// The table and the columns that a job fills.
pub fn filled_columns(job: Uuid) -> Result<Option<(Oid, Vec<String>)>> {
    spi::bookkeeping(|| {
        spi::query_one(
            "SELECT j.relid, ARRAY(SELECT pg_catalog.jsonb_array_elements_text(j.params OPERATOR(pg_catalog.->) 'columns'))
             FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.relid IS NOT NULL",
            &[job.into()],
            |row| Ok((row.require(1)?, row.require(2)?)),
        )
    })
}

/// Notes that rows which this transaction (low 32 bits of its id) updated still match.
pub fn note_still_matching(job: Uuid, xid: u32) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "INSERT INTO upkeep._backfill_xid (job, xid)
             SELECT j.id, $2 FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE
             ON CONFLICT DO NOTHING",
            &[job.into(), i64::from(xid).into()],
        )
    })
    .map(|_| ())
}

/// The transactions of this job which updated rows that still match, as of now: a row that
/// was seen before this call cannot be missing.
pub fn still_matching(job: Uuid) -> Result<Vec<u32>> {
    spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT x.xid FROM upkeep._backfill_xid x WHERE x.job OPERATOR(pg_catalog.=) $1",
            &[job.into()],
            |row| Ok(row.require::<i64>(1)? as u32),
        )
    })
}

/// Is there any such transaction? Asked by every step of a fill.
pub fn any_still_matching(job: Uuid) -> Result<bool> {
    thread_local! {
        static ANY: Prepared = Prepared::new(
            "SELECT EXISTS (SELECT FROM upkeep._backfill_xid x WHERE x.job OPERATOR(pg_catalog.=) $1)",
            &[BuiltinOid::UUIDOID],
        );
    }
    let found = spi::bookkeeping(|| ANY.with(|statement| statement.returning(&[job.into()], |row| row.require(1))))?;
    Ok(found.into_iter().next().unwrap_or(false))
}

/// What the names in a job's text mean here, if that is settled.
pub fn fingerprint(job: Uuid) -> Result<Option<String>> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT j.params OPERATOR(pg_catalog.->>) 'fingerprint' FROM upkeep._job j
             WHERE j.id OPERATOR(pg_catalog.=) $1",
            &[job.into()],
            |row| row.get(1),
        )
    })?;
    Ok(found.into_iter().next().flatten())
}

/// Jobs that came from elsewhere: what names meant there says nothing here, and the first run takes their meaning anew. Inside
/// [`spi::bookkeeping`].
pub fn forget_meaning(jobs: &[Uuid]) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET params = params OPERATOR(pg_catalog.-) 'fingerprint'
         WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
        &[jobs.to_vec().into()],
    )
    .map(drop)
}
