//! References that a deletion has cleared come back with it: what was there is remembered as text, a set of rows for each foreign
//! key. Nothing is written where somebody has changed it since.

use pgrx::Uuid;

use super::managed::{self, Operator};
use super::program::common;
use crate::error::{Error, OBJECT_NOT_IN_PREREQUISITE_STATE, Result};
use crate::server::named::objects::Objects;
use crate::server::raise::{self, Level};
use crate::server::raw::Planned;
use crate::server::{Oid, catalog, heap, spi, types};
use crate::sql::quote::{identifier, literal, qualified};

/// References that were cleared by one foreign key.
pub struct Cleared {
    pub relid: Oid,
    /// Gives whether a row's texts are exact (else a version before 0.6.0 has written them), and the texts: of the key, the
    /// values that were there, and those that the deletion has left.
    pub load: Planned,
    /// Of these columns, as which rows of values go into `restore`. They are read outside of it, under settings which no
    /// trigger may see.
    pub types: Vec<Oid>,
    pub restore: Planned,
    /// Once all of them are as they were.
    pub forget: Planned,
}

/// What a deletion has cleared and can have back.
pub fn of(id: Uuid) -> Result<Vec<Cleared>> {
    let mut cleared = Vec::new();
    for group in groups(id)? {
        // A table that is gone has no references to bring back.
        let Some((schema, name)) = heap::name(group.relid) else { continue };
        // A dump carries a table that was dropped before as a number, which may be any table here. Nothing is written to
        // one that does not reference what the deletion has deleted, as it did.
        if !group.is_there {
            raise::report(Level::Warning, not_brought_back(&group));
            continue;
        }
        cleared.push(one(&group, &schema, &name)?);
    }
    Ok(cleared)
}

struct Group {
    relid: Oid,
    name: String,
    key_columns: Vec<String>,
    columns: Vec<String>,
    /// It is a foreign key of that table to one that the deletion has rows in, by these columns.
    is_there: bool,
}

fn not_brought_back(group: &Group) -> Error {
    Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("references that the deletion has cleared by foreign key \"{}\" are not brought back", group.name),
    )
    .detail(format!(
        "The table with OID {} has no foreign key of that name and of the same columns to a table of the deletion.",
        group.relid.to_u32()
    ))
    .hint("What was there stays in upkeep._deletion_cleared: an administrator can read it and put it back.")
}

fn groups(id: Uuid) -> Result<Vec<Group>> {
    spi::bookkeeping(|| {
        spi::known_returning(
            "SELECT DISTINCT c.relid::pg_catalog.oid, c.conname::pg_catalog.text,
                    c.key_columns::pg_catalog.text[], c.columns::pg_catalog.text[],
                    EXISTS (SELECT FROM pg_catalog.pg_constraint f
                            JOIN pg_catalog.pg_class r ON r.oid OPERATOR(pg_catalog.=) f.conrelid
                            WHERE f.contype OPERATOR(pg_catalog.=) 'f' AND f.conrelid OPERATOR(pg_catalog.=) c.relid
                              AND f.conname OPERATOR(pg_catalog.=) c.conname
                              AND r.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p']::pg_catalog.\"char\"[])
                              AND EXISTS (SELECT FROM upkeep._deletion_table t
                                          WHERE t.deletion OPERATOR(pg_catalog.=) c.deletion AND t.relid OPERATOR(pg_catalog.=)
                                              coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid))
                              AND c.columns OPERATOR(pg_catalog.=) ARRAY(
                                  SELECT a.attname
                                  FROM pg_catalog.unnest(coalesce(f.confdelsetcols, f.conkey)) WITH ORDINALITY k (attnum, ord)
                                  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.conrelid
                                                                AND a.attnum OPERATOR(pg_catalog.=) k.attnum ORDER BY k.ord))
             FROM upkeep._deletion_cleared c WHERE c.deletion OPERATOR(pg_catalog.=) $1 ORDER BY 1, 2",
            &[id.into()],
            |row| {
                Ok(Group {
                    relid: row.next()?,
                    name: row.next()?,
                    key_columns: row.next()?,
                    columns: row.next()?,
                    is_there: row.next()?,
                })
            },
        )
    })
}

fn one(group: &Group, schema: &str, name: &str) -> Result<Cleared> {
    let values = values(group, &qualified(schema, name))?;
    let types: Vec<Oid> = values.iter().map(|value| value.type_oid).collect();
    let filter = format!(
        "c.deletion OPERATOR(pg_catalog.=) $1 AND c.relid OPERATOR(pg_catalog.=) {}::pg_catalog.oid
             AND c.conname OPERATOR(pg_catalog.=) {}",
        group.relid.to_u32(),
        literal(&group.name)
    );
    let restore =
        Planned::new(restore(&values, &managed::own_rows(group.relid, schema, name)), common(&[types::RECORDARRAY]));
    restore.names(group.relid, &Objects::of(&[group.relid])?);
    Ok(Cleared {
        relid: group.relid,
        load: Planned::new(load(&values, &filter), common(&[])),
        types,
        restore,
        forget: Planned::new(format!("DELETE FROM upkeep._deletion_cleared AS c WHERE {filter}"), common(&[])),
    })
}

/// What a value of a set of rows is.
enum What {
    /// Of the primary key, by which the row is found.
    Key(Operator),
    /// The reference that was there.
    Old,
    /// The one that the deletion has left: has anybody changed it since?
    New,
}

/// A value of each row: `r.t0`, `r.t1`, ..
struct Value {
    what: What,
    column: String,
    type_oid: Oid,
    /// Its place among those of its kind.
    number: usize,
}

/// The keys, the values that were there, and those that are there now.
fn values(group: &Group, table: &str) -> Result<Vec<Value>> {
    let columns = managed::columns(group.relid)?;
    let type_of = |name: &String| {
        let found = columns.iter().find(|column| &column.name == name);
        found.map(|column| catalog::base_type(column.type_oid)).ok_or_else(|| {
            Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("column \"{name}\" of {table} is not there any more"))
                .detail(format!("The deletion has cleared references by foreign key \"{}\".", group.name))
        })
    };
    let value = |what: What, number: usize, name: &String| -> Result<Value> {
        Ok(Value { what, column: identifier(name), type_oid: type_of(name)?, number })
    };
    let primary_key = managed::primary_key(group.relid)?;
    let mut values = Vec::new();
    for (i, name) in group.key_columns.iter().enumerate() {
        let found = primary_key.iter().find(|(column, _)| column == name).ok_or_else(|| {
            Error::new(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("column \"{name}\" is not in the primary key of {table} any more"),
            )
        })?;
        values.push(value(What::Key(found.1.clone()), i, name)?);
    }
    for (i, name) in group.columns.iter().enumerate() {
        values.push(value(What::Old, i, name)?);
    }
    for (i, name) in group.columns.iter().enumerate() {
        values.push(value(What::New, i, name)?);
    }
    Ok(values)
}

fn restore(values: &[Value], table: &str) -> String {
    let (mut set, mut conditions, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (i, Value { what, column, type_oid, .. }) in values.iter().enumerate() {
        let kind = catalog::type_sql(*type_oid, -1);
        match what {
            What::Key(equal) => {
                conditions.push(equal.between((&format!("c.{column}"), ""), (&format!("r.t{i}"), "")));
            }
            What::Old => set.push(format!("{column} = r.t{i}")),
            What::New => {
                conditions.push(format!("pg_catalog.record_image_eq(ROW(c.{column}::{kind}), ROW(r.t{i}))"));
            }
        }
        rows.push(format!("t{i} {kind}"));
    }
    format!(
        "UPDATE {table} AS c SET {} FROM pg_catalog.unnest($4) AS r ({}) WHERE {}",
        set.join(", "),
        rows.join(", "),
        conditions.join(" AND ")
    )
}

/// As [`Cleared::load`] says.
fn load(values: &[Value], filter: &str) -> String {
    // 0.5.0 had no such column.
    let exact = if managed::is_up_to_date() { "c.exact" } else { "false" };
    let text = |Value { what, type_oid, number, .. }: &Value| {
        let (column, was_text) = match what {
            What::Key(_) => ("key", false),
            What::Old => ("old_values", true),
            What::New => ("new_values", false),
        };
        let text = format!("(c.{column} OPERATOR(pg_catalog.->>) {number})");
        // What was put into jsonb as such is text again only as a whole; old values of type jsonb were text already.
        if *type_oid != types::JSONB || was_text {
            return text;
        }
        format!(
            "CASE WHEN {exact} OR {text} IS NULL THEN {text}
                          ELSE (c.{column} OPERATOR(pg_catalog.->) {number})::pg_catalog.text END"
        )
    };
    let texts: Vec<String> = values.iter().map(text).collect();
    format!("SELECT {exact}, {} FROM upkeep._deletion_cleared AS c WHERE {filter}", texts.join(", "))
}
