//! Schedules that are held although nobody paused them: by `pause_all()`, and those that came with a dump or
//! a copied database (LAW 20).

use pgrx::Uuid;

use super::store::{self, Entry, TABLE, entry_columns};
use crate::error::{Error, Result};
use crate::jobs::chore::Held;
use crate::jobs::owners;
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

/// What `pause_all()` and `resume_all()` know of schedules.
pub struct Schedules;

impl Held for Schedules {
    fn table(&self) -> &'static str {
        TABLE
    }

    fn words(&self) -> [&'static str; 2] {
        ["schedule", "schedules"]
    }

    fn to_hold(&self) -> &'static str {
        "NOT paused AND hold IS NULL"
    }

    fn to_release(&self) -> &'static str {
        "hold IS NOT NULL OR NOT upkeep._is_here(system_identifier, database)"
    }

    fn hold(&self, schedules: &[Uuid], reason: Option<&str>) -> Result<()> {
        let text = reason.map_or_else(|| "pause_all".to_owned(), |reason| format!("pause_all: {reason}"));
        spi::execute(
            "UPDATE upkeep._schedule SET hold = $2 WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
            &[schedules.to_vec().into(), text.as_str().into()],
        )?;
        Ok(())
    }

    /// They go on from now. Whoever paused one by itself still has it paused.
    fn release(&self, schedules: &[Uuid]) -> Result<Vec<(Uuid, Error)>> {
        let stay = owners::adopt(TABLE, schedules)?.stay;
        let released = spi::execute_returning(
            concat!(
                "UPDATE upkeep._schedule s SET hold = NULL
                 WHERE s.id OPERATOR(pg_catalog.=) ANY ($1) AND s.id OPERATOR(pg_catalog.<>) ALL ($2) RETURNING ",
                entry_columns!()
            ),
            &[schedules.to_vec().into(), stay.iter().map(|(schedule, _)| *schedule).collect::<Vec<_>>().into()],
            |row| Entry::read(&row),
        )?;
        let now = catalog::now();
        for entry in &released {
            match entry.rhythm() {
                Ok(rhythm) => store::set_next_run(entry.id, rhythm.next(now), now, false)?,
                Err(error) => store::set_hold(entry.id, &error.message)?,
            }
        }
        Ok(stay)
    }
}
