//! What one role can fill with its jobs is bounded (LAW 35): finished ones here, unfinished ones by
//! [`super::queue::check_limit`], and those of other rooms by whoever makes them.
//!
//! All of it runs inside [`spi::bookkeeping`].

use pgrx::Uuid;

use crate::error::Result;
use crate::server::spi;
use crate::settings;

/// A role keeps so many finished jobs for each unfinished one that it may have.
const FINISHED_FOR_EACH: i64 = 10;
/// With fewer nobody could look at what he has just done.
const LEAST_FINISHED: i64 = 100;
/// Jobs dropped at one look.
const PORTION: i64 = 1000;

/// Events of one job: the first and the last ones are kept.
const MOST_EVENTS: i64 = 1000;
const FIRST_EVENTS: i64 = 100;
const EVENTS_DROPPED: i64 = 100;
/// Characters of what an event says. Messages of errors can be of any length.
pub const LONGEST_DETAIL: i32 = 4000;

/// Drops the oldest finished jobs of roles that have too many, in whatever retention time. Passes over what is locked.
pub fn prune() -> Result<()> {
    let most = settings::max_jobs_per_role().saturating_mul(FINISHED_FOR_EACH).max(LEAST_FINISHED);
    let too_many = spi::execute_returning(
        "SELECT j.id FROM upkeep._job j
         WHERE j.id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT r.id
             FROM (SELECT id, pg_catalog.row_number() OVER (PARTITION BY owner ORDER BY finished_at DESC, id DESC) AS place
                   FROM upkeep._job
                   WHERE finished_at IS NOT NULL AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
                     AND NOT needs_cleanup
                     AND (parent IS NULL OR NOT EXISTS (SELECT FROM upkeep._job p WHERE p.id OPERATOR(pg_catalog.=) _job.parent))) r
             WHERE r.place OPERATOR(pg_catalog.>) $1 LIMIT $2))
         FOR UPDATE SKIP LOCKED",
        &[most.into(), PORTION.into()],
        |row| row.require::<Uuid>(1),
    )?;
    super::forget::jobs(&super::forget::unneeded(too_many)?)
}

/// One more event has come to this job: of very many the oldest go, but for the first ones.
pub fn forget_events(job: Uuid) -> Result<()> {
    spi::execute(
        "DELETE FROM upkeep._job_event e
         WHERE e.job OPERATOR(pg_catalog.=) $1
           AND (SELECT pg_catalog.count(*) FROM (SELECT 1 FROM upkeep._job_event f
                WHERE f.job OPERATOR(pg_catalog.=) $1 LIMIT $2 OPERATOR(pg_catalog.+) 1) few) OPERATOR(pg_catalog.>) $2
           AND e.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
               SELECT f.ctid FROM upkeep._job_event f WHERE f.job OPERATOR(pg_catalog.=) $1
               ORDER BY f.happened_at, f.ctid OFFSET $3 LIMIT $4))",
        &[job.into(), MOST_EVENTS.into(), FIRST_EVENTS.into(), EVENTS_DROPPED.into()],
    )?;
    Ok(())
}
