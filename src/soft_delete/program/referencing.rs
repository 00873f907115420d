//! Rows that reference deleted ones, as statements call them.

use super::keys::{collate, rows};
use crate::soft_delete::managed::{Column, ForeignKey, Managed};
use crate::sql::quote::identifier;

/// Rows `c` that reference keys `d` by a foreign key.
pub struct Referencing<'a> {
    pub key: &'a ForeignKey,
    /// Which of the keys it references.
    pub used: Vec<Column>,
    pub table: String,
    pub rows: String,
    /// Of those that are live, if their table has soft delete.
    pub matching: String,
}

impl<'a> Referencing<'a> {
    /// `child`: their table, if it has soft delete.
    pub fn of(key: &'a ForeignKey, keys: &[Column], child: Option<&Managed>) -> Self {
        let named = |name: &String| keys.iter().find(|key| &key.name == name);
        let used: Vec<Column> = key.parent_columns.iter().filter_map(named).cloned().collect();
        let (rows, matching) = (rows(used.len(), 4), matching(key, &used, child));
        Referencing { key, used, table: key.child_rows(), rows, matching }
    }
}

fn matching(key: &ForeignKey, used: &[Column], child: Option<&Managed>) -> String {
    let mut conditions: Vec<String> = (0..used.len())
        .map(|i| {
            let child = format!("c.{}", identifier(&key.child_columns[i]));
            key.operators[i].between((&format!("d.k{i}"), &collate(&used[i])), (&child, ""))
        })
        .collect();
    conditions.extend(child.map(|child| child.live("c")));
    conditions.join(" AND ")
}
