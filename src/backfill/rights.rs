//! What the server would say to the work, asked before it begins: as who asks, and of every table that
//! will be named. EXPLAIN starts the executor, which checks rights and publications, and ends it.

use super::definition::{Checked, Reach};
use super::tree::{Leaf, some_of};
use crate::ddl::may_maintain;
use crate::error::{
    Error, INSUFFICIENT_PRIVILEGE, INVALID_PARAMETER_VALUE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, SqlState,
};
use crate::server::catch::undone;
use crate::server::raise::{self, Level};
use crate::server::repeated::{Statement, TextRow};
use crate::server::{Oid, spi};
use crate::sql::glue::Glue;

/// 42P10: a publication's WHERE or column list needs what the replica identity does not have.
const INVALID_COLUMN_REFERENCE: SqlState = SqlState::new(b"42P10");

/// Checks the caller's rights, and that no publication stands in the way.
pub fn check(checked: &Checked) -> Result<()> {
    match permitted(checked)? {
        Some(refused) => Err(refused),
        None => Ok(()),
    }
}

/// Checks the caller's rights; gives what publications would refuse.
pub fn permitted(checked: &Checked) -> Result<Option<Error>> {
    let table = &checked.table;
    let mut denied = Vec::new();
    let mut unpublishable: Vec<(&Leaf, Error)> = Vec::new();
    if table.is_tree {
        let root = Reach { from: format!("ONLY {}", table.named()), own_rows: None };
        if let Err(error) = plan(checked, &root) {
            return Err(with_grant(error, std::slice::from_ref(&table.sql)));
        }
    }
    if is_never_true(checked)? {
        raise::report(
            Level::Warning,
            Error::new(INVALID_PARAMETER_VALUE, "the condition holds for no row: the planner has found it to be false")
                .hint("A comparison with NULL is never true: write IS NULL."),
        );
    }
    for leaf in questionable(checked)? {
        let Err(error) = plan(checked, &Reach::of(table, leaf.relid, &leaf.sql)?) else { continue };
        match error.sqlstate {
            INSUFFICIENT_PRIVILEGE if checked.leaves.len() == 1 => {
                return Err(with_grant(error, std::slice::from_ref(&leaf.sql)));
            }
            INSUFFICIENT_PRIVILEGE => denied.push((leaf.sql.clone(), error)),
            OBJECT_NOT_IN_PREREQUISITE_STATE | INVALID_COLUMN_REFERENCE => unpublishable.push((leaf, error)),
            _ => return Err(error),
        }
    }
    if let Some((_, first)) = denied.first() {
        let tables: Vec<String> = denied.iter().map(|(sql, _)| sql.clone()).collect();
        let all = checked.leaves.len();
        let error = Error::new(INSUFFICIENT_PRIVILEGE, first.message.clone()).detail(format!(
            "{} of its {all} tables are not permitted: {}.",
            tables.len(),
            some_of(&tables)
        ));
        return Err(with_grant(error, &tables));
    }
    if checked.definition.options.vacuum {
        check_vacuum(checked)?;
    }
    refused_by_publication(&unpublishable)
}

/// Is the condition so for all rows, whatever is in them? Of a tree three tables are asked: a single one may have a constraint that
/// contradicts the condition, and the root has no rows at all.
fn is_never_true(checked: &Checked) -> Result<bool> {
    let leaves = &checked.leaves;
    if checked.definition.condition.is_none() || leaves.is_empty() {
        return Ok(false);
    }
    let mut asked = vec![0, leaves.len() / 2, leaves.len() - 1];
    asked.dedup();
    for leaf in asked.into_iter().filter_map(|at| leaves.get(at)) {
        // What is not permitted is said below.
        if !plan(checked, &Reach::of(&checked.table, leaf.relid, &leaf.sql)?).unwrap_or(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Leaves that the server has to be asked about: an ordinary table; of a tree those that may not be
/// permitted, or all where any publication could refuse an UPDATE.
fn questionable(checked: &Checked) -> Result<Vec<&Leaf>> {
    let table = &checked.table;
    if !table.is_tree {
        return Ok(checked.leaves.iter().collect());
    }
    let publications: Option<bool> =
        spi::query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.pubupdate)", &[], |row| {
            row.require(1)
        })?;
    if publications == Some(true) {
        return Ok(checked.leaves.iter().collect());
    }
    if table.row_security {
        return Ok(Vec::new());
    }
    let relids: Vec<Oid> = checked.leaves.iter().map(|leaf| leaf.relid).collect();
    let unsure: Vec<Oid> = spi::query(
        "SELECT l.oid FROM pg_catalog.unnest($1) l (oid)
         WHERE NOT (pg_catalog.has_table_privilege(l.oid, 'SELECT') AND pg_catalog.has_table_privilege(l.oid, 'UPDATE'))",
        &[relids.into()],
        |row| row.require(1),
    )?;
    Ok(checked.leaves.iter().filter(|leaf| unsure.contains(&leaf.relid)).collect())
}

/// Lets the server plan and begin the UPDATE, as when it is run. The locks go with the subtransaction. True: the planner has found the
/// condition to be false.
fn plan(checked: &Checked, reach: &Reach) -> Result<bool> {
    let definition = &checked.definition;
    let mut glue = Glue::new(&format!("EXPLAIN (COSTS OFF) UPDATE {} SET", reach.from))
        .theirs(&definition.assignments)
        .ours(&format!("WHERE {}ctid OPERATOR(pg_catalog.<) '(0,1)'::pg_catalog.tid", reach.filter()));
    if let Some(condition) = &definition.condition {
        glue = glue.ours(" AND (").theirs(condition).ours(") RETURNING (").theirs(condition).ours(") IS TRUE");
    }
    let plan = undone(|| Statement::new(glue.text(), &[]).around(&glue.fragments()).rows(&[]))
        .map_err(|error| glue.blame(error))?;
    let is_false = |line: &TextRow| line.iter().flatten().any(|text| text.trim() == "One-Time Filter: false");
    Ok(plan.iter().any(is_false))
}

fn with_grant(error: Error, tables: &[String]) -> Error {
    if error.sqlstate != INSUFFICIENT_PRIVILEGE || error.hint.is_some() {
        return error;
    }
    let role = spi::query_one("SELECT pg_catalog.quote_ident(current_user)", &[], |row| row.require::<String>(1));
    let hint = format!(
        "A backfill runs as the role that asks for it, which needs SELECT and UPDATE: GRANT SELECT, UPDATE ON {} TO {};",
        list(tables),
        role.ok().flatten().unwrap_or_else(|| "...".to_owned())
    );
    error.hint(hint)
}

/// Some tables as a command would name them.
fn list(tables: &[String]) -> String {
    const SOME: usize = 5;
    let some = tables.iter().take(SOME).cloned().collect::<Vec<_>>().join(", ");
    if tables.len() > SOME { format!("{some}, ..") } else { some }
}

fn check_vacuum(checked: &Checked) -> Result<()> {
    let relids: Vec<Oid> = checked.leaves.iter().map(|leaf| leaf.relid).collect();
    let allowed = may_maintain(&relids)?;
    let refused: Vec<String> =
        checked.leaves.iter().filter(|leaf| !allowed.contains(&leaf.relid)).map(|leaf| leaf.sql.clone()).collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Error::new(INSUFFICIENT_PRIVILEGE, "permission denied to vacuum what is to be backfilled")
        .detail(format!("You may not VACUUM {}.", some_of(&refused)))
        .hint(
            "Leave out the option vacuum, or ask as the owner; from PostgreSQL 17 on the privilege MAINTAIN will do.",
        ))
}

/// What to type so that a table's updates can be published: its primary key, else another key, else all columns.
const IDENTITY: &str = "
    SELECT CASE
        WHEN EXISTS (SELECT FROM pg_catalog.pg_index i
                     WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisprimary AND i.indimmediate AND i.indisvalid)
        THEN 'DEFAULT'
        ELSE coalesce((
            SELECT pg_catalog.format('USING INDEX %I', c.relname) FROM pg_catalog.pg_index i
            JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid
            WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
              AND i.indpred IS NULL AND i.indexprs IS NULL
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND NOT a.attnotnull
                                AND a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[]))
            ORDER BY i.indnkeyatts, c.relname LIMIT 1), 'FULL') END";

fn refused_by_publication(refused: &[(&Leaf, Error)]) -> Result<Option<Error>> {
    let Some((leaf, first)) = refused.first() else { return Ok(None) };
    let tables: Vec<String> = refused.iter().map(|(leaf, _)| leaf.sql.clone()).collect();
    let error = Error::new(first.sqlstate, first.message.clone());
    let error = match &first.detail {
        Some(detail) if tables.len() == 1 => error.detail(detail.clone()),
        _ => error.detail(format!("Every UPDATE is refused by the server on {}.", some_of(&tables))),
    };
    if first.sqlstate != OBJECT_NOT_IN_PREREQUISITE_STATE {
        return Ok(Some(error.hint("Change the publication, or the replica identity of the table.")));
    }
    let identity: Option<String> = spi::query_one(IDENTITY, &[leaf.relid.into()], |row| row.require(1))?;
    let identity = identity.unwrap_or_else(|| "FULL".to_owned());
    Ok(Some(error.hint(format!("ALTER TABLE {} REPLICA IDENTITY {identity};", leaf.sql))))
}
