//! What becomes of a job, and its history.

use std::time::Duration;

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use serde_json::Value;

use super::candidates::is_free;
use crate::error::{Error, Result};
use crate::jobs::part::Part;
use crate::server::Oid;
use crate::server::json::JsonB;
use crate::server::spi::{self};

/// Why a job is paused that came with a dump or a copied database.
pub const RESTORED: &str = "restored";

/// Why a finished job cannot be forgotten yet, until the first try says more.
pub const CLEANUP_PENDING: &str = "what it made outside of pg_upkeep is still to be removed";

/// Why a job is queued that has given its worker up.
pub const WAITS_FOR_TURN: &str = "waits for a worker: it has given its own to others who waited";

/// And why one is queued that never had any.
pub const WAITS_FOR_WORKER: &str = "waits for a worker: those that it may have are at work";

/// The same where the server's settings were changed.
pub const TOO_FEW_WORKERS: &str = "waits for a worker: upkeep.max_workers was lowered";
pub const NOT_LISTED: &str = "waits, because upkeep.databases does not list this database";

/// Until its hours begin again a job is queued; its executors leave, and the scheduler comes back by itself.
pub fn wait_for_hours(job: Uuid, until: TimestampWithTimeZone, reason: &str) -> Result<()> {
    let waits = spi::execute(
        "UPDATE upkeep._job SET state = 'queued', parked = 'clock', not_before = $2, reason = $3, reason_detail = NULL
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])",
        &[job.into(), until.into(), reason.into()],
    )?;
    if waits > 0 {
        add_event(job, "waiting", Some(reason))?;
    }
    Ok(())
}

/// Puts a job back into the queue until a lock that another job's worker keeps could be had. It says so once; `not_before` is
/// when it was last sent back.
pub fn wait_for_turn(job: Uuid, lock: Value, reason: &str) -> Result<()> {
    let told = spi::execute_returning(
        "UPDATE upkeep._job j
         SET state = 'queued', reason = $3, reason_detail = NULL, waits_for = $2,
             not_before = pg_catalog.clock_timestamp()
         FROM upkeep._job before
         WHERE j.id OPERATOR(pg_catalog.=) $1 AND before.id OPERATOR(pg_catalog.=) j.id
           AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])
         RETURNING before.waits_for IS NOT NULL",
        &[job.into(), JsonB(lock).into(), reason.into()],
        |row| row.require::<bool>(1),
    )?;
    if told.first() == Some(&false) {
        add_event(job, "waiting", Some(reason))?;
    }
    Ok(())
}

/// What older jobs than this one wait for.
pub fn waited_for_by_older(job: Uuid) -> Result<Vec<Part>> {
    let found = spi::query(
        "SELECT o.waits_for FROM upkeep._job o JOIN upkeep._job j ON j.id OPERATOR(pg_catalog.=) $1
         WHERE o.state OPERATOR(pg_catalog.=) 'queued' AND o.waits_for IS NOT NULL
           AND o.created_at OPERATOR(pg_catalog.<) j.created_at",
        &[job.into()],
        |row| row.require::<JsonB>(1),
    )?;
    Ok(found.into_iter().filter_map(|part| serde_json::from_value(part.0).ok()).collect())
}

/// Why a job that is queued does not start. One that somebody has locked keeps the reason that it has.
pub fn set_reason(job: Uuid, reason: &str) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET reason = $2, reason_detail = NULL
         WHERE id OPERATOR(pg_catalog.=) (
             SELECT j.id FROM upkeep._job j
             WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.state OPERATOR(pg_catalog.=) 'queued'
               AND j.reason IS DISTINCT FROM $2
             FOR UPDATE SKIP LOCKED)",
        &[job.into(), reason.into()],
    )?;
    Ok(())
}

pub fn add_event(job: Uuid, event: &str, detail: Option<&str>) -> Result<()> {
    spi::execute(
        "INSERT INTO upkeep._job_event (job, event, detail)
         SELECT j.id, $2, pg_catalog.left($3, $4) FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1
         FOR KEY SHARE",
        &[job.into(), event.into(), detail.into(), crate::jobs::bounds::LONGEST_DETAIL.into()],
    )?;
    crate::jobs::bounds::forget_events(job)
}

/// Ends a job that runs. Nothing happens if somebody canceled it meanwhile, or paused it, unless what it has done is
/// `irrevocable`: a command that was paused in the moment in which it started.
pub fn finish(job: Uuid, rows_left: i64, irrevocable: bool) -> Result<()> {
    let finished = spi::execute(
        "UPDATE upkeep._job SET state = 'done', rows_left = $2, reason = NULL, reason_detail = NULL,
                parked = NULL, answered = false, tells_parent = parent IS NOT NULL,
                finished_at = pg_catalog.clock_timestamp()
         WHERE id OPERATOR(pg_catalog.=) $1
           AND (state OPERATOR(pg_catalog.=) 'running' OR $3 AND state OPERATOR(pg_catalog.=) 'paused')",
        &[job.into(), rows_left.into(), irrevocable.into()],
    )?;
    if finished > 0 {
        add_event(
            job,
            "done",
            (rows_left > 0)
                .then(|| if rows_left == 1 { "1 row left".to_owned() } else { format!("{rows_left} rows left") })
                .as_deref(),
        )?;
        notify(job, "done")?;
    }
    Ok(())
}

/// Cancels a job that has not ended yet. `false`: it has.
pub fn cancel(job: Uuid, why: Option<&str>) -> Result<bool> {
    let canceled = spi::execute(
        "UPDATE upkeep._job SET state = 'canceled', not_before = NULL, waits_for = NULL, parked = NULL, answered = false,
                reason = CASE WHEN needs_cleanup THEN $2 END, reason_detail = NULL,
                finished_at = pg_catalog.clock_timestamp(), tells_parent = parent IS NOT NULL
         WHERE id OPERATOR(pg_catalog.=) $1
           AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
        &[job.into(), CLEANUP_PENDING.into()],
    )?;
    if canceled > 0 {
        add_event(job, "canceled", why)?;
        notify(job, "canceled")?;
    }
    Ok(canceled > 0)
}

/// Fails a job that has not ended yet. What is left of its children is canceled by a look of the scheduler.
pub fn fail(job: Uuid, error: &Error) -> Result<()> {
    let failed = spi::execute(
        "UPDATE upkeep._job SET state = 'failed', reason = CASE WHEN needs_cleanup THEN $6 END, reason_detail = NULL,
                parked = NULL, answered = false, tells_parent = parent IS NOT NULL,
                leaves_children = EXISTS (
                    SELECT FROM upkeep._job c
                    WHERE c.parent OPERATOR(pg_catalog.=) $1
                      AND c.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])),
                error_sqlstate = $2, error_message = $3, error_detail = $4, error_hint = $5,
                finished_at = pg_catalog.clock_timestamp()
         WHERE id OPERATOR(pg_catalog.=) $1
           AND state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])",
        &[
            job.into(),
            error.sqlstate.to_string().into(),
            error.message.as_str().into(),
            error.detail.as_deref().into(),
            error.hint.as_deref().into(),
            CLEANUP_PENDING.into(),
        ],
    )?;
    if failed > 0 {
        add_event(job, "failed", Some(&error.message))?;
        notify(job, "failed")?;
    }
    Ok(())
}

/// Puts a job that failed with `error` back into the queue, to run no earlier than after `delay`. One that was paused
/// meanwhile stays so.
pub fn requeue(job: Uuid, delay: Duration, retries: i32, error: &Error) -> Result<()> {
    let left = if retries == 1 { "1 retry" } else { &*format!("{retries} retries") };
    let reason = format!("{left} left after SQLSTATE {}", error.sqlstate);
    let requeued = spi::execute(
        "UPDATE upkeep._job SET retries = $3,
                state = CASE WHEN state OPERATOR(pg_catalog.=) 'running' THEN 'queued' ELSE state END,
                reason = CASE WHEN state OPERATOR(pg_catalog.=) 'running' THEN $4 ELSE reason END,
                reason_detail = CASE WHEN state OPERATOR(pg_catalog.=) 'running' THEN $5 ELSE reason_detail END,
                not_before = pg_catalog.clock_timestamp()
                    OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $2)
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'paused'])",
        &[
            job.into(),
            delay.as_secs_f64().into(),
            retries.into(),
            reason.as_str().into(),
            error.message.as_str().into(),
        ],
    )?;
    if requeued == 0 {
        return Ok(());
    }
    add_event(job, "retry", Some(&format!("{reason}: {}", error.message)))
}

/// `NOTIFY upkeep_job` with id and state. Not when the queue is nearly full: the commit would fail, and with it the record of
/// how a job ended, or the cancel; anybody can fill the queue.
pub fn notify(job: Uuid, state: &str) -> Result<()> {
    spi::query(
        "SELECT pg_catalog.pg_notify('upkeep_job', pg_catalog.json_build_object('id', $1, 'state', $2)::pg_catalog.text)::pg_catalog.text
         WHERE pg_catalog.pg_notification_queue_usage() OPERATOR(pg_catalog.<) 0.8",
        &[job.into(), state.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// A job cannot have what it needs: also one that came with a dump and was not paused by anybody yet.
pub fn stay_paused(job: Uuid, why: &str) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET state = 'paused', reason = 'another job has what it needs', reason_detail = $2, parked = NULL
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[job.into(), why.into()],
    )
    .map(drop)
}

/// Fails a job that cannot be started. False: somebody has its row locked.
pub fn fail_unless_locked(job: Uuid, error: &Error) -> Result<bool> {
    let free = is_free(job)?;
    if free {
        fail(job, error)?;
    }
    Ok(free)
}

/// Jobs that came with a dump or a copied database wait for `resume_all()` (LAW 20). One that somebody has locked is
/// paused by a later look, and not started before ([`candidates`]).
pub fn pause_foreign_jobs(system: i64, database: Oid) -> Result<()> {
    let paused = spi::execute_returning(
        "UPDATE upkeep._job SET state = 'paused', reason = 'restored', reason_detail = NULL, parked = NULL, answered = false
         WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT j.id FROM upkeep._job j
             WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])
               AND j.reason IS DISTINCT FROM 'restored'
               -- Those before and after ours in the index.
               AND (ROW(j.system_identifier, j.database) OPERATOR(pg_catalog.<) ROW($1, $2)
                    OR ROW(j.system_identifier, j.database) OPERATOR(pg_catalog.>) ROW($1, $2))
             FOR UPDATE SKIP LOCKED))
         RETURNING id",
        &[system.into(), database.into()],
        |row| row.require::<Uuid>(1),
    )?;
    for job in paused {
        add_event(job, "paused", Some(RESTORED))?;
    }
    Ok(())
}

/// Drops what finished longer ago than the retention time, but for what somebody has locked.
pub fn prune(retention: Duration) -> Result<()> {
    let old = spi::execute_returning(
        "SELECT j.id FROM upkeep._job j
         WHERE j.finished_at OPERATOR(pg_catalog.<)
               (pg_catalog.now() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1))
           AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
           AND NOT j.needs_cleanup
           -- A child is kept as long as its parent.
           AND (j.parent IS NULL OR NOT EXISTS (SELECT FROM upkeep._job p WHERE p.id OPERATOR(pg_catalog.=) j.parent))
         FOR UPDATE SKIP LOCKED",
        &[retention.as_secs_f64().into()],
        |row| row.require::<Uuid>(1),
    )?;
    crate::jobs::forget::jobs(&crate::jobs::forget::unneeded(old)?)
}
