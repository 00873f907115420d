//! Finished jobs that have left something outside of our tables: the scheduler removes it, and comes back until that
//! has worked. It has the right to, and no text of a user's runs in a DROP.
//!
//! The statements on `_job` at the end of this file run inside [`spi::bookkeeping`], as those of [`store`] do.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use serde_json::Value;

use super::chore::Visit;
use super::{registry, store};
use crate::ddl::Tries;
use crate::error::{Error, Result};
use crate::server::catch::transaction;
use crate::server::json::JsonB;
use crate::server::raise::{self, Level};
use crate::server::{catalog, epoch, spi};

/// Tries of one visit may wait so long together. None of them waits for anybody longer than a second; but there can be
/// hundreds of them, and everything else that is due waits meanwhile.
const VISIT: Duration = Duration::from_secs(1);
/// Somebody has the row of a job locked that is to be cleaned up.
const WHILE_LOCKED: Duration = Duration::from_secs(1);

/// Tries the jobs that are due, those first that have waited longest since their last try.
pub fn clean_up() -> Result<Visit> {
    let started = Instant::now();
    let mut visit = Visit::default();
    for (job, kind, params) in transaction(|| spi::bookkeeping(due_cleanups))? {
        if started.elapsed() >= VISIT {
            break;
        }
        let tried = transaction(|| {
            if !spi::bookkeeping(|| lock_for_cleanup(job))? {
                return Ok(None);
            }
            // What a kind of a later version has made nobody here knows how to remove.
            let reason = registry::kind(&kind, &params).map_or(Ok(None), |kind| kind.clean_up(job))?;
            if reason.is_none() {
                spi::bookkeeping(|| {
                    cleaned_up(job)?;
                    store::add_event(job, "cleaned up", Some(registry::nature(&kind).leaves))
                })?;
            }
            Ok(reason)
        });
        let (reason, detail) = match tried {
            Ok(None) => continue,
            Ok(Some(reason)) => (reason, None),
            Err(error) => {
                let message = format!("job {job} could not be cleaned up: {}", error.message);
                let reason = format!("it could not be cleaned up: SQLSTATE {}", error.sqlstate);
                let detail = error.message.clone();
                raise::report(Level::Log, Error { message, ..error });
                (reason, Some(detail))
            }
        };
        if let Err(error) = transaction(|| spi::bookkeeping(|| clean_up_later(job, &reason, detail.as_deref()))) {
            visit.give_up(format!("job {job}, which is to be cleaned up"), error);
        }
    }
    Ok(visit)
}

/// When the next job is due, if any is to be cleaned up.
pub fn next() -> Result<Option<Duration>> {
    let seconds = transaction(|| spi::bookkeeping(seconds_to_cleanup))?;
    // What is due already was in the way of somebody's lock or of this visit's end.
    Ok(seconds
        .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, 3600.0)))
        .map(|pause| if pause.is_zero() { WHILE_LOCKED } else { pause }))
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
        "UPDATE upkeep._job SET needs_cleanup = false, reason = NULL, reason_detail = NULL, not_before = NULL
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

/// Finished jobs whose traces are due to be removed, their kinds, and what they were to do.
fn due_cleanups() -> Result<Vec<(Uuid, String, Value)>> {
    spi::query(
        "SELECT id, kind, params FROM upkeep._job
         WHERE needs_cleanup AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
           AND (not_before IS NULL OR not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())
         ORDER BY not_before NULLS FIRST, finished_at",
        &[],
        |row| Ok((row.next()?, row.next()?, row.next::<JsonB>()?.0)),
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

/// How it is tried now, by what has been waited: the rests are those of [`clean_up_later`].
pub fn tries(job: Uuid) -> Result<Tries> {
    let finished = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT (pg_catalog.date_part('epoch', finished_at) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8
             FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into()],
            |row| row.get::<i64>(1),
        )
    })?;
    let now = catalog::now();
    let since = finished.flatten().map_or(now, |finished| finished - epoch::FROM_1970);
    let rest = Duration::from_micros(u64::try_from((now - since) / 4).unwrap_or(0));
    Ok(Tries::with_rests_of(since, rest.clamp(Duration::from_millis(200), Duration::from_secs(10))))
}

/// Why a finished job could not be cleaned up. The next try comes after a quarter of the time that it has waited,
/// 200 ms at least and 10 s at most.
fn clean_up_later(job: Uuid, reason: &str, detail: Option<&str>) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET reason = $2, reason_detail = $3,
                not_before = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) least(greatest(
                    (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) finished_at) OPERATOR(pg_catalog./) 4,
                    '200 ms'::pg_catalog.interval), '10 s'::pg_catalog.interval)
         WHERE id OPERATOR(pg_catalog.=) (
             SELECT j.id FROM upkeep._job j
             WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.needs_cleanup
               AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
             FOR UPDATE SKIP LOCKED)",
        &[job.into(), reason.into(), detail.into()],
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
