//! What people do to jobs: pause, resume, cancel, retry, drop, alter; and to workers: start, stop.

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{Uuid, spi::quote_identifier};

use super::claims::Wait;
use super::kind::Restart;
use super::limits::Limits;
use super::target::{Above, Target, above, below, find, part_of};
use super::{activity, children, claims, clean_up, owners, queue, registry, store};
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
fn alter_job_0_9(
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
    max_slowdown: Option<f64>,
) -> Uuid {
    let limits = Limits::given(
        run_between,
        timezone,
        max_replica_lag,
        max_replica_lag_bytes,
        max_wal_rate,
        throttle_work_ratio,
        max_slowdown,
    );
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

/// Pauses a job, or puts it back into the queue.
fn set_state(job: Uuid, state: &str, reason: Option<&str>) -> Result<()> {
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET state = $2, not_before = NULL, waits_for = NULL, parked = NULL, answered = false,
                    reason = $3, reason_detail = NULL
             WHERE id OPERATOR(pg_catalog.=) $1",
            &[job.into(), state.into(), reason.into()],
        )?;
        store::add_event(job, state, reason)
    })
}

/// Why a job is paused that nobody has paused by itself.
const WITH_ITS_PARENT: &str = "its parent is paused";

fn pause_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::OwnerOrAdmin, "pause")?;
    if target.is_final() {
        return Err(target.wrong_state("pause", "Only jobs that are queued, running or waiting can be paused."));
    }
    if target.must_go_on() {
        let noun = registry::nature(&target.kind).noun;
        return Err(
            target.wrong_state("pause", &format!("Once started, {noun} cannot be paused: SELECT upkeep.cancel(job);"))
        );
    }
    if target.is_live() {
        set_state(job, "paused", None)?;
        activity::wake_executors(job)?;
    }
    for child in below(job)?.iter().filter(|child| child.is_live() && !child.must_go_on()) {
        set_state(child.id, "paused", Some(WITH_ITS_PARENT))?;
        activity::wake_executors(child.id)?;
    }
    Ok(job)
}

fn resume_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::Owner, "resume")?;
    if target.is_live() {
        // Whatever it waits for.
        if spi::bookkeeping(|| store::let_go_on(job))? {
            queue::wake_or_warn()?;
        }
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
    if let Some(above) = above(&target)?.filter(|above| above.state == "paused") {
        return Err(part_of(&target, "resume", &above, "SELECT upkeep.resume('PARENT'); resumes both."));
    }
    resume_paused(&target)?;
    for child in below(job)?.iter().filter(|child| child.state == "paused" && child.is_here) {
        resume_paused(child)?;
    }
    queue::wake_or_warn()?;
    Ok(job)
}

fn resume_paused(target: &Target) -> Result<()> {
    let kind = registry::kind(&target.kind, &target.params)?;
    claims::keep_or_take(target.id, &kind.claims(target.relid, &target.params)?, Wait::ForOthers)?;
    set_state(target.id, "queued", None)
}

fn cancel_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::OwnerOrAdmin, "cancel")?;
    if target.is_final() && target.state != "canceled" {
        return Err(target.wrong_state("cancel", "SELECT upkeep.drop_job(job); removes a finished job."));
    }
    cancel_one(job, None)?;
    for child in below(job)? {
        cancel_one(child.id, Some("with its parent"))?;
    }
    if target.parent.is_some() {
        // Its parent wants to know.
        activity::wake_at_commit()?;
    }
    Ok(job)
}

fn cancel_one(job: Uuid, why: Option<&str>) -> Result<()> {
    if !spi::bookkeeping(|| store::cancel(job, why))? {
        return Ok(());
    }
    // What it is doing this moment is rolled back as well, once the caller has committed.
    activity::interrupt_executors(job)?;
    if spi::bookkeeping(|| clean_up::needs_cleanup(job))? {
        activity::wake_at_commit()?;
    }
    Ok(())
}

fn retry_job(job: Uuid) -> Result<Uuid> {
    let target = find(job, Right::Owner, "retry")?;
    if !target.is_final() {
        return Err(target
            .wrong_state("retry", "Only jobs that are failed, canceled or done with rows left can be tried again."));
    }
    if let Some(above) = above(&target)?.filter(|above| matches!(above.state.as_str(), "done" | "failed" | "canceled"))
    {
        // One that cannot be tried again itself, as a run of a schedule, does not wait for it either.
        let may_be_tried = |above: &Above| registry::kind(&above.kind, &above.params)?.check_retry(above.id);
        if may_be_tried(&above).is_ok() {
            return Err(part_of(&target, "retry", &above, "SELECT upkeep.retry('PARENT'); tries both again."));
        }
    }
    let was_done = target.state == "done";
    // What begins anew has others do their part anew.
    let restarts =
        !was_done && !registry::kind(&target.kind, &target.params)?.restart(target.shared.clone(), false).keep_cursors;
    let below = if restarts { Vec::new() } else { below(job)? };
    let mut leftovers = Vec::new();
    for child in below.iter().filter(|child| child.state == "done") {
        leftovers.extend(has_leftovers(child)?.then_some(child));
    }
    if was_done && leftovers.is_empty() && !has_leftovers(&target)? {
        return Err(target.wrong_state("retry", "The job is done with no rows left: there is nothing to try again."));
    }
    if let Some(name) = &target.name {
        refuse_taken_name(target.owner, name)?;
    }
    if target.parent.is_none() {
        queue::check_limit(target.owner, &catalog::role_name(target.owner).unwrap_or_default())?;
    }
    retry_one(&target)?;
    // What is done stays so, but for what it has left if that is what was asked for.
    let ended = below.iter().filter(|child| matches!(child.state.as_str(), "failed" | "canceled"));
    for child in ended.chain(leftovers.into_iter().filter(|_| was_done)) {
        retry_one(child)?;
    }
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

fn has_leftovers(target: &Target) -> Result<bool> {
    Ok(target.rows_left > 0 || quarantine::any(target.id)?)
}

fn retry_one(target: &Target) -> Result<()> {
    let job = target.id;
    let kind = registry::kind(&target.kind, &target.params)?;
    kind.check_retry(job)?;
    let was_done = target.state == "done";
    if target.is_here {
        claims::take(job, &kind.claims(target.relid, &target.params)?, Wait::ForOthers)?;
    }
    let Restart { shared, keep_cursors } = kind.restart(target.shared.clone(), was_done);
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._job SET state = 'queued', reason = NULL, reason_detail = NULL, not_before = NULL, waits_for = NULL,
                    parked = NULL, answered = false, tells_parent = false, leaves_children = false,
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
        store::steps::plan_again(job, keep_cursors)?;
        store::add_event(job, "queued", Some("retry"))
    })
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
    if let Some(above) = above(&target)? {
        return Err(part_of(&target, "drop", &above, "It is dropped with that: SELECT upkeep.drop_job('PARENT');"));
    }
    let below = below(job)?;
    if let Some(child) = below.iter().find(|child| !child.is_final()) {
        return Err(Error::new(
            OBJECT_IN_USE,
            format!("cannot drop job {job} yet: its child {} is {}", child.id, child.state),
        )
        .hint(format!("CALL upkeep.wait('{0}'); or SELECT upkeep.cancel('{0}');", child.id)));
    }
    if spi::bookkeeping(|| clean_up::needs_cleanup(job))? {
        return Err(Error::new(OBJECT_IN_USE, format!("cannot drop job {job} yet: it has left {}", registry::nature(&target.kind).leaves))
            .detail(target.reason.unwrap_or_else(|| store::CLEANUP_PENDING.to_owned()))
            .hint("It is removed as soon as its table can be locked and changed within upkeep.ddl_lock_timeout: SELECT wait_reason \
                FROM upkeep.jobs; shows nothing then."));
    }
    spi::bookkeeping(|| {
        if let Some(busy) = children::parents_of_busy(&[job])?.first() {
            return Err(Error::new(
                OBJECT_IN_USE,
                format!("cannot drop job {busy} yet: a child of it is still to be cleaned up"),
            )
            .hint("It is removed as soon as its table can be locked."));
        }
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
        for child in children::below(&[job])? {
            store::set_limits(child, &limits)?;
            store::set_batch_time(child, batch_time)?;
        }
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
