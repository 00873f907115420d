//! What a call of `soft_delete()` or `undelete()` comes down to: its text parsed (LAW 21), its rights looked at, its
//! statements put together.

use pgrx::Uuid;

use super::cleared::{self, Cleared};
use super::managed::{self, Column, Managed};
use super::program::{self, KeyColumn, common, counted_own};
use crate::calls::{arguments, relation, standing};
use crate::error::{
    Error, INSUFFICIENT_PRIVILEGE, OBJECT_NOT_IN_PREREQUISITE_STATE, Result, SERIALIZATION_FAILURE, UNDEFINED_OBJECT,
    UNDEFINED_PARAMETER,
};
use crate::server::analyze::analyse;
use crate::server::named::objects::Objects;
use crate::server::raw::Planned;
use crate::server::{Oid, heap, spi};
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
        Planned::new(counted_own(&managed, glue.text(), &format!("{alias}."), &keys), common(&[])).around(condition);
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
            |row| Ok((row.next()?, row.next()?, row.next()?)),
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
            |row| Ok(Part { relid: row.next()?, direct: row.next()?, name: row.next()?, rows: row.next()? }),
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
    Ok(Restore { tables, cleared: cleared::of(id)?, mark: MARK.with(|mark| *mark) })
}

thread_local! {
    static MARK: &'static Planned = Box::leak(Box::new(Planned::new(
        "UPDATE upkeep._deletion SET undeleted_at = $2, undeleted_by = $3
         WHERE id OPERATOR(pg_catalog.=) $1 AND undeleted_at IS NULL"
            .to_owned(),
        common(&[]),
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
