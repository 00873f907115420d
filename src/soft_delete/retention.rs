//! `retention` of enable_soft_delete: a schedule that purges every day, made by the public function and owned by the
//! table's owner. Off unless asked for.

use super::managed::{Managed, literal};
use crate::error::{Error, INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, Result};
use crate::server::{catalog, spi};

const SCHEDULE: &str =
    "upkeep.schedule(text, text, text, text, interval, integer, interval, boolean, boolean, boolean)";

/// How the schedule of a table is called.
fn name(managed: &Managed) -> String {
    format!("purge {}.{}", pgrx::spi::quote_identifier(&managed.schema), pgrx::spi::quote_identifier(&managed.name))
}

/// Schedules the purge of a table that was enabled with a retention.
pub fn begin(managed: &Managed) -> Result<()> {
    let Some(retention) = retention(managed)? else { return Ok(()) };
    let owner = catalog::role_name(managed.owner).unwrap_or_default();
    let allowed = spi::query_one(
        "SELECT pg_catalog.has_function_privilege($1, $2, 'EXECUTE')",
        &[managed.owner.into(), SCHEDULE.into()],
        |row| row.require::<bool>(1),
    )?;
    if allowed != Some(true) {
        return Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("role \"{owner}\" may not schedule the purge that retention asks for"))
            .detail("It runs as the owner of the table.")
            .hint(format!(
                "GRANT EXECUTE ON FUNCTION {SCHEDULE} TO {}; or leave retention out and call upkeep.purge_deleted() yourself.",
                pgrx::spi::quote_identifier(&owner)
            )));
    }
    let table = literal(&managed.sql());
    let command = format!(
        "SELECT upkeep.purge_deleted({table}::pg_catalog.regclass, {}::pg_catalog.interval)
WHERE NOT EXISTS (SELECT FROM upkeep.jobs j
                  WHERE j.kind OPERATOR(pg_catalog.=) 'purge' AND j.relid OPERATOR(pg_catalog.=) {table}::pg_catalog.regclass
                    AND j.finished_at IS NULL)",
        literal(&retention)
    );
    spi::as_owner(managed.owner, || {
        spi::execute_returning(
            "SELECT upkeep.schedule(name => $1, schedule => '@daily', command => $2, if_not_exists => true)",
            &[name(managed).into(), command.into()],
            |row| row.require::<pgrx::Uuid>(1),
        )
    })
    .map(drop)
}

/// Ends it.
pub fn end(managed: &Managed) -> Result<()> {
    let name = name(managed);
    let schedules: Vec<pgrx::Uuid> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT id FROM upkeep._schedule WHERE owner OPERATOR(pg_catalog.=) $1 AND name OPERATOR(pg_catalog.=) $2
               AND pg_catalog.strpos(command, 'upkeep.purge_deleted(') OPERATOR(pg_catalog.>) 0",
            &[managed.owner.into(), name.as_str().into()],
            |row| row.require(1),
        )
    })?;
    spi::bookkeeping(|| schedules.into_iter().try_for_each(crate::schedules::end))
}

/// As text that means the same everywhere.
fn retention(managed: &Managed) -> Result<Option<String>> {
    let found = spi::bookkeeping(|| {
        spi::unambiguous(|| {
            spi::execute_returning(
                "SELECT retention::pg_catalog.text,
                        NOT pg_catalog.isfinite(retention) OR retention OPERATOR(pg_catalog.<) '0'::pg_catalog.interval
                 FROM upkeep._soft_delete_table WHERE relid OPERATOR(pg_catalog.=) $1",
                &[managed.relid.into()],
                |row| Ok((row.get::<String>(1)?, row.get::<bool>(2)?)),
            )
        })
    })?;
    match found.into_iter().next() {
        Some((_, Some(true))) => Err(Error::new(INVALID_PARAMETER_VALUE, "retention must be finite and not negative")
            .hint("For example: retention => '90 days'")),
        Some((retention, _)) => Ok(retention),
        None => Ok(None),
    }
}
