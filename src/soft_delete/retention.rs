//! `retention` of enable_soft_delete: a schedule that purges every day, made by the public function and owned by the
//! table's owner. Off unless asked for.
//!
//! The table knows its schedule, and the schedule's command names nothing but itself: so a table may be renamed or moved, and
//! no other table under its old name is ever purged. The command is ours to the letter, hence it can be given to the table's
//! new owner (LAW 29); one that somebody has rewritten is his.

use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::managed::Managed;
use super::purge;
use crate::calls::arguments;
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::jobs::children;
use crate::schedules::made::{self, Made};
use crate::server::raise::{self, Level, answer};
use crate::server::{Oid, catalog, spi};

const SCHEDULE: &str = "upkeep.schedule(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text, \
    interval, integer, interval, boolean, boolean, boolean)";

/// What the schedule runs. The view of what has drifted and the upgrade script write the same.
fn command(schedule: Uuid) -> String {
    format!("SELECT upkeep._purge_by_retention('{schedule}'::pg_catalog.uuid)")
}

/// How the schedule of a table is called at first.
fn name(managed: &Managed) -> String {
    format!("purge {}.{}", pgrx::spi::quote_identifier(&managed.schema), pgrx::spi::quote_identifier(&managed.name))
}

/// Schedules the purge of a table that was enabled with a retention.
pub fn begin(managed: &Managed) -> Result<()> {
    if !has_retention(managed)? {
        return Ok(());
    }
    require_schedules(managed.owner)?;
    let name = spi::bookkeeping(|| made::free_name(managed.owner, &name(managed)))?;
    let made = spi::as_owner(managed.owner, || {
        spi::execute_returning(
            "SELECT upkeep.schedule(name => $1, schedule => '@daily', command => 'SELECT upkeep._purge_by_retention(NULL)')",
            &[name.into()],
            |row| row.require::<Uuid>(1),
        )
    })?;
    made.first().map_or(Ok(()), |&schedule| belongs(schedule, managed.relid))
}

/// From here on it is this table's.
fn belongs(schedule: Uuid, relid: Oid) -> Result<()> {
    spi::bookkeeping(|| {
        made::set_command(schedule, &command(schedule))?;
        spi::execute(
            "UPDATE upkeep._soft_delete_table SET retention_schedule = $1 WHERE relid OPERATOR(pg_catalog.=) $2",
            &[schedule.into(), relid.into()],
        )
    })
    .map(drop)
}

fn may_schedule(owner: Oid) -> Result<bool> {
    let allowed = spi::query_one(
        "SELECT pg_catalog.has_function_privilege($1, $2, 'EXECUTE')",
        &[owner.into(), SCHEDULE.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(allowed == Some(true))
}

fn require_schedules(owner: Oid) -> Result<()> {
    if may_schedule(owner)? {
        return Ok(());
    }
    let role = catalog::role_name(owner).unwrap_or_default();
    Err(Error::new(
        INSUFFICIENT_PRIVILEGE,
        format!("role \"{role}\" may not schedule the purge that retention asks for"),
    )
    .detail("It runs as the owner of the table.")
    .hint(format!(
        "GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {}; or leave retention out and call upkeep.purge_deleted() yourself.",
        pgrx::spi::quote_identifier(&role)
    )))
}

/// Has nobody rewritten it?
fn is_ours(schedule: &Made) -> bool {
    schedule.command == command(schedule.id)
}

/// The schedule of a table, if there is one (any more).
fn find(managed: &Managed) -> Result<Option<Made>> {
    spi::bookkeeping(|| match remembered(managed)? {
        Some(Some(schedule)) => made::find(schedule),
        _ => Ok(None),
    })
}

/// A schedule that versions before 0.6.0 have made, as long as it is called and owned as they made it.
fn find_old(managed: &Managed) -> Result<Option<Uuid>> {
    let found = spi::bookkeeping(|| match remembered(managed)? {
        Some(None) => made::called(managed.owner, &name(managed)),
        _ => Ok(None),
    })?;
    Ok(found.filter(|made| made.command.starts_with("SELECT upkeep.purge_deleted(")).map(|made| made.id))
}

/// The schedule that the table was given, there or not; `None`: it has no soft delete.
fn remembered(managed: &Managed) -> Result<Option<Option<Uuid>>> {
    let found = spi::execute_returning(
        "SELECT retention_schedule FROM upkeep._soft_delete_table WHERE relid OPERATOR(pg_catalog.=) $1",
        &[managed.relid.into()],
        |row| row.get::<Uuid>(1),
    )?;
    Ok(found.into_iter().next())
}

/// The table has another owner: so has its schedule, if it is ours and he may have one.
pub fn follow(managed: &Managed) -> Result<()> {
    match find(managed)? {
        Some(schedule) if schedule.owner != managed.owner => give_to_owner(managed, &schedule).map(drop),
        _ => Ok(()),
    }
}

/// `false`: it stays, with a warning.
fn give_to_owner(managed: &Managed, schedule: &Made) -> Result<bool> {
    if is_ours(schedule) && may_schedule(managed.owner)? {
        spi::bookkeeping(|| made::hand_over(schedule, managed.owner))?;
        return Ok(true);
    }
    raise::report(
        Level::Warning,
        Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("schedule \"{}\", which purges {}, stays with its owner", schedule.name, managed.sql()),
        )
        .detail(if is_ours(schedule) {
            "The table's owner may not have schedules. As long as that is so, nothing is purged."
        } else {
            "Somebody has changed its command, which is not given to another role."
        })
        .hint("SELECT * FROM upkeep.soft_delete_drift; shows what to type."),
    );
    Ok(false)
}

/// For `repair_soft_delete`. One that its owner has ended stays so. What cannot be done is a warning: the rest is repaired all the
/// same.
pub fn repair(managed: &Managed) -> Result<()> {
    match find(managed)? {
        Some(schedule) if schedule.owner == managed.owner => return Ok(()),
        Some(schedule) => {
            if give_to_owner(managed, &schedule)? || is_ours(&schedule) {
                return Ok(());
            }
        }
        None => match find_old(managed)? {
            Some(old) => return belongs(old, managed.relid),
            // It was ended.
            None if spi::bookkeeping(|| remembered(managed))?.flatten().is_some() => return Ok(()),
            None => {}
        },
    }
    if !has_retention(managed)? {
        return Ok(());
    }
    match require_schedules(managed.owner) {
        Ok(()) => begin(managed),
        Err(error) if error.sqlstate == INSUFFICIENT_PRIVILEGE => {
            raise::report(Level::Warning, error);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Ends it.
pub fn end(managed: &Managed) -> Result<()> {
    match find(managed)? {
        Some(schedule) if is_ours(&schedule) => spi::bookkeeping(|| made::end(schedule.id)),
        Some(schedule) => {
            raise::report(
                Level::Warning,
                Error::new(
                    OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("schedule \"{}\", which was made to purge {}, stays", schedule.name, managed.sql()),
                )
                .detail("Somebody has changed its command.")
                .hint(format!("SELECT upkeep.unschedule('{}'::uuid); ends it.", schedule.id)),
            );
            Ok(())
        }
        None => find_old(managed)?.map_or(Ok(()), |old| spi::bookkeeping(|| made::end(old))),
    }
}

/// Those of tables that are gone, but for what somebody has locked: its runs fail, and say what to type. Inside
/// [`spi::bookkeeping`].
pub fn end_of_dropped(dropped: &[Oid]) -> Result<()> {
    let schedules = spi::execute_returning(
        "SELECT retention_schedule FROM upkeep._soft_delete_table
         WHERE relid::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1) AND retention_schedule IS NOT NULL",
        &[dropped.to_vec().into()],
        |row| row.require::<Uuid>(1),
    )?;
    let ours: Vec<Uuid> = made::lock(&schedules)?.into_iter().filter(is_ours).map(|made| made.id).collect();
    made::forget(&ours)
}

/// What the schedule calls: asks for a purge of its table, as whoever has the schedule, who must own the table. 55006: another one has
/// not ended, so that this run has purged nothing.
#[pg_extern(sql = false)]
fn purge_by_retention(schedule: Option<Uuid>) -> Option<Uuid> {
    answer(purge_now(schedule))
}

fn purge_now(schedule: Option<Uuid>) -> Result<Option<Uuid>> {
    let schedule = arguments::required(schedule, "schedule")?;
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT t.relid::pg_catalog.oid, t.retention FROM upkeep._soft_delete t
             WHERE t.retention_schedule OPERATOR(pg_catalog.=) $1 AND t.retention IS NOT NULL",
            &[schedule.into()],
            |row| Ok((row.require::<Oid>(1)?, row.require::<Interval>(2)?)),
        )
    })?;
    let Some((relid, retention)) = found.into_iter().next() else {
        return Err(Error::new(
            OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("schedule {schedule} is not the one of a table with soft delete"),
        )
        .hint(format!("SELECT upkeep.unschedule('{schedule}'::uuid); ends it.")));
    };
    // The run of the schedule ends when its purge has, and as that does.
    let parent = children::parent_at_work(&format!("purge by schedule {schedule}"))?;
    purge::ask(Some(relid), Some(retention), parent).map(Some)
}

/// Is there one, and can it be?
fn has_retention(managed: &Managed) -> Result<bool> {
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT retention IS NOT NULL,
                    NOT pg_catalog.isfinite(retention) OR retention OPERATOR(pg_catalog.<) '0'::pg_catalog.interval
             FROM upkeep._soft_delete_table WHERE relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into()],
            |row| Ok((row.require::<bool>(1)?, row.get::<bool>(2)?)),
        )
    })?;
    match found.into_iter().next() {
        Some((_, Some(true))) => Err(Error::new(INVALID_PARAMETER_VALUE, "retention must be finite and not negative")
            .hint("For example: retention => '90 days'")),
        Some((there, _)) => Ok(there),
        None => Ok(false),
    }
}
