//! `upkeep.schedule`: what is asked for, checked, and stored with what the command meant then.

use crate::calls::{arguments, standing};
use crate::sql::quote::literal;
use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::clock::{Rhythm, Rule};
use super::rule;
use super::store::{self, TABLE};
use crate::calls::arguments::milliseconds;
use crate::error::*;
use crate::jobs::{owners, queue};
use crate::server::json::JsonB;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, spi, statement};

/// Most retries of one run.
const MOST_RETRIES: i32 = 100;
/// A day, in ms.
const LONGEST_BACKOFF: i64 = 24 * 3600 * 1000;

/// `upkeep.schedule(name, schedule, command, ..)`
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn upkeep_schedule(
    name: Option<&str>,
    schedule: Option<&str>,
    command: Option<&str>,
    timezone: Option<&str>,
    timeout: Option<Interval>,
    retries: Option<i32>,
    retry_backoff: Option<Interval>,
    catch_up: Option<bool>,
    paused: Option<bool>,
    if_not_exists: Option<bool>,
) -> Uuid {
    raise::answer((|| {
        create(&NewSchedule {
            name: arguments::required(name, "name")?,
            schedule: arguments::required(schedule, "schedule")?,
            command: arguments::required(command, "command")?,
            timezone,
            timeout: timeout.map(milliseconds),
            retries: retries.unwrap_or(0),
            retry_backoff: retry_backoff.map_or(60_000, milliseconds),
            catch_up: catch_up.unwrap_or(false),
            paused: paused.unwrap_or(false),
            if_not_exists: if_not_exists.unwrap_or(false),
        })
    })())
}

struct NewSchedule<'a> {
    name: &'a str,
    schedule: &'a str,
    command: &'a str,
    timezone: Option<&'a str>,
    timeout: Option<i64>,
    retries: i32,
    retry_backoff: i64,
    catch_up: bool,
    paused: bool,
    if_not_exists: bool,
}

fn create(new: &NewSchedule<'_>) -> Result<Uuid> {
    standing::refuse_in_recovery("create a schedule")?;
    standing::refuse_other_version()?;
    check_name(new.name)?;
    check_timeout(new.timeout)?;
    check_retries(Some(new.retries), Some(new.retry_backoff))?;
    check_lengths(Some(new.schedule), Some(new.command))?;
    arguments::check_text("timezone", new.timezone)?;
    let rule = rule::parse(new.schedule)?;
    let tag = statement::background_command(new.command)?;
    let zone = zone_or_sessions(new.timezone)?;
    let timezone = zone.name();
    let owner = catalog::current_user();
    let owner_name = catalog::role_name(owner).unwrap_or_default();
    standing::refuse_nologin_owner(owner, &owner_name)?;

    lock_name(owner, new.name);
    if let Some(existing) = find_same(new, owner, &timezone)? {
        return Ok(existing);
    }
    let id = catalog::uuid_v7();
    let now = catalog::now();
    let every = length(&rule);
    let next_run = Rhythm { rule, zone }.next(now);
    // Read before the switch below pins a search_path of ours.
    let session = queue::captured_session()?;
    spi::bookkeeping(|| {
        spi::execute(
            "INSERT INTO upkeep._schedule (id, name, owner, owner_name, schedule, every, timezone, command, target,
                                           session, timeout, retries, retry_backoff, catch_up, paused,
                                           next_run, based_on, system_identifier, database)
             VALUES ($1, $2, $3, $4::pg_catalog.name, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
            &[
                id.into(),
                new.name.into(),
                owner.into(),
                owner_name.as_str().into(),
                new.schedule.into(),
                every.into(),
                timezone.as_str().into(),
                new.command.into(),
                tag.as_str().into(),
                JsonB(session).into(),
                new.timeout.filter(|&ms| ms > 0).into(),
                new.retries.into(),
                new.retry_backoff.into(),
                new.catch_up.into(),
                new.paused.into(),
                next_run.and_then(store::timestamp).into(),
                store::timestamp(now).into(),
                catalog::system_identifier().into(),
                catalog::my_database().into(),
            ],
        )
    })?;
    if !new.paused {
        queue::wake_or_warn()?;
    }
    Ok(id)
}

/// The length of an interval, as it is stored; a pattern has none.
pub fn length(rule: &Rule) -> Option<i64> {
    match rule {
        Rule::Every(length) => Some(*length),
        Rule::Cron(_) => None,
    }
}

pub fn zone_or_sessions(name: Option<&str>) -> Result<crate::server::zone::ServerZone> {
    match name {
        Some(name) => store::zone(name),
        None => store::zone(&catalog::setting(c"TimeZone")),
    }
}

pub fn check_lengths(schedule: Option<&str>, command: Option<&str>) -> Result<()> {
    arguments::check_length("the schedule", schedule.map_or(0, str::len))?;
    arguments::check_length("the command", command.map_or(0, str::len))
}

pub fn check_name(name: &str) -> Result<()> {
    if name.trim().is_empty() || name.len() > 200 {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "a schedule's name must have between 1 and 200 bytes"));
    }
    Ok(())
}

pub fn check_timeout(timeout: Option<i64>) -> Result<()> {
    match timeout {
        Some(ms) if !(0..=i64::from(i32::MAX)).contains(&ms) => {
            Err(Error::new(INVALID_PARAMETER_VALUE, "timeout must be between 0 and 24 days").detail("0 means none."))
        }
        _ => Ok(()),
    }
}

pub fn check_retries(retries: Option<i32>, backoff: Option<i64>) -> Result<()> {
    if retries.is_some_and(|count| !(0..=MOST_RETRIES).contains(&count)) {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("retries must be between 0 and {MOST_RETRIES}")));
    }
    if backoff.is_some_and(|ms| !(0..=LONGEST_BACKOFF).contains(&ms)) {
        return Err(Error::new(INVALID_PARAMETER_VALUE, "retry_backoff must be between 0 and 24 hours"));
    }
    Ok(())
}

/// Two who want the same name must see each other.
pub fn lock_name(owner: Oid, name: &str) {
    owners::name_lock(TABLE, owner, name).for_transaction();
}

/// A schedule of that name which answers the request, or the error that it is another one.
fn find_same(new: &NewSchedule<'_>, owner: Oid, timezone: &str) -> Result<Option<Uuid>> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT id, schedule OPERATOR(pg_catalog.=) $3 AND command OPERATOR(pg_catalog.=) $4
                        AND timezone OPERATOR(pg_catalog.=) $5
             FROM upkeep._schedule
             WHERE name OPERATOR(pg_catalog.=) $2 AND upkeep._owner(system_identifier, owner, owner_name) OPERATOR(pg_catalog.=) $1",
            &[owner.into(), new.name.into(), new.schedule.into(), new.command.into(), timezone.into()],
            |row| Ok((row.require::<Uuid>(1)?, row.require::<bool>(2)?)),
        )
    })?;
    let Some((id, same)) = found.into_iter().next() else { return Ok(None) };
    if !new.if_not_exists || !same {
        return Err(name_taken(new.name, id, !same && new.if_not_exists));
    }
    raise::report(
        Level::Notice,
        Error::new(DUPLICATE_OBJECT, format!("schedule \"{}\" already exists, skipping", new.name)),
    );
    Ok(Some(id))
}

pub fn name_taken(name: &str, id: Uuid, differs: bool) -> Error {
    let what = if differs { " with another schedule, time zone or command" } else { "" };
    Error::new(DUPLICATE_OBJECT, format!("schedule \"{name}\" already exists{what}"))
        .detail(format!("It is schedule {id}."))
        .hint(format!(
            "SELECT upkeep.alter_schedule({}, ..) changes it, SELECT upkeep.unschedule({}) removes it.",
            literal(name),
            literal(name)
        ))
}
