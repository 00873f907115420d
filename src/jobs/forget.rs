//! What goes with a job that is forgotten, and with what else has rows of its own in other tables.
//!
//! There is no foreign key between tables that a dump carries: `pg_dump` does not know of one between tables of an
//! extension, and `pg_restore -j` loads them in any order, so that a child's COPY would fail and its rows be lost. Instead
//! who adds a row of a job locks the job's (`FOR KEY SHARE`, as a foreign key does), and a job goes by [`jobs`] only.
//!
//! All of it runs inside [`spi::bookkeeping`].

use pgrx::Uuid;

use super::kind::{Belonging, JOBS};
use super::{children, registry};
use crate::error::Result;
use crate::quarantine;
use crate::server::spi;

/// The engine's own tables of what belongs to a job.
const OURS: [Belonging; 5] = [
    Belonging::to_job("upkeep._job_slot"),
    Belonging::to_job("upkeep._job_event"),
    Belonging::to_job("upkeep._job_step"),
    Belonging::to_job("upkeep._job_claim"),
    Belonging::to_job(quarantine::TABLE),
];

fn belongings() -> impl Iterator<Item = &'static Belonging> {
    OURS.iter().chain(registry::belongings())
}

/// Forgets jobs whose rows this transaction has locked, with their children.
pub fn jobs(jobs: &[Uuid]) -> Result<()> {
    let mut family = children::below(jobs)?;
    family.extend(jobs);
    rows(JOBS, &family)
}

/// Those of these jobs that nobody needs any more: not their children, nor another room.
pub fn unneeded(mut jobs: Vec<Uuid>) -> Result<Vec<Uuid>> {
    if !jobs.is_empty() {
        let busy = children::parents_of_busy(&jobs)?;
        jobs.retain(|job| !busy.contains(job));
        // A child that somebody has locked keeps its parent, and nobody else's jobs.
        let locked = children::parents_of_locked(&jobs)?;
        jobs.retain(|job| !locked.contains(job));
        for chore in registry::chores() {
            let needed = chore.still_needs(&jobs)?;
            jobs.retain(|job| !needed.contains(job));
        }
    }
    Ok(jobs)
}

/// Forgets rows of this table, which this transaction has locked, with all that belongs to them.
pub fn rows(table: &'static str, ids: &[Uuid]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let theirs =
        belongings().filter(|belonging| belonging.to == table).map(|belonging| (belonging.table, belonging.column));
    for (table, column) in theirs.chain([(table, "id")]) {
        spi::execute(
            &format!("DELETE FROM {table} WHERE {column} OPERATOR(pg_catalog.=) ANY ($1)"),
            &[ids.to_vec().into()],
        )?;
    }
    Ok(())
}

/// What belongs to something that is not there: half a restore has left it, or somebody's own DELETE.
/// Only for whoever says that everything has been restored: until then the rest may still be on its way.
pub fn orphans() -> Result<()> {
    for Belonging { table, column, to } in belongings() {
        spi::execute(
            &format!(
                "DELETE FROM {table} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                     SELECT c.ctid FROM {table} c
                     WHERE NOT EXISTS (SELECT FROM {to} p WHERE p.id OPERATOR(pg_catalog.=) c.{column})
                     FOR UPDATE SKIP LOCKED))"
            ),
            &[],
        )?;
    }
    Ok(())
}
