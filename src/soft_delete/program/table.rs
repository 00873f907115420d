//! A table with soft delete as its statements call it.

use super::keys::{collate, key_columns};
use crate::error::Result;
use crate::soft_delete::managed::{self, Column, ForeignKey, Managed, Operator};
use crate::sql::quote::identifier;

/// A table, `t`, and its keys.
pub struct Table<'a> {
    pub managed: &'a Managed,
    pub sql: String,
    /// The primary key, then what else foreign keys reference.
    pub keys: Vec<Column>,
    /// What the primary key's own index calls equal.
    equal: Vec<Operator>,
    /// Quoted names of its columns of soft delete.
    pub at: String,
    pub by: String,
    pub id: String,
}

impl<'a> Table<'a> {
    pub fn of(managed: &'a Managed, columns: &[Column], foreign_keys: &[ForeignKey]) -> Result<Self> {
        let primary_key = managed::primary_key(managed.relid)?;
        Ok(Table {
            managed,
            sql: managed.sql(),
            keys: key_columns(managed, columns, &primary_key, foreign_keys)?,
            equal: primary_key.into_iter().map(|(_, equal)| equal).collect(),
            at: identifier(&managed.deleted_at),
            by: identifier(&managed.deleted_by),
            id: identifier(&managed.deletion_id),
        })
    }

    pub fn primary(&self) -> &[Column] {
        &self.keys[..self.equal.len()]
    }

    /// The row has these values of the primary key, under its columns' collations.
    pub fn equal(&self, value: &dyn Fn(usize) -> String) -> String {
        let condition = |(i, (key, equal)): (usize, (&Column, &Operator))| {
            equal.between((&format!("t.{}", identifier(&key.name)), ""), (&value(i), &collate(key)))
        };
        let conditions: Vec<String> = self.primary().iter().zip(&self.equal).enumerate().map(condition).collect();
        conditions.join(" AND ")
    }

    /// The row is one of [`super::keys::rows`].
    pub fn matching(&self) -> String {
        self.equal(&|i| format!("d.k{i}"))
    }
}
