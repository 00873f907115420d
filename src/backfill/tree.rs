//! A table and what is below it: partitions at all levels, inheriting tables. The rows are in the
//! leaves; an ordinary table is a tree of one.

use pgrx::datum::DatumWithOid;

use super::target::Table;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::catalog::FIRST_NORMAL_OID;
use crate::server::spi::{self, Row};
use crate::server::{Oid, heap, qualify, types};

/// A table that holds rows of its own.
#[derive(Clone, Debug)]
pub struct Leaf {
    pub relid: Oid,
    /// Quoted and qualified.
    pub sql: String,
    /// Row security applies to whoever is asking, if it is named directly.
    pub row_security: bool,
    /// Size, as the last VACUUM or ANALYZE saw it.
    pub pages: i32,
    /// Why it cannot be backfilled.
    pub unsuitable: Option<&'static str>,
}

/// Everything below a table and itself, but for what is being detached; each once, however many parents it has.
const LEAVES: &str = "
    WITH RECURSIVE tree (oid) AS (
        SELECT $1::pg_catalog.oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i
        JOIN tree t ON i.inhparent OPERATOR(pg_catalog.=) t.oid
        WHERE NOT i.inhdetachpending
    )
    SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.row_security_active(c.oid),
           c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text,
           n.nspname OPERATOR(pg_catalog.=) 'upkeep', coalesce(am.amname OPERATOR(pg_catalog.=) 'heap', false),
           c.relpages
    FROM tree t
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    LEFT JOIN pg_catalog.pg_am am ON am.oid OPERATOR(pg_catalog.=) c.relam
    WHERE c.relkind OPERATOR(pg_catalog.<>) 'p'
    ORDER BY c.relpages DESC, c.oid";

/// The leaves, those that were the largest when last looked at first.
pub fn leaves(root: Oid) -> Result<Vec<Leaf>> {
    with_root(spi::query(LEAVES, &[root.into()], read_leaf)?, root, heap::is_partitioned(root))
}

/// The same as of now, not as of the transaction's first look.
pub fn leaves_now(root: Oid) -> Result<Vec<Leaf>> {
    with_root(spi::execute_returning(LEAVES, &[root.into()], read_leaf)?, root, heap::is_partitioned(root))
}

/// A table that is not among its own leaves would be gone through in no time, and nothing of it would be filled: another extension has
/// hidden it from the catalogs that we read.
fn with_root(leaves: Vec<Leaf>, root: Oid, is_partitioned: bool) -> Result<Vec<Leaf>> {
    if is_partitioned || leaves.iter().any(|leaf| leaf.relid == root) {
        return Ok(leaves);
    }
    Err(Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("relation with OID {} is hidden from pg_class", root.to_u32()),
    )
    .detail("Nothing of it would be filled.")
    .hint("With Citus, shards are backfilled where citus.override_table_visibility is off."))
}

fn read_leaf(row: Row<'_>) -> Result<Leaf> {
    let relid: Oid = row.require(1)?;
    let kind: String = row.require(4)?;
    let persistence: String = row.require(5)?;
    let ours: bool = row.require(6)?;
    let heap: bool = row.require(7)?;
    let unsuitable = match () {
        () if kind == "f" => Some("is a foreign table"),
        () if relid.to_u32() < FIRST_NORMAL_OID => Some("is a system catalog"),
        () if ours => Some("belongs to pg_upkeep itself"),
        () if persistence == "t" => Some("is a temporary table"),
        () if !heap => Some("is not stored as a heap"),
        () => None,
    };
    Ok(Leaf { relid, sql: row.require(2)?, row_security: row.require(3)?, pages: row.require(8)?, unsuitable })
}

/// The leaves of a table that is to be backfilled, or why it cannot be.
pub fn check(table: &Table) -> Result<Vec<Leaf>> {
    let leaves = leaves(table.relid)?;
    let unsuitable: Vec<String> =
        leaves.iter().filter_map(|leaf| leaf.unsuitable.map(|why| format!("{} {why}", leaf.sql))).collect();
    if unsuitable.is_empty() {
        return Ok(leaves);
    }
    Err(Error::new(
        FEATURE_NOT_SUPPORTED,
        format!("{} has partitions or children that cannot be backfilled", table.sql),
    )
    .detail(format!("{}.", some_of(&unsuitable)))
    .hint("Detach them while the backfill runs, or backfill the other partitions one by one."))
}

/// A few of many, and how many more.
pub fn some_of(all: &[String]) -> String {
    const SOME: usize = 5;
    let named = all.iter().take(SOME).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(SOME) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// Columns that decide in which partition a row belongs, in a table and all below it: those of
/// expressions as well, all of which the server makes depend on their table.
const PARTITION_KEYS: &str = "
    WITH RECURSIVE tree (oid) AS (
        SELECT $1::pg_catalog.oid
        UNION
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i
        JOIN tree t ON i.inhparent OPERATOR(pg_catalog.=) t.oid
    )
    SELECT pg_catalog.format('%s of %I.%I', a.attname, n.nspname, c.relname)
    FROM tree t
    JOIN pg_catalog.pg_partitioned_table p ON p.partrelid OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.oid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.oid
    WHERE a.attname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2)
      AND (a.attnum OPERATOR(pg_catalog.=) ANY (p.partattrs::pg_catalog.int2[])
           OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                      WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND d.objid OPERATOR(pg_catalog.=) t.oid
                        AND d.objsubid OPERATOR(pg_catalog.=) a.attnum
                        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                        AND d.refobjid OPERATOR(pg_catalog.=) t.oid
                        AND d.refobjsubid OPERATOR(pg_catalog.=) 0
                        AND d.deptype OPERATOR(pg_catalog.=) 'i'))
    LIMIT 1";

/// Rows that change their partition are deleted here and inserted there, and nobody could say which are done.
pub fn refuse_moving(table: &Table, columns: &[String]) -> Result<()> {
    if !table.is_tree {
        return Ok(());
    }
    let args: [DatumWithOid<'_>; 2] = [table.relid.into(), columns.to_vec().into()];
    let moved: Option<String> = spi::query_one(PARTITION_KEYS, &args, |row| row.require(1))?;
    match moved {
        None => Ok(()),
        Some(column) => {
            Err(Error::new(FEATURE_NOT_SUPPORTED, format!("a backfill cannot set the partition key column {column}"))
                .detail("Rows would move from one partition to another while it goes through them.")
                .hint("Fill another column, or change the rows of one partition at a time with UPDATE."))
        }
    }
}

/// Is a table (still) below another? As of now.
pub fn is_below(leaf: Oid, root: Oid) -> Result<bool> {
    thread_local! {
        static BELOW: spi::Prepared = spi::Prepared::new(
            "WITH RECURSIVE above (oid) AS (
                 SELECT $1
                 UNION
                 SELECT i.inhparent FROM pg_catalog.pg_inherits i
                 JOIN above a ON i.inhrelid OPERATOR(pg_catalog.=) a.oid
                 WHERE NOT i.inhdetachpending
             )
             SELECT EXISTS (SELECT FROM above a WHERE a.oid OPERATOR(pg_catalog.=) $2)",
            &[types::OID, types::OID],
        );
    }
    if leaf == root {
        return Ok(true);
    }
    let found = BELOW.with(|statement| statement.returning(&[leaf.into(), root.into()], |row| row.require(1)))?;
    Ok(found.first().copied().unwrap_or(false))
}

/// The rows of one leaf in a statement on the whole tree. With its partition constraint, where it has
/// one: the planner does not know that `tableoid` tells tables apart.
pub fn own_rows(leaf: Oid) -> Result<String> {
    let constraint: Option<String> =
        spi::query_one("SELECT pg_catalog.pg_get_partition_constraintdef($1)", &[leaf.into()], |row| row.get(1))?
            .flatten();
    let own = format!("tableoid OPERATOR(pg_catalog.=) {}::pg_catalog.oid", leaf.to_u32());
    Ok(match constraint {
        Some(constraint) => format!("{own} AND ({})", qualify::expression(&constraint)?),
        None => own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_hidden_is_not_an_empty_one() {
        let leaf = |relid: u32| Leaf {
            relid: Oid::from(relid),
            sql: String::new(),
            row_security: false,
            pages: 0,
            unsuitable: None,
        };
        let root = Oid::from(5);
        assert!(with_root(vec![], root, false).is_err());
        assert!(with_root(vec![leaf(6)], root, false).is_err());
        assert_eq!(with_root(vec![leaf(6), leaf(5)], root, false).unwrap().len(), 2);
        assert!(with_root(vec![], root, true).unwrap().is_empty(), "a partitioned table without partitions");
    }

    #[test]
    fn a_few_of_many_are_named() {
        let names = |count: usize| (1..=count).map(|i| format!("t{i}")).collect::<Vec<_>>();
        assert_eq!(some_of(&names(2)), "t1; t2");
        assert_eq!(some_of(&names(5)), "t1; t2; t3; t4; t5");
        assert_eq!(some_of(&names(200)), "t1; t2; t3; t4; t5; and 195 more");
    }
}
