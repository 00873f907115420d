//! Worker slots: who has them, where they are, and what their steps have done.

use std::time::Duration;

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use serde_json::Value;

use super::json;
use super::states::add_event;
use super::steps;
use crate::error::Result;
use crate::jobs::kind::{Context, Event, Plan};
use crate::jobs::retry::Tries;
use crate::server::json::JsonB;
use crate::server::spi::{self, Prepared};
use crate::server::{catalog, types};

/// The strike that fails a job.
pub const MAX_STRIKES: i32 = 3;

/// So many ends in the middle of a step, with no progress in between, fail a job. With the pauses of
/// [`retry::pause_before_restart`](crate::jobs::retry::pause_before_restart) the last comes after three minutes: no
/// administrator does that by hand, and the text of a job that ends its own worker is tried no more than that.
pub const MAX_ENDS: i32 = 10;

/// What a slot holds when an executor takes it.
pub struct Slot {
    pub cursor: Option<Value>,
    /// Ends without a word in a row, the last one included.
    pub strikes: i32,
    /// Ends in the middle of a step since the last progress.
    pub ends: i32,
    /// Tries in vain since then.
    pub tries: Tries,
    /// With this slot, and not with another one, the job went from `queued` to `running`.
    pub begins: bool,
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
    if let Some(last) = last {
        match departed(last) {
            Some(end) => release_slot(job, slot, last, end)?,
            None => steps::tried_again(job)?,
        }
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
                begins: false,
            })
        },
    )?;
    let Some(slot) = taken.into_iter().next() else { return Ok(None) };
    let begins = spi::execute(
        "UPDATE upkeep._job SET state = 'running', reason = NULL, reason_detail = NULL, not_before = NULL, waits_for = NULL,
                parked = CASE WHEN parked IS NOT NULL THEN 'woken' END,
                started_at = coalesce(started_at, pg_catalog.clock_timestamp())
         WHERE id OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'queued'",
        &[job.into()],
    )?;
    Ok(Some(Slot { begins: begins > 0, ..slot }))
}

/// A job that somebody is at, or will be in a moment.
pub struct AtWork {
    pub job: Uuid,
    /// Of the worker, and when it began, as a timestamp.
    pub worker: Option<(i32, i64)>,
}

/// Who is at work on jobs of these kinds, or about to be, but for those of which such an event has been told within this time.
pub fn at_work(kinds: &[String], event: &str, within: Duration) -> Result<Vec<AtWork>> {
    spi::query(
        "SELECT j.id, s.pid, s.backend_start
         FROM upkeep._job j
         LEFT JOIN upkeep._job_slot s ON s.job OPERATOR(pg_catalog.=) j.id AND upkeep._is_executor(s.pid, s.backend_start)
         WHERE j.state IN ('queued', 'running') AND (j.parked IS NULL OR j.parked OPERATOR(pg_catalog.=) 'woken')
           AND j.kind OPERATOR(pg_catalog.=) ANY ($1)
           AND NOT EXISTS (
               SELECT FROM upkeep._job_event e
               WHERE e.job OPERATOR(pg_catalog.=) j.id AND e.event OPERATOR(pg_catalog.=) $2
                 AND e.happened_at OPERATOR(pg_catalog.>)
                     (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => $3)))",
        &[kinds.to_vec().into(), event.into(), within.as_secs_f64().into()],
        |row| {
            let began = row.get::<TimestampWithTimeZone>(3)?.map(TimestampWithTimeZone::into_inner);
            Ok(AtWork { job: row.require(1)?, worker: row.get(2)?.zip(began) })
        },
    )
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
    let released = spi::execute(
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
    if released > 0 && end != End::Orderly {
        steps::tried_again(job)?;
    }
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
    static SAVE: Prepared = Prepared::new(
        "UPDATE upkeep._job_slot SET cursor = $3, wait_reason = $4, wait_detail = $12,
                strikes = CASE WHEN $9 THEN strikes ELSE 0 END,
                ends = CASE WHEN $5 OPERATOR(pg_catalog.>) 0 OR $6 OPERATOR(pg_catalog.>) 0 THEN 0 ELSE ends END,
                rows_done = rows_done OPERATOR(pg_catalog.+) $5,
                units_done = units_done OPERATOR(pg_catalog.+) $6,
                busy_time = busy_time OPERATOR(pg_catalog.+) $7,
                wall_time = wall_time OPERATOR(pg_catalog.+) $11,
                lately_time = CASE WHEN lately_time OPERATOR(pg_catalog.<) 1e-9 THEN 0 ELSE lately_time OPERATOR(pg_catalog.*) $13 END
                    OPERATOR(pg_catalog.+) $11,
                lately_units = CASE WHEN lately_units OPERATOR(pg_catalog.<) 1e-9 THEN 0 ELSE lately_units OPERATOR(pg_catalog.*) $13 END
                    OPERATOR(pg_catalog.+) $6,
                lately_rows = CASE WHEN lately_rows OPERATOR(pg_catalog.<) 1e-9 THEN 0 ELSE lately_rows OPERATOR(pg_catalog.*) $13 END
                    OPERATOR(pg_catalog.+) $5,
                batch_rows = coalesce($8, batch_rows), tries = $10
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
            types::TEXT,
            types::FLOAT8,
        ],
    );
}

/// The part of what was done lately that still counts after this time. None of the smallest parts, and nothing of what is next to
/// nothing: numbers that come too close to 0 are an error of the server's (22003).
fn kept_after(wall: Duration) -> f64 {
    const LATELY: Duration = Duration::from_secs(30);
    const LEAST: f64 = 1e-9;
    Some((-wall.as_secs_f64() / LATELY.as_secs_f64()).exp()).filter(|kept| *kept >= LEAST).unwrap_or_default()
}

/// What people read of a slot.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// `None`: it works.
    pub wait_reason: Option<String>,
    /// If it works: why not faster.
    pub pace: Option<String>,
}

/// Stores what a step did, in the step's own transaction. `announced`: it only says what will be tried next, which ends
/// no strikes; `wall`: since the slot was last written. False: the slot is somebody else's by now, and nothing of the
/// step may be committed.
pub fn save(
    context: &Context,
    told: &Told,
    busy: Duration,
    wall: Duration,
    announced: bool,
    tries: &Tries,
) -> Result<bool> {
    let tries = serde_json::to_value(tries)?;
    let done = context.step_done();
    let saved = SAVE.with(|statement| {
        statement.execute(&[
            context.job().id.into(),
            context.slot().into(),
            context.written_cursor().cloned().map(JsonB).into(),
            told.wait_reason.as_deref().into(),
            done.rows.into(),
            done.units.into(),
            (busy.as_secs_f64() * 1000.0).into(),
            done.batch_rows.into(),
            announced.into(),
            JsonB(tries).into(),
            (wall.as_secs_f64() * 1000.0).into(),
            told.pace.as_deref().filter(|_| told.wait_reason.is_none()).into(),
            kept_after(wall).into(),
        ])
    })?;
    if saved == 0 {
        return Ok(false);
    }
    if let Some(plan) = &done.plan {
        set_plan(context.job().id, plan)?;
    }
    for Event { event, detail } in &done.events {
        add_event(context.job().id, event, Some(detail))?;
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
        "UPDATE upkeep._job_slot SET wait_reason = $3, wait_detail = $4, wall_time = wall_time OPERATOR(pg_catalog.+) $5,
                lately_time = CASE WHEN lately_time OPERATOR(pg_catalog.<) 1e-9 THEN 0 ELSE lately_time OPERATOR(pg_catalog.*) $6 END
                    OPERATOR(pg_catalog.+) $5,
                lately_units = CASE WHEN lately_units OPERATOR(pg_catalog.<) 1e-9 THEN 0 ELSE lately_units OPERATOR(pg_catalog.*) $6 END,
                lately_rows = CASE WHEN lately_rows OPERATOR(pg_catalog.<) 1e-9 THEN 0 ELSE lately_rows OPERATOR(pg_catalog.*) $6 END
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        &[job.into(), slot.into(), reason.into(), detail.into(), (wall.as_secs_f64() * 1000.0).into(), kept_after(wall).into()],
    )?;
    Ok(())
}

/// The same for a step that will be tried again, and how often it was.
pub fn note_try(job: Uuid, slot: i32, reason: &str, detail: &str, tries: &Tries) -> Result<()> {
    super::steps::tried_again(job)?;
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

/// Until when the limits of the job keep this slot's next step back.
pub fn note_held_until(job: Uuid, slot: i32, until: i64) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_slot SET tries = tries OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object('held_until', $3)
         WHERE job OPERATOR(pg_catalog.=) $1 AND slot OPERATOR(pg_catalog.=) $2
           AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        &[job.into(), slot.into(), until.into()],
    )
    .map(drop)
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

/// Does no other executor work on this job?
pub fn is_alone(job: Uuid, slot: i32) -> Result<bool> {
    let others = spi::query_one(
        "SELECT EXISTS (SELECT FROM upkeep._job_slot s
                        WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.slot OPERATOR(pg_catalog.<>) $2
                          AND upkeep._is_executor(s.pid, s.backend_start))",
        &[job.into(), slot.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(others != Some(true))
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
