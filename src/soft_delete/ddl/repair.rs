//! `upkeep.repair_soft_delete`: views and triggers as they should be, whatever became of them.

use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

use super::{follow, views};
use crate::error::*;
use crate::jobs::queue;
use crate::server::raise::answer;
use crate::server::{catalog, heap, spi};
use crate::soft_delete::enable::{require_owner, required};
use crate::soft_delete::managed::{self, Managed};
use crate::soft_delete::objects;
use crate::soft_delete::purge::not_soft_deleted;

#[pg_extern(sql = false)]
fn repair_soft_delete(target: Option<Oid>) {
    answer(required(target, "target").and_then(repair))
}

fn repair(target: Oid) -> Result<()> {
    queue::refuse_in_recovery("repair soft delete")?;
    let find = |target| {
        managed::find(target)?.ok_or_else(|| {
            let (schema, name) = heap::name(target).unwrap_or_default();
            not_soft_deleted(&managed::qualified(&schema, &name))
        })
    };
    let managed: Managed = find(target)?;
    require_owner(catalog::has_privileges_of(catalog::current_user(), managed.owner), &managed.sql())?;
    follow::quietly(|| {
        if !heap::lock_exclusively(managed.relid) {
            return Err(Error::new(UNDEFINED_TABLE, "the table was dropped meanwhile"));
        }
        follow::note_renamed(managed.relid)?;
        let managed = find(managed.relid)?;
        drop_strange_triggers(&managed)?;
        put_up_views(&managed)?;
        enable_triggers(&managed)?;
        objects::ensure(&find(managed.relid)?)
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
           AND NOT EXISTS (SELECT FROM (VALUES
               ('_soft_delete_updated_row', 'upkeep_soft_delete_row', 17), ('_soft_delete_updated', 'upkeep_soft_delete', 16),
               ('_soft_delete_guard', 'upkeep_soft_delete_no_delete', 8),
               ('_soft_delete_guard', 'upkeep_soft_delete_no_truncate', 34),
               ('_soft_delete_flag', 'zz_upkeep_soft_delete_flag', 23),
               ('_soft_delete_view_row', 'upkeep_soft_delete_row', 73),
               ('_soft_delete_view', 'upkeep_soft_delete_begin', 10), ('_soft_delete_view', 'upkeep_soft_delete', 8),
               ('_soft_delete_live_parent', 'upkeep_live_parent_insert', 5),
               ('_soft_delete_live_parent', 'upkeep_live_parent_update', 17),
               ('_soft_delete_live_parent', 'upkeep_live_parent_insert_deferred', 5),
               ('_soft_delete_live_parent', 'upkeep_live_parent_update_deferred', 17)) f (proname, tgname, tgtype)
               WHERE f.proname::pg_catalog.name OPERATOR(pg_catalog.=) p.proname
                 AND f.tgname::pg_catalog.name OPERATOR(pg_catalog.=) t.tgname
                 AND f.tgtype OPERATOR(pg_catalog.=) t.tgtype)",
        &[managed.relid.into(), managed.live_view.into()],
        |row| Ok((row.require::<String>(1)?, row.require::<String>(2)?, row.require::<Oid>(3)?)),
    )?;
    for (table, trigger, owner) in strange {
        spi::as_owner(owner, || spi::execute(&format!("DROP TRIGGER {trigger} ON {table}"), &[]))?;
    }
    Ok(())
}

/// Missing views are made; of one that is there alone, or lacks its trigger, a new pair.
fn put_up_views(managed: &Managed) -> Result<()> {
    if managed.hide == "none" {
        return Ok(());
    }
    let there = |view: Option<Oid>| view.filter(|&view| heap::exists(view));
    let (live, deleted) = (there(managed.live_view), there(managed.deleted_view));
    if live.is_some() && deleted.is_some() {
        if has_trigger(live)? {
            views::follow(managed)?;
        } else if let Some(dropped) = views::drop_both(managed)? {
            views::restore(managed, &dropped)?;
        }
        return Ok(());
    }
    let name = |view: Option<Oid>, ending: &str| match view.and_then(heap::name) {
        Some((_, name)) => name,
        None => objects::with_ending(&managed.name, ending),
    };
    let live_name = name(live, if managed.hide == "swap" { "" } else { "_live" });
    let deleted_name = name(deleted, "_deleted");
    for view in [live, deleted].into_iter().flatten() {
        if let Some((schema, name)) = heap::name(view) {
            let drop = format!("DROP VIEW {}", managed::qualified(&schema, &name));
            spi::as_owner(managed.owner, || spi::execute(&drop, &[]))?;
        }
    }
    views::make(managed, &live_name, &deleted_name)
}

fn has_trigger(view: Option<Oid>) -> Result<bool> {
    let count = spi::execute_returning(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
         WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace
           AND p.proname OPERATOR(pg_catalog.=) ANY (ARRAY['_soft_delete_view', '_soft_delete_view_row']::pg_catalog.name[])",
        &[view.into()],
        |row| row.require::<i64>(1),
    )?;
    Ok(count == [3])
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
         WHERE t.tgenabled OPERATOR(pg_catalog.=) 'D'
           AND t.tgrelid OPERATOR(pg_catalog.=) ANY (
               ARRAY(SELECT m.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree($1) m) OPERATOR(pg_catalog.||) ARRAY[$1, $2])",
        &[managed.relid.into(), managed.live_view.into()],
        |row| Ok((row.require::<String>(1)?, row.require::<String>(2)?, row.require::<Oid>(3)?)),
    )?;
    for (table, trigger, owner) in disabled {
        spi::as_owner(owner, || spi::execute(&format!("ALTER TABLE {table} ENABLE TRIGGER {trigger}"), &[]))?;
    }
    Ok(())
}
