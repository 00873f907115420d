//! A trigger or a column of a partitioned table is one of each partition as well, and those may be somebody else's.

use pgrx::spi::quote_identifier;

use crate::error::{Error, INSUFFICIENT_PRIVILEGE, Result};
use crate::server::{Oid, catalog, spi};

struct Partition {
    relid: Oid,
    sql: String,
    owner: Oid,
    root: String,
}

/// May this role create triggers on all partitions of a table, or on this one? The server's own error says neither whose they are nor
/// what to do.
pub fn require_trigger(root: Oid, role: Oid, only: Option<Oid>) -> Result<()> {
    let denied = partitions(root, role, "NOT pg_catalog.has_table_privilege($2, c.oid, 'TRIGGER')")?;
    let wanted = |partition: &Partition| only.is_none_or(|only| only == partition.relid);
    let Some(partition) = denied.into_iter().find(wanted) else { return Ok(()) };
    let role = name(role);
    Err(denied_on(&partition, &format!("role \"{role}\" may not create triggers on {}", partition.sql)).hint(format!(
        "GRANT TRIGGER ON {} TO {};",
        partition.sql,
        quote_identifier(&role)
    )))
}

/// May this role add columns to a table and its partitions?
pub fn require_owner(root: Oid, role: Oid) -> Result<()> {
    let denied = partitions(root, role, "NOT pg_catalog.pg_has_role($2, c.relowner, 'USAGE')")?;
    let Some(partition) = denied.into_iter().next() else { return Ok(()) };
    let role = name(role);
    Err(denied_on(&partition, &format!("role \"{role}\" may not add columns to {}", partition.sql)).hint(format!(
        "ALTER TABLE {} OWNER TO {}; or let somebody add the columns who may.",
        partition.sql,
        quote_identifier(&role)
    )))
}

fn denied_on(partition: &Partition, message: &str) -> Error {
    Error::new(INSUFFICIENT_PRIVILEGE, message).detail(format!(
        "It is a partition of {}, and belongs to role \"{}\". What is made on the one is made on the other, too.",
        partition.root,
        name(partition.owner)
    ))
}

fn name(role: Oid) -> String {
    catalog::role_name(role).unwrap_or_else(|| "(dropped)".to_owned())
}

/// Those of a table's partitions of which this is so for role $2.
fn partitions(root: Oid, role: Oid, so: &str) -> Result<Vec<Partition>> {
    spi::bookkeeping(|| {
        spi::query(
            &format!(
                "SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relowner,
                        (SELECT pg_catalog.format('%I.%I', rn.nspname, r.relname) FROM pg_catalog.pg_class r
                         JOIN pg_catalog.pg_namespace rn ON rn.oid OPERATOR(pg_catalog.=) r.relnamespace
                         WHERE r.oid OPERATOR(pg_catalog.=) $1)
                 FROM pg_catalog.pg_partition_tree($1) p
                 JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.relid
                 JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                 WHERE p.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) $1
                   AND c.relkind OPERATOR(pg_catalog.=) ANY ('{{r,p}}'::pg_catalog.\"char\"[]) AND {so}
                 ORDER BY p.level, c.oid"
            ),
            &[root.into(), role.into()],
            |row| Ok(Partition { relid: row.next()?, sql: row.next()?, owner: row.next()?, root: row.next()? }),
        )
    })
}
