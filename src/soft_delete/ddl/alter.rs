//! `upkeep.alter_soft_deleted`: an ALTER TABLE that the views stand in the way of (DROP COLUMN, another type), with the
//! views taken down and put up again around it.

use pgrx::prelude::*;

use super::views;
use crate::calls::{arguments, standing};
use crate::ddl::renamed;
use crate::error::*;
use crate::server::raise::answer;
use crate::server::{Oid, heap, spi, view};
use crate::soft_delete::enable::require_owner_of;
use crate::soft_delete::managed::{self, Managed};
use crate::soft_delete::{ddl, objects};
use crate::sql::quote::{self, identifier};

#[pg_extern(sql = false)]
fn alter_soft_deleted(target: Option<Oid>, ddl: Option<&str>) {
    answer((|| {
        arguments::check_text("ddl", ddl)?;
        alter(arguments::required(target, "target")?, arguments::required(ddl, "ddl")?)
    })())
}

fn alter(target: Oid, text: &str) -> Result<()> {
    standing::refuse_in_recovery("alter a table")?;
    standing::refuse_other_version()?;
    let managed = find(target)?;
    let table = managed.sql();
    let altered = view::altered_table(text).map_err(|error| {
        let begins = text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("alter"));
        if error.sqlstate != SYNTAX_ERROR || begins || error.hint.is_some() {
            return error;
        }
        error.hint(format!("ddl is the whole statement: ALTER TABLE {table} DROP COLUMN ..;"))
    })?;
    // By its name now, by the caller's search_path.
    let is_meant = || -> Result<bool> {
        heap::learn_of_changes();
        Ok(view::altered_table(text)? == managed.relid)
    };
    if altered != managed.relid {
        let (schema, name) = heap::name(altered).unwrap_or_default();
        return Err(Error::new(
            INVALID_PARAMETER_VALUE,
            format!("ddl is about {}, not about {table}", quote::qualified(&schema, &name)),
        )
        .hint(format!("Name the table itself: ALTER TABLE {table} ..")));
    }
    require_owner_of(&managed)?;
    ddl::follow::quietly(|| {
        objects::lock_all(&managed, false)?;
        // The lock may have been waited for: what is done is done as the owner, and by the names, of now.
        let managed = find(managed.relid)?;
        require_owner_of(&managed)?;
        if !is_meant()? {
            return Err(renamed(&table));
        }
        let dropped = views::drop_both(&managed)?;
        drop_checks(&managed)?;
        // As the caller, with his search_path: nothing of ours is switched here (LAW 1).
        spi::theirs::execute(text, &[text])?;
        // Without a schema in it another table in front of it in the search_path can have been found all the same; that one is
        // locked now, and keeps its name.
        if !is_meant()? {
            return Err(renamed(&table));
        }
        ddl::follow::note_renamed(managed.relid)?;
        let managed = find(managed.relid)?;
        require_columns(&managed)?;
        if let Some(dropped) = &dropped {
            views::restore(&managed, dropped)?;
        }
        objects::warn(objects::ensure(&managed)?);
        Ok(())
    })
}

fn find(target: Oid) -> Result<Managed> {
    managed::find(target)?.ok_or_else(|| managed::not_enabled_on(target))
}

/// The checks of this table's own foreign keys name their columns, and are made again by [`objects::ensure`].
fn drop_checks(managed: &Managed) -> Result<()> {
    let checks = spi::execute_returning(
        "SELECT t.tgname::pg_catalog.text FROM pg_catalog.pg_trigger t
         JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) t.tgfoid
         WHERE t.tgrelid OPERATOR(pg_catalog.=) $1 AND t.tgparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
           AND p.proname OPERATOR(pg_catalog.=) '_soft_delete_live_parent'
           AND p.pronamespace OPERATOR(pg_catalog.=) 'upkeep'::pg_catalog.regnamespace",
        &[managed.relid.into()],
        |row| row.require::<String>(1),
    )?;
    spi::as_owner(managed.owner, || {
        for check in &checks {
            spi::execute(&format!("DROP TRIGGER {} ON {}", identifier(check), managed.sql()), &[])?;
        }
        Ok(())
    })
}

/// Soft delete cannot do without its columns.
fn require_columns(managed: &Managed) -> Result<()> {
    let columns = managed::columns(managed.relid)?;
    let ours = [&managed.deleted_at, &managed.deleted_by, &managed.deletion_id].into_iter().chain(&managed.flag);
    for name in ours {
        if !columns.iter().any(|column| column.name == *name) {
            return Err(Error::new(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("column \"{name}\" of {} belongs to its soft delete", managed.sql()),
            )
            .hint(format!("SELECT upkeep.disable_soft_delete({}); first.", quote::literal(&managed.sql()))));
        }
    }
    Ok(())
}
