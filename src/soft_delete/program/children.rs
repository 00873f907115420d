//! What becomes of rows that reference deleted ones: they go too, or stand in the way; [`super::clearing`] has their references
//! cleared.

use pgrx::spi::quote_identifier;

use super::keys::{collate, counted, key_shape, rows, wanted_by, with_arrays};
use super::{Action, Child, Refusal, clearing, text};
use crate::error::Result;
use crate::server::Oid;
use crate::server::catalog;
use crate::server::raw::Planned;
use crate::soft_delete::managed::{self, Column, ForeignKey, Managed};
use crate::sql::quote::{identifier, literal, qualified};

/// Rows `c` that reference keys `d` by a foreign key.
pub(super) struct Referencing<'a> {
    pub key: &'a ForeignKey,
    /// Which of the keys it references.
    pub used: Vec<Column>,
    pub table: String,
    pub rows: String,
    /// Of those that are live, if their table has soft delete.
    pub matching: String,
}

/// What is to be done, in order, by one foreign key.
pub fn of(managed: &Managed, key: &ForeignKey, keys: &[Column], relations: &mut Vec<Oid>) -> Result<Vec<Child>> {
    let named = |name: &String| keys.iter().find(|key| &key.name == name);
    let used: Vec<Column> = key.parent_columns.iter().filter_map(named).cloned().collect();
    let child = if key.child_managed { managed::find(key.child_root)? } else { None };
    let rows = rows(used.len(), 4);
    let matching = matching(key, &used, child.as_ref());
    let referencing = Referencing { key, used, table: key.child_rows(), rows, matching };
    let mut actions = vec![match (key.on_delete, &child) {
        ('c', Some(child)) => referencing.cascade(child, relations)?,
        ('c', None) if managed.on_unmanaged == "ignore" => Action::Nothing,
        ('c', None) => referencing.refuse(false, unmanaged(managed, key)),
        ('n' | 'd', _) => clearing::clear(&referencing)?,
        ('r', _) => referencing.refuse(true, referenced(managed, key)),
        _ => referencing.refuse(false, referenced(managed, key)),
    }];
    // A default that is the value itself, or a trigger of the user's, may have left the reference as it was.
    if matches!(key.on_delete, 'n' | 'd') {
        actions.push(referencing.refuse(false, referenced(managed, key)));
    }
    if !key.child_owner_may {
        actions.insert(0, refuse_without_rights(managed, key, with_arrays(&referencing.used)));
    }
    let used = &referencing.used;
    let child = |action| Child { relid: key.child, owner: key.child_owner, keys: key_shape(used), action };
    Ok(actions.into_iter().map(child).collect())
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

impl Referencing<'_> {
    /// What comes back is for those that reference the child in their turn.
    fn cascade(&self, child: &Managed, relations: &mut Vec<Oid>) -> Result<Action> {
        let Referencing { table, rows, matching, .. } = self;
        let update = format!("UPDATE {table} AS c SET {} FROM {rows} WHERE {matching}", child.set_deleted());
        let foreign_keys = managed::referencing(child.relid)?;
        relations.extend(foreign_keys.iter().flat_map(|key| [key.parent, key.child, key.child_root]));
        relations.extend(managed::partitions(child.relid)?);
        let wanted = wanted_by(child, &foreign_keys)?;
        Ok(Action::Cascade {
            child: child.relid,
            statement: Planned::new(counted(&update, "c.", &wanted), with_arrays(&self.used)),
            keys: key_shape(&wanted),
        })
    }

    fn refuse(&self, now: bool, refusal: Refusal) -> Action {
        let Referencing { key, table, rows, matching, used } = self;
        let detail = literal(&format!("Key ({})=(", key.parent_columns.join(", ")));
        let values: Vec<String> = (0..used.len()).map(|i| format!("d.k{i}")).collect();
        let rest = literal(&format!(") is still referenced from table \"{}\".", key.child_name));
        Action::Refuse {
            now,
            statement: Planned::new(
                format!(
                    "SELECT {detail} OPERATOR(pg_catalog.||) pg_catalog.concat_ws(', ', {}) OPERATOR(pg_catalog.||) {rest}
                     FROM {table} AS c, {rows} WHERE {matching} LIMIT 1",
                    values.join(", ")
                ),
                with_arrays(used),
            ),
            names_table: true,
            refusal,
        }
    }
}

/// The owner of the referencing table, as whom a deletion acts on it, lacks rights on it: says whose they are to grant. Looked
/// at again each time, because a grant on a schema is no change of the table.
fn refuse_without_rights(managed: &Managed, key: &ForeignKey, types: Vec<Oid>) -> Action {
    let (table, oid) = (qualified(&key.child_schema, &key.child_name), key.child.to_u32());
    let owner = catalog::role_name(key.child_owner).unwrap_or_default();
    let (schema, role) = (quote_identifier(&key.child_schema), quote_identifier(&owner));
    let detail = format!(
        "Foreign key \"{}\" references table \"{}\": what becomes of its rows is done as their table's owner.",
        key.name, managed.relname
    );
    Action::Refuse {
        now: true,
        statement: Planned::new(
            format!(
                "SELECT {} FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) {oid}::pg_catalog.oid
                     AND NOT (pg_catalog.has_schema_privilege(c.relowner, c.relnamespace, 'USAGE')
                              AND pg_catalog.has_table_privilege(c.relowner, c.oid, 'SELECT')
                              AND pg_catalog.has_table_privilege(c.relowner, c.oid, 'UPDATE'))",
                literal(&detail)
            ),
            types,
        ),
        names_table: false,
        refusal: Refusal {
            sqlstate: c"42501",
            message: text(&format!("role \"{owner}\" may not change its table {table}")),
            hint: Some(text(&format!(
                "GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, UPDATE ON {table} TO {role};"
            ))),
            schema: text(&key.child_schema),
            table: text(&key.child_name),
            constraint: text(&key.name),
        },
    }
}

fn referenced(managed: &Managed, key: &ForeignKey) -> Refusal {
    Refusal {
        sqlstate: c"23503",
        message: text(&format!(
            "update or delete on table \"{}\" violates foreign key constraint \"{}\" on table \"{}\"",
            managed.relname, key.name, key.child_name
        )),
        hint: None,
        schema: text(&key.child_schema),
        table: text(&key.child_name),
        constraint: text(&key.name),
    }
}

fn unmanaged(managed: &Managed, key: &ForeignKey) -> Refusal {
    let child = qualified(&key.child_schema, &key.child_name);
    Refusal {
        hint: Some(text(&format!(
            "Soft delete is not enabled on {child}, whose rows would have to go too: SELECT upkeep.enable_soft_delete({});",
            literal(&child)
        ))),
        ..referenced(managed, key)
    }
}
