//! The private tables: every statement on `upkeep._job`, `_job_slot` and
//! `_job_event` that workers run. All of them are static, and all run inside
//! [`spi::bookkeeping`].

use std::time::Duration;

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use serde_json::Value;

use super::kind::{Context, Event, Job, Plan};
use super::limits::Limits;
use super::part::Part;
use super::registry;
use super::retry::Tries;
use crate::error::{Error, Result};
use crate::server::json::JsonB;
use crate::server::spi::{self, Prepared};
use crate::server::{Oid, catalog, types};
use crate::settings;

/// A job and the state that its executor starts from.
pub struct Opened {
    pub job: Job,
    pub session: Value,
    pub state: String,
    pub retries: i32,
    pub limits: Limits,
    /// What it does has begun.
    pub begun: bool,
}

/// What can change under a running executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    pub state: String,
    pub workers: i32,
    pub batch_time: Duration,
    pub limits: Limits,
}

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

impl Live {
    pub fn is_runnable(&self) -> bool {
        self.state == "running"
    }

    pub fn is_final(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running" | "paused")
    }
}

/// The strike that fails a job.
pub const MAX_STRIKES: i32 = 3;

/// So many ends in the middle of a step, with no progress in between, fail a job. With the pauses of
/// [`retry::pause_before_restart`](super::retry::pause_before_restart) the last comes after three minutes: no
/// administrator does that by hand, and the text of a job that ends its own worker is tried no more than that.
pub const MAX_ENDS: i32 = 10;

/// Reads a job; `None` if it was dropped, or belongs to another server or database (LAW 20).
pub fn open(job: Uuid) -> Result<Option<Opened>> {
    spi::query_one(
        "SELECT max_replica_lag, max_replica_lag_bytes, max_wal_rate, throttle_work_ratio, run_between, timezone,
                kind, owner, relid, target, params, session, state, retries,
                EXISTS (SELECT FROM upkeep._job_slot s
                        WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.cursor IS NOT NULL)
         FROM upkeep._job
         WHERE id OPERATOR(pg_catalog.=) $1
           AND system_identifier OPERATOR(pg_catalog.=) $2 AND database OPERATOR(pg_catalog.=) $3",
        &[job.into(), catalog::system_identifier().into(), catalog::my_database().into()],
        |row| {
            Ok(Opened {
                job: Job {
                    id: job,
                    kind: row.require(7)?,
                    owner: row.require(8)?,
                    relid: row.get(9)?,
                    target: row.require(10)?,
                    params: json(row.get(11)?),
                },
                session: json(row.get(12)?),
                state: row.require(13)?,
                retries: row.require(14)?,
                limits: limits(&row)?,
                begun: row.require(15)?,
            })
        },
    )
}

/// The first six columns of a row.
fn limits(row: &spi::Row<'_>) -> Result<Limits> {
    Ok(Limits {
        max_replica_lag: row.next_or_null::<i32>()?.map(i64::from),
        max_replica_lag_bytes: row.next_or_null()?,
        max_wal_rate: row.next_or_null()?,
        throttle_work_ratio: row.next_or_null()?,
        run_between: row.next_or_null()?,
        timezone: row.next_or_null()?,
    })
}

fn json(value: Option<JsonB>) -> Value {
    value.map_or(Value::Null, |value| value.0)
}

/// What a slot holds when an executor takes it.
pub struct Slot {
    pub cursor: Option<Value>,
    /// Ends without a word in a row, the last one included.
    pub strikes: i32,
    /// Ends in the middle of a step since the last progress.
    pub ends: i32,
    /// Tries in vain since then.
    pub tries: Tries,
}

/// Takes a slot: from here until [`release_slot`] an end without a word is a strike. `departed` knows how the worker with a pid has
/// left that could not write it down. `None`: another executor has it.
pub fn attend_slot(job: Uuid, slot: i32, departed: impl Fn(i32) -> Option<End>) -> Result<Option<Slot>> {
    spi::execute(
        "INSERT INTO upkeep._job_slot (job, slot)
         SELECT j.id, $2 FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE
         ON CONFLICT (job, slot) DO NOTHING",
        &[job.into(), slot.into()],
    )?;
    let (free, last) = lock_if_free(job, slot)?;
    if !free {
        return Ok(None);
    }
    if let Some(last) = last
        && let Some(end) = departed(last)
    {
        release_slot(job, slot, last, end)?;
    }
    let taken = spi::execute_returning(
        "UPDATE upkeep._job_slot s
         SET pid = me.pid, backend_start = me.backend_start, wait_reason = NULL, wait_detail = NULL, failed_starts = 0,
             strikes = s.strikes OPERATOR(pg_catalog.+) (s.pid IS NOT NULL)::integer
         FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) me
         WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.=) $2
         RETURNING s.cursor, s.strikes, s.ends, s.tries",
        &[job.into(), slot.into()],
        |row| {
            Ok(Slot {
                cursor: row.next_or_null::<JsonB>()?.map(|cursor| cursor.0),
                strikes: row.next()?,
                ends: row.next()?,
                tries: serde_json::from_value(json(row.next_or_null()?)).unwrap_or_default(),
            })
        },
    )?;
    let Some(slot) = taken.into_iter().next() else { return Ok(None) };
    spi::execute(
        "UPDATE upkeep._job SET state = 'running', reason = NULL, reason_detail = NULL, not_before = NULL, waits_for = NULL,
                started_at = coalesce(started_at, pg_catalog.clock_timestamp())
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'queued'",
        &[job.into()],
    )?;
    Ok(Some(slot))
}

/// Locks a slot, and looks only then whether somebody is at work on it: the server's list of processes is copied
/// once per transaction, and in an older copy an executor that has started and taken the slot meanwhile is not there.
fn lock_if_free(job: Uuid, slot: i32) -> Result<(bool, Option<i32>)> {
    spi::execute_returning(
        "SELECT true FROM upkeep._job_slot
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2 FOR UPDATE",
        &[job.into(), slot.into()],
        |row| row.require::<bool>(1),
    )?;
    catalog::forget_process_list();
    let free = spi::execute_returning(
        "SELECT upkeep._is_executor(s.pid, s.backend_start) IS NOT TRUE, s.pid FROM upkeep._job_slot s
         WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.=) $2",
        &[job.into(), slot.into()],
        |row| Ok((row.require::<bool>(1)?, row.get::<i32>(2)?)),
    )?;
    Ok(free.into_iter().next().unwrap_or((false, None)))
}

/// How an executor ends that lives to report it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Orderly,
    /// In the middle of a step.
    Interrupted,
    /// By itself, because a step went on beyond its limit.
    Overran,
}

impl End {
    const ALL: [Self; 3] = [End::Orderly, End::Interrupted, End::Overran];

    /// For [`Segment::note_departure`](crate::jobs::raw::segment::Segment::note_departure): never 0.
    pub fn number(self) -> u32 {
        Self::ALL.iter().position(|&end| end == self).map_or(1, |position| position as u32 + 1)
    }

    pub fn numbered(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }
}

/// Locks the slot of the executor that this process is. False: somebody else has it locked.
pub fn lock_slot_at_once(job: Uuid, slot: i32) -> Result<bool> {
    let locked = spi::execute_returning(
        "SELECT true FROM upkeep._job_slot
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2 FOR UPDATE SKIP LOCKED",
        &[job.into(), slot.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(!locked.is_empty())
}

/// The end of the executor that had this pid.
pub fn release_slot(job: Uuid, slot: i32, pid: i32, end: End) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_slot SET pid = NULL, wait_reason = NULL, wait_detail = NULL,
                ends = ends OPERATOR(pg_catalog.+) $3::integer,
                ended_at = CASE WHEN $3 THEN pg_catalog.clock_timestamp() ELSE ended_at END,
                -- As Tries counts it.
                tries = CASE WHEN $4 THEN tries OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('caught', true,
                                 'slow', coalesce((tries OPERATOR(pg_catalog.->>) 'slow')::integer, 0) OPERATOR(pg_catalog.+) 1)
                             ELSE tries END
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) $5",
        &[job.into(), slot.into(), (end != End::Orderly).into(), (end == End::Overran).into(), pid.into()],
    )?;
    Ok(())
}

/// An executor ended before it had taken its slot.
pub fn note_failed_start(job: Uuid, slot: i32) -> Result<()> {
    spi::execute(
        "INSERT INTO upkeep._job_slot AS s (job, slot, failed_starts, ended_at)
         SELECT j.id, $2, 1, pg_catalog.clock_timestamp() FROM upkeep._job j
         WHERE j.id OPERATOR(pg_catalog.=) $1
         FOR KEY SHARE SKIP LOCKED
         ON CONFLICT (job, slot) DO UPDATE
         SET failed_starts = least(s.failed_starts OPERATOR(pg_catalog.+) 1, 100), ended_at = excluded.ended_at",
        &[job.into(), slot.into()],
    )?;
    Ok(())
}

/// Keeps what a top-level statement answered in the slot, which nobody else ever locks, until it can be recorded.
pub fn keep_answer(job: Uuid, slot: i32, cursor: Value) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_slot SET cursor = $3
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        &[job.into(), slot.into(), JsonB(cursor).into()],
    )?;
    Ok(())
}

thread_local! {
    static LIVE: Prepared = Prepared::new(
        "SELECT j.max_replica_lag, j.max_replica_lag_bytes, j.max_wal_rate, j.throttle_work_ratio, j.run_between,
                j.timezone, j.state, j.workers, j.batch_time
         FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1",
        &[types::UUID],
    );
    static SAVE: Prepared = Prepared::new(
        "UPDATE upkeep._job_slot SET cursor = $3, wait_reason = $4, wait_detail = NULL,
                strikes = CASE WHEN $9 THEN strikes ELSE 0 END,
                ends = CASE WHEN $5 OPERATOR(pg_catalog.>) 0 OR $6 OPERATOR(pg_catalog.>) 0 THEN 0 ELSE ends END,
                rows_done = rows_done OPERATOR(pg_catalog.+) $5,
                units_done = units_done OPERATOR(pg_catalog.+) $6,
                busy_time = busy_time OPERATOR(pg_catalog.+) $7,
                wall_time = wall_time OPERATOR(pg_catalog.+) $11,
                batch_rows = $8, tries = $10
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        &[
            types::UUID,
            types::INT4,
            types::JSONB,
            types::TEXT,
            types::INT8,
            types::FLOAT8,
            types::FLOAT8,
            types::INT8,
            types::BOOL,
            types::JSONB,
            types::FLOAT8,
        ],
    );
}

/// Looks whether the job still wants to run; `None` if it was dropped.
pub fn live(job: Uuid) -> Result<Option<Live>> {
    let rows = LIVE.with(|statement| {
        statement.returning(&[job.into()], |row| {
            Ok(Live {
                limits: limits(&row)?,
                state: row.require(7)?,
                workers: row.require(8)?,
                batch_time: row.get::<i32>(9)?.map_or_else(settings::batch_time, |ms| Duration::from_millis(ms as u64)),
            })
        })
    })?;
    Ok(rows.into_iter().next())
}

/// Stores what a step did, in the step's own transaction. `announced`: it only says what will be tried next, which ends
/// no strikes; `wall`: since the slot was last written. False: the slot is somebody else's by now, and nothing of the
/// step may be committed.
pub fn save(
    context: &Context,
    wait_reason: Option<&str>,
    busy: Duration,
    wall: Duration,
    announced: bool,
    tries: &Tries,
) -> Result<bool> {
    let tries = serde_json::to_value(tries)?;
    let saved = SAVE.with(|statement| {
        statement.execute(&[
            context.job.id.into(),
            context.slot.into(),
            context.cursor.clone().map(JsonB).into(),
            wait_reason.into(),
            context.rows.into(),
            context.units.into(),
            (busy.as_secs_f64() * 1000.0).into(),
            context.batch_rows.into(),
            announced.into(),
            JsonB(tries).into(),
            (wall.as_secs_f64() * 1000.0).into(),
        ])
    })?;
    if saved == 0 {
        return Ok(false);
    }
    if let Some(plan) = &context.plan {
        set_plan(context.job.id, plan)?;
    }
    for Event { event, detail } in &context.events {
        add_event(context.job.id, event, Some(detail))?;
    }
    Ok(true)
}

fn set_plan(job: Uuid, plan: &Plan) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET strategy = $2, rows_estimate = $3, units_total = $4
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[job.into(), plan.strategy.as_str().into(), plan.rows_estimate.into(), plan.units_total.into()],
    )?;
    Ok(())
}

/// Shows why a slot is not working, outside a step. `detail` (an error's message: it contains data) is for members of
/// the owner only (LAW 5).
pub fn set_wait_reason(job: Uuid, slot: i32, reason: &str, detail: Option<&str>, wall: Duration) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_slot SET wait_reason = $3, wait_detail = $4, wall_time = wall_time OPERATOR(pg_catalog.+) $5
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        &[job.into(), slot.into(), reason.into(), detail.into(), (wall.as_secs_f64() * 1000.0).into()],
    )?;
    Ok(())
}

/// The same for a step that will be tried again, and how often it was.
pub fn note_try(job: Uuid, slot: i32, reason: &str, detail: &str, tries: &Tries) -> Result<()> {
    // Its time comes with the next step.
    set_wait_reason(job, slot, reason, Some(detail), Duration::ZERO)?;
    spi::execute(
        "UPDATE upkeep._job_slot SET tries = $3
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        &[job.into(), slot.into(), JsonB(serde_json::to_value(tries)?).into()],
    )?;
    Ok(())
}

/// Until its hours begin again a job is queued; its executors leave, and the scheduler comes back by itself.
pub fn wait_for_hours(job: Uuid, until: TimestampWithTimeZone, reason: &str) -> Result<()> {
    let waits = spi::execute(
        "UPDATE upkeep._job SET state = 'queued', not_before = $2, reason = $3, reason_detail = NULL
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

/// Replaces the limits that are given; 0 takes one away.
pub fn set_limits(job: Uuid, limits: &Limits) -> Result<()> {
    if *limits == Limits::default() {
        return Ok(());
    }
    spi::execute(
        "UPDATE upkeep._job SET
             max_replica_lag = CASE WHEN $2 IS NULL THEN max_replica_lag ELSE nullif($2, 0) END,
             max_replica_lag_bytes = CASE WHEN $3 IS NULL THEN max_replica_lag_bytes ELSE nullif($3, 0) END,
             max_wal_rate = CASE WHEN $4 IS NULL THEN max_wal_rate ELSE nullif($4, 0) END,
             throttle_work_ratio = CASE WHEN $5 IS NULL THEN throttle_work_ratio ELSE nullif($5, 0) END,
             run_between = CASE WHEN $6 IS NULL THEN run_between ELSE nullif($6, '') END,
             timezone = coalesce($7, timezone),
             -- What it waited for may be over.
             reason = CASE WHEN (($6 IS NOT NULL OR $7 IS NOT NULL) AND not_before IS NOT NULL
                                 AND state OPERATOR(pg_catalog.=) 'queued') IS NOT TRUE THEN reason END,
             reason_detail = CASE WHEN (($6 IS NOT NULL OR $7 IS NOT NULL) AND not_before IS NOT NULL
                                        AND state OPERATOR(pg_catalog.=) 'queued') IS NOT TRUE THEN reason_detail END,
             not_before = CASE WHEN $6 IS NULL AND $7 IS NULL THEN not_before END
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[
            job.into(),
            limits.max_replica_lag.map(|ms| i32::try_from(ms).unwrap_or(i32::MAX)).into(),
            limits.max_replica_lag_bytes.into(),
            limits.max_wal_rate.into(),
            limits.throttle_work_ratio.into(),
            limits.run_between.as_deref().into(),
            limits.timezone.as_deref().into(),
        ],
    )?;
    Ok(())
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
        &[job.into(), event.into(), detail.into(), super::bounds::LONGEST_DETAIL.into()],
    )?;
    super::bounds::forget_events(job)
}

/// Ends a job that runs. Nothing happens if somebody canceled it meanwhile, or paused it, unless what it has done is
/// `irrevocable`: a command that was paused in the moment in which it started.
pub fn finish(job: Uuid, rows_left: i64, irrevocable: bool) -> Result<()> {
    let finished = spi::execute(
        "UPDATE upkeep._job SET state = 'done', rows_left = $2, reason = NULL, reason_detail = NULL,
                finished_at = pg_catalog.clock_timestamp()
         WHERE id OPERATOR(pg_catalog.=) $1
           AND (state OPERATOR(pg_catalog.=) 'running' OR $3 AND state OPERATOR(pg_catalog.=) 'paused')",
        &[job.into(), rows_left.into(), irrevocable.into()],
    )?;
    if finished > 0 {
        add_event(job, "done", (rows_left > 0).then(|| format!("{rows_left} rows left")).as_deref())?;
        notify(job, "done")?;
    }
    Ok(())
}

/// Fails a job that has not ended yet.
pub fn fail(job: Uuid, error: &Error) -> Result<()> {
    let failed = spi::execute(
        "UPDATE upkeep._job SET state = 'failed', reason = CASE WHEN needs_cleanup THEN $6 END, reason_detail = NULL,
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

/// Why a job failed.
pub struct Failure {
    pub owner: Oid,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

pub fn failure(job: Uuid) -> Result<Option<Failure>> {
    spi::query_one(
        "SELECT owner, error_sqlstate, error_message, error_detail, error_hint
         FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1 AND error_message IS NOT NULL",
        &[job.into()],
        |row| {
            Ok(Failure {
                owner: row.next()?,
                sqlstate: row.next()?,
                message: row.next()?,
                detail: row.next_or_null()?,
                hint: row.next_or_null()?,
            })
        },
    )
}

/// How often a job may still be tried again.
pub fn retries(job: Uuid) -> Result<i32> {
    let retries =
        spi::query_one("SELECT retries FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1", &[job.into()], |row| {
            row.require(1)
        })?;
    Ok(retries.unwrap_or(0))
}

/// Puts a job that failed with `error` back into the queue, to run no earlier than after `delay`. One that was paused
/// meanwhile stays so.
pub fn requeue(job: Uuid, delay: Duration, retries: i32, error: &Error) -> Result<()> {
    let reason = format!("{retries} retries left after SQLSTATE {}", error.sqlstate);
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

/// The shared part of a job's cursor, locked until the step commits, and the
/// cursors of the other slots that have something in hand.
pub fn lock_shared(job: Uuid, slot: i32) -> Result<(Value, Vec<Value>)> {
    spi::bookkeeping(|| {
        let shared = spi::execute_returning(
            "SELECT shared FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            &[job.into()],
            |row| Ok(json(row.get(1)?)),
        )?;
        let others = spi::execute_returning(
            "SELECT cursor FROM upkeep._job_slot
             WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.<>) $2 AND cursor IS NOT NULL",
            &[job.into(), slot.into()],
            |row| Ok(json(row.get(1)?)),
        )?;
        Ok((shared.into_iter().next().unwrap_or(Value::Null), others))
    })
}

pub fn write_shared(job: Uuid, shared: Value) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET shared = $2 WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into(), JsonB(shared).into()],
        )?;
        Ok(())
    })
}

/// Hands what a slot beyond the number of workers left over to slot `to`, which has
/// nothing in hand. Gives its cursor.
pub fn adopt_leftover(job: Uuid, workers: i32, to: i32) -> Result<Option<Value>> {
    let left = spi::execute_returning(
        "SELECT slot, cursor FROM upkeep._job_slot s
         WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.>=) $2 AND s.cursor IS NOT NULL
           AND upkeep._is_executor(s.pid, s.backend_start) IS NOT TRUE
         ORDER BY s.slot LIMIT 1 FOR UPDATE SKIP LOCKED",
        &[job.into(), workers.into()],
        |row| Ok((row.require::<i32>(1)?, json(row.get(2)?))),
    )?;
    let Some((from, cursor)) = left.into_iter().next() else { return Ok(None) };
    if !lock_if_free(job, from)?.0 {
        return Ok(None);
    }
    spi::execute(
        "UPDATE upkeep._job_slot
         SET cursor = CASE WHEN slot OPERATOR(pg_catalog.=) $3 THEN $4 END
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) ANY (ARRAY[$2, $3])",
        &[job.into(), from.into(), to.into(), JsonB(cursor.clone()).into()],
    )?;
    Ok(Some(cursor))
}

/// A slot that could start now, and what must hold for its owner (LAW 10).
pub struct Candidate {
    pub job: Uuid,
    pub slot: i32,
    pub owner: Oid,
    /// Limits of the server hold its steps back.
    pub throttled: bool,
    /// It works in one piece.
    pub long: bool,
    /// An executor has it in hand, started by an earlier scheduler perhaps.
    pub attended: bool,
    /// How long ago the executor was started that took it last.
    pub last_taken: Option<Duration>,
    /// How often in a row its executor ended without progress or could not start, and how long ago it last did.
    pub ends: i32,
    pub last_end: Option<Duration>,
    /// Its job is not running yet.
    pub queued: bool,
    /// What another job keeps from it, and how long ago its executor found that.
    pub waits_for: Option<Part>,
    pub sent_back: Option<Duration>,
    /// It says why it is queued.
    pub has_reason: bool,
    /// How long ago its job was created.
    pub age: Duration,
    pub owner_exists: bool,
    pub may_connect: bool,
    pub may_log_in: bool,
}

/// Every slot of every job that wants to run now: first slots of all jobs first. Whose turn it is says
/// [`super::room::Room`].
pub fn candidates() -> Result<Vec<Candidate>> {
    spi::query(
        "SELECT j.id, n.slot, j.owner, coalesce(upkeep._is_executor(s.pid, s.backend_start), false),
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.backend_start),
                r.oid IS NOT NULL,
                r.oid IS NOT NULL AND pg_catalog.has_database_privilege(r.oid,
                    (SELECT d.oid FROM pg_catalog.pg_database d
                     WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()), 'CONNECT'),
                (r.rolcanlogin OR pg_catalog.current_setting('server_version_num')::integer OPERATOR(pg_catalog.>=) 170000)
                    AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now()),
                j.kind,
                coalesce(greatest(s.ends, s.failed_starts), 0),
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) s.ended_at),
                j.state OPERATOR(pg_catalog.=) 'queued',
                j.waits_for,
                CASE WHEN j.waits_for IS NOT NULL THEN
                    pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) j.not_before)
                END,
                pg_catalog.date_part('epoch', pg_catalog.now() OPERATOR(pg_catalog.-) j.created_at),
                j.reason IS NOT NULL
         FROM upkeep._job j
         CROSS JOIN LATERAL pg_catalog.generate_series(0, j.workers OPERATOR(pg_catalog.-) 1) n(slot)
         LEFT JOIN upkeep._job_slot s
           ON s.job OPERATOR(pg_catalog.=) j.id AND s.slot OPERATOR(pg_catalog.=) n.slot
         LEFT JOIN pg_catalog.pg_authid r ON r.oid OPERATOR(pg_catalog.=) j.owner
         WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running'])
           AND (j.not_before IS NULL OR j.not_before OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())
           -- One of another server or database that somebody had locked when it was to be paused.
           AND j.system_identifier OPERATOR(pg_catalog.=) $1 AND j.database OPERATOR(pg_catalog.=) $2
         ORDER BY n.slot, j.created_at",
        &[catalog::system_identifier().into(), catalog::my_database().into()],
        |row| {
            let nature = registry::nature(&row.require::<String>(9)?);
            let seconds =
                |at| Ok::<_, Error>(row.get::<f64>(at)?.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))));
            Ok(Candidate {
                job: row.require(1)?,
                slot: row.require(2)?,
                owner: row.require(3)?,
                attended: row.require(4)?,
                last_taken: seconds(5)?,
                owner_exists: row.require(6)?,
                may_connect: row.require(7)?,
                may_log_in: row.get(8)?.unwrap_or(false),
                throttled: nature.throttled,
                long: nature.in_one_piece,
                ends: row.require(10)?,
                last_end: seconds(11)?,
                queued: row.require(12)?,
                waits_for: row.get::<JsonB>(13)?.and_then(|part| serde_json::from_value(part.0).ok()),
                sent_back: seconds(14)?,
                age: seconds(15)?.unwrap_or_default(),
                has_reason: row.require(16)?,
            })
        },
    )
}

/// Is nobody in the way of a job's start? Its executor would wait for the row and give up.
pub fn is_free(job: Uuid) -> Result<bool> {
    let free = spi::execute_returning(
        "SELECT true FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED",
        &[job.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(!free.is_empty())
}

/// A job cannot have what it needs: also one that came with a dump and was not paused by anybody yet.
pub fn stay_paused(job: Uuid, why: &str) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET state = 'paused', reason = 'another job has what it needs', reason_detail = $2
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
        "UPDATE upkeep._job SET state = 'paused', reason = 'restored', reason_detail = NULL
         WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT j.id FROM upkeep._job j
             WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])
               AND j.reason IS DISTINCT FROM 'restored'
               AND (j.system_identifier OPERATOR(pg_catalog.<>) $1 OR j.database OPERATOR(pg_catalog.<>) $2)
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
               (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $1))
           AND j.state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
           AND NOT j.needs_cleanup
         FOR UPDATE SKIP LOCKED",
        &[retention.as_secs_f64().into()],
        |row| row.require::<Uuid>(1),
    )?;
    super::forget::jobs(&super::forget::unneeded(old)?)
}

/// Seconds until something happens by itself: a delayed start, or a finished job
/// that has been kept long enough.
pub fn seconds_to_next(retention: Option<Duration>) -> Result<Option<f64>> {
    spi::query_one(
        "SELECT pg_catalog.date_part('epoch', pg_catalog.min(t.due) OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
         FROM (SELECT pg_catalog.min(not_before) AS due FROM upkeep._job
               WHERE state OPERATOR(pg_catalog.=) 'queued'
                  OR needs_cleanup AND state OPERATOR(pg_catalog.=) ANY (ARRAY['done', 'failed', 'canceled'])
               UNION ALL
               SELECT pg_catalog.min(finished_at) OPERATOR(pg_catalog.+) pg_catalog.make_interval(secs => $1)
               FROM upkeep._job WHERE NOT needs_cleanup) t",
        &[retention.map(|time| time.as_secs_f64()).into()],
        |row| row.get(1),
    )
    .map(Option::flatten)
}

impl Context {
    /// Reads and replaces the part of the cursor that all slots of the job share,
    /// under a row lock that lasts until this step commits: use it in steps that do
    /// nothing else. `change` gets the shared value and the cursors of the other
    /// slots that have something in hand.
    pub fn with_shared<T>(
        &mut self,
        change: impl FnOnce(&mut Context, Value, Vec<Value>) -> Result<(Value, T)>,
    ) -> Result<T> {
        let (shared, others) = lock_shared(self.job.id, self.slot)?;
        let (shared, result) = change(self, shared, others)?;
        write_shared(self.job.id, shared)?;
        self.claimed = true;
        Ok(result)
    }
}
