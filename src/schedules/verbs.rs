//! What people do to schedules: alter, pause, run now, end.

use crate::calls::{arguments, standing};
use crate::sql::quote::literal;
use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::clock::Rhythm;
use super::create::{
    check_lengths, check_name, check_retries, check_timeout, length, lock_name, name_taken, zone_or_sessions,
};
use super::store::{self, TABLE};
use super::{history, rule, runs};
use crate::calls::arguments::milliseconds;
use crate::calls::standing::Right;
use crate::error::*;
use crate::jobs::store::RESTORED;
use crate::jobs::{owners, queue};
use crate::server::json::JsonB;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, spi, statement};

#[pg_extern(sql = false)]
fn unschedule_by_name(name: Option<&str>) -> Uuid {
    raise::answer(arguments::required(name, "name").and_then(By::name).and_then(unschedule))
}

#[pg_extern(sql = false)]
fn unschedule_by_id(schedule: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(schedule, "schedule").map(By::Id).and_then(unschedule))
}

#[pg_extern(sql = false)]
fn run_now_by_name(name: Option<&str>) -> Uuid {
    raise::answer(arguments::required(name, "name").and_then(By::name).and_then(run_now))
}

#[pg_extern(sql = false)]
fn run_now_by_id(schedule: Option<Uuid>) -> Uuid {
    raise::answer(arguments::required(schedule, "schedule").map(By::Id).and_then(run_now))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn alter_schedule_by_name(
    name: Option<&str>,
    schedule: Option<&str>,
    command: Option<&str>,
    timezone: Option<&str>,
    timeout: Option<Interval>,
    retries: Option<i32>,
    retry_backoff: Option<Interval>,
    catch_up: Option<bool>,
    paused: Option<bool>,
    new_name: Option<&str>,
) -> Uuid {
    let (timeout, retry_backoff) = (timeout.map(milliseconds), retry_backoff.map(milliseconds));
    let changes = Changes { schedule, command, timezone, timeout, retries, retry_backoff, catch_up, paused, new_name };
    raise::answer(arguments::required(name, "name").and_then(By::name).and_then(|name| alter(name, &changes)))
}

#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn alter_schedule_by_id(
    id: Option<Uuid>,
    schedule: Option<&str>,
    command: Option<&str>,
    timezone: Option<&str>,
    timeout: Option<Interval>,
    retries: Option<i32>,
    retry_backoff: Option<Interval>,
    catch_up: Option<bool>,
    paused: Option<bool>,
    new_name: Option<&str>,
) -> Uuid {
    let (timeout, retry_backoff) = (timeout.map(milliseconds), retry_backoff.map(milliseconds));
    let changes = Changes { schedule, command, timezone, timeout, retries, retry_backoff, catch_up, paused, new_name };
    raise::answer(arguments::required(id, "id").and_then(|id| alter(By::Id(id), &changes)))
}

/// How somebody names a schedule.
#[derive(Clone, Copy)]
enum By<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl<'a> By<'a> {
    fn name(name: &'a str) -> Result<Self> {
        arguments::check_text("name", Some(name)).map(|()| By::Name(name))
    }
}

/// What is given is changed.
struct Changes<'a> {
    schedule: Option<&'a str>,
    command: Option<&'a str>,
    timezone: Option<&'a str>,
    timeout: Option<i64>,
    retries: Option<i32>,
    retry_backoff: Option<i64>,
    catch_up: Option<bool>,
    paused: Option<bool>,
    new_name: Option<&'a str>,
}

impl Changes<'_> {
    fn only_pauses(&self) -> bool {
        let Changes { schedule, command, timezone, timeout, retries, retry_backoff, catch_up, paused, new_name } = self;
        *paused == Some(true)
            && [schedule, command, timezone, new_name].iter().all(|text| text.is_none())
            && timeout.is_none()
            && retries.is_none()
            && retry_backoff.is_none()
            && catch_up.is_none()
    }
}

/// A schedule as a verb sees it, its row locked.
struct Target {
    id: Uuid,
    name: String,
    owner: Oid,
    schedule: String,
    every: Option<i64>,
    timezone: String,
    paused: bool,
    hold: Option<String>,
}

impl Target {
    fn is_restored(&self) -> bool {
        self.hold.as_deref() == Some(RESTORED)
    }
}

/// Finds and locks a schedule, and checks the caller's right to it (LAW 3).
fn find(by: By<'_>, right: Right, verb: &str) -> Result<Target> {
    standing::refuse_in_recovery(&format!("{verb} a schedule"))?;
    standing::refuse_other_version()?;
    let id = match by {
        By::Id(id) => id,
        By::Name(name) => id_of(name, &right)?,
    };
    let target = lock(id)?.ok_or_else(|| no_such_schedule(&id.to_string()))?;
    if allowed(target.owner, &right) {
        return Ok(target);
    }
    let owner = catalog::role_name(target.owner).unwrap_or_else(|| "(dropped)".into());
    Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied to {verb} schedule {id}"))
        .detail(format!("The schedule belongs to role \"{owner}\"."))
        .hint(match right {
            Right::Owner => "Only members of that role may do this.",
            Right::OwnerOrAdmin => "Only members of that role, or of the role named by upkeep.admin_role, may do this.",
        }))
}

fn allowed(owner: Oid, right: &Right) -> bool {
    catalog::has_privileges_of(catalog::current_user(), owner)
        || (*right == Right::OwnerOrAdmin && standing::caller_is_admin())
}

/// A name means the caller's own schedule, else the only one of that name that the caller may touch.
fn id_of(name: &str, right: &Right) -> Result<Uuid> {
    let user = catalog::current_user();
    let named = spi::bookkeeping(|| {
        spi::query(
            "SELECT id, upkeep._owner(system_identifier, owner, owner_name) FROM upkeep._schedule WHERE name OPERATOR(pg_catalog.=) $1",
            &[name.into()],
            |row| Ok((row.require::<Uuid>(1)?, row.require::<Oid>(2)?)),
        )
    })?;
    if let Some((own, _)) = named.iter().find(|(_, owner)| *owner == user) {
        return Ok(*own);
    }
    let mut others = named.iter().filter(|(_, owner)| allowed(*owner, right));
    match (others.next(), others.next()) {
        (Some((only, _)), None) => Ok(*only),
        (None, _) => as_uuid(name).ok_or_else(|| no_such_schedule(&format!("\"{name}\""))),
        (Some(_), Some(_)) => Err(Error::new(
            INVALID_PARAMETER_VALUE,
            format!("more than one schedule is named \"{name}\", and none of them is your own"),
        )
        .hint(format!("Name it by its id: SELECT id, owner FROM upkeep.schedules WHERE name = {};", literal(name)))),
    }
}

/// A literal in SQL is taken for a name even if it is an id.
fn as_uuid(text: &str) -> Option<Uuid> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(Uuid::from_bytes(bytes))
}

fn no_such_schedule(which: &str) -> Error {
    Error::new(UNDEFINED_OBJECT, format!("schedule {which} does not exist"))
        .hint("SELECT id, name, owner FROM upkeep.schedules;")
}

fn lock(id: Uuid) -> Result<Option<Target>> {
    let home = (catalog::system_identifier(), catalog::my_database());
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT name, upkeep._owner(system_identifier, owner, owner_name), schedule, every, timezone, paused, hold,
                    system_identifier, database
             FROM upkeep._schedule WHERE id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            &[id.into()],
            |row| {
                let is_here = (row.require::<i64>(8)?, row.require::<Oid>(9)?) == home;
                Ok(Target {
                    id,
                    name: row.next()?,
                    owner: row.next()?,
                    schedule: row.next()?,
                    every: row.next_or_null()?,
                    timezone: row.next()?,
                    paused: row.next()?,
                    // As the view shows it, even if no scheduler has come by yet (LAW 20).
                    hold: if is_here { row.get(7)? } else { Some(RESTORED.into()) },
                })
            },
        )
    })?;
    Ok(found.into_iter().next())
}

fn unschedule(by: By<'_>) -> Result<Uuid> {
    let target = find(by, Right::OwnerOrAdmin, "end")?;
    spi::bookkeeping(|| end(target.id))?;
    Ok(target.id)
}

/// Forgets a schedule and its runs. Inside [`spi::bookkeeping`].
pub fn end(schedule: Uuid) -> Result<()> {
    history::collect_last_run_of(schedule)?;
    // A run that has not started never will; one that has is the last, and may wait for what it has begun.
    let unfinished = spi::execute_returning(
        "UPDATE upkeep._job j SET retries = 0
         WHERE j.state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])
           AND j.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                   SELECT r.job FROM upkeep._schedule_run r
                   WHERE r.schedule OPERATOR(pg_catalog.=) $1 AND r.finished_at IS NULL))
         RETURNING j.id, j.state OPERATOR(pg_catalog.=) 'running'
                         OR EXISTS (SELECT FROM upkeep._job_slot s
                                    WHERE s.job OPERATOR(pg_catalog.=) j.id AND s.cursor IS NOT NULL)",
        &[schedule.into()],
        |row| Ok((row.next::<Uuid>()?, row.next::<bool>()?)),
    )?;
    for (job, has_begun) in unfinished {
        if !has_begun {
            crate::jobs::store::cancel(job, Some("its schedule was ended"))?;
        }
    }
    crate::jobs::forget::rows("upkeep._schedule", &[schedule])
}

fn run_now(by: By<'_>) -> Result<Uuid> {
    let target = find(by, Right::Owner, "run")?;
    if target.is_restored() {
        return Err(restored(&target, "run"));
    }
    spi::bookkeeping(|| {
        history::collect_last_run_of(target.id)?;
        let Some(job) = runs::unfinished(target.id)? else { return Ok(()) };
        Err(Error::new(OBJECT_IN_USE, format!("a run of schedule \"{}\" has not ended", target.name))
            .detail(format!("It is job {job}."))
            .hint(format!("CALL upkeep.wait('{job}'); or SELECT upkeep.cancel('{job}');")))
    })?;
    queue::check_limit(target.owner, &catalog::role_name(target.owner).unwrap_or_default())?;
    let job = spi::bookkeeping(|| runs::start(target.id, catalog::now()))?;
    queue::wake_or_warn()?;
    Ok(job)
}

fn restored(target: &Target, verb: &str) -> Error {
    Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("cannot {verb} schedule \"{}\": it came with a dump or a copied database", target.name),
    )
    .detail("Whether it may go on here is for an administrator to say.")
    .hint("SELECT upkeep.resume_all();")
}

fn alter(by: By<'_>, changes: &Changes<'_>) -> Result<Uuid> {
    check_lengths(changes.schedule, changes.command)?;
    arguments::check_text("timezone", changes.timezone)?;
    arguments::check_text("new_name", changes.new_name)?;
    let right = if changes.only_pauses() { Right::OwnerOrAdmin } else { Right::Owner };
    let target = find(by, right, if changes.only_pauses() { "pause" } else { "alter" })?;
    check_timeout(changes.timeout)?;
    check_retries(changes.retries, changes.retry_backoff)?;
    if changes.paused == Some(false) && target.is_restored() {
        return Err(restored(&target, "resume"));
    }
    if let Some(name) = changes.new_name.filter(|name| *name != target.name) {
        check_name(name)?;
        refuse_taken_name(target.owner, name)?;
    }
    // A new command means what the caller's settings of now say.
    let tag = changes.command.map(statement::background_command).transpose()?;
    let session = changes.command.map(|_| queue::captured_session()).transpose()?;
    let rhythm = Rhythm {
        rule: match changes.schedule {
            Some(text) => rule::parse(text)?,
            None => rule::stored(&target.schedule, target.every)?,
        },
        zone: match changes.timezone {
            Some(name) => zone_or_sessions(Some(name))?,
            None => store::zone(&target.timezone)?,
        },
    };
    let resumed = changes.paused == Some(false) && (target.paused || target.hold.is_some());
    spi::bookkeeping(|| {
        spi::execute(
            "UPDATE upkeep._schedule SET
                 name = coalesce($2, name), schedule = coalesce($3, schedule), every = $4, timezone = $5,
                 command = coalesce($6, command), target = coalesce($7, target), session = coalesce($8, session),
                 timeout = CASE WHEN $9 IS NULL THEN timeout ELSE nullif($9, 0) END,
                 retries = coalesce($10, retries), retry_backoff = coalesce($11, retry_backoff),
                 catch_up = coalesce($12, catch_up), paused = coalesce($13, paused),
                 hold = CASE WHEN $14 THEN NULL ELSE hold END
             WHERE id OPERATOR(pg_catalog.=) $1",
            &[
                target.id.into(),
                changes.new_name.into(),
                changes.schedule.into(),
                length(&rhythm.rule).into(),
                rhythm.zone.name().as_str().into(),
                changes.command.into(),
                tag.as_deref().into(),
                session.map(JsonB).into(),
                changes.timeout.into(),
                changes.retries.into(),
                changes.retry_backoff.into(),
                changes.catch_up.into(),
                changes.paused.into(),
                resumed.into(),
            ],
        )?;
        if resumed || changes.schedule.is_some() || changes.timezone.is_some() {
            let now = catalog::now();
            store::set_next_run(target.id, rhythm.next(now), now, false)?;
        }
        Ok(())
    })?;
    if changes.paused == Some(true) {
        tell_of_queued_run(&target)?;
    }
    queue::wake_or_warn()?;
    Ok(target.id)
}

/// A run that has been made is a job like any other: it comes when a worker is free.
fn tell_of_queued_run(target: &Target) -> Result<()> {
    let Some(job) = spi::bookkeeping(|| runs::queued(target.id))? else { return Ok(()) };
    raise::report(
        Level::Notice,
        Error::new(OBJECT_IN_USE, format!("a run of schedule \"{}\" is queued already and will be done", target.name))
            .detail(format!("It is job {job}."))
            .hint(format!("SELECT upkeep.cancel('{job}');")),
    );
    Ok(())
}

fn refuse_taken_name(owner: Oid, name: &str) -> Result<()> {
    lock_name(owner, name);
    let taken = spi::bookkeeping(|| owners::called(TABLE, owner, name))?;
    taken.map_or(Ok(()), |other| Err(name_taken(name, other, false)))
}
