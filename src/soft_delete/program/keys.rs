//! Keys: which columns they are, how they are handed to a statement, and how they come back from it.

use super::KeyColumn;
use crate::error::{Error, FEATURE_NOT_SUPPORTED, INTERNAL_ERROR, Result};
use crate::server::heap;
use crate::server::{Oid, types};
use crate::soft_delete::managed::{self, Column, ForeignKey, Managed, Operator};
use crate::sql::quote::identifier;

/// Parameters 1 to 3 of all statements, and what follows them.
pub fn common(more: &[Oid]) -> Vec<Oid> {
    let mut types = vec![types::UUID, types::TIMESTAMPTZ, types::TEXT];
    types.extend_from_slice(more);
    types
}

/// Parameters 1 to 3, and an array for each key.
pub fn with_arrays(keys: &[Column]) -> Vec<Oid> {
    common(&keys.iter().map(|key| key.array_oid).collect::<Vec<_>>())
}

/// The primary key, then what else is referenced.
pub fn key_columns(
    managed: &Managed,
    columns: &[Column],
    primary_key: &[(String, Operator)],
    foreign_keys: &[ForeignKey],
) -> Result<Vec<Column>> {
    let mut names: Vec<&String> = primary_key.iter().map(|(name, _)| name).collect();
    let referenced = |column: &&Column| foreign_keys.iter().any(|key| key.parent_columns.contains(&column.name));
    for column in columns.iter().filter(referenced) {
        if !names.contains(&&column.name) {
            names.push(&column.name);
        }
    }
    names.into_iter().map(|name| key_column(&managed.sql(), columns, name)).collect()
}

fn key_column(table: &str, columns: &[Column], name: &str) -> Result<Column> {
    let column = columns
        .iter()
        .find(|column| column.name == name)
        .ok_or_else(|| Error::new(INTERNAL_ERROR, format!("no column \"{name}\" in {table}")))?;
    if column.is_compound || column.array_oid == Oid::INVALID {
        return Err(Error::new(
            FEATURE_NOT_SUPPORTED,
            format!("column \"{name}\" of {table} cannot be a key for soft delete"),
        )
        .detail(format!("Keys are handed on in arrays, which its type {} does not allow.", column.type_sql)));
    }
    Ok(column.clone())
}

/// Keys as rows `d (k0, k1, ..)`: arrays from parameter `first` on.
pub fn rows(count: usize, first: usize) -> String {
    let arrays: Vec<String> = (0..count).map(|i| format!("pg_catalog.unnest(${})", first + i)).collect();
    let names: Vec<String> = (0..count).map(|i| format!("k{i}")).collect();
    format!("ROWS FROM ({}) AS d ({})", arrays.join(", "), names.join(", "))
}

/// A value from an array has no collation of its own.
pub fn collate(column: &Column) -> String {
    column.collation.as_ref().map_or_else(String::new, |collation| format!(" COLLATE {collation}"))
}

/// `WITH gone AS (statement RETURNING columns)`, and how many there were with the columns as arrays.
fn with_keys(statement: &str, alias: &str, columns: &[Column]) -> String {
    let returned: Vec<String> =
        columns.iter().enumerate().map(|(i, column)| format!("{alias}{} AS k{i}", identifier(&column.name))).collect();
    let arrays: Vec<String> = (0..columns.len()).map(|i| format!(", pg_catalog.array_agg(gone.k{i})")).collect();
    format!(
        "WITH gone AS ({statement} RETURNING {}) SELECT pg_catalog.count(*){} FROM gone",
        returned.join(", "),
        arrays.join("")
    )
}

/// The same, and keys only of rows of the table itself: foreign keys say nothing of those that inherit from it.
pub fn counted_own(managed: &Managed, update: &str, alias: &str, keys: &[Column]) -> String {
    if keys.is_empty() || !heap::has_heirs(managed.relid) {
        return counted(update, alias, keys);
    }
    let returned: String =
        keys.iter().enumerate().map(|(i, key)| format!(", {alias}{} AS k{i}", identifier(&key.name))).collect();
    let arrays: String = (0..keys.len())
        .map(|i| format!(", coalesce(pg_catalog.array_agg(gone.k{i}) FILTER (WHERE gone.own), '{{}}')"))
        .collect();
    format!(
        "WITH gone AS ({update} RETURNING {alias}tableoid OPERATOR(pg_catalog.=) {}::pg_catalog.oid AS own{returned})
         SELECT pg_catalog.count(*){arrays} FROM gone",
        managed.relid.to_u32()
    )
}

/// What of a table's rows its deletion has to know: nothing, if nobody references it.
pub fn wanted_keys(managed: &Managed) -> Result<Vec<Column>> {
    wanted_by(managed, &managed::referencing(managed.relid)?)
}

pub fn wanted_by(managed: &Managed, foreign_keys: &[ForeignKey]) -> Result<Vec<Column>> {
    if foreign_keys.is_empty() {
        return Ok(Vec::new());
    }
    let columns = managed::columns(managed.relid)?;
    key_columns(managed, &columns, &managed::primary_key(managed.relid)?, foreign_keys)
}

pub fn key_shape(columns: &[Column]) -> Vec<KeyColumn> {
    columns.iter().map(KeyColumn::from).collect()
}

/// With the keys, or the number of rows alone.
pub fn counted(update: &str, alias: &str, keys: &[Column]) -> String {
    if keys.is_empty() { update.to_owned() } else { with_keys(update, alias, keys) }
}
