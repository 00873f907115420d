//! Finished jobs that have left something outside of our tables: the scheduler removes it, and comes back until that
//! has worked. It has the right to, and no text of a user's runs in a DROP.
//!
//! The statements on `_job` at the end of this file run inside [`spi::bookkeeping`], as those of [`store`] do.

use std::time::Duration;

use pgrx::Uuid;

use super::{kind, store};
use crate::error::Result;
use crate::server::catch::transaction;
use crate::server::raise::{self, Level};
use crate::server::spi;

/// One try for every job that is due. None of them waits for anybody longer than a second.
pub fn clean_up() -> Result<()> {
    for (job, kind) in transaction(|| spi::bookkeeping(due_cleanups))? {
        let tried = transaction(|| {
            if !spi::bookkeeping(|| lock_for_cleanup(job))? {
                return Ok(None);
            }
            let reason = kind::clean_up(&kind, job)?;
            if reason.is_none() {
                spi::bookkeeping(|| {
                    cleaned_up(job)?;
                    store::add_event(job, "cleaned up", None)
                })?;
            }
            Ok(reason)
        });
        let reason = match tried {
            Ok(None) => continue,
            Ok(Some(reason)) => reason,
            Err(error) => {
                let message = format!("job {job} could not be cleaned up: {}", error.message);
                raise::report(Level::Log, crate::error::Error { message: message.clone(), ..error });
                message
            }
        };
        transaction(|| spi::bookkeeping(|| clean_up_later(job, &reason)))?;
    }
    Ok(())
}

/// When the next job is due, if any is to be cleaned up.
pub fn next() -> Result<Option<Duration>> {
    let seconds = transaction(|| spi::bookkeeping(seconds_to_cleanup))?;
    Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0))))
}

/// The job is about to make something that must go when it ends. False: it does not run any more.
pub fn will_need_cleanup(job: Uuid) -> Result<bool> {
    let marked = spi::execute(
        "UPDATE upkeep._job SET needs_cleanup = true
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'running'",
        &[job.into()],
    )?;
    Ok(marked > 0)
}

/// Nothing of it is left.
pub fn cleaned_up(job: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET needs_cleanup = false, reason = NULL, not_before = NULL
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[job.into()],
    )?;
    Ok(())
}

pub fn needs_cleanup(job: Uuid) -> Result<bool> {
    let needs = spi::execute_returning(
        "SELECT needs_cleanup FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1",
        &[job.into()],
        |row| row.require(1),
    )?;
    Ok(needs.into_iter().next().unwrap_or(false))
}

/// Finished jobs whose traces are due to be removed, and their kinds.
fn due_cleanups() -> Result<Vec<(Uuid, String)>> {
    spi::query(
        "SELECT id, kind FROM upkeep._job
         WHERE needs_cleanup AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
           AND (not_before IS NULL OR not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())
         ORDER BY finished_at",
        &[],
        |row| Ok((row.require(1)?, row.require(2)?)),
    )
}

/// Locks a job that is still finished and to be cleaned up; false if it is not, or somebody has it locked.
fn lock_for_cleanup(job: Uuid) -> Result<bool> {
    let locked = spi::execute_returning(
        "SELECT true FROM upkeep._job
         WHERE id OPERATOR(pg_catalog.=) $1 AND needs_cleanup
           AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
         FOR UPDATE SKIP LOCKED",
        &[job.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(!locked.is_empty())
}

/// Why a finished job could not be cleaned up. The next try comes after a quarter of the time that it has waited,
/// 200 ms at least and 10 s at most.
fn clean_up_later(job: Uuid, reason: &str) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET reason = $2,
                not_before = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) least(greatest(
                    (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) finished_at) OPERATOR(pg_catalog./) 4,
                    '200 ms'::pg_catalog.interval), '10 s'::pg_catalog.interval)
         WHERE id OPERATOR(pg_catalog.=) $1 AND needs_cleanup
           AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])",
        &[job.into(), reason.into()],
    )?;
    Ok(())
}

/// Seconds until the next of them is due; `None`: there is none.
fn seconds_to_cleanup() -> Result<Option<f64>> {
    spi::query_one(
        "SELECT pg_catalog.date_part('epoch', pg_catalog.min(
                    coalesce(not_before, finished_at) OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp()))
         FROM upkeep._job
         WHERE needs_cleanup AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])",
        &[],
        |row| row.get(1),
    )
    .map(Option::flatten)
}
