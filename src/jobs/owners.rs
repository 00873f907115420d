//! Owners by name. A dump carries their names, and elsewhere these are all that there is to go by (LAW 20). So a name
//! follows the role when that is renamed: whoever has an owner's old name by then is not to get his jobs and schedules.
//!
//! All of it runs inside [`spi::bookkeeping`].

use pgrx::Uuid;

use crate::error::Result;
use crate::server::{catalog, spi};

/// Private tables whose rows belong to a role.
#[derive(Clone, Copy)]
pub enum Owned {
    Jobs,
    Schedules,
}

impl Owned {
    fn table(self) -> &'static str {
        match self {
            Owned::Jobs => "_job",
            Owned::Schedules => "_schedule",
        }
    }
}

/// Takes down what owners are called by now. What somebody has locked is for a later look.
pub fn follow_all() -> Result<()> {
    follow(Owned::Jobs, None)?;
    follow(Owned::Schedules, None)
}

/// `only`: of this row, which the caller has locked.
pub fn follow(owned: Owned, only: Option<Uuid>) -> Result<()> {
    let table = owned.table();
    spi::execute(
        &format!(
            "UPDATE upkeep.{table} t SET owner_name = r.rolname
             FROM pg_catalog.pg_roles r
             WHERE r.oid OPERATOR(pg_catalog.=) t.owner AND t.id OPERATOR(pg_catalog.=) ANY (ARRAY(
                 SELECT i.id FROM upkeep.{table} i
                 JOIN pg_catalog.pg_roles q ON q.oid OPERATOR(pg_catalog.=) i.owner
                 WHERE q.rolname OPERATOR(pg_catalog.<>) i.owner_name AND i.system_identifier OPERATOR(pg_catalog.=) $1
                   AND ($2 IS NULL OR i.id OPERATOR(pg_catalog.=) $2)
                 FOR UPDATE OF i SKIP LOCKED))"
        ),
        &[catalog::system_identifier().into(), only.into()],
    )
    .map(drop)
}

/// From here on these rows, which came with a dump or a copy, belong here. In a copy within one server the owner is the
/// same role, whatever it is called; only elsewhere its name has to do.
pub fn adopt(owned: Owned, rows: &[Uuid]) -> Result<()> {
    let table = owned.table();
    spi::execute(
        &format!(
            "UPDATE upkeep.{table} t SET
                 owner = CASE WHEN t.system_identifier OPERATOR(pg_catalog.=) $1 THEN t.owner
                              ELSE coalesce((SELECT r.oid FROM pg_catalog.pg_roles r
                                             WHERE r.rolname OPERATOR(pg_catalog.=) t.owner_name), 0::pg_catalog.oid) END,
                 system_identifier = $1, database = $2
             WHERE t.id OPERATOR(pg_catalog.=) ANY ($3)
               AND (t.system_identifier OPERATOR(pg_catalog.<>) $1 OR t.database OPERATOR(pg_catalog.<>) $2)"
        ),
        &[catalog::system_identifier().into(), catalog::my_database().into(), rows.to_vec().into()],
    )
    .map(drop)
}

/// Is there anything whose owner's name a dump would carry to work elsewhere?
pub fn anything_owned() -> Result<bool> {
    let found = spi::query_one(
        "SELECT EXISTS (SELECT FROM upkeep._schedule)
             OR EXISTS (SELECT FROM upkeep._job
                        WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused']))",
        &[],
        |row| row.require::<bool>(1),
    )?;
    Ok(found == Some(true))
}
