//! The steps of jobs that are sequences, `_job_step`: what is planned, and what has come of it. Inside [`spi::bookkeeping`].

use std::time::Duration;

use pgrx::Uuid;
use serde_json::Value;

use super::json;
use crate::ddl::Times;
use crate::error::Result;
use crate::server::json::JsonB;
use crate::server::spi;
use crate::server::{Oid, heap};

/// A step as it is planned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planned {
    /// What it does, in a word or two: `build index`.
    pub action: String,
    /// As people would type it.
    pub command: Option<String>,
    pub relid: Option<Oid>,
    /// The strongest lock that it takes, as in `pg_locks`.
    pub lock_mode: Option<&'static str>,
    pub reversible: bool,
    /// What its kind has to know.
    pub params: Value,
}

/// A step as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub path: Vec<i32>,
    pub relid: Option<Oid>,
    pub reversible: bool,
    pub params: Value,
    pub state: String,
    pub rows_left: i64,
}

impl Step {
    pub fn is_finished(&self) -> bool {
        matches!(self.state.as_str(), "done" | "skipped")
    }
}

pub fn add(job: Uuid, path: &[i32], planned: &Planned) -> Result<()> {
    let (schema, name) = planned.relid.and_then(heap::name).unzip();
    spi::execute(
        "INSERT INTO upkeep._job_step (job, path, action, statement, relid, schemaname, relname, lock_mode, reversible, params)
         SELECT j.id, $2, $3, $4, $5, $6::pg_catalog.name, $7::pg_catalog.name, $8, $9, $10
         FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE",
        &[
            job.into(),
            path.to_vec().into(),
            planned.action.as_str().into(),
            planned.command.as_deref().into(),
            planned.relid.into(),
            schema.into(),
            name.into(),
            planned.lock_mode.into(),
            planned.reversible.into(),
            JsonB(planned.params.clone()).into(),
        ],
    )
    .map(drop)
}

/// All steps of a job, in order.
pub fn all(job: Uuid) -> Result<Vec<Step>> {
    spi::execute_returning(
        "SELECT path, relid, reversible, params, state, coalesce(rows_left, 0)
         FROM upkeep._job_step WHERE job OPERATOR(pg_catalog.=) $1 ORDER BY path",
        &[job.into()],
        |row| {
            Ok(Step {
                path: row.next()?,
                relid: row.next_or_null()?,
                reversible: row.next()?,
                params: json(row.next_or_null()?),
                state: row.next()?,
                rows_left: row.next()?,
            })
        },
    )
}

/// A step begins, or begins again after the job was. Not of a job that was canceled meanwhile, whose last answer is written down. One at
/// which its job ends stays `running` here, since that is another's transaction: `upkeep.job_steps` knows.
pub fn begin(job: Uuid, path: &[i32]) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_step SET state = 'running', attempts = attempts OPERATOR(pg_catalog.+) 1,
                started_at = coalesce(started_at, pg_catalog.clock_timestamp()), finished_at = NULL, detail = NULL
         WHERE job OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2 AND state OPERATOR(pg_catalog.<>) 'running'
           AND EXISTS (SELECT FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 AND j.state OPERATOR(pg_catalog.=) 'running')",
        &[job.into(), path.to_vec().into()],
    )
    .map(drop)
}

/// A step has ended.
pub fn end(job: Uuid, path: &[i32], state: &str, detail: Option<&str>, rows_left: i64) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_step SET state = $3, detail = $4, rows_left = $5, finished_at = pg_catalog.clock_timestamp()
         WHERE job OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2",
        &[job.into(), path.to_vec().into(), state.into(), detail.into(), rows_left.into()],
    )
    .map(drop)
}

/// What has failed, or was cut off by the job's end, is done again with the job, and what has left rows if the job begins again: one
/// that goes on is past it.
pub fn plan_again(job: Uuid, goes_on: bool) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_step SET state = 'planned', rows_left = NULL, detail = NULL, finished_at = NULL
         WHERE job OPERATOR(pg_catalog.=) $1
           AND (state OPERATOR(pg_catalog.=) ANY (ARRAY['failed', 'running'])
                OR state OPERATOR(pg_catalog.=) 'done' AND rows_left OPERATOR(pg_catalog.>) 0 AND NOT $2)",
        &[job.into(), goes_on.into()],
    )
    .map(drop)
}

/// How long an attempt at its locks has waited and held them.
pub fn note_locks(job: Uuid, path: &[i32], times: &Times) -> Result<()> {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    spi::execute(
        "UPDATE upkeep._job_step SET attempts = attempts OPERATOR(pg_catalog.+) $3,
                lock_wait_time = lock_wait_time OPERATOR(pg_catalog.+) $4,
                held_time = held_time OPERATOR(pg_catalog.+) $5
         WHERE job OPERATOR(pg_catalog.=) $1 AND path OPERATOR(pg_catalog.=) $2",
        &[job.into(), path.to_vec().into(), times.in_vain.into(), ms(times.waited).into(), ms(times.held).into()],
    )
    .map(drop)
}

/// The step at hand was tried once more, or its worker has ended in the middle of it, and another one tries.
pub fn tried_again(job: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_step SET attempts = attempts OPERATOR(pg_catalog.+) 1
         WHERE job OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) 'running'",
        &[job.into()],
    )
    .map(drop)
}

/// Looks their tables up again by name, in the database that the job was restored into.
pub fn moved_here(job: Uuid) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._job_step
         SET relid = pg_catalog.to_regclass(pg_catalog.format('%I.%I', schemaname, relname))::pg_catalog.oid
         WHERE job OPERATOR(pg_catalog.=) $1 AND relname IS NOT NULL",
        &[job.into()],
    )
    .map(drop)
}
