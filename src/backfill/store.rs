//! The private tables of this room, all of it through [`spi::bookkeeping`].

use pgrx::Uuid;

use crate::error::Result;
use crate::server::spi::{self, Prepared};
use crate::server::types;

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
            &[types::UUID],
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

/// A job that came from elsewhere: what names meant there says nothing here, and the first run takes their meaning anew. Inside
/// [`spi::bookkeeping`].
pub fn forget_meaning(job: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET params = params OPERATOR(pg_catalog.-) 'fingerprint'
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[job.into()],
    )
    .map(drop)
}
