//! What is done to a table with soft delete itself.

use std::ffi::CString;

use pgrx::spi::quote_identifier;

use super::image::{Image, Place};
use super::keys::{common, counted_own, key_shape, rows, with_arrays};
use super::table::Table;
use super::{Back, Key, KeyColumn, Own, children, parents, text};
use crate::error::Result;
use crate::server::heap;
use crate::server::raw::Planned;
use crate::server::{Oid, types};
use crate::soft_delete::managed::{self, Managed};
use crate::sql::quote::{identifier, literal, qualified};

pub fn of(relid: Oid, managed: &Managed, relations: &mut Vec<Oid>) -> Result<Own> {
    relations.push(managed.relid);
    // A foreign key may reference a partition, which alone is told of it.
    relations.extend(managed::partitions(managed.relid)?);
    let columns = managed::columns(managed.relid)?;
    let place = Place::of(relid, managed, &columns)?;
    let foreign_keys = managed::referencing(managed.relid)?;
    let table = Table::of(managed, &columns, &foreign_keys)?;
    let mut children = Vec::new();
    for key in &foreign_keys {
        relations.extend([key.child, key.child_root]);
        children.extend(children::of(managed, key, &table.keys, relations)?);
    }
    let image = Image::of(&place, &table, &columns)?;
    let type_of_at = managed.check_types(&columns)?;
    if let Some(flag) = &managed.flag {
        managed.require_type(&columns, flag, &[types::BOOL])?;
    }
    let number_of =
        |name: &str| columns.iter().find(|column| column.name == name).map_or(0, |column| place.number(column));
    Ok(Own {
        relid: managed.relid,
        owner: managed.owner,
        guard_hint: guard_hint(managed),
        upsert_hint: upsert_hint(managed),
        not_due: not_due(&table),
        note_purged: note_purged(&table),
        keys: table.keys.iter().map(|key| Key { number: place.number(key), ..Key::of(key) }).collect(),
        primary: table.primary().len(),
        children,
        lock: lock(&table),
        own_rows: own_rows(&table),
        stamp: stamp(&table),
        unstamp: unstamp(&table),
        delete_one: image.delete_one(),
        look_one: image.look_one(),
        delete_many: image.delete_many(),
        look_many: image.look_many(),
        back: if relid == managed.relid { Some(Back::of(managed)?) } else { None },
        live_view: managed.live_view.unwrap_or(Oid::INVALID),
        row_type: image.row_type,
        view_fits: table.keys.iter().all(|key| place.number(key) > 0),
        deleted_at: number_of(&managed.deleted_at),
        deletion_id: number_of(&managed.deletion_id),
        has_timezone: type_of_at != types::TIMESTAMP,
        flag: managed.flag.as_deref().map_or(0, number_of),
    })
}

fn guard_hint(managed: &Managed) -> CString {
    let by_view = managed
        .live_view
        .and_then(heap::name)
        .map_or_else(String::new, |(schema, view)| format!("DELETE FROM {} .., or ", qualified(&schema, &view)));
    text(&format!(
        "Delete rows so that they can come back: {by_view}SELECT upkeep.soft_delete({}, '..'); \
        who may can also SET upkeep.allow_hard_delete = on.",
        literal(&managed.sql())
    ))
}

fn upsert_hint(managed: &Managed) -> CString {
    text(&format!(
        "SELECT upkeep.make_unique_keys_partial({}) has deleted rows keep no key from live ones. \
        Or say what becomes of the row: ON CONFLICT .. DO UPDATE SET .., {plain} = NULL has it back, \
        and .. WHERE {}.{plain} IS NULL leaves it alone.",
        literal(&managed.sql()),
        quote_identifier(&managed.relname),
        plain = quote_identifier(&managed.deleted_at)
    ))
}

fn not_due(Table { at, id, .. }: &Table<'_>) -> Planned {
    Planned::new(
        format!(
            "SELECT FROM deleted AS d
                 WHERE d.{at} IS NULL OR d.{at} OPERATOR(pg_catalog.>=) $1
                    OR EXISTS (SELECT FROM upkeep._deletion h
                               WHERE h.id OPERATOR(pg_catalog.=) d.{id} AND h.held IS NOT NULL)
                 LIMIT 1"
        ),
        vec![types::TIMESTAMPTZ],
    )
}

fn note_purged(Table { id, managed, .. }: &Table<'_>) -> Planned {
    Planned::new(
        format!(
            "UPDATE upkeep._deletion_table t SET purged = t.purged OPERATOR(pg_catalog.+) p.rows
                 FROM (SELECT d.{id} AS id, pg_catalog.count(*) AS rows FROM deleted AS d GROUP BY 1) p
                 WHERE t.deletion OPERATOR(pg_catalog.=) p.id AND t.relid OPERATOR(pg_catalog.=) {}::pg_catalog.oid",
            managed.relid.to_u32()
        ),
        Vec::new(),
    )
}

/// `FROM` the table itself, and `WHERE` its rows are those.
fn of_table_itself(table: &Table<'_>) -> String {
    let Table { managed, .. } = table;
    format!(
        "FROM {} AS t, {} WHERE {}",
        managed::own_rows(managed.relid, &managed.schema, &managed.relname),
        rows(table.primary().len(), 4),
        table.matching()
    )
}

fn lock(table: &Table<'_>) -> Planned {
    Planned::new(
        format!("SELECT pg_catalog.count(*) FROM (SELECT {} FOR UPDATE OF t) AS l", of_table_itself(table)),
        with_arrays(table.primary()),
    )
}

fn own_rows(table: &Table<'_>) -> Option<(Planned, Vec<KeyColumn>)> {
    if !heap::has_heirs(table.managed.relid) {
        return None;
    }
    let found: String =
        table.keys.iter().map(|key| format!(", pg_catalog.array_agg(t.{})", identifier(&key.name))).collect();
    let look = format!("SELECT pg_catalog.count(*){found} {} AND t.{} IS NOT NULL", of_table_itself(table), table.at);
    Some((Planned::new(look, with_arrays(table.primary())), key_shape(&table.keys)))
}

fn stamp(table: &Table<'_>) -> Planned {
    let Table { managed, sql, at, by, id, .. } = table;
    let flag = managed.flag.as_ref().map_or_else(String::new, |flag| format!(", {} = true", identifier(flag)));
    Planned::new(
        format!(
            "UPDATE {sql} AS t SET {id} = $1, {by} = coalesce(t.{by}, $3){flag} FROM {}
                 WHERE {} AND t.{at} IS NOT NULL",
            rows(table.primary().len(), 4),
            table.matching()
        ),
        with_arrays(table.primary()),
    )
}

fn unstamp(table: &Table<'_>) -> Planned {
    let Table { managed, sql, at, by, id, .. } = table;
    Planned::new(
        format!(
            "UPDATE {sql} AS t SET {} FROM {}
                 WHERE {} AND t.{at} IS NULL AND (t.{id} IS NOT NULL OR t.{by} IS NOT NULL)",
            managed.set_live(),
            rows(table.primary().len(), 4),
            table.matching()
        ),
        with_arrays(table.primary()),
    )
}

impl Back {
    fn of(managed: &Managed) -> Result<Self> {
        let references = parents::references(managed.relid)?.1;
        let table = managed.sql();
        let of_it =
            format!("t.{} OPERATOR(pg_catalog.=) $1 AND NOT ({})", identifier(&managed.deletion_id), managed.live("t"));
        let update = format!("UPDATE {table} AS t SET {} WHERE {of_it}", managed.set_live());
        Ok(Back {
            update: Planned::new(counted_own(managed, &update, "t.", &references), common(&[])),
            keys: key_shape(&references),
            left: Planned::new(format!("SELECT pg_catalog.count(*) FROM {table} AS t WHERE {of_it}"), common(&[])),
        })
    }
}
