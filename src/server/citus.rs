//! What Citus beside us says of tables: those whose rows it keeps in others, and those others. Until it is supported,
//! it is only known what must not be done there. Its catalogs are in pg_catalog, where nobody else can make a table,
//! and everybody may read them; they are read as whoever asks.

use pgrx::pg_sys::Oid;

use super::spi;
use crate::error::Result;

const TABLES: &str = "pg_catalog.pg_dist_partition";
const SHARDS: &str = "pg_catalog.pg_dist_shard";

/// Is this catalog there, and may the caller read it?
fn access(catalog: &str) -> Result<(bool, bool)> {
    let found = spi::query_one(
        "SELECT c.oid IS NOT NULL, coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), false)
         FROM pg_catalog.to_regclass($1) AS c (oid)",
        &[catalog.into()],
        |row| Ok((row.require::<bool>(1)?, row.require::<bool>(2)?)),
    )?;
    Ok(found.unwrap_or((false, false)))
}

/// Does Citus keep this table's rows in shards? Distributed tables, reference tables and those that it has added to its metadata.
pub fn is_distributed(relid: Oid) -> Result<bool> {
    if !access(TABLES)?.0 {
        return Ok(false);
    }
    let found = spi::query_one(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition d WHERE d.logicalrelid::pg_catalog.oid OPERATOR(pg_catalog.=) $1)",
        &[relid.into()],
        |row| row.require::<bool>(1),
    )?;
    Ok(found == Some(true))
}

/// Its tables, and their shards that are on this node and not hidden from it: named like their table, with their
/// number. `None`: the caller may not know.
pub fn tables() -> Result<Option<Vec<Oid>>> {
    match (access(TABLES)?, access(SHARDS)?) {
        ((false, _), _) => return Ok(Some(Vec::new())),
        ((true, true), (false, _) | (true, true)) => {}
        _ => return Ok(None),
    }
    let mut tables =
        spi::query("SELECT d.logicalrelid::pg_catalog.oid FROM pg_catalog.pg_dist_partition d", &[], |row| {
            row.require::<Oid>(1)
        })?;
    if !tables.is_empty() && access(SHARDS)?.0 {
        tables.extend(spi::query(
            "SELECT c.oid FROM pg_catalog.pg_dist_shard s
             JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) s.logicalrelid::pg_catalog.oid
             JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) t.relnamespace
                  AND pg_catalog.\"substring\"(c.relname::pg_catalog.text, '_([0-9]{1,18})$')::pg_catalog.int8
                      OPERATOR(pg_catalog.=) s.shardid
             WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}'::pg_catalog.\"char\"[])",
            &[],
            |row| row.require::<Oid>(1),
        )?);
    }
    Ok(Some(tables))
}
