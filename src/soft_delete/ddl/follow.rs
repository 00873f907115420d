//! What the event triggers do: columns that were added or renamed appear in the views, new partitions and foreign keys get
//! their triggers, and a table that was dropped is forgotten. As the table's owner; never an error (LAW 27): a warning
//! instead, and `upkeep.soft_delete_drift` shows what is missing.

use std::cell::Cell;

use pgrx::prelude::*;

use super::{names, ours, references, views};
use crate::error::{Error, LOCK_NOT_AVAILABLE, QUERY_CANCELED, Result};
use crate::server::alteration::Alteration;
use crate::server::catch::subtransaction;
use crate::server::raise::{self, Level};
use crate::server::{Oid, catalog, heap, spi, view, worker};
use crate::soft_delete::managed::{self, Managed};
use crate::soft_delete::{objects, retention};
use crate::sql::quote::identifier;

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

struct Reset(bool);

impl Drop for Reset {
    fn drop(&mut self) {
        OURS.set(self.0);
    }
}

/// DDL of ours, which nobody has to follow.
pub fn quietly<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let _reset = Reset(OURS.replace(true));
    f()
}

/// `read`: what the statement has altered.
pub fn follow_ddl(read: impl FnOnce() -> Result<Option<Alteration>>) {
    unless_ours(|| follow(read()?));
}

#[pg_extern(sql = false)]
fn follow_drops() {
    unless_ours(forget);
}

/// A dump brings the triggers itself, by CREATE TRIGGER, and in an order that is not ours to know: in one transaction, or by
/// several sessions at once, a partition or a foreign key may have got them before, from [`follow_ddl`]. So whoever may
/// drop a trigger of ours may also create it again: the one that is there makes way. No setting says that this is a dump (LAW 6).
pub fn make_way_for_trigger(new: &view::TriggerToBe) {
    if objects::is_name_of_ours(&new.name) {
        unless_ours(|| make_way(new));
    }
}

fn make_way(new: &view::TriggerToBe) -> Result<()> {
    // The statement itself says what is wrong with the name of its table.
    let Ok(relid) = new.table() else { return Ok(()) };
    // As whoever creates it, whose right to drop is looked at.
    spi::unambiguous(|| {
        let known = spi::execute_returning(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
             FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
             JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND t.tgname OPERATOR(pg_catalog.=) $2::pg_catalog.text::pg_catalog.name
               AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
               AND p.proname OPERATOR(pg_catalog.=) $3::pg_catalog.text::pg_catalog.name
               AND pg_catalog.pg_has_role(c.relowner, 'USAGE')",
            &[relid.into(), new.name.as_str().into(), new.function.as_str().into()],
            |row| row.require::<String>(1),
        )?;
        for table in known {
            spi::execute(&format!("DROP TRIGGER {} ON {table}", identifier(&new.name)), &[])?;
        }
        Ok(())
    })
}

/// Nobody has to follow. pg_upgrade's dump is of a server that had everything, and its statements are not DDL of anybody's. The
/// extension's own script makes, in the middle, what following needs.
pub fn is_ours() -> bool {
    OURS.get() || worker::is_binary_upgrade() || catalog::is_in_own_script()
}

fn unless_ours(f: impl FnOnce() -> Result<()>) {
    if is_ours() {
        return;
    }
    let done = subtransaction(|| quietly(f));
    match done {
        Ok(()) => {}
        // Not ours to swallow.
        Err(error) if error.sqlstate == QUERY_CANCELED => raise::report(Level::Error, error),
        // A verb of ours that tries again: it and what follows it are done together.
        Err(error) if error.sqlstate == LOCK_NOT_AVAILABLE && crate::ddl::is_attempt() => {
            raise::report(Level::Error, error);
        }
        Err(error) => raise::report(
            Level::Warning,
            Error::new(error.sqlstate, format!("soft delete could not follow: {}", error.message))
                .detail(error.detail.unwrap_or_else(|| "The statement itself has been carried out.".to_owned()))
                .hint(match error.hint {
                    Some(hint) => format!("{hint} Then: SELECT * FROM upkeep.soft_delete_drift; shows what to type."),
                    None => "SELECT * FROM upkeep.soft_delete_drift; shows what to type.".to_owned(),
                }),
        ),
    }
}

/// Tables with soft delete, or deletions: of tables that have it no more, too.
pub fn anything_to_follow() -> Result<bool> {
    if !catalog::extension_exists() || !catalog::extension_is_current()? {
        return Ok(false);
    }
    let found = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT EXISTS (SELECT FROM upkeep._soft_delete_table) OR EXISTS (SELECT FROM upkeep._deletion)",
            &[],
            |row| row.require::<bool>(1),
        )
    })?;
    Ok(found == [true])
}

fn follow(alteration: Option<Alteration>) -> Result<()> {
    if !anything_to_follow()? {
        return Ok(());
    }
    let changed: Vec<(Oid, bool)> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT DISTINCT d.objid, d.object_type OPERATOR(pg_catalog.=) 'view' FROM pg_catalog.pg_event_trigger_ddl_commands() d
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.object_type OPERATOR(pg_catalog.=) ANY (
                   ARRAY['table', 'table column', 'foreign table', 'foreign table column', 'view'])",
            &[],
            |row| Ok((row.require(1)?, row.require(2)?)),
        )
    })?;
    for (relid, is_view) in changed {
        if !is_view {
            follow_table(relid)?;
        }
        if let Some(managed) = managed::find(relid)? {
            names::follow(&managed, relid)?;
        }
    }
    // It had the checks of its parent, which the server has taken away; its foreign keys it has kept.
    for detached in alteration.iter().flat_map(|alteration| alteration.partitions(false)) {
        if lacks_checks(detached)? {
            objects::warn(objects::ensure_live_parents(detached)?);
        }
    }
    references::follow_renamed()
}

fn follow_table(relid: Oid) -> Result<()> {
    note_renamed(relid)?;
    if let Some(managed) = managed::find(relid)?.filter(|managed| Some(relid) != managed.live_view) {
        if managed.relid == relid {
            views::follow(&managed)?;
            retention::follow(&managed)?;
        }
        if lacks_guards(&managed)? {
            objects::warn(objects::ensure(&managed)?);
        }
    }
    if lacks_checks(relid)? {
        objects::warn(objects::ensure_live_parents(relid)?);
    }
    Ok(())
}

/// One of the columns of soft delete's own is called otherwise now: exactly one name is gone, and the statement has
/// renamed a column.
pub fn note_renamed(relid: Oid) -> Result<()> {
    let Some(managed) = managed::find(relid)?.filter(|managed| managed.relid == relid) else { return Ok(()) };
    let columns = managed::columns(relid)?;
    let known: [(&str, Option<&String>); 4] = [
        ("deleted_at", Some(&managed.deleted_at)),
        ("deleted_by", Some(&managed.deleted_by)),
        ("deletion_id", Some(&managed.deletion_id)),
        ("flag", managed.flag.as_ref()),
    ];
    let gone: Vec<(&str, &String)> = known
        .into_iter()
        .filter_map(|(field, name)| Some((field, name?)))
        .filter(|(_, name)| !columns.iter().any(|column| column.name == **name))
        .collect();
    let [(field, old)] = gone[..] else { return Ok(()) };
    let Some(new) = renamed(&managed, old)?.and_then(|number| columns.iter().find(|column| column.number == number))
    else {
        return Ok(());
    };
    // The name of one of four columns of a table of ours, not text of anybody's.
    spi::bookkeeping(|| {
        spi::execute(
            &format!(
                "UPDATE upkeep._soft_delete_table SET {field} = $2::pg_catalog.text
                 WHERE relid OPERATOR(pg_catalog.=) $1"
            ),
            &[relid.into(), new.name.as_str().into()],
        )
    })
    .map(drop)
}

/// The number of the column that was called so: the live view, while it is ours, or the statement itself knows it.
fn renamed(managed: &Managed, old: &str) -> Result<Option<i16>> {
    if let Some(live) = managed.live_view.and_then(|live| ours::look(live).transpose()).transpose()?
        && let Some(shape) = live.trusted_shape()
    {
        if old == managed.deleted_at {
            return Ok(Some(shape.tested));
        }
        let shown = view::columns(live.oid)?;
        if let Some(column) = shown.iter().find(|column| column.name == old) {
            return Ok(Some(column.number));
        }
    }
    let found = subtransaction(|| {
        spi::bookkeeping(|| {
            spi::execute_returning(
                "SELECT d.objsubid::pg_catalog.int2 FROM pg_catalog.pg_event_trigger_ddl_commands() d
                 WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                   AND d.objid OPERATOR(pg_catalog.=) $1 AND d.object_type OPERATOR(pg_catalog.=) 'table column'",
                &[managed.relid.into()],
                |row| row.require::<i16>(1),
            )
        })
    });
    // Outside of an event trigger there is no such list.
    Ok(found.ok().and_then(|numbers| numbers.first().copied()))
}

/// Has the table its guards, and a partition of it not? While a dump is restored not even the table has.
fn lacks_guards(managed: &Managed) -> Result<bool> {
    let lacking = spi::bookkeeping(|| {
        spi::execute_returning(
            "WITH guard (relid) AS (
                 SELECT t.tgrelid FROM pg_catalog.pg_trigger t
                 JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
                 WHERE p.proname OPERATOR(pg_catalog.=) '_soft_delete_guard'
                   AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace)
             SELECT $1 IN (SELECT g.relid FROM guard g) AND EXISTS (
                 SELECT FROM pg_catalog.pg_partition_tree($1) m
                 WHERE m.relid::pg_catalog.oid OPERATOR(pg_catalog.<>) ALL (SELECT g.relid FROM guard g))",
            &[managed.relid.into()],
            |row| row.require::<bool>(1),
        )
    })?;
    Ok(lacking == [true] && grew(managed)?)
}

/// Did this transaction put a partition into the tree? Other statements make none: those of a dump bring every trigger
/// themselves, one after the other.
fn grew(managed: &Managed) -> Result<bool> {
    let links: Vec<String> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT DISTINCT i.xmin::pg_catalog.text FROM pg_catalog.pg_inherits i
             WHERE i.inhrelid OPERATOR(pg_catalog.=) ANY (
                 ARRAY(SELECT m.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) m))",
            &[managed.relid.into()],
            |row| row.require(1),
        )
    })?;
    Ok(links.iter().filter_map(|xid| xid.parse().ok()).any(heap::is_of_this_transaction))
}

/// Does it reference a table with soft delete by columns that its checks do not look at?
fn lacks_checks(relid: Oid) -> Result<bool> {
    let needed: Vec<String> = managed::referenced(relid)?
        .into_iter()
        .filter(|key| key.child == relid)
        .flat_map(|key| key.child_columns)
        .collect();
    if needed.is_empty() {
        return Ok(false);
    }
    let looked_at: Vec<String> = spi::bookkeeping(|| {
        spi::execute_returning(
            "SELECT DISTINCT a.attname::pg_catalog.text
             FROM pg_catalog.pg_trigger t
             JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
             JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass
                  AND d.objid OPERATOR(pg_catalog.=) t.oid AND d.refobjid OPERATOR(pg_catalog.=) t.tgrelid
                  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
             JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.tgrelid
                  AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid
             WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND p.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent'
               AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace",
            &[relid.into()],
            |row| row.require(1),
        )
    })?;
    Ok(needed.iter().any(|column| !looked_at.contains(column)))
}

/// Tables and views that are gone, and columns.
fn forget() -> Result<()> {
    if !anything_to_follow()? {
        return Ok(());
    }
    references::forget_columns()?;
    spi::bookkeeping(|| {
        let dropped: Vec<Oid> = spi::execute_returning(
            "SELECT d.objid FROM pg_catalog.pg_event_trigger_dropped_objects() d
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
               AND d.objsubid OPERATOR(pg_catalog.=) 0
               AND d.object_type OPERATOR(pg_catalog.=) ANY (ARRAY['table', 'view'])",
            &[],
            |row| row.require(1),
        )?;
        forget_relations(&dropped)?;
        sweep()
    })
}

/// Tables that were dropped while event triggers were off: nobody said so. Their OIDs may be other tables' by now. Inside
/// [`spi::bookkeeping`].
pub fn sweep() -> Result<()> {
    let gone: Vec<Oid> = spi::execute_returning(
        "WITH RECURSIVE remembered (relid) AS (
             (SELECT t.relid FROM upkeep._deletion_table t
              WHERE t.relid OPERATOR(pg_catalog.>) 0::pg_catalog.oid ORDER BY t.relid LIMIT 1)
             UNION ALL
             SELECT n.relid FROM remembered r CROSS JOIN LATERAL (
                 SELECT t.relid FROM upkeep._deletion_table t
                 WHERE t.relid OPERATOR(pg_catalog.>) r.relid ORDER BY t.relid LIMIT 1) n)
         SELECT r.relid::pg_catalog.oid FROM remembered r
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) r.relid)
         UNION
         SELECT t.relid::pg_catalog.oid FROM upkeep._soft_delete_table t
         WHERE NOT EXISTS (SELECT FROM upkeep._soft_delete s WHERE s.relid OPERATOR(pg_catalog.=) t.relid)",
        &[],
        |row| row.require(1),
    )?;
    forget_relations(&gone)
}

fn forget_relations(dropped: &[Oid]) -> Result<()> {
    if dropped.is_empty() {
        return Ok(());
    }
    retention::end_of_dropped(dropped)?;
    for sql in [
        "DELETE FROM upkeep._soft_delete_table WHERE relid::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1)",
        "UPDATE upkeep._soft_delete_table SET live_view = NULL
         WHERE live_view::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1)",
        "UPDATE upkeep._soft_delete_table SET deleted_view = NULL
         WHERE deleted_view::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($1)",
    ] {
        spi::execute(sql, &[dropped.to_vec().into()])?;
    }
    references::forget_tables(dropped)
}
