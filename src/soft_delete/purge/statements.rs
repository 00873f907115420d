//! The SQL of a purge. Names are quoted and qualified; the leaf is the table that holds the row.

use super::graph::Edge;
use crate::soft_delete::managed::Managed;
use crate::sql::quote::identifier;

/// Rows that are due, the oldest first: until $1, of no deletion in $2, $3 of them at most; from $4 on.
pub fn due(table: &str, managed: &Managed, from: bool) -> String {
    let at = identifier(&managed.deleted_at);
    let from = if from { format!(" AND t.{at} OPERATOR(pg_catalog.>=) $4") } else { String::new() };
    format!(
        "SELECT t.tableoid, t.ctid, t.{at} FROM {table} t WHERE {}{from} ORDER BY t.{at} LIMIT $3",
        is_due("t", managed)
    )
}

/// The same, for the planner's opinion of how many there are.
pub fn due_estimate(table: &str, managed: &Managed) -> String {
    let at = identifier(&managed.deleted_at);
    format!("EXPLAIN (FORMAT JSON) SELECT FROM {table} t WHERE t.{at} IS NOT NULL AND t.{at} OPERATOR(pg_catalog.<) $1")
}

/// Locks those of the places $3 whose rows are due and which nobody else has locked.
pub fn lock(leaf: &str, managed: &Managed) -> String {
    format!(
        "SELECT t.ctid, t.{} FROM ONLY {leaf} t WHERE t.ctid OPERATOR(pg_catalog.=) ANY ($3) AND {}
         FOR UPDATE OF t SKIP LOCKED",
        identifier(&managed.deletion_id),
        is_due("t", managed)
    )
}

/// Rows that reference those at the places $1 of a leaf; at most $2.
pub fn references(parent_leaf: &str, edge: &Edge) -> String {
    format!(
        "SELECT c.tableoid, c.ctid, p.ctid FROM ONLY {parent_leaf} p JOIN {} c ON {}
         WHERE p.ctid OPERATOR(pg_catalog.=) ANY ($1) LIMIT $2",
        edge.key.child_rows(),
        edge.join("p", "c")
    )
}

/// Deletes the rows at the places $1, $2, .. of the leaves, in one statement: what they reference of
/// each other is checked when all of them are gone.
pub fn delete(leaves: &[String]) -> String {
    let deletes: Vec<String> = leaves
        .iter()
        .enumerate()
        .map(|(i, leaf)| {
            let n = i + 1;
            format!("d{n} AS (DELETE FROM ONLY {leaf} t WHERE t.ctid OPERATOR(pg_catalog.=) ANY (${n}) RETURNING 1)")
        })
        .collect();
    let counts: Vec<String> = (1..=leaves.len()).map(|n| format!("(SELECT pg_catalog.count(*) FROM d{n})")).collect();
    format!("WITH {} SELECT {}", deletes.join(", "), counts.join(" OPERATOR(pg_catalog.+) "))
}

fn is_due(row: &str, managed: &Managed) -> String {
    let (at, id) = (identifier(&managed.deleted_at), identifier(&managed.deletion_id));
    format!(
        "{row}.{at} IS NOT NULL AND {row}.{at} OPERATOR(pg_catalog.<) $1
         AND ({row}.{id} IS NULL OR {row}.{id} OPERATOR(pg_catalog.<>) ALL ($2))"
    )
}
