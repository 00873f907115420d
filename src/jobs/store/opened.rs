//! A job as its executor reads it: at first, and before each step.

use std::time::Duration;

use pgrx::Uuid;
use serde_json::Value;

use super::json;
use crate::error::Result;
use crate::jobs::kind::Job;
use crate::jobs::limits::Limits;
use crate::server::spi::{self, Prepared};
use crate::server::{Oid, catalog, types};
use crate::settings;

/// A job and the state that its executor starts from.
pub struct Opened {
    pub job: Job,
    pub session: Value,
    pub state: String,
    pub retries: i32,
    /// It was parked, and no step was committed since.
    pub parked: bool,
    /// It has been at work before.
    pub has_started: bool,
    /// A person has let it go on.
    pub answered: bool,
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

impl Live {
    pub fn is_runnable(&self) -> bool {
        self.state == "running"
    }

    pub fn is_final(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running" | "paused")
    }
}

/// Reads a job; `None` if it was dropped, or belongs to another server or database (LAW 20).
pub fn open(job: Uuid) -> Result<Option<Opened>> {
    spi::query_one(
        "SELECT max_replica_lag, max_replica_lag_bytes, max_wal_rate, throttle_work_ratio, max_slowdown, run_between, timezone,
                kind, owner, relid, target, params, session, state, retries,
                EXISTS (SELECT FROM upkeep._job_slot s
                        WHERE s.job OPERATOR(pg_catalog.=) $1 AND s.cursor IS NOT NULL),
                parked IS NOT NULL, answered, started_at IS NOT NULL
         FROM upkeep._job
         WHERE id OPERATOR(pg_catalog.=) $1
           AND system_identifier OPERATOR(pg_catalog.=) $2 AND database OPERATOR(pg_catalog.=) $3",
        &[job.into(), catalog::system_identifier().into(), catalog::my_database().into()],
        |row| {
            Ok(Opened {
                job: Job {
                    id: job,
                    kind: row.require(8)?,
                    owner: row.require(9)?,
                    relid: row.get(10)?,
                    target: row.require(11)?,
                    params: json(row.get(12)?),
                },
                session: json(row.get(13)?),
                state: row.require(14)?,
                retries: row.require(15)?,
                limits: limits(&row)?,
                begun: row.require(16)?,
                parked: row.require(17)?,
                answered: row.require(18)?,
                has_started: row.require(19)?,
            })
        },
    )
}

/// The first seven columns of a row.
fn limits(row: &spi::Row<'_>) -> Result<Limits> {
    Ok(Limits {
        max_replica_lag: row.next_or_null::<i32>()?.map(i64::from),
        max_replica_lag_bytes: row.next_or_null()?,
        max_wal_rate: row.next_or_null()?,
        throttle_work_ratio: row.next_or_null()?,
        max_slowdown: row.next_or_null()?,
        run_between: row.next_or_null()?,
        timezone: row.next_or_null()?,
    })
}

thread_local! {
    static LIVE: Prepared = Prepared::new(
        "SELECT j.max_replica_lag, j.max_replica_lag_bytes, j.max_wal_rate, j.throttle_work_ratio, j.max_slowdown,
                j.run_between, j.timezone, j.state, j.workers, j.batch_time
         FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1",
        &[types::UUID],
    );
}

/// Looks whether the job still wants to run; `None` if it was dropped.
pub fn live(job: Uuid) -> Result<Option<Live>> {
    let rows = LIVE.with(|statement| {
        statement.returning(&[job.into()], |row| {
            Ok(Live {
                limits: limits(&row)?,
                state: row.require(8)?,
                workers: row.require(9)?,
                batch_time: row
                    .get::<i32>(10)?
                    .map_or_else(settings::batch_time, |ms| Duration::from_millis(ms as u64)),
            })
        })
    })?;
    Ok(rows.into_iter().next())
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
             max_slowdown = CASE WHEN $8 IS NULL THEN max_slowdown ELSE nullif($8, 0) END,
             run_between = CASE WHEN $6 IS NULL THEN run_between ELSE nullif($6, '') END,
             timezone = coalesce($7, timezone),
             -- What it waited for may be over.
             reason = CASE WHEN (($6 IS NOT NULL OR $7 IS NOT NULL) AND not_before IS NOT NULL
                                 AND state OPERATOR(pg_catalog.=) 'queued') IS NOT TRUE THEN reason END,
             reason_detail = CASE WHEN (($6 IS NOT NULL OR $7 IS NOT NULL) AND not_before IS NOT NULL
                                        AND state OPERATOR(pg_catalog.=) 'queued') IS NOT TRUE THEN reason_detail END,
             not_before = CASE WHEN $6 IS NULL AND $7 IS NULL THEN not_before END,
             parked = CASE WHEN ($6 IS NOT NULL OR $7 IS NOT NULL) AND parked OPERATOR(pg_catalog.=) 'clock' THEN 'woken'
                           ELSE parked END
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[
            job.into(),
            limits.max_replica_lag.map(|ms| i32::try_from(ms).unwrap_or(i32::MAX)).into(),
            limits.max_replica_lag_bytes.into(),
            limits.max_wal_rate.into(),
            limits.throttle_work_ratio.into(),
            limits.run_between.as_deref().into(),
            limits.timezone.as_deref().into(),
            limits.max_slowdown.into(),
        ],
    )?;
    Ok(())
}

/// How long its batches may take: `None` keeps what is, 0 has it follow the setting.
pub fn set_batch_time(job: Uuid, milliseconds: Option<i32>) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job SET batch_time = CASE WHEN $2 IS NULL THEN batch_time ELSE nullif($2, 0) END
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[job.into(), milliseconds.into()],
    )
    .map(drop)
}

/// A child begins with its parent's.
pub fn inherit_limits(child: Uuid, parent: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job c
         SET max_replica_lag = p.max_replica_lag, max_replica_lag_bytes = p.max_replica_lag_bytes,
             max_wal_rate = p.max_wal_rate, throttle_work_ratio = p.throttle_work_ratio,
             max_slowdown = p.max_slowdown, run_between = p.run_between, timezone = p.timezone,
             batch_time = coalesce(c.batch_time, p.batch_time)
         FROM upkeep._job p
         WHERE c.id OPERATOR(pg_catalog.=) $1 AND p.id OPERATOR(pg_catalog.=) $2",
        &[child.into(), parent.into()],
    )
    .map(drop)
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
