//! The columns of stamps: added, or adopted as they are.

use super::target::Table;
use super::trigger::Role;
use crate::ddl::require_owner;
use crate::error::{DATATYPE_MISMATCH, Error, INVALID_TABLE_DEFINITION, Result, WRONG_OBJECT_TYPE};
use crate::server::{catalog, spi};
use crate::sql::quote::identifier;

impl Role {
    /// Types of columns that can be adopted.
    fn types(self) -> &'static [&'static str] {
        match self {
            Role::CreatedAt | Role::UpdatedAt => &["timestamp with time zone", "timestamp without time zone"],
            Role::CreatedBy | Role::UpdatedBy => &["text", "character varying", "name"],
            Role::Version => &["integer", "bigint"],
        }
    }

    /// A new column, added without a rewrite. Rows that are there have no time and nobody, since nobody knows; and
    /// they are of version 1.
    fn definition(self) -> &'static str {
        match self {
            Role::CreatedAt | Role::UpdatedAt => "pg_catalog.timestamptz",
            Role::CreatedBy | Role::UpdatedBy => "pg_catalog.text",
            Role::Version => "pg_catalog.int4 NOT NULL DEFAULT 1",
        }
    }

    fn is_immutable(self) -> bool {
        matches!(self, Role::CreatedAt | Role::CreatedBy)
    }
}

struct Found {
    type_name: String,
    is_computed: bool,
    has_default: bool,
    /// Rows are sent to partitions by it.
    routes: bool,
}

const COLUMN: &str = "
    SELECT pg_catalog.format_type(a.atttypid, NULL),
           a.attgenerated OPERATOR(pg_catalog.<>) '' OR a.attidentity OPERATOR(pg_catalog.<>) '',
           a.atthasdef,
           EXISTS (SELECT FROM pg_catalog.pg_partition_tree($1) p
                   JOIN pg_catalog.pg_partitioned_table k ON k.partrelid OPERATOR(pg_catalog.=) p.relid
                   JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) p.relid
                    AND b.attname OPERATOR(pg_catalog.=) a.attname
                    AND b.attnum OPERATOR(pg_catalog.=) ANY (k.partattrs::pg_catalog.int2[]))
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
      AND a.attname OPERATOR(pg_catalog.=) ($2::pg_catalog.name)";

/// Those of the columns that are to be added; an error if one that is there does not do.
pub fn missing(table: &Table, wanted: &[(Role, String)]) -> Result<Vec<(Role, String)>> {
    let mut missing = Vec::new();
    for (role, name) in wanted {
        let found = spi::execute_returning(COLUMN, &[table.relid.into(), name.as_str().into()], |row| {
            Ok(Found {
                type_name: row.next()?,
                is_computed: row.next()?,
                has_default: row.next()?,
                routes: row.next()?,
            })
        })?;
        match found.first() {
            None => missing.push((*role, name.clone())),
            Some(found) => adopt(table, *role, name, found)?,
        }
    }
    Ok(missing)
}

fn adopt(table: &Table, role: Role, name: &str, found: &Found) -> Result<()> {
    let column = format!("column \"{name}\" of {}", table.sql);
    if !role.types().contains(&found.type_name.as_str()) {
        return Err(Error::new(
            DATATYPE_MISMATCH,
            format!("{column} is of type {}, which does not do for {}", found.type_name, role.word()),
        )
        .detail(format!("It can be {}.", role.types().join(" or ")))
        .hint(format!("Name another column with {} => .., or change its type.", role.word())));
    }
    if found.is_computed {
        return Err(Error::new(INVALID_TABLE_DEFINITION, format!("{column} is generated"))
            .hint(format!("Name another column with {} => ..", role.word())));
    }
    // A row has found its partition before the trigger sees it.
    if found.routes && !role.is_immutable() {
        return Err(Error::new(INVALID_TABLE_DEFINITION, format!("{column} is part of a partition key"))
            .detail("Each change would have to move the row to another partition.")
            .hint(format!("Name another column with {} => ..", role.word())));
    }
    if found.routes && !found.has_default {
        return Err(Error::new(INVALID_TABLE_DEFINITION, format!("{column} is part of a partition key"))
            .detail("A row is sent to its partition before it is stamped.")
            .hint(format!(
                "Give it a default: ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {};",
                table.sql,
                identifier(name),
                if role == Role::CreatedAt { "now()" } else { "current_user" }
            )));
    }
    Ok(())
}

pub fn add(table: &Table, missing: &[(Role, String)]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let parent = spi::query_one(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
         FROM pg_catalog.pg_class p
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.pg_partition_root(p.oid)::pg_catalog.oid
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE p.oid OPERATOR(pg_catalog.=) $1 AND p.relispartition",
        &[table.relid.into()],
        |row| row.require::<String>(1),
    )?;
    if let Some(parent) = parent {
        return Err(Error::new(
            WRONG_OBJECT_TYPE,
            format!("{} is a partition: columns are added to {parent}", table.sql),
        )
        .hint(format!(
            "Name the partitioned table, {parent}; or add the columns there, then stamp this partition alone."
        )));
    }
    require_owner(table.relid, catalog::current_user())?;
    let columns: Vec<String> =
        missing.iter().map(|(role, name)| format!("ADD COLUMN {} {}", identifier(name), role.definition())).collect();
    spi::execute(&format!("ALTER TABLE {} {}", table.sql, columns.join(", ")), &[]).map(drop)
}
