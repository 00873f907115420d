//! What came of the runs. A job's row goes soon, the run's row stays; both are bounded.

use std::time::Duration;

use pgrx::Uuid;

use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::{catalog, spi};

/// Rows kept per schedule.
pub const MOST_RUNS: i64 = 1000;
/// Finished jobs of runs kept for whoever still waits for one.
const KEPT_JOBS: i64 = 200;
/// Rows deleted at once.
const PORTION: i64 = 1000;

/// Takes over from the jobs of runs how they ended. What somebody has locked is left to a later look.
pub fn collect() -> Result<()> {
    let ended = collect_of(None)?;
    if ended.is_empty() {
        return Ok(());
    }
    for schedule in ended {
        shorten(schedule)?;
    }
    let over = spi::execute_returning(
        "SELECT k.id FROM upkeep._job k WHERE k.id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT j.id FROM upkeep._job j
             WHERE j.finished_at IS NOT NULL AND (j.params OPERATOR(pg_catalog.?) 'schedule')
               AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
               AND NOT EXISTS (SELECT 1 FROM upkeep._schedule_run u
                               WHERE u.job OPERATOR(pg_catalog.=) j.id AND u.finished_at IS NULL)
             ORDER BY j.finished_at DESC OFFSET $1 LIMIT $2))
         FOR UPDATE SKIP LOCKED",
        &[KEPT_JOBS.into(), PORTION.into()],
        |row| row.require::<Uuid>(1),
    )?;
    crate::jobs::forget::jobs(&crate::jobs::forget::unneeded(over)?)
}

/// Takes over how the run ended that a job did: it is about to be forgotten. No other run is touched; the caller may
/// keep its transaction open for long.
pub fn collect_run_of(job: Uuid) -> Result<()> {
    collect_of(Some(job)).map(drop)
}

/// Those of these jobs whose runs have not been collected.
pub fn not_collected(jobs: &[Uuid]) -> Result<Vec<Uuid>> {
    spi::query(
        "SELECT u.job FROM upkeep._schedule_run u
         WHERE u.finished_at IS NULL AND u.job OPERATOR(pg_catalog.=) ANY ($1)",
        &[jobs.to_vec().into()],
        |row| row.require(1),
    )
}

/// The same for the last run of one schedule.
pub fn collect_last_run_of(schedule: Uuid) -> Result<()> {
    super::runs::unfinished(schedule)?.map_or(Ok(()), collect_run_of)
}

/// Of one job, or of all that nobody has locked. Gives the schedules.
fn collect_of(job: Option<Uuid>) -> Result<Vec<Uuid>> {
    macro_rules! ended {
        ($lock:literal) => {
            concat!(
                "UPDATE upkeep._schedule_run r SET
                     status = CASE WHEN j.state OPERATOR(pg_catalog.=) 'failed'
                                        AND (j.shared OPERATOR(pg_catalog.?) 'timed_out')
                                   THEN 'timed out' ELSE j.state END,
                     attempts = (j.params OPERATOR(pg_catalog.->>) 'retries')::integer
                         OPERATOR(pg_catalog.-) j.retries OPERATOR(pg_catalog.+) 1,
                     started_at = j.started_at,
                     finished_at = coalesce(j.finished_at, pg_catalog.clock_timestamp()),
                     rows_done = (SELECT pg_catalog.sum(t.rows_done)::bigint FROM upkeep._job_slot t
                                  WHERE t.job OPERATOR(pg_catalog.=) j.id
                                     OR t.job OPERATOR(pg_catalog.=) ANY (ARRAY(
                                            SELECT c.id FROM upkeep._job c
                                            WHERE c.parent OPERATOR(pg_catalog.=) j.id))),
                     error_sqlstate = j.error_sqlstate, error_message = j.error_message,
                     error_detail = j.error_detail, error_hint = j.error_hint
                 FROM upkeep._job j
                 WHERE j.id OPERATOR(pg_catalog.=) r.job
                   AND r.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                       SELECT u.id FROM upkeep._schedule_run u
                       JOIN upkeep._job i ON i.id OPERATOR(pg_catalog.=) u.job
                       JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
                       WHERE u.finished_at IS NULL
                         AND CASE WHEN $1 IS NULL
                             -- The rest of those that are being restored may still be on its way.
                             THEN s.system_identifier OPERATOR(pg_catalog.=) $2 AND s.database OPERATOR(pg_catalog.=) $3
                             ELSE u.job OPERATOR(pg_catalog.=) $1 END
                         AND i.state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
                       FOR UPDATE OF u",
                $lock,
                "))
                 RETURNING r.schedule"
            )
        };
    }
    let sql = if job.is_some() { ended!("") } else { ended!(" SKIP LOCKED") };
    let here = (catalog::system_identifier(), catalog::my_database());
    let mut ended =
        spi::execute_returning(sql, &[job.into(), here.0.into(), here.1.into()], |row| row.require::<Uuid>(1))?;
    if job.is_none() {
        spi::execute(
            "UPDATE upkeep._schedule_run r SET status = 'failed', finished_at = pg_catalog.clock_timestamp(),
                    error_message = 'the job of this run is gone'
             WHERE r.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                 SELECT u.id FROM upkeep._schedule_run u
                 JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) u.schedule
                 WHERE u.finished_at IS NULL
                   -- The jobs of those that are being restored may still be on their way.
                   AND s.system_identifier OPERATOR(pg_catalog.=) $1 AND s.database OPERATOR(pg_catalog.=) $2
                   AND NOT EXISTS (SELECT 1 FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) u.job)
                 FOR UPDATE OF u SKIP LOCKED))",
            &[here.0.into(), here.1.into()],
        )?;
    }
    ended.sort_unstable_by_key(|id| *id.as_bytes());
    ended.dedup();
    Ok(ended)
}

/// Drops the oldest rows of a schedule that has more than enough.
fn shorten(schedule: Uuid) -> Result<()> {
    spi::execute(
        "DELETE FROM upkeep._schedule_run WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT u.id FROM upkeep._schedule_run u WHERE u.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                 SELECT r.id FROM upkeep._schedule_run r
                 WHERE r.schedule OPERATOR(pg_catalog.=) $1 AND r.finished_at IS NOT NULL
                 ORDER BY r.id DESC OFFSET $2 LIMIT $3))
             FOR UPDATE SKIP LOCKED))",
        &[schedule.into(), MOST_RUNS.into(), PORTION.into()],
    )?;
    Ok(())
}

/// Drops what ended longer ago than the retention time.
pub fn prune(retention: Duration) -> Result<()> {
    spi::execute(
        "DELETE FROM upkeep._schedule_run WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT r.id FROM upkeep._schedule_run r
             WHERE r.finished_at OPERATOR(pg_catalog.<)
                   (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1))
             ORDER BY r.finished_at LIMIT $2 FOR UPDATE SKIP LOCKED))",
        &[retention.as_secs_f64().into(), PORTION.into()],
    )?;
    Ok(())
}

/// The job of a run is not repeated by hand: its run has been noted, and the next one may be near.
pub fn check_retry(job: Uuid) -> Result<()> {
    let schedule = spi::bookkeeping(|| {
        spi::query_one(
            "SELECT s.id FROM upkeep._job j
             JOIN upkeep._schedule s ON s.id OPERATOR(pg_catalog.=) (j.params OPERATOR(pg_catalog.->>) 'schedule')::pg_catalog.uuid
             WHERE j.id OPERATOR(pg_catalog.=) $1",
            &[job.into()],
            |row| row.require::<Uuid>(1),
        )
    })?;
    match schedule {
        None => Ok(()),
        Some(schedule) => Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("cannot retry job {job}: it was a run of a schedule"),
        )
        .hint(format!("SELECT upkeep.run_now('{schedule}'); runs the command again."))),
    }
}
