//! A table's trigger in the catalogs: the only place where its stamps are written down.

use super::target::Table;
use super::trigger::{Role, Stamps};
use crate::error::Result;
use crate::server::{Oid, spi};
use crate::sql::quote::identifier;

const READ: &str = "
    SELECT s.created_at::pg_catalog.text, s.updated_at::pg_catalog.text, s.created_by::pg_catalog.text,
           s.updated_by::pg_catalog.text, s.version::pg_catalog.text,
           s.clock, s.created_at_change, s.created_by_change, s.version_mode, s.version_required
    FROM upkeep.row_stamps s WHERE s.relid OPERATOR(pg_catalog.=) $1";

pub fn read(relid: Oid) -> Result<Option<Stamps>> {
    let found = spi::execute_returning(READ, &[relid.into()], |row| {
        let mut stamps = Stamps {
            clock: row.get(6)?.unwrap_or_default(),
            refuse_created_at: row.get::<String>(7)?.is_some_and(|change| change == "refuse"),
            refuse_created_by: row.get::<String>(8)?.is_some_and(|change| change == "refuse"),
            mode: row.get(9)?.unwrap_or_default(),
            required: row.get(10)?.unwrap_or_default(),
            ..Stamps::default()
        };
        for (i, role) in Role::ALL.into_iter().enumerate() {
            if let Some(name) = row.get(i + 1)? {
                stamps.columns.insert(role, name);
            }
        }
        Ok(stamps)
    })?;
    Ok(found.into_iter().next())
}

pub fn write(table: &Table, stamps: &Stamps) -> Result<()> {
    // A renamed trigger stays ours; the new one has the usual name.
    remove_other_than_usual(table)?;
    spi::execute(&stamps.create_trigger(&table.sql), &[]).map(drop)
}

pub fn remove(table: &Table) -> Result<()> {
    for name in names(table)? {
        spi::execute(&format!("DROP TRIGGER {} ON {}", identifier(&name), table.sql), &[])?;
    }
    Ok(())
}

fn remove_other_than_usual(table: &Table) -> Result<()> {
    for name in names(table)?.into_iter().filter(|name| name != super::trigger::NAME) {
        spi::execute(&format!("DROP TRIGGER {} ON {}", identifier(&name), table.sql), &[])?;
    }
    Ok(())
}

fn names(table: &Table) -> Result<Vec<String>> {
    spi::execute_returning(
        "SELECT t.tgname::pg_catalog.text FROM pg_catalog.pg_trigger t
         WHERE t.tgrelid OPERATOR(pg_catalog.=) $1
           AND t.tgfoid OPERATOR(pg_catalog.=) 'upkeep._stamp_row()'::pg_catalog.regprocedure
           AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid",
        &[table.relid.into()],
        |row| row.require(1),
    )
}
