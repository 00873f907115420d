//! What goes with a job that is forgotten, and with a schedule.
//!
//! There is no foreign key between tables that a dump carries: `pg_dump` does not know of one between tables of an
//! extension, and `pg_restore -j` loads them in any order, so that a child's COPY would fail and its rows be lost. Instead
//! who adds a row of a job locks the job's (`FOR KEY SHARE`, as a foreign key does), and a job goes by [`jobs`] only.
//!
//! All of it runs inside [`spi::bookkeeping`].

use pgrx::Uuid;

use crate::error::Result;
use crate::server::spi;

/// Tables of what belongs to a job, by its column `job`.
const OF_JOBS: [&str; 5] =
    ["upkeep._job_slot", "upkeep._job_event", "upkeep._backfill_row", "upkeep._backfill_xid", "upkeep._backfill_table"];

/// Forgets jobs whose rows this transaction has locked.
pub fn jobs(jobs: &[Uuid]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    for table in OF_JOBS {
        spi::execute(
            &format!("DELETE FROM {table} WHERE job OPERATOR(pg_catalog.=) ANY ($1)"),
            &[jobs.to_vec().into()],
        )?;
    }
    spi::execute("DELETE FROM upkeep._job WHERE id OPERATOR(pg_catalog.=) ANY ($1)", &[jobs.to_vec().into()]).map(drop)
}

/// The same for schedules.
pub fn schedules(schedules: &[Uuid]) -> Result<()> {
    if schedules.is_empty() {
        return Ok(());
    }
    for sql in [
        "DELETE FROM upkeep._schedule_run WHERE schedule OPERATOR(pg_catalog.=) ANY ($1)",
        "DELETE FROM upkeep._schedule WHERE id OPERATOR(pg_catalog.=) ANY ($1)",
    ] {
        spi::execute(sql, &[schedules.to_vec().into()])?;
    }
    Ok(())
}

/// What belongs to a job, a schedule or a deletion that is not there: half a restore has left it, or somebody's own DELETE.
/// Only for whoever says that everything has been restored: until then the rest may still be on its way.
pub fn orphans() -> Result<()> {
    let of_jobs = OF_JOBS.map(|table| (table, "job", "upkeep._job"));
    let others = [
        ("upkeep._schedule_run", "schedule", "upkeep._schedule"),
        ("upkeep._deletion_table", "deletion", "upkeep._deletion"),
        ("upkeep._deletion_cleared", "deletion", "upkeep._deletion"),
    ];
    for (table, column, parent) in of_jobs.into_iter().chain(others) {
        spi::execute(
            &format!(
                "DELETE FROM {table} WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY(
                     SELECT c.ctid FROM {table} c
                     WHERE NOT EXISTS (SELECT FROM {parent} p WHERE p.id OPERATOR(pg_catalog.=) c.{column})
                     FOR UPDATE SKIP LOCKED))"
            ),
            &[],
        )?;
    }
    Ok(())
}
