//! A run of a schedule: the job that does it, and the row that will tell of it.

use pgrx::Uuid;

use super::store;
use crate::error::Result;
use crate::jobs::command::KIND;
use crate::server::{Oid, catalog, spi};
use crate::settings;

/// Makes a job of a schedule, as its owner and with the settings captured with it. Inside [`spi::bookkeeping`],
/// the schedule's row locked.
pub fn start(schedule: Uuid, due_at: i64) -> Result<Uuid> {
    let job = catalog::uuid_v7();
    spi::execute(
        "INSERT INTO upkeep._job (id, kind, owner, owner_name, target, params, session, retries,
                                  system_identifier, database)
         SELECT $2, $3, s.owner, s.owner_name, s.target,
                pg_catalog.jsonb_build_object('command', s.command, 'schedule', s.id, 'timeout', s.timeout,
                                              'retries', s.retries, 'retry_backoff', s.retry_backoff),
                s.session, s.retries, s.system_identifier, s.database
         FROM upkeep._schedule s WHERE s.id OPERATOR(pg_catalog.=) $1",
        &[schedule.into(), job.into(), KIND.into()],
    )?;
    crate::jobs::store::add_event(job, "queued", Some("by its schedule"))?;
    spi::execute(
        "INSERT INTO upkeep._schedule_run (schedule, job, due_at) VALUES ($1, $2, $3)",
        &[schedule.into(), job.into(), store::timestamp(due_at).into()],
    )?;
    Ok(job)
}

/// The job of a schedule's run that has not ended.
pub fn unfinished(schedule: Uuid) -> Result<Option<Uuid>> {
    let found = spi::execute_returning(
        "SELECT r.job FROM upkeep._schedule_run r
         WHERE r.schedule OPERATOR(pg_catalog.=) $1 AND r.finished_at IS NULL",
        &[schedule.into()],
        |row| row.require::<Uuid>(1),
    )?;
    Ok(found.into_iter().next())
}

/// The same, of one that has not begun.
pub fn queued(schedule: Uuid) -> Result<Option<Uuid>> {
    let found = spi::execute_returning(
        "SELECT j.id FROM upkeep._schedule_run r
         JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
         WHERE r.schedule OPERATOR(pg_catalog.=) $1 AND r.finished_at IS NULL
           AND j.state OPERATOR(pg_catalog.=) 'queued' AND j.started_at IS NULL",
        &[schedule.into()],
        |row| row.require::<Uuid>(1),
    )?;
    Ok(found.into_iter().next())
}

/// How many more runs may be made of schedules of this role. It never has more workers at once than there are, so more
/// runs that want one would only fill the table; those that wait for something else (a retry, what they have begun)
/// count as its jobs do.
pub fn room_for(owner: Oid) -> Result<i64> {
    let runs = spi::query_one(
        "SELECT pg_catalog.count(*),
                pg_catalog.count(*) FILTER (
                    WHERE j.state OPERATOR(pg_catalog.=) 'running' OR j.state OPERATOR(pg_catalog.=) 'queued'
                      AND coalesce(j.parked OPERATOR(pg_catalog.<>) 'children', true)
                      AND (j.not_before IS NULL OR j.not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp()))
         FROM upkeep._schedule_run r JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) r.job
         WHERE r.finished_at IS NULL AND j.owner OPERATOR(pg_catalog.=) $1",
        &[owner.into()],
        |row| Ok((row.require::<i64>(1)?, row.require::<i64>(2)?)),
    )?;
    let (unfinished, want_workers) = runs.unwrap_or_default();
    Ok((i64::from(settings::max_workers()) - want_workers).min(settings::max_jobs_per_role() - unfinished))
}
