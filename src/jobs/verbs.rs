//! What people do to jobs: pause, resume, cancel, retry, drop, alter; and to workers: start, stop.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{Uuid, spi::quote_identifier};
use serde_json::Value;

use super::claims::Wait;
use super::kind::Restart;
use super::limits::Limits;
use super::{activity, claims, clean_up, owners, queue, registry, store};
use crate::calls::arguments;
use crate::calls::standing::{self, Right};
use crate::error::*;
use crate::quarantine;
use crate::server::json::JsonB;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, spi};

#[pg_extern(sql = false)]
fn pause(job: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(job, "job").and_then(pause_job))
}

#[pg_extern(sql = false)]
fn resume(job: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(job, "job").and_then(resume_job))
}

#[pg_extern(sql = false)]
fn cancel(job: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(job, "job").and_then(cancel_job))
}

#[pg_extern(sql = false)]
fn retry(job: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(job, "job").and_then(retry_job))
}

#[pg_extern(sql = false)]
fn drop_job(job: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(job, "job").and_then(drop_finished))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn alter_job_0_2(
    job: Option<Uuid>,
    batch_time: Option<Interval>,
    workers: Option<i32>,
    name: Option<&str>,
    run_between: Option<&str>,
    timezone: Option<&str>,
    max_replica_lag: Option<Interval>,
    max_replica_lag_bytes: Option<i64>,
    max_wal_rate: Option<i32>,
    throttle_work_ratio: Option<f64>,
) -> Uuid {
    let limits =
        Limits::given(run_between, timezone, max_replica_lag, max_replica_lag_bytes, max_wal_rate, throttle_work_ratio);
    raise::answer(limits.and_then(|limits| change(job, batch_time, workers, name, limits)))
}

fn change(
    job: Option<Uuid>,
    batch_time: Option<Interval>,
    workers: Option<i32>,
    name: Option<&str>,
    limits: Limits,
) -> Result<Uuid> {
    arguments::check_text("name", name)?;
    alter(arguments::required(job, "job")?, batch_time.map(arguments::milliseconds), workers, name, &limits)
}

/// Is the caller one of those who may pause, cancel and drop other people's jobs?
#[pg_extern(sql = false)]
fn is_admin() -> bool {
    standing::caller_is_admin()
}

/// Does a job belong to this server and database, or did it come with a dump (LAW 20)?
#[pg_extern(sql = false)]
fn is_here(system_identifier: i64, database: Oid) -> bool {
    system_identifier == catalog::system_identifier() && database == catalog::my_database()
}

pub fn no_such_job(job: Uuid) -> Error {
    Error::new(UNDEFINED_OBJECT, format!("job {job} does not exist")).hint("SELECT id, name, state FROM upkeep.jobs;")
}

/// A job as a verb sees it, its row locked.
struct Target {
    id: Uuid,
    kind: String,
    name: Option<String>,
    owner: Oid,
    state: String,
    reason: Option<String>,
    shared: Value,
    relid: Option<Oid>,
    params: Value,
    rows_left: i64,
    in_hand: bool,
    has_timezone: bool,
    /// It belongs to this server and database: it did not come with a dump or a copy, or `resume_all()` has taken it in.
    is_here: bool,
}

impl Target {
    fn is_live(&self) -> bool {
        matches!(self.state.as_str(), "queued" | "running")
    }

    fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "canceled")
    }

    /// It has started, and cannot stop half way and go on later.
    fn must_go_on(&self) -> bool {
        self.state == "running" && self.in_hand && !registry::nature(&self.kind).resumable
    }

    fn wrong_state(&self, verb: &str, hint: &str) -> Error {
        Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("cannot {verb} job {}: it is {}", self.id, self.state))
            .hint(hint)
    }
}

/// Finds and locks a job, and checks the caller's right to it.
fn find(job: Uuid, right: Right, verb: &str) -> Result<Target> {
    standing::refuse_in_recovery(&format!("{verb} a job"))?;
    standing::refuse_other_version()?;
    let user = catalog::current_user();
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT j.kind, j.name, upkeep._owner(j.system_identifier, j.owner, j.owner_name), j.state, j.reason, j.shared,
                    coalesce(j.rows_left, 0), j.system_identifier, j.database,
                    EXISTS (SELECT 1 FROM upkeep._job_slot s
                            WHERE s.job OPERATOR(pg_catalog.=) j.id AND s.cursor IS NOT NULL),
                    j.timezone IS NOT NULL, j.params, j.relid
             FROM upkeep._job j WHERE j.id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            &[job.into()],
            |row| {
                let target = Target {
                    id: job,
                    kind: row.require(1)?,
                    name: row.get(2)?,
                    owner: row.require(3)?,
                    state: row.require(4)?,
                    reason: row.get(5)?,
                    shared: row.require::<JsonB>(6)?.0,
                    rows_left: row.require(7)?,
                    in_hand: row.require(10)?,
                    has_timezone: row.require(11)?,
                    params: row.require::<JsonB>(12)?.0,
                    relid: row.get(13)?,
                    is_here: is_here(row.require(8)?, row.require(9)?),
                };
                // As the view shows it, even if no scheduler has come by yet (LAW 20).
                if !target.is_here && !target.is_final() {
                    return Ok(Target { state: "paused".into(), reason: Some(store::RESTORED.into()), ..target });
                }
                Ok(target)
            },
        )
    })?;
    let target = found.into_iter().next().ok_or_else(|| no_such_job(job))?;
    let allowed =
        catalog::has_privileges_of(user, target.owner) || (right == Right::OwnerOrAdmin && standing::caller_is_admin());
    if !allowed {
        let owner = catalog::role_name(target.owner).unwrap_or_else(|| "(dropped)".into());
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied to {verb} job {job}"))
            .detail(format!("The job belongs to role \"{owner}\"."))
            .hint(match right {
                Right::Owner => "Only members of that role may do this.",
                Right::OwnerOrAdmin => {
                    "Only members of that role, or of the role named by upkeep.admin_role, may do this."
                }
            }));
    }
    spi::bookkeeping(|| owners::follow(owners::JOBS, Some(job)))?;
    Ok(target)
}

fn set_state(job: Uuid, state: &str, reason: Option<&str>) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET state = $2, not_before = NULL, waits_for = NULL, reason_detail = NULL,
                    reason = CASE WHEN needs_cleanup AND $2 OPERATOR(pg_catalog.=) 'canceled' THEN $4 ELSE $3 END,
                    finished_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'canceled' THEN pg_catalog.clock_timestamp() END
             WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into(), state.into(), reason.into(), store::CLEANUP_PENDING.into()],
        )?;
        store::add_event(job, state, reason)
    })
}

fn pause_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::OwnerOrAdmin, "pause")?;
    if target.state == "paused" {
        return Ok(job);
    }
    if !target.is_live() {
        return Err(target.wrong_state("pause", "Only jobs that are queued, running or waiting can be paused."));
    }
    if target.must_go_on() {
        let noun = registry::nature(&target.kind).noun;
        return Err(
            target.wrong_state("pause", &format!("Once started, {noun} cannot be paused: SELECT upkeep.cancel(job);"))
        );
    }
    set_state(job, "paused", None)?;
    activity::wake_executors(job)?;
    Ok(job)
}

fn resume_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::Owner, "resume")?;
    if target.is_live() {
        return Ok(job);
    }
    if target.state != "paused" {
        return Err(target.wrong_state("resume", "SELECT upkeep.retry(job); starts a finished job again."));
    }
    if target.reason.as_deref() == Some(store::RESTORED) {
        return Err(target.wrong_state("resume", "SELECT upkeep.resume_all();").detail(
            "The job came with a dump or a copied database. Whether it may go on here is for an administrator to say.",
        ));
    }
    let kind = registry::kind(&target.kind, &target.params)?;
    claims::keep_or_take(job, &kind.claims(target.relid, &target.params)?, Wait::ForOthers)?;
    set_state(job, "queued", None)?;
    queue::wake_or_warn()?;
    Ok(job)
}

fn cancel_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::OwnerOrAdmin, "cancel")?;
    if target.state == "canceled" {
        return Ok(job);
    }
    if target.is_final() {
        return Err(target.wrong_state("cancel", "SELECT upkeep.drop_job(job); removes a finished job."));
    }
    set_state(job, "canceled", None)?;
    spi::bookkeeping(|| store::notify(job, "canceled"))?;
    // What it is doing this moment is rolled back as well, once the caller has committed.
    activity::interrupt_executors(job)?;
    if spi::bookkeeping(|| clean_up::needs_cleanup(job))? {
        activity::wake_at_commit()?;
    }
    Ok(job)
}

fn retry_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::Owner, "retry")?;
    if !target.is_final() {
        return Err(target
            .wrong_state("retry", "Only jobs that are failed, canceled or done with rows left can be tried again."));
    }
    let kind = registry::kind(&target.kind, &target.params)?;
    kind.check_retry(job)?;
    let was_done = target.state == "done";
    if was_done && target.rows_left == 0 && !quarantine::any(job)? {
        return Err(target.wrong_state("retry", "The job is done with no rows left: there is nothing to try again."));
    }
    if let Some(name) = &target.name {
        refuse_taken_name(target.owner, name)?;
    }
    queue::check_limit(target.owner, &catalog::role_name(target.owner).unwrap_or_default())?;
    if target.is_here {
        claims::take(job, &kind.claims(target.relid, &target.params)?, Wait::ForOthers)?;
    }
    let Restart { shared, keep_cursors } = kind.restart(target.shared.clone(), was_done);
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET state = 'queued', reason = NULL, reason_detail = NULL, not_before = NULL, waits_for = NULL,
                    finished_at = NULL, rows_left = NULL, shared = $2,
                    error_sqlstate = NULL, error_message = NULL, error_detail = NULL, error_hint = NULL
             WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into(), JsonB(shared).into()],
        )?;
        spi::execute(
            "UPDATE upkeep._job_slot SET strikes = 0, ends = 0, failed_starts = 0, ended_at = NULL, tries = '{}',
                    pid = NULL, backend_start = NULL, wait_reason = NULL, wait_detail = NULL,
                    cursor = CASE WHEN $2 THEN cursor END
             WHERE job OPERATOR(pg_catalog.=) $1",
            &[job.into(), keep_cursors.into()],
        )?;
        store::add_event(job, "queued", Some("retry"))
    })?;
    if !target.is_here {
        raise::report(
            Level::Warning,
            Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("job {job} waits for resume_all()"))
                .detail("It came with a dump or a copied database. Whether it may go on here is for an administrator to say.")
                .hint("SELECT upkeep.resume_all();"),
        );
        return Ok(job);
    }
    queue::wake_or_warn()?;
    Ok(job)
}

fn refuse_taken_name(owner: Oid, name: &str) -> Result<()> {
    owners::name_lock(owners::JOBS, owner, name).for_transaction();
    match spi::bookkeeping(|| owners::called(owners::JOBS, owner, name))? {
        None => Ok(()),
        Some(other) => Err(Error::new(DUPLICATE_OBJECT, format!("another unfinished job is named \"{name}\""))
            .detail(format!("It is job {other}."))),
    }
}

fn drop_finished(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::OwnerOrAdmin, "drop")?;
    if !target.is_final() {
        return Err(target.wrong_state("drop", "SELECT upkeep.cancel(job); first."));
    }
    if spi::bookkeeping(|| clean_up::needs_cleanup(job))? {
        return Err(Error::new(OBJECT_IN_USE, format!("cannot drop job {job} yet: it has left {}", registry::nature(&target.kind).leaves))
            .detail(target.reason.unwrap_or_else(|| store::CLEANUP_PENDING.to_owned()))
            .hint("It is removed as soon as its table can be locked: SELECT wait_reason FROM upkeep.jobs; shows nothing then."));
    }
    spi::bookkeeping(|| {
        registry::chores().iter().try_for_each(|chore| chore.job_will_be_dropped(job))?;
        super::forget::jobs(&[job])
    })?;
    Ok(job)
}

fn alter(
    job: Uuid,
    batch_time: Option<i64>,
    workers: Option<i32>,
    name: Option<&str>,
    limits: &Limits,
) -> Result<Uuid> {
    let target = find(job, Right::Owner, "alter")?;
    if target.is_final() {
        return Err(target.wrong_state("alter", "Only unfinished jobs can be altered."));
    }
    let batch_time = batch_time.map(|ms| ms.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
    queue::check_batch_time(batch_time.filter(|&ms| ms != 0))?;
    limits.check_changes()?;
    if let Some(workers) = workers {
        queue::check_workers(workers)?;
        let nature = registry::nature(&target.kind);
        if workers > nature.most_workers {
            let most = match nature.most_workers {
                1 => "one worker".to_owned(),
                most => format!("at most {most} workers"),
            };
            return Err(Error::new(INVALID_PARAMETER_VALUE, format!("{} has {most}", nature.noun)));
        }
    }
    if let Some(name) = name
        && target.name.as_deref() != Some(name)
    {
        queue::check_name(name)?;
        refuse_taken_name(target.owner, name)?;
    }
    // Hours of his own, by his own clock, but for a job that has one.
    let limits = if target.has_timezone { limits.clone() } else { limits.clone().with_timezone() };
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET batch_time = CASE WHEN $2 IS NULL THEN batch_time ELSE nullif($2, 0) END,
                    workers = coalesce($3, workers), name = coalesce($4, name)
             WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into(), batch_time.into(), workers.into(), name.into()],
        )?;
        store::set_limits(job, &limits)?;
        let mut changes: Vec<String> = [
            batch_time.map(|ms| if ms == 0 { "batch_time as set".to_owned() } else { format!("batch_time {ms} ms") }),
            workers.map(|count| format!("{count} workers")),
            name.map(|name| format!("name {}", quote_identifier(name))),
        ]
        .into_iter()
        .flatten()
        .collect();
        changes.extend(limits.describe());
        store::add_event(job, "altered", Some(&changes.join(", ")))
    })?;
    if target.is_live() {
        activity::wake_executors(job)?;
        queue::wake_or_warn()?;
    }
    Ok(job)
}
