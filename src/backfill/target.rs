//! What may be backfilled, and the reasons why something may not.

use crate::calls::{arguments, relation};
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, Result, SqlState, WRONG_OBJECT_TYPE};
use crate::server::catalog::FIRST_NORMAL_OID;
use crate::server::{Oid, citus, spi};
use crate::sql::quote::identifier;

/// A table that may be backfilled.
#[derive(Clone, Debug)]
pub struct Table {
    pub relid: Oid,
    /// Quoted and qualified.
    pub sql: String,
    /// The bare name, as the user's text may call it.
    pub name: String,
    /// Row security applies to whoever is asking.
    pub row_security: bool,
    /// It is partitioned, or has children: its rows are, some of them, in other tables.
    pub is_tree: bool,
}

impl Table {
    /// What the statements call it where the user's text is read. In a tree the tables below go by the
    /// name of the one that was asked for, and text that would not do for them must not do here.
    pub fn named(&self) -> String {
        if self.is_tree { self.name_for(&self.sql) } else { self.sql.clone() }
    }

    /// Another table under the name of this one.
    pub fn name_for(&self, sql: &str) -> String {
        format!("{sql} AS {}", identifier(&self.name))
    }
}

struct Class {
    table: Table,
    schema: String,
    kind: char,
    persistence: char,
    access_method: Option<String>,
}

const CLASS: &str = "
    SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relname::pg_catalog.text,
           n.nspname::pg_catalog.text, c.relkind::pg_catalog.text,
           c.relpersistence::pg_catalog.text,
           c.relkind OPERATOR(pg_catalog.=) 'p' OR EXISTS (SELECT FROM pg_catalog.pg_inherits i
                   WHERE i.inhparent OPERATOR(pg_catalog.=) c.oid),
           am.amname::pg_catalog.text, pg_catalog.row_security_active(c.oid)
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN pg_catalog.pg_am am ON am.oid OPERATOR(pg_catalog.=) c.relam
    WHERE c.oid OPERATOR(pg_catalog.=) $1";

/// The table, or why it cannot be backfilled.
pub fn check(relid: Option<Oid>) -> Result<Table> {
    let relid = arguments::required(relid, "target")?;
    let letter = |text: String| text.chars().next().unwrap_or('?');
    let class = spi::query_one(CLASS, &[relid.into()], |row| {
        Ok(Class {
            table: Table {
                relid,
                sql: row.require(1)?,
                name: row.require(2)?,
                row_security: row.require(8)?,
                is_tree: row.require(6)?,
            },
            schema: row.require(3)?,
            kind: letter(row.require(4)?),
            persistence: letter(row.require(5)?),
            access_method: row.get(7)?,
        })
    })?
    .ok_or_else(|| relation::missing(relid))?;
    match refusal(&class) {
        Some(error) => Err(error),
        None if citus::is_distributed(relid)? => Err(Error::new(
            FEATURE_NOT_SUPPORTED,
            format!("{} is a table of Citus, whose rows are in other tables", class.table.sql),
        )
        .detail("The table itself is empty on this node; nothing would be filled.")
        .hint("UPDATE it in parts by its distribution column.")),
        None => Ok(class.table),
    }
}

fn refusal(class: &Class) -> Option<Error> {
    let name = &class.table.sql;
    let no =
        |sqlstate: SqlState, what: &str, hint: &str| Some(Error::new(sqlstate, format!("{name} {what}")).hint(hint));
    match class.kind {
        'v' => return no(WRONG_OBJECT_TYPE, "is a view", "Backfill the table that the view reads."),
        'm' => {
            return no(
                WRONG_OBJECT_TYPE,
                "is a materialized view",
                "Change its query and run REFRESH MATERIALIZED VIEW.",
            );
        }
        'f' => {
            return no(WRONG_OBJECT_TYPE, "is a foreign table", "Run the backfill on the server where the table is.");
        }
        'r' | 'p' => {}
        _ => return no(WRONG_OBJECT_TYPE, "is not a table", "Name an ordinary table."),
    }
    if class.table.relid.to_u32() < FIRST_NORMAL_OID {
        return no(
            INSUFFICIENT_PRIVILEGE,
            "is a system catalog",
            "Name an ordinary table; catalogs are changed by commands such as ALTER.",
        );
    }
    if class.schema == "upkeep" {
        return no(INSUFFICIENT_PRIVILEGE, "belongs to pg_upkeep itself", "Name an ordinary table.");
    }
    if class.persistence == 't' {
        return no(
            FEATURE_NOT_SUPPORTED,
            "is a temporary table, which no other session can see",
            "Use UPDATE: nobody waits for a temporary table.",
        );
    }
    if class.kind == 'r' && class.access_method.as_deref() != Some("heap") {
        return no(
            FEATURE_NOT_SUPPORTED,
            "is not stored as a heap",
            "Only tables of the access method heap can be backfilled.",
        );
    }
    None
}
