//! Owners by name. A dump carries their names, and elsewhere these are all that there is to go by (LAW 20). So a name
//! follows the role when that is renamed: whoever has an owner's old name by then is not to get his jobs, nor what else
//! `pause_all()` holds.
//!
//! All of it runs inside [`spi::bookkeeping`].

use pgrx::Uuid;

use super::registry;
use crate::error::Result;
use crate::server::{catalog, spi};

/// The private tables whose rows belong to a role, without their schema.
pub fn owned() -> impl Iterator<Item = &'static str> {
    let held = registry::chores().iter().filter_map(|chore| chore.held());
    std::iter::once(JOBS).chain(held.map(|held| held.table()))
}

/// That of jobs.
pub const JOBS: &str = "_job";

/// Takes down what owners are called by now. What somebody has locked is for a later look.
pub fn follow_all() -> Result<()> {
    owned().try_for_each(|table| follow(table, None))
}

/// `only`: of this row, which the caller has locked.
pub fn follow(table: &str, only: Option<Uuid>) -> Result<()> {
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
pub fn adopt(table: &str, rows: &[Uuid]) -> Result<()> {
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
    let unfinished = "state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'running', 'paused'])";
    for table in owned() {
        let condition = if table == JOBS { unfinished } else { "true" };
        let found =
            spi::query_one(&format!("SELECT EXISTS (SELECT FROM upkeep.{table} WHERE {condition})"), &[], |row| {
                row.require::<bool>(1)
            })?;
        if found == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}
