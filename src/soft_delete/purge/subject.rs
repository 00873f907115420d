//! Who may ask for a purge of what.

use pgrx::datum::Interval;
use serde::{Deserialize, Serialize};

use super::graph::Graph;
use crate::calls::{arguments, relation, standing};
use crate::error::*;
use crate::server::{Oid, heap, spi};
use crate::soft_delete::managed::{self, Managed};

/// What a purge job was asked for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Params {
    /// Rows deleted before this are due: ISO, in UTC.
    pub cutoff: String,
}

/// A table that may be purged by whoever asks.
pub struct Subject {
    pub managed: Managed,
    pub graph: Graph,
    /// Quoted and qualified.
    pub sql: String,
    pub cutoff: String,
}

/// Checks what both the purge and its explanation need.
pub fn subject(target: Option<Oid>, older_than: Option<Interval>) -> Result<Subject> {
    standing::refuse_other_version()?;
    let relid = arguments::required(target, "target")?;
    let older_than = arguments::required(older_than, "older_than")?;
    let managed = managed::find_whole(relid)?;
    let relid = managed.as_ref().map_or(relid, |managed| managed.relid);
    let found = spi::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_has_role(c.relowner, 'USAGE')
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relid.into()],
        |row| Ok((row.require::<String>(1)?, row.require::<bool>(2)?)),
    )?;
    let (sql, owned) = found.ok_or_else(|| relation::missing(relid))?;
    if managed.is_none() {
        return Err(managed::not_enabled(&sql));
    }
    if !owned {
        return Err(not_owner(&sql));
    }
    // It may have been waited for.
    if !heap::lock_for_reading(relid) {
        return Err(Error::new(UNDEFINED_TABLE, format!("table {sql} does not exist (any more)")));
    }
    require_owner(relid, &sql)?;
    let managed = managed::find_whole(relid)?.ok_or_else(|| managed::not_enabled(&sql))?;
    managed.check_types(&managed::columns(relid)?)?;
    let graph = Graph::locked(relid, heap::lock_for_reading)?;
    refuse_row_security(relid, &graph)?;
    let cutoff = cutoff(older_than)?;
    Ok(Subject { managed, graph, sql, cutoff })
}

fn not_owner(table: &str) -> Error {
    Error::new(INSUFFICIENT_PRIVILEGE, format!("must be owner of table {table} to purge it"))
}

/// The table may have been given to somebody else since the purge was asked for.
pub fn require_owner(relid: Oid, table: &str) -> Result<()> {
    let owned = spi::query_one(
        "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) $1",
        &[relid.into()],
        |row| row.require::<bool>(1),
    )?;
    if owned == Some(false) { Err(not_owner(table)) } else { Ok(()) }
}

fn cutoff(older_than: Interval) -> Result<String> {
    let cutoff = spi::unambiguous(|| {
        spi::query_one(
            "SELECT ((pg_catalog.transaction_timestamp() OPERATOR(pg_catalog.-) $1) AT TIME ZONE 'UTC')::pg_catalog.text,
                    pg_catalog.isfinite($1) AND $1 OPERATOR(pg_catalog.>=) '0'::pg_catalog.interval",
            &[older_than.into()],
            |row| Ok((row.require::<String>(1)?, row.require::<bool>(2)?)),
        )
    });
    match cutoff? {
        Some((cutoff, true)) => Ok(format!("{cutoff}+00")),
        _ => Err(Error::new(INVALID_PARAMETER_VALUE, "older_than must be finite and not negative")
            .hint("For example: SELECT upkeep.purge_deleted('public.users', '90 days'); '0' purges all deleted rows.")),
    }
}

/// Rows that the caller cannot see would be deleted by the foreign keys, live ones included.
pub fn refuse_row_security(target: Oid, graph: &Graph) -> Result<()> {
    let mut relids = graph.children();
    relids.push(target);
    let hidden = spi::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1) AND pg_catalog.row_security_active(c.oid)
         ORDER BY 1 LIMIT 1",
        &[relids.into()],
        |row| row.require::<String>(1),
    )?;
    match hidden {
        None => Ok(()),
        Some(table) => Err(Error::new(INSUFFICIENT_PRIVILEGE, "a purge must see all rows")
            .detail(format!("Row security of {table} applies to you: rows that it hides could not be told from none."))
            .hint(
                "Purge as the tables' owner (ALTER TABLE .. NO FORCE ROW LEVEL SECURITY, if it applies to him \
                too), or as a role with BYPASSRLS.",
            )),
    }
}
