//! `upkeep.disable_soft_delete`.

use pgrx::pg_sys::Oid;
use pgrx::prelude::*;

use super::enable::{require_owner, required};
use super::managed::{Managed, literal, qualified};
use super::{objects, request};
use crate::backfill::statements::identifier;
use crate::error::*;
use crate::server::raise::answer;
use crate::server::{catalog, heap, soft_delete, spi};

#[pg_extern(sql = false)]
fn upkeep_disable_soft_delete(target: Option<Oid>, deleted_rows: Option<&str>) {
    answer(required(target, "target").and_then(|target| disable(target, required(deleted_rows, "deleted_rows")?)))
}

fn disable(target: Oid, deleted_rows: &str) -> Result<()> {
    if !["refuse", "keep", "purge"].contains(&deleted_rows) {
        return Err(Error::new(INVALID_PARAMETER_VALUE, format!("deleted_rows is '{deleted_rows}'"))
            .hint("It is one of: refuse, keep, purge."));
    }
    let managed = request::target(target)?;
    let table = managed.sql();
    require_owner(catalog::has_privileges_of(catalog::current_user(), managed.owner), &table)?;
    if !heap::lock_exclusively(managed.relid) {
        return Err(Error::new(UNDEFINED_TABLE, "the table was dropped meanwhile"));
    }
    match deleted_rows {
        "refuse" => refuse(&managed)?,
        "purge" => purge(&managed)?,
        _ => {}
    }
    super::retention::end(&managed)?;
    drop_views(&managed)?;
    spi::bookkeeping(|| {
        spi::execute(
            "DELETE FROM upkeep._soft_delete_table WHERE relid OPERATOR(pg_catalog.=) $1",
            &[managed.relid.into()],
        )
    })?;
    objects::remove(&managed)?;
    if managed.hide == "swap" {
        let rename = format!("ALTER TABLE {table} RENAME TO {}", identifier(&managed.name));
        spi::as_owner(managed.owner, || spi::execute(&rename, &[]))?;
    }
    Ok(())
}

fn refuse(managed: &Managed) -> Result<()> {
    let any = spi::as_owner(managed.owner, || {
        spi::execute_returning(
            &format!("SELECT EXISTS (SELECT FROM {} AS t WHERE NOT ({}))", managed.sql(), managed.live("t")),
            &[],
            |row| row.require::<bool>(1),
        )
    })?;
    if any != [true] {
        return Ok(());
    }
    Err(Error::new(OBJECT_NOT_IN_PREREQUISITE_STATE, format!("{} has deleted rows", managed.sql()))
        .detail("Without soft delete they look like any other row.")
        .hint(format!(
            "SELECT upkeep.disable_soft_delete({}, 'keep'); or, to delete them for good, 'purge'.",
            literal(&managed.sql())
        )))
}

/// As the owner, whose triggers it may fire.
fn purge(managed: &Managed) -> Result<()> {
    let delete = format!("DELETE FROM {} AS t WHERE NOT ({})", managed.sql(), managed.live("t"));
    soft_delete::while_purging(|| spi::as_owner(managed.owner, || spi::execute(&delete, &[]))).map(drop)
}

fn drop_views(managed: &Managed) -> Result<()> {
    for view in [managed.live_view, managed.deleted_view].into_iter().flatten() {
        if let Some((schema, name)) = heap::name(view) {
            let drop = format!("DROP VIEW {}", qualified(&schema, &name));
            spi::as_owner(managed.owner, || spi::execute(&drop, &[]))?;
        }
    }
    Ok(())
}
