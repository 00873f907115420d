//! `upkeep.repair_soft_delete`: views and triggers as they should be, whatever became of them.

use pgrx::prelude::*;

use super::{follow, ours, views};
use crate::calls::{arguments, standing};
use crate::error::*;
use crate::server::raise::answer;
use crate::server::{Oid, heap, spi};
use crate::soft_delete::enable::require_owner_of;
use crate::soft_delete::managed::{self, Managed};
use crate::soft_delete::{objects, retention};

#[pg_extern(sql = false)]
fn repair_soft_delete(target: Option<Oid>) {
    answer(arguments::required(target, "target").and_then(repair))
}

fn repair(target: Oid) -> Result<()> {
    standing::refuse_in_recovery("repair soft delete")?;
    standing::refuse_other_version()?;
    let find = |target| managed::find(target)?.ok_or_else(|| managed::not_enabled_on(target));
    let managed: Managed = find(target)?;
    require_owner_of(&managed)?;
    follow::quietly(|| {
        objects::lock_all(&managed, false)?;
        follow::note_renamed(managed.relid)?;
        let managed = find(managed.relid)?;
        require_owner_of(&managed)?;
        rename_triggers(&managed)?;
        drop_strange_triggers(&managed)?;
        put_up_views(&managed)?;
        enable_triggers(&managed)?;
        objects::warn(objects::ensure(&find(managed.relid)?)?);
        retention::repair(&managed)?;
        Ok(())
    })
}

/// Triggers of soft delete's functions that refuse to be what they are: renamed, or made by somebody else.
fn drop_strange_triggers(managed: &Managed) -> Result<()> {
    let strange = spi::execute_returning(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(t.tgname), c.relowner
         FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
              AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
              AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_soft_delete_')
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
           AND t.tgrelid OPERATOR(pg_catalog.=) ANY (
               ARRAY(SELECT m.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) m) OPERATOR(pg_catalog.||) ARRAY[$1, $2])
           AND NOT EXISTS (SELECT FROM upkeep._soft_delete_triggers() f
               WHERE f.proname OPERATOR(pg_catalog.=) p.proname AND f.tgname OPERATOR(pg_catalog.=) t.tgname
                 AND f.tgtype OPERATOR(pg_catalog.=) t.tgtype)",
        &[managed.relid.into(), managed.live_view.into()],
        |row| Ok((row.next::<String>()?, row.next::<String>()?, row.next::<Oid>()?)),
    )?;
    for (table, trigger, owner) in strange {
        spi::as_owner(owner, || spi::execute(&format!("DROP TRIGGER {trigger} ON {table}"), &[]))?;
    }
    Ok(())
}

/// Missing views are made, missing triggers of the live view, and columns follow; what is not ours stays, with a warning.
fn put_up_views(managed: &Managed) -> Result<()> {
    if managed.hide == "none" {
        return Ok(());
    }
    let live_ending = if managed.hide == "swap" { "" } else { "_live" };
    for (view, live, ending) in [(managed.live_view, true, live_ending), (managed.deleted_view, false, "_deleted")] {
        if !view.is_some_and(heap::exists) {
            views::make(managed, &managed.schema, &objects::with_ending(&managed.name, ending), live)?;
        }
    }
    views::follow(managed)?;
    for view in ours::views(managed)? {
        if view.is_live() && view.is_the_tables_owners() {
            objects::warn(objects::ensure_view_triggers(managed, view.oid)?);
        }
    }
    Ok(())
}

/// Triggers of ours that are called otherwise: nothing else of them can have been changed without making them anew.
fn rename_triggers(managed: &Managed) -> Result<()> {
    let mut relations = vec![managed.relid];
    relations.extend(managed.live_view);
    relations.extend(managed::referencing(managed.relid)?.into_iter().map(|key| key.child));
    let renamed = spi::execute_returning(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(x.tgname), x.wanted::pg_catalog.text, c.relowner
         FROM (SELECT t.tgrelid, pg_catalog.min(t.tgname::pg_catalog.text) AS tgname, w.tgname AS wanted
               FROM upkeep._soft_delete_triggers() w
               JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) w.proname
                    AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
               JOIN pg_catalog.pg_trigger t ON t.tgfoid OPERATOR(pg_catalog.=) p.oid
                    AND t.tgtype OPERATOR(pg_catalog.=) w.tgtype AND t.tgdeferrable OPERATOR(pg_catalog.=) w.deferred
               WHERE t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
                 AND (t.tgrelid OPERATOR(pg_catalog.=) ANY ($2) OR t.tgrelid OPERATOR(pg_catalog.=) ANY (
                          ARRAY(SELECT m.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) m)))
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger o WHERE o.tgrelid OPERATOR(pg_catalog.=) t.tgrelid
                                   AND o.tgname OPERATOR(pg_catalog.=) w.tgname)
               GROUP BY t.tgrelid, w.tgname) x
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) x.tgrelid
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace",
        &[managed.relid.into(), relations.into()],
        |row| Ok((row.next::<String>()?, row.next::<String>()?, row.next::<String>()?, row.next::<Oid>()?)),
    )?;
    for (table, trigger, wanted, owner) in renamed {
        let rename = format!("ALTER TRIGGER {trigger} ON {table} RENAME TO {wanted}");
        spi::as_owner(owner, || spi::execute(&rename, &[]))?;
    }
    Ok(())
}

/// Triggers of ours that somebody has disabled, wherever they are for this table.
fn enable_triggers(managed: &Managed) -> Result<()> {
    let disabled = spi::execute_returning(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(t.tgname), c.relowner
         FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
              AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
              AND pg_catalog.starts_with(p.proname::pg_catalog.text, '_soft_delete_')
         JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.tgrelid
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE t.tgenabled OPERATOR(pg_catalog.=) ANY ('{D,R}'::pg_catalog.\"char\"[])
           AND t.tgrelid OPERATOR(pg_catalog.=) ANY (
               ARRAY(SELECT m.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) m) OPERATOR(pg_catalog.||) ARRAY[$1, $2])",
        &[managed.relid.into(), managed.live_view.into()],
        |row| Ok((row.next::<String>()?, row.next::<String>()?, row.next::<Oid>()?)),
    )?;
    for (table, trigger, owner) in disabled {
        spi::as_owner(owner, || spi::execute(&format!("ALTER TABLE {table} ENABLE TRIGGER {trigger}"), &[]))?;
    }
    Ok(())
}
