//! Schedules that are held although nobody paused them: by `pause_all()`, and those that came with a dump or
//! a copied database (LAW 20).

use super::store::{self, Entry, entry_columns};
use crate::error::Result;
use crate::jobs::store::RESTORED;
use crate::server::{catalog, spi};

/// Schedules of another server or database wait for `resume_all()`. One that somebody has locked is held by a later
/// look; nothing starts it before, since every other look asks where a schedule belongs.
pub fn hold_foreign() -> Result<()> {
    spi::execute(
        "UPDATE upkeep._schedule SET hold = $3
         WHERE id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT s.id FROM upkeep._schedule s
             WHERE s.hold IS DISTINCT FROM $3
               AND (s.system_identifier OPERATOR(pg_catalog.<>) $1 OR s.database OPERATOR(pg_catalog.<>) $2)
             FOR UPDATE SKIP LOCKED))",
        &[catalog::system_identifier().into(), catalog::my_database().into(), RESTORED.into()],
    )?;
    Ok(())
}

/// As [`crate::jobs::store::follow_owners`].
pub fn follow_owners(system: i64) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._schedule s SET owner_name = r.rolname
         FROM pg_catalog.pg_roles r
         WHERE r.oid OPERATOR(pg_catalog.=) s.owner AND s.id OPERATOR(pg_catalog.=) ANY (ARRAY(
             SELECT i.id FROM upkeep._schedule i
             JOIN pg_catalog.pg_roles q ON q.oid OPERATOR(pg_catalog.=) i.owner
             WHERE q.rolname OPERATOR(pg_catalog.<>) i.owner_name AND i.system_identifier OPERATOR(pg_catalog.=) $1
             FOR UPDATE OF i SKIP LOCKED))",
        &[system.into()],
    )
    .map(drop)
}

/// For `pause_all()`: holds every schedule that is active, and says how many. Inside [`spi::bookkeeping`].
pub fn hold_all(reason: Option<&str>) -> Result<i32> {
    let text = reason.map_or_else(|| "pause_all".to_owned(), |reason| format!("pause_all: {reason}"));
    let held = spi::execute(
        "UPDATE upkeep._schedule SET hold = $1 WHERE NOT paused AND hold IS NULL",
        &[text.as_str().into()],
    )?;
    Ok(held as i32)
}

/// For `resume_all()`: lets every schedule that is held go on from now, and says how many. Those that came with
/// a dump belong here from now on, and their owner is found by name if it was of another server. Whoever paused one by itself still has it paused.
/// Inside [`spi::bookkeeping`].
pub fn release_all() -> Result<i32> {
    let (system, database) = (catalog::system_identifier(), catalog::my_database());
    spi::execute(
        "UPDATE upkeep._schedule s SET hold = 'restored',
             owner = CASE WHEN s.system_identifier OPERATOR(pg_catalog.=) $1 THEN s.owner
                          ELSE coalesce((SELECT r.oid FROM pg_catalog.pg_roles r
                                         WHERE r.rolname OPERATOR(pg_catalog.=) s.owner_name), 0::pg_catalog.oid) END,
             system_identifier = $1, database = $2
         WHERE s.system_identifier OPERATOR(pg_catalog.<>) $1 OR s.database OPERATOR(pg_catalog.<>) $2",
        &[system.into(), database.into()],
    )?;
    follow_owners(system)?;
    let held = spi::execute_returning(
        concat!("UPDATE upkeep._schedule s SET hold = NULL WHERE hold IS NOT NULL RETURNING ", entry_columns!()),
        &[],
        |row| Entry::read(&row),
    )?;
    let now = catalog::now();
    for entry in &held {
        match entry.rhythm() {
            Ok(rhythm) => store::set_next_run(entry.id, rhythm.next(now), now, false)?,
            Err(error) => store::set_hold(entry.id, &error.message)?,
        }
    }
    Ok(held.len() as i32)
}
