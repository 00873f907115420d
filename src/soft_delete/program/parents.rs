//! What looks whether rows reference deleted ones: the tables with soft delete that a table references.

use super::keys::{collate, common, key_shape, rows};
use super::{Key, Parent, Refusal, text};
use crate::error::Result;
use crate::server::Oid;
use crate::server::raw::Planned;
use crate::soft_delete::managed::{self, Column, ForeignKey, Managed};
use crate::sql::quote::{identifier, literal};

/// The tables with soft delete that a table references, and the columns by which it does.
pub fn references(relid: Oid) -> Result<(Vec<ForeignKey>, Vec<Column>)> {
    let foreign_keys = managed::referenced(relid)?;
    let references = |column: &Column| foreign_keys.iter().any(|key| key.child_columns.contains(&column.name));
    let columns = managed::columns(relid)?.into_iter().filter(references).collect();
    Ok((foreign_keys, columns))
}

pub fn of(relid: Oid, relations: &mut Vec<Oid>) -> Result<Vec<Parent>> {
    let foreign_keys = managed::referenced(relid)?;
    let columns = managed::columns(relid)?;
    let mut parents = Vec::new();
    for key in &foreign_keys {
        relations.push(key.parent);
        let Some(parent) = managed::find(key.parent)? else { continue };
        relations.push(parent.relid);
        let of_child = |name: &String| columns.iter().find(|column| &column.name == name);
        let used: Vec<Column> = key.child_columns.iter().filter_map(of_child).cloned().collect();
        let comparison = Comparison { key, parent_columns: managed::columns(key.parent)? };
        let look = Look { parent: &parent, key };
        let table = key.parent_rows();
        let types = |each: &dyn Fn(&Column) -> Oid| common(&used.iter().map(each).collect::<Vec<_>>());
        parents.push(Parent {
            relid: key.parent,
            owner: key.parent_owner,
            deferrable: key.deferrable,
            columns: used.iter().map(Key::of).collect(),
            look: Planned::new(
                look.sql(&format!("{table} AS p"), &comparison.equal(used.len(), &|i| format!("${}", 4 + i))),
                types(&|column| column.type_oid),
            ),
            references: key_shape(&used),
            look_all: Planned::new(
                look.sql(
                    &format!("{table} AS p, {}", rows(used.len(), 4)),
                    &comparison.equal(used.len(), &|i| format!("d.k{i}")),
                ),
                types(&|column| column.array_oid),
            ),
            refusal: refers_to_deleted(key),
        });
    }
    Ok(parents)
}

/// The referenced row `p` and values of the columns that reference it.
struct Comparison<'a> {
    key: &'a ForeignKey,
    parent_columns: Vec<Column>,
}

impl Comparison<'_> {
    fn equal(&self, count: usize, value: &dyn Fn(usize) -> String) -> String {
        let conditions: Vec<String> = (0..count)
            .map(|i| {
                let name = identifier(&self.key.parent_columns[i]);
                self.key.operators[i].between((&format!("p.{name}"), ""), (&value(i), &self.collation(i)))
            })
            .collect();
        conditions.join(" AND ")
    }

    fn collation(&self, i: usize) -> String {
        let column = self.parent_columns.iter().find(|column| column.name == self.key.parent_columns[i]);
        column.map_or_else(String::new, collate)
    }
}

/// Locks referenced rows, and says of a deleted one which it is.
struct Look<'a> {
    parent: &'a Managed,
    key: &'a ForeignKey,
}

impl Look<'_> {
    /// One row, null if all is well. Not a WHERE outside: it would be pushed down, and only deleted rows be locked.
    fn sql(&self, from: &str, condition: &str) -> String {
        let dead = format!("NOT ({})", self.parent.live("p"));
        let detail = self.detail();
        format!(
            "SELECT pg_catalog.min(l.detail COLLATE pg_catalog.\"C\") FILTER (WHERE l.dead)
                 FROM (SELECT {dead} AS dead, {detail} AS detail FROM {from} WHERE {condition} FOR KEY SHARE OF p) AS l"
        )
    }

    fn detail(&self) -> String {
        let start = literal(&format!("Key ({})=(", self.key.child_columns.join(", ")));
        let rest = literal(&format!(") refers to a deleted row of table \"{}\".", self.parent.name));
        let values: Vec<String> =
            self.key.parent_columns.iter().map(|name| format!("p.{}", identifier(name))).collect();
        format!(
            "{start} OPERATOR(pg_catalog.||) pg_catalog.concat_ws(', ', {}) OPERATOR(pg_catalog.||) {rest}",
            values.join(", ")
        )
    }
}

fn refers_to_deleted(key: &ForeignKey) -> Refusal {
    Refusal {
        sqlstate: c"23503",
        message: text(&format!(
            "insert or update on table \"{}\" violates foreign key constraint \"{}\"",
            key.child_name, key.name
        )),
        hint: None,
        schema: text(&key.child_schema),
        table: text(&key.child_name),
        constraint: text(&key.name),
    }
}
