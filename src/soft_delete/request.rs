//! What a call of `soft_delete()` or `undelete()` comes down to: its text parsed (LAW 21), its rights looked at, its
//! statements put together.

use pgrx::Uuid;

use super::managed::{self, Column, Managed};
use super::program::{self, KeyColumn, counted_own};
use crate::calls::{arguments, relation, standing};
use crate::error::{
    Error, INSUFFICIENT_PRIVILEGE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, SERIALIZATION_FAILURE, UNDEFINED_OBJECT,
    UNDEFINED_PARAMETER,
};
use crate::server::analyze::analyse;
use crate::server::named::objects::Objects;
use crate::server::raise::{self, Level};
use crate::server::raw::Planned;
use crate::server::{Oid, catalog, heap, spi, types};
use crate::sql::fragments;
use crate::sql::glue::Glue;
use crate::sql::quote::{identifier, literal, qualified};

/// An UPDATE of one table.
pub struct Selection {
    pub relid: Oid,
    pub statement: Planned,
    /// The arrays that come back behind the count; none: only the number of rows.
    pub keys: Vec<KeyColumn>,
}

pub struct Restore {
    pub tables: Vec<Table>,
    pub cleared: Vec<Cleared>,
    pub mark: &'static Planned,
}

/// What brings its rows back is in its program ([`program::Back`]).
pub struct Table {
    pub relid: Oid,
    /// Somebody has deleted from it himself: so it is he who brings back.
    pub as_caller: bool,
    pub name: String,
    /// How many rows the deletion has counted there; if fewer come back, `left` looks for those that it still has.
    pub rows: u64,
}

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

fn types(more: &[Oid]) -> Vec<Oid> {
    let mut types = vec![types::UUID, types::TIMESTAMPTZ, types::TEXT];
    types.extend_from_slice(more);
    types
}

/// The table with soft delete that somebody means.
pub fn target(relid: Oid) -> Result<Managed> {
    if relid == Oid::INVALID {
        return arguments::required(None, "target");
    }
    let (schema, name) = heap::name(relid).ok_or_else(|| relation::missing(relid))?;
    managed::find(relid)?.ok_or_else(|| managed::not_enabled(&qualified(&schema, &name)))
}

/// Locked as the statement will lock it in a moment: names, columns and foreign keys stay what they are when it is written.
fn locked(relid: Oid) -> Result<Managed> {
    let found = target(relid)?;
    heap::lock_for_update(found.relid);
    let managed = target(relid)?;
    if managed.relid != found.relid {
        return Err(
            Error::new(SERIALIZATION_FAILURE, "the table has changed meanwhile").hint("Try the transaction again.")
        );
    }
    Ok(managed)
}

/// The rows that a condition of the caller's selects. He may call the table by the name he knows it by.
fn selection(
    relid: Oid,
    condition: Option<&str>,
    set: impl Fn(&Managed) -> String,
    only: impl Fn(&Managed, &str) -> String,
    keys: impl Fn(&Managed) -> Result<Vec<Column>>,
) -> Result<Selection> {
    let managed = locked(relid)?;
    let condition = arguments::required(condition, "condition")?;
    fragments::condition(&managed.sql(), condition, "Write 'true' for every row")?;
    let (schema, name) = heap::name(relid).unwrap_or_default();
    let shown = match relid == managed.relid || Some(relid) == managed.live_view {
        true => managed.sql(),
        // A partition by itself.
        false => qualified(&schema, &name),
    };
    let alias = identifier(&name);
    refuse_parameters(&shown, &alias, condition)?;
    let glue =
        Glue::new(&format!("UPDATE {shown} AS {alias} SET {} WHERE {} AND (", set(&managed), only(&managed, &alias)))
            .theirs(condition)
            .ours(")");
    let keys = keys(&managed)?;
    let statement =
        Planned::new(counted_own(&managed, glue.text(), &format!("{alias}."), &keys), types(&[])).around(condition);
    // The condition is the caller's, who runs it as himself: what it names is his.
    statement.names(if Some(relid) == managed.live_view { managed.relid } else { relid }, &Objects::default());
    Ok(Selection { relid: managed.relid, statement, keys: keys.iter().map(KeyColumn::from).collect() })
}

/// The statement has parameters, which are ours. What else may be wrong with the condition the statement itself says.
fn refuse_parameters(shown: &str, alias: &str, condition: &str) -> Result<()> {
    if !condition.contains('$') {
        return Ok(());
    }
    let glue = Glue::new(&format!("SELECT FROM {shown} AS {alias} WHERE (")).theirs(condition).ours(")");
    match analyse(glue.text(), None) {
        Err(error) if error.sqlstate == UNDEFINED_PARAMETER => Err(glue.blame(error)),
        _ => Ok(()),
    }
}

pub fn deletes(relid: Oid, condition: Option<&str>) -> Result<Selection> {
    standing::refuse_in_recovery("delete rows")?;
    selection(relid, condition, Managed::set_deleted, Managed::live, program::wanted_keys)
}

pub fn undeletes(relid: Oid, condition: Option<&str>) -> Result<Selection> {
    standing::refuse_in_recovery("bring rows back")?;
    selection(
        relid,
        condition,
        Managed::set_live,
        |managed, alias| format!("NOT ({})", managed.live(alias)),
        |managed| Ok(program::references(managed.relid)?.1),
    )
}

struct Part {
    relid: Oid,
    direct: bool,
    name: String,
    rows: i64,
}

/// What is gone for good cannot be brought back, and a part of a deletion is not that deletion.
pub fn refuse_purged(id: Uuid) -> Result<()> {
    let purged: Vec<(String, i64, i64)> = spi::bookkeeping(|| {
        spi::known_returning(
            "SELECT t.relid::pg_catalog.text, t.purged, t.rows FROM upkeep._deletion_table t
             WHERE t.deletion OPERATOR(pg_catalog.=) $1 AND t.purged OPERATOR(pg_catalog.>) 0 ORDER BY t.relid",
            &[id.into()],
            |row| Ok((row.require(1)?, row.require(2)?, row.require(3)?)),
        )
    })?;
    if purged.is_empty() {
        return Ok(());
    }
    let parts: Vec<String> =
        purged.iter().map(|(table, gone, rows)| format!("{gone} of {rows} rows of {table}")).collect();
    Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("deletion {id} cannot be undone: rows of it were purged"))
        .detail(format!("Gone for good: {}.", parts.join(", ")))
        .hint("SELECT upkeep.undelete(table, condition); brings back rows of it that are left."))
}

pub fn restores(id: Option<Uuid>) -> Result<Restore> {
    standing::refuse_in_recovery("bring rows back")?;
    let id = arguments::required(id, "deletion")?;
    let known: Vec<bool> = spi::bookkeeping(|| {
        spi::known_returning(
            "SELECT d.undeleted_at IS NOT NULL FROM upkeep._deletion d WHERE d.id OPERATOR(pg_catalog.=) $1",
            &[id.into()],
            |row| row.require(1),
        )
    })?;
    if known.is_empty() {
        return Err(
            Error::new(UNDEFINED_OBJECT, format!("there is no deletion {id}")).hint("SELECT * FROM upkeep.deletions;")
        );
    }
    let parts = spi::bookkeeping(|| {
        spi::known_returning(
            "SELECT t.relid::pg_catalog.oid, t.direct, t.relid::pg_catalog.text, t.rows FROM upkeep._deletion_table t
             WHERE t.deletion OPERATOR(pg_catalog.=) $1 ORDER BY t.direct DESC, t.relid::pg_catalog.oid",
            &[id.into()],
            |row| {
                Ok(Part {
                    relid: row.require(1)?,
                    direct: row.require(2)?,
                    name: row.require(3)?,
                    rows: row.require(4)?,
                })
            },
        )
    })?;
    // What is wrong with it is told to those only who may undo it.
    for part in parts.iter().filter(|part| part.direct) {
        require_update(part)?;
    }
    refuse_purged(id)?;
    let mut tables = Vec::new();
    for part in &parts {
        let managed = managed::find(part.relid)?.filter(|managed| managed.relid == part.relid).ok_or_else(|| {
            Error::new(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                match heap::name(part.relid) {
                    Some(_) => format!("soft delete is not enabled on {} any more", part.name),
                    None => "a table of the deletion is gone".to_owned(),
                },
            )
            .detail("The deletion has rows in it.")
        })?;
        heap::lock_for_update(managed.relid);
        let managed = target(managed.relid)?;
        tables.push(Table {
            relid: managed.relid,
            as_caller: part.direct,
            name: managed.sql(),
            rows: u64::try_from(part.rows).unwrap_or_default(),
        });
    }
    Ok(Restore { tables, cleared: cleared(id)?, mark: MARK.with(|mark| *mark) })
}

thread_local! {
    static MARK: &'static Planned = Box::leak(Box::new(Planned::new(
        "UPDATE upkeep._deletion SET undeleted_at = $2, undeleted_by = $3
         WHERE id OPERATOR(pg_catalog.=) $1 AND undeleted_at IS NULL"
            .to_owned(),
        types(&[]),
    )));
}

/// Rows that the deletion still has after all was brought back that could be: half of it would be no undelete.
pub fn incomplete(table: &Table, back: u64, left: u64) -> Error {
    Error::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("not all rows of the deletion can be brought back in {}", table.name),
    )
    .detail(format!(
        "{back} rows came back, {left} are still deleted: row security hides them, or a trigger keeps them as they are."
    ))
    .hint(format!(
        "Undelete it as a role that may change all of them. SELECT upkeep.undelete({}, '..'); brings back single rows.",
        literal(&table.name)
    ))
}

/// Not one row of the deletion is deleted by it any more: it is not undone by saying so.
pub fn nothing_left() -> Error {
    Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, "no row of the deletion is there to be brought back")
        .detail("They came back one by one, went for good, were deleted again, or somebody has changed their deletion.")
        .hint("SELECT upkeep.undelete(table, condition); brings back rows whatever deleted them.")
}

/// Asked here, because rows that the cascade took come back as the tables' owners.
fn require_update(part: &Part) -> Result<()> {
    let managed = managed::find(part.relid)?.filter(|managed| managed.relid == part.relid);
    let column = managed.as_ref().map(|managed| managed.deleted_at.as_str());
    let allowed = spi::known_returning(
        "SELECT coalesce(pg_catalog.has_table_privilege($1, 'UPDATE'), true)
                    OR coalesce(pg_catalog.has_column_privilege($1, $2, 'UPDATE'), false),
                pg_catalog.quote_ident(current_user)",
        &[part.relid.into(), column.into()],
        |row| Ok((row.require::<bool>(1)?, row.require::<String>(2)?)),
    )?;
    let Some((false, role)) = allowed.into_iter().next() else { return Ok(()) };
    let (schema, name) = heap::name(part.relid).unwrap_or_default();
    Err(Error::new(INSUFFICIENT_PRIVILEGE, format!("permission denied for table {name}"))
        .hint(format!("GRANT SELECT, UPDATE ON {} TO {role};", qualified(&schema, &name))))
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

fn cleared(id: Uuid) -> Result<Vec<Cleared>> {
    let groups = spi::bookkeeping(|| {
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
                    relid: row.require(1)?,
                    name: row.require(2)?,
                    key_columns: row.require(3)?,
                    columns: row.require(4)?,
                    is_there: row.require(5)?,
                })
            },
        )
    })?;
    // 0.5.0 had no such column.
    let exact = if managed::is_up_to_date() { "c.exact" } else { "false" };
    let mut cleared = Vec::new();
    for group in groups {
        // A table that is gone has no references to bring back.
        let Some((schema, name_of_table)) = heap::name(group.relid) else { continue };
        // A dump carries a table that was dropped before as a number, which may be any table here. Nothing is written to
        // one that does not reference what the deletion has deleted, as it did.
        if !group.is_there {
            raise::report(Level::Warning, not_brought_back(&group));
            continue;
        }
        let columns = managed::columns(group.relid)?;
        let type_of = |name: &String| {
            columns.iter().find(|column| &column.name == name).map(|column| column.type_oid).ok_or_else(|| {
                Error::new(
                    OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("column \"{name}\" of {} is not there any more", qualified(&schema, &name_of_table)),
                )
                .detail(format!("The deletion has cleared references by foreign key \"{}\".", group.name))
            })
        };
        let primary_key = managed::primary_key(group.relid)?;
        let mut set = Vec::new();
        let mut conditions = Vec::new();
        let mut types_of = Vec::new();
        let mut texts = Vec::new();
        for (i, name) in group.key_columns.iter().enumerate() {
            let equal =
                primary_key.iter().find(|(column, _)| column == name).map(|(_, equal)| equal).ok_or_else(|| {
                    Error::new(
                        OBJECT_NOT_IN_PREREQUISITE_STATE,
                        format!(
                            "column \"{name}\" is not in the primary key of {} any more",
                            qualified(&schema, &name_of_table)
                        ),
                    )
                })?;
            types_of.push(catalog::base_type(type_of(name)?));
            texts.push(("key", i));
            conditions.push(equal.between((&format!("c.{}", identifier(name)), ""), (&format!("r.t{i}"), "")));
        }
        let (keys, count) = (group.key_columns.len(), group.columns.len());
        for (first, of) in [(keys, "old_values"), (keys + count, "new_values")] {
            for (i, name) in group.columns.iter().enumerate() {
                let (column, kind) = (identifier(name), catalog::base_type(type_of(name)?));
                types_of.push(kind);
                texts.push((of, i));
                if of == "old_values" {
                    set.push(format!("{column} = r.t{}", first + i));
                    continue;
                }
                // Has anybody changed it since?
                let kind = catalog::type_sql(kind, -1);
                conditions.push(format!("pg_catalog.record_image_eq(ROW(c.{column}::{kind}), ROW(r.t{}))", first + i));
            }
        }
        let rows: Vec<String> = types_of
            .iter()
            .enumerate()
            .map(|(i, &type_oid)| format!("t{i} {}", catalog::type_sql(type_oid, -1)))
            .collect();
        let texts: Vec<String> = texts
            .iter()
            .zip(&types_of)
            .map(|((column, i), &type_oid)| {
                let text = format!("(c.{column} OPERATOR(pg_catalog.->>) {i})");
                // What was put into jsonb as such is text again only as a whole; old values of type jsonb were text already.
                if type_oid != types::JSONB || *column == "old_values" {
                    return text;
                }
                format!(
                    "CASE WHEN {exact} OR {text} IS NULL THEN {text}
                          ELSE (c.{column} OPERATOR(pg_catalog.->) {i})::pg_catalog.text END"
                )
            })
            .collect();
        let filter = format!(
            "c.deletion OPERATOR(pg_catalog.=) $1 AND c.relid OPERATOR(pg_catalog.=) {}::pg_catalog.oid
             AND c.conname OPERATOR(pg_catalog.=) {}",
            group.relid.to_u32(),
            literal(&group.name)
        );
        let restore = Planned::new(
            format!(
                "UPDATE {} AS c SET {} FROM pg_catalog.unnest($4) AS r ({}) WHERE {}",
                managed::own_rows(group.relid, &schema, &name_of_table),
                set.join(", "),
                rows.join(", "),
                conditions.join(" AND ")
            ),
            types(&[types::RECORDARRAY]),
        );
        restore.names(group.relid, &Objects::of(&[group.relid])?);
        cleared.push(Cleared {
            relid: group.relid,
            load: Planned::new(
                format!("SELECT {exact}, {} FROM upkeep._deletion_cleared AS c WHERE {filter}", texts.join(", ")),
                types(&[]),
            ),
            types: types_of,
            restore,
            forget: Planned::new(format!("DELETE FROM upkeep._deletion_cleared AS c WHERE {filter}"), types(&[])),
        });
    }
    Ok(cleared)
}
