//! What another room does with a schedule that it has had made, by `upkeep.schedule()` as whoever is to have it: it looks after
//! it, hands it over and ends it here.
//!
//! All of it runs inside [`spi::bookkeeping`].

use pgrx::Uuid;

use crate::error::Result;
use crate::jobs::forget;
use crate::server::Oid;
use crate::server::spi::{self, Row};

pub use super::verbs::end;

pub struct Made {
    pub id: Uuid,
    pub owner: Oid,
    pub name: String,
    /// Somebody may have rewritten it.
    pub command: String,
}

impl Made {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Made { id: row.next()?, owner: row.next()?, name: row.next()?, command: row.next()? })
    }
}

/// `None`: it has been ended.
pub fn find(schedule: Uuid) -> Result<Option<Made>> {
    let found = spi::execute_returning(
        "SELECT id, upkeep._owner(system_identifier, owner, owner_name), name, command FROM upkeep._schedule
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[schedule.into()],
        |row| Made::read(&row),
    )?;
    Ok(found.into_iter().next())
}

/// The one of this role that is called so.
pub fn called(owner: Oid, name: &str) -> Result<Option<Made>> {
    let found = spi::execute_returning(
        "SELECT id, upkeep._owner(system_identifier, owner, owner_name), name, command FROM upkeep._schedule
         WHERE name OPERATOR(pg_catalog.=) $2 AND upkeep._owner(system_identifier, owner, owner_name) OPERATOR(pg_catalog.=) $1",
        &[owner.into(), name.into()],
        |row| Made::read(&row),
    )?;
    Ok(found.into_iter().next())
}

/// Locks those of them that nobody else has locked.
pub fn lock(schedules: &[Uuid]) -> Result<Vec<Made>> {
    spi::execute_returning(
        "SELECT id, upkeep._owner(system_identifier, owner, owner_name), name, command FROM upkeep._schedule
         WHERE id OPERATOR(pg_catalog.=) ANY ($1) FOR UPDATE SKIP LOCKED",
        &[schedules.to_vec().into()],
        |row| Made::read(&row),
    )
}

/// A name like this one that no schedule of this role has.
pub fn free_name(owner: Oid, name: &str) -> Result<String> {
    let found = spi::query_one(
        "SELECT n.name FROM (SELECT $2 AS name, 1 AS number
                             UNION ALL SELECT pg_catalog.concat($2, ' ', g), g FROM pg_catalog.generate_series(2, 1000) g) n
         WHERE NOT EXISTS (SELECT FROM upkeep._schedule s
                           WHERE s.name OPERATOR(pg_catalog.=) n.name
                             AND upkeep._owner(s.system_identifier, s.owner, s.owner_name) OPERATOR(pg_catalog.=) $1)
         ORDER BY n.number LIMIT 1",
        &[owner.into(), name.into()],
        |row| row.require::<String>(1),
    )?;
    Ok(found.unwrap_or_else(|| name.to_owned()))
}

/// For a command that names its schedule, which has its id only once it is made.
pub fn set_command(schedule: Uuid, command: &str) -> Result<()> {
    spi::execute(
        "UPDATE upkeep._schedule SET command = $2 WHERE id OPERATOR(pg_catalog.=) $1",
        &[schedule.into(), command.into()],
    )
    .map(drop)
}

/// Only one whose command is ours to the letter (LAW 29).
pub fn hand_over(schedule: &Made, owner: Oid) -> Result<()> {
    let name = free_name(owner, &schedule.name)?;
    spi::execute(
        "UPDATE upkeep._schedule SET owner = $2, owner_name = pg_catalog.pg_get_userbyid($2), name = $3
         WHERE id OPERATOR(pg_catalog.=) $1",
        &[schedule.id.into(), owner.into(), name.into()],
    )
    .map(drop)
}

/// Forgets schedules whose rows this transaction has locked. A run of theirs that has begun goes on.
pub fn forget(schedules: &[Uuid]) -> Result<()> {
    forget::rows("upkeep._schedule", schedules)
}
