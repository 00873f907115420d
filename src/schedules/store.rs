//! Rows of `upkeep._schedule`, and the statements on single ones. All run inside [`spi::bookkeeping`].

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;

use super::clock::Rhythm;
use super::rule;
use crate::error::{Error, INVALID_PARAMETER_VALUE, Result};
use crate::server::zone::ServerZone;
use crate::server::{Oid, spi};

/// Without its schema.
pub const TABLE: &str = "_schedule";

/// What it takes to know when a schedule is due.
pub struct Entry {
    pub id: Uuid,
    pub owner: Oid,
    pub schedule: String,
    pub every: Option<i64>,
    pub timezone: String,
    pub catch_up: bool,
    pub next_run: Option<i64>,
    pub based_on: i64,
    pub owed: bool,
}

/// The columns of [`Entry`], of a table called `s`.
macro_rules! entry_columns {
    () => {
        "s.id, s.owner, s.schedule, s.every, s.timezone, s.catch_up, s.next_run, s.based_on, s.owed"
    };
}
pub(super) use entry_columns;

impl Entry {
    pub fn read(row: &spi::Row<'_>) -> Result<Self> {
        Ok(Entry {
            id: row.next()?,
            owner: row.next()?,
            schedule: row.next()?,
            every: row.next_or_null()?,
            timezone: row.next()?,
            catch_up: row.next()?,
            next_run: row.next_or_null::<TimestampWithTimeZone>()?.map(TimestampWithTimeZone::into_inner),
            based_on: row.next::<TimestampWithTimeZone>()?.into_inner(),
            owed: row.next()?,
        })
    }

    pub fn rhythm(&self) -> Result<Rhythm<ServerZone>> {
        Ok(Rhythm { rule: rule::stored(&self.schedule, self.every)?, zone: zone(&self.timezone)? })
    }
}

/// A time zone of this server.
pub fn zone(name: &str) -> Result<ServerZone> {
    ServerZone::named(name).ok_or_else(|| {
        Error::new(INVALID_PARAMETER_VALUE, format!("time zone \"{name}\" is not known"))
            .hint("SELECT name FROM pg_timezone_names;")
    })
}

pub fn timestamp(microseconds: i64) -> Option<TimestampWithTimeZone> {
    TimestampWithTimeZone::try_from(microseconds).ok()
}

/// Stores when a schedule is due next, as worked out at `now`.
pub fn set_next_run(id: Uuid, next_run: Option<i64>, now: i64, owed: bool) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._schedule SET next_run = $2, based_on = $3, owed = $4 WHERE id OPERATOR(pg_catalog.=) $1",
        &[id.into(), next_run.and_then(timestamp).into(), timestamp(now).into(), owed.into()],
    )?;
    Ok(())
}

/// Keeps a schedule from running, with a reason that people see.
pub fn set_hold(id: Uuid, reason: &str) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._schedule SET hold = $2 WHERE id OPERATOR(pg_catalog.=) $1",
        &[id.into(), reason.into()],
    )?;
    Ok(())
}

/// Notes due times that were not run: `missed` or `skipped`. Those of one reason in a row are one row.
pub fn add_not_run(id: Uuid, status: &str, job: Option<Uuid>, due_at: i64, due_times: i32) -> Result<()> {
    let added = spi::execute(
        "UPDATE upkeep._schedule_run SET due_times = due_times OPERATOR(pg_catalog.+) $4,
                finished_at = pg_catalog.clock_timestamp()
         WHERE id OPERATOR(pg_catalog.=) (SELECT u.id FROM upkeep._schedule_run u
                  WHERE u.schedule OPERATOR(pg_catalog.=) $1 ORDER BY u.id DESC LIMIT 1)
           AND status OPERATOR(pg_catalog.=) $2 AND job OPERATOR(pg_catalog.=) $3",
        &[id.into(), status.into(), job.into(), due_times.into()],
    )?;
    if added == 0 {
        spi::execute(
            "INSERT INTO upkeep._schedule_run (schedule, status, job, due_at, due_times, finished_at)
             VALUES ($1, $2, $3, $4, $5, pg_catalog.clock_timestamp())",
            &[id.into(), status.into(), job.into(), timestamp(due_at).into(), due_times.into()],
        )?;
    }
    Ok(())
}
